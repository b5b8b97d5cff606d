"""Scoring of policies: how good is the pruned model, against labels and against dense."""
