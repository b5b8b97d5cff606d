"""Exit codes of answers that are no errors; errors bring their own."""

NOT_MET = 3
"""No policy meets the budget."""
TOO_NOISY = 4
"""The machine was too disturbed to decide."""
