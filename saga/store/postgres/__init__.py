"""The store in Postgres: the tables, and a function for each statement."""
