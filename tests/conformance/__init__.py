"""What the port asks of every store: each test runs on the one in memory and on Postgres."""
