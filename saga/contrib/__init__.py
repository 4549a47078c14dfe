"""For other frameworks: nothing here is imported by the rest of pgsaga."""
