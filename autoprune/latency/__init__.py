"""What a policy costs on this machine: paired timing, the probe, the cost table, resources."""
