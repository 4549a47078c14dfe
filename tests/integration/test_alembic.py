"""A user's own Alembic beside the saga log: what a real autogenerate proposes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import sqlalchemy
from alembic import command
from alembic.config import Config

from saga import barriers

DEPLOY = (Path(__file__).parents[2] / "docs/howto/deploy.md").read_text()
RECIPE = next(
    block
    for block in re.findall(r"^```python\n(.*?)^```$", DEPLOY, re.M | re.S)
    if "include_name=include_name" in block
)
CONNECT = """

from sqlalchemy import create_engine
engine = create_engine({url!r}, connect_args={{"options": "-c search_path=public"}})
with engine.begin() as connection:
    run(connection)
engine.dispose()
"""


def proposal(url: str, env: str, folder: Path) -> str:
    """The migration that ``alembic revision --autogenerate`` writes."""
    config = Config(str(folder / "alembic.ini"))
    command.init(config, str(folder / "mine"))
    config.set_main_option("script_location", str(folder / "mine"))
    (folder / "mine/env.py").write_text(env + CONNECT.format(url=url))
    command.revision(config, "mine", autogenerate=True)
    (written,) = (folder / "mine/versions").glob("*.py")
    return written.read_text()


@pytest.fixture
def url(database_url: str) -> str:
    """A database with the saga log, a barrier, and something of the user's own that his models do not know."""
    engine = sqlalchemy.create_engine(database_url, connect_args={"options": "-c search_path=public"})
    barriers.create_table(engine)
    with engine.begin() as connection:
        connection.execute(sqlalchemy.text("CREATE TABLE public.forgotten (word text)"))
    engine.dispose()
    return database_url


def dropped(migration: str) -> set[str]:
    upgrade = migration.partition("def downgrade")[0]
    return set(re.findall(r"op\.drop_table\('(\w+)'", upgrade.replace('"', "'")))


def test_with_the_recipe_it_drops_nothing_of_ours(url: str, tmp_path: Path) -> None:
    migration = proposal(url, RECIPE, tmp_path)
    assert dropped(migration) == {"forgotten"}
    assert "saga" not in migration.partition("def downgrade")[0].replace("Revises", "")


def test_without_it_the_log_would_be_dropped(url: str, tmp_path: Path) -> None:
    migration = proposal(url, RECIPE.replace(", include_name=include_name", ""), tmp_path)
    assert {"log", "work", "instance", barriers.table.name} <= dropped(migration)


def test_another_schema_is_kept_as_well(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = sqlalchemy.create_engine(url)
    with engine.begin() as connection:
        connection.execute(sqlalchemy.text("ALTER SCHEMA saga RENAME TO orders_log"))
    engine.dispose()
    monkeypatch.setenv("SAGA_SCHEMA", "orders_log")
    assert dropped(proposal(url, RECIPE, tmp_path)) == {"forgotten"}
