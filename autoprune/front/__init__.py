"""The front: which policies are worth having. Pure functions on numbers."""
