"""Core: what a saga is and does, without a database, a clock or chance."""
