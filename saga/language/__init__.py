"""Language: how an operation is said: its steps, their options, where their parameters come from."""
