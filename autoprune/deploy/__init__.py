"""What leaves the house: a model folder with its policy, and the one line that loads it."""
