"""Search spaces: YAML -> typed space -> Optuna distributions -> policy."""
