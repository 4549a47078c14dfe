"""The migrations of the saga log."""
