"""The schema: models and migrations agree, upgrades can be repeated and undone, and Postgres refuses the impossible."""

from __future__ import annotations

import subprocess
import sys

import psycopg
import pytest
import sqlalchemy
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from psycopg import errors as pg

from saga import DatabaseNotReady, Orchestrator, schema
from saga.config import Settings
from saga.dev import Stack
from saga.relay import Relay
from saga.store.postgres.database import Database
from saga.store.postgres.store import PostgresStore
from saga.store.postgres.tables import metadata
from tests.integration.conftest import SAGAS, Bench, app


def database(url: str, **given: str) -> Database:
    return Database(Settings.load({}, database_url=url, **given))


@pytest.fixture
def empty_url(stack: Stack, request: pytest.FixtureRequest) -> str:
    return stack.postgres.create_database(f"empty_{abs(hash(request.node.name))}")


def names(url: str) -> set[str]:
    with psycopg.connect(url.replace("+psycopg", "")) as connection:
        rows = connection.execute(
            "SELECT nspname || '.' || relname FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace"
        )
        return {row[0] for row in rows}


def test_models_and_migrations_agree(database_url: str) -> None:
    # The role is called saga too, so its own schema would be taken for the default one.
    engine = sqlalchemy.create_engine(database_url, connect_args={"options": "-c search_path=public"})
    options = {
        "version_table_schema": "saga",
        "include_schemas": True,
        "include_name": lambda name, kind, _: kind != "schema" or name == "saga",
        "compare_type": True,
        "compare_server_default": True,
    }
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection, opts=options), metadata) == []
    engine.dispose()


def test_models_and_migrations_agree_on_checks_and_storage(database_url: str, empty_url: str) -> None:
    """Alembic compares neither checks nor storage parameters nor index predicates, so Postgres itself is asked."""
    engine = sqlalchemy.create_engine(empty_url)
    with engine.begin() as connection:
        connection.execute(sqlalchemy.text("CREATE SCHEMA saga"))
        metadata.create_all(connection)
    engine.dispose()
    queries = [
        "SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint WHERE connamespace = 'saga'::regnamespace AND contype = 'c'",
        "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'saga'",
        "SELECT relname, reloptions FROM pg_class WHERE relnamespace = 'saga'::regnamespace AND relkind = 'r'",
        "SELECT sequencename, data_type::text, cycle, min_value FROM pg_sequences WHERE schemaname = 'saga'",
    ]
    for query in queries:
        found = []
        for url in (database_url, empty_url):
            with psycopg.connect(url.replace("+psycopg", "")) as connection:
                rows = connection.execute(query.encode()).fetchall()
                found.append({row for row in map(repr, rows) if "alembic_version" not in row})
        assert found[0] == found[1]


def test_an_upgrade_can_be_repeated_and_undone(empty_url: str) -> None:
    target = database(empty_url)
    assert schema.current(target) is None
    schema.upgrade(target)
    schema.upgrade(target)
    assert schema.current(target) == schema.head()
    schema.check(target)
    schema.downgrade(target, "base")
    assert schema.current(target) is None
    assert not {name for name in names(empty_url) if name.startswith("saga.") and "alembic" not in name}
    target.dispose()


def test_upgrades_at_once_are_one(empty_url: str) -> None:
    program = "import sys; from saga import schema; from tests.integration.test_schema import database; schema.upgrade(database(sys.argv[1]))"
    processes = [subprocess.Popen([sys.executable, "-c", program, empty_url]) for _ in range(3)]
    assert [process.wait() for process in processes] == [0, 0, 0]
    target = database(empty_url)
    assert schema.current(target) == schema.head()
    target.dispose()


def test_the_schemas_name_can_be_chosen(empty_url: str) -> None:
    target = database(empty_url, schema="orders_log")
    schema.upgrade(target)
    found = names(empty_url)
    assert "orders_log.log" in found
    assert "saga.log" not in found
    target.dispose()


def test_the_statements_can_be_printed_instead() -> None:
    text = schema.sql("elsewhere")
    assert "CREATE TABLE elsewhere.work" in text
    assert "CREATE SCHEMA IF NOT EXISTS elsewhere" in text


def test_the_printed_statements_make_what_an_upgrade_makes(empty_url: str) -> None:
    with psycopg.connect(empty_url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(schema.sql().encode())
    target = database(empty_url)
    schema.check(target)
    with (
        pytest.raises(pg.DataError, match="definition 0: what was given has another fingerprint"),
        target.link() as link,
    ):
        link.run("SELECT {s}.register('0', '{}')", {})
    target.dispose()


def test_a_database_that_is_not_upgraded_is_named_with_its_remedy(empty_url: str) -> None:
    orchestrator = Orchestrator(sagas=SAGAS, database_url=empty_url)
    orchestrator._app = app
    with pytest.raises(DatabaseNotReady, match="run `saga db upgrade`"):
        orchestrator.find()
    with pytest.raises(DatabaseNotReady, match="run `saga db upgrade`"):
        orchestrator.start("sequence", {})
    orchestrator.close()


def test_a_database_that_is_down_is_named_without_its_password() -> None:
    orchestrator = Orchestrator(sagas=SAGAS, database_url="postgresql://ann:secret@127.0.0.1:1/shop")
    orchestrator._app = app
    with pytest.raises(DatabaseNotReady, match=r"127.0.0.1:1/shop cannot be reached") as caught:
        orchestrator.find()
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("statement", "constraint"),
    [
        ("UPDATE saga.instance SET status = 'lost'", "instance_status_known"),
        ("UPDATE saga.instance SET status = 'completed'", "instance_finished_when_terminal"),
        ("UPDATE saga.work SET worker = 1", "work_claimed_with_token"),
        ("UPDATE saga.work SET attempt = 0", "work_attempt_positive"),
        ("UPDATE saga.log SET kind = 'paused'", "log_opens_with_start"),
        ("UPDATE saga.log SET seq = -1, kind = 'paused'", "log_seq_positive"),
    ],
)
def test_postgres_refuses_the_impossible(bench: Bench, statement: str, constraint: str) -> None:
    bench.start()
    with pytest.raises(pg.CheckViolation) as caught:
        bench.sql(statement)
    assert caught.value.diag.constraint_name == constraint


def test_ten_sagas_of_one_key_cannot_be(bench: Bench) -> None:
    bench.start(key="k")
    with pytest.raises(pg.UniqueViolation):
        bench.sql("INSERT INTO saga.instance SELECT gen_random_uuid(), name, fingerprint, key, status, reason, tags, input_hash, "
                  "parent, started_at, updated_at, finished_at FROM saga.instance")  # fmt: skip


def test_large_entries_are_compressed_as_fast_as_the_server_can(bench: Bench) -> None:
    ((lz4,),) = bench.sql("SELECT 'lz4' = ANY (enumvals) FROM pg_settings WHERE name = 'default_toast_compression'")
    rows = bench.sql(
        "SELECT attcompression FROM pg_attribute WHERE attrelid = 'saga.log'::regclass AND attname = 'data'"
    )
    assert rows == [("l" if lz4 else "",)]


def test_a_database_that_is_not_upgraded_is_called_that_and_nothing_else(
    empty_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    empty = database(empty_url)
    relay = Relay(PostgresStore(empty), lambda _: None)

    assert [relay.tick() for _ in range(3)] == [False, False, False]
    empty.dispose()

    assert [record.getMessage() for record in caplog.records] == [
        f"the relay cannot reach the database: the saga log in {empty.name} is not upgraded: run `saga db upgrade`"
    ]
