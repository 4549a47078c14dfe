"""Language: how a user describes an operation: its steps, their options, where their parameters come from."""
