"""What people look at: the HTML report, the model card, text fronts, Optuna Dashboard, trackers."""
