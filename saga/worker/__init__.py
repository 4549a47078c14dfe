"""Worker: what one process does that runs steps."""
