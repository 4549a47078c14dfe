"""The store in Postgres: the tables, and a function for each statement."""

try:
    import psycopg as _psycopg  # noqa: F401
except ImportError as error:
    raise ImportError(
        'psycopg finds no libpq: pip install "pgsaga[binary]", or install the libpq of your system, such as libpq5 of Debian; '
        f"psycopg says: {str(error).strip()}"
    ) from None
