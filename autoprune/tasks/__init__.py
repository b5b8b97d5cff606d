"""What is pruned for: a model, its data and the metric that must not suffer."""
