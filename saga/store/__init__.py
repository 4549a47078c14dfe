"""Store: where the log is kept."""
