"""The roles of the documentation, on a Postgres that lets them in."""

from __future__ import annotations

import re
from pathlib import Path

import psycopg

from saga import schema
from saga.config import Settings
from saga.dev.postgres import HOST, Postgres
from saga.store.postgres.database import Database

PAGE = Path(__file__).parents[1] / "docs/howto/roles.md"


def blocks() -> tuple[str, str]:
    """The SQL of the page: what a superuser runs, and what the owner grants."""
    roles, grants = re.findall(r"^```sql\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    return roles, grants


class OpenPostgres(Postgres):
    """One that lets every role in, the superuser too."""

    def _make_data(self) -> None:
        super()._make_data()
        (self.data / "pg_hba.conf").write_text(f"host all all {HOST}/32 trust\n")

    def url_as(self, role: str, database: str = "saga") -> str:
        """The URL of a database, for a role."""
        return f"postgresql://{role}@{HOST}:{self.port}/{database}"

    def set_up_roles(self) -> None:
        """Do what the page says."""
        roles, grants = blocks()
        with psycopg.connect(self.url_as("postgres"), autocommit=True) as connection:
            connection.execute(roles.encode())
        upgrade(self.url_as("saga_owner"))
        with psycopg.connect(self.url_as("saga_owner"), autocommit=True) as connection:
            connection.execute(grants.encode())


def upgrade(url: str) -> None:
    """Bring the tables of a database to this version."""
    database = Database(Settings.load({}, database_url=url))
    schema.upgrade(database)
    database.dispose()
