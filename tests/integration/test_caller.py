"""A start in the caller's transaction: part of it whichever library holds it, or refused with what works."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import psycopg
import pytest
import sqlalchemy
from django.conf import UserSettingsHolder, global_settings, settings
from django.db.utils import ConnectionHandler
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from saga import InputError, KeyBusy, KeyConflict
from saga.errors import DatabaseNotReady

from .conftest import SEQUENCE, Bench

DRIVERS = ["psycopg", "psycopg2", "pg8000"]
ASYNC_DRIVERS = ["psycopg", "asyncpg"]
INPUT = {"words": ["Größe", "日本", "\\ ' : %s :name"]}

Open = Callable[[Bench], AbstractContextManager[Any]]


def url_for(bench: Bench, driver: str) -> str:
    return bench.url.replace("postgresql:", f"postgresql+{driver}:")


@pytest.fixture
def engine(bench: Bench) -> Iterator[sqlalchemy.Engine]:
    found = sqlalchemy.create_engine(url_for(bench, "psycopg"))
    yield found
    found.dispose()


@contextmanager
def engine_of(bench: Bench, driver: str, **options: Any) -> Iterator[sqlalchemy.Engine]:
    engine = sqlalchemy.create_engine(url_for(bench, driver), **options)
    yield engine
    engine.dispose()


def check_that_it_is_part(
    bench: Bench, connection: Any, commit: Callable[[], object], roll_back: Callable[[], object]
) -> None:
    """No commit, no saga; and what a key does is as ever."""
    start = bench.orchestrator.start
    start(SEQUENCE, INPUT, key="lost", connection=connection)
    roll_back()
    handle = start(SEQUENCE, INPUT, key="日本", connection=connection)
    assert start(SEQUENCE, INPUT, key="日本", connection=connection) == handle
    with pytest.raises(KeyConflict):
        start(SEQUENCE, {"words": []}, key="日本", connection=connection)
    assert bench.orchestrator.find() == []
    with pytest.raises(KeyBusy):
        start(SEQUENCE, INPUT, key="日本")
    commit()
    assert bench.orchestrator.find() == [handle]
    assert handle.replay().input == INPUT
    bench.finish(worker := bench.worker(), bench.claimed(handle, worker=worker))
    assert handle.status == "completed"


@pytest.fixture(autouse=True)
def impatient(bench: Bench) -> None:
    bench.orchestrator._starter._key_timeout = 0.05


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_start_is_part_of_a_session_through_any_driver(bench: Bench, driver: str) -> None:
    with engine_of(bench, driver) as engine, Session(engine) as session:
        check_that_it_is_part(bench, session, session.commit, session.rollback)
        assert len(bench.published) > 0


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_start_is_part_of_a_sqlalchemy_connection(bench: Bench, driver: str) -> None:
    with engine_of(bench, driver) as engine, engine.connect() as connection:
        check_that_it_is_part(bench, connection, connection.commit, connection.rollback)


def test_a_start_is_part_of_a_scoped_session(bench: Bench, engine: sqlalchemy.Engine) -> None:
    session = scoped_session(sessionmaker(engine))
    check_that_it_is_part(bench, session, session.commit, session.rollback)
    session.remove()


def test_a_start_is_part_of_a_psycopg_connection(bench: Bench) -> None:
    with psycopg.connect(bench.url) as connection:
        check_that_it_is_part(bench, connection, connection.commit, connection.rollback)


def test_a_start_is_part_of_a_transaction_block_of_a_connection_in_autocommit(bench: Bench) -> None:
    with psycopg.connect(bench.url, autocommit=True) as connection:
        with connection.transaction(force_rollback=True):
            bench.orchestrator.start(SEQUENCE, INPUT, connection=connection)
        assert bench.orchestrator.find() == []
        with connection.transaction():
            handle = bench.orchestrator.start(SEQUENCE, INPUT, connection=connection)
        assert bench.orchestrator.find() == [handle]


def test_a_start_is_part_of_a_pipeline(bench: Bench) -> None:
    with psycopg.connect(bench.url) as connection, connection.pipeline():
        handle = bench.orchestrator.start(SEQUENCE, INPUT, key="k", connection=connection)
        assert bench.orchestrator.start(SEQUENCE, INPUT, key="k", connection=connection) == handle
    assert bench.orchestrator.find() == [handle]


TASTE = """
    SET DateStyle = 'German, DMY'; SET client_encoding = LATIN1; SET search_path = nowhere; SET TimeZone = 'Asia/Kathmandu';
    SET standard_conforming_strings = off
"""


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_callers_settings_make_no_difference(bench: Bench, driver: str) -> None:
    with engine_of(bench, driver) as engine, engine.connect() as connection:
        for setting in TASTE.split(";"):
            connection.exec_driver_sql(setting)
        connection.commit()
        check_that_it_is_part(bench, connection, connection.commit, connection.rollback)


def test_a_callers_settings_make_no_difference_on_a_bare_connection(bench: Bench) -> None:
    with psycopg.connect(bench.url) as connection:
        connection.execute(TASTE)
        connection.commit()
        check_that_it_is_part(bench, connection, connection.commit, connection.rollback)


@pytest.mark.parametrize("driver", ASYNC_DRIVERS)
def test_an_asynchronous_session_starts_by_run_sync(bench: Bench, driver: str) -> None:
    async def use(engine: AsyncEngine) -> None:
        async with async_sessionmaker(engine)() as session:
            await session.run_sync(lambda s: bench.orchestrator.start(SEQUENCE, INPUT, key="lost", connection=s))
            await session.rollback()
            first = await session.run_sync(lambda s: bench.orchestrator.start(SEQUENCE, INPUT, key="k", connection=s))
            again = await session.run_sync(lambda s: bench.orchestrator.start(SEQUENCE, INPUT, key="k", connection=s))
            assert first == again
            assert bench.orchestrator.find() == []
            await session.commit()
            assert bench.orchestrator.find() == [first]
        async with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
            with pytest.raises(InputError, match="isolation level AUTOCOMMIT"):
                await connection.run_sync(lambda c: bench.orchestrator.start(SEQUENCE, INPUT, connection=c))
        await engine.dispose()

    asyncio.run(use(create_async_engine(url_for(bench, driver))))


# --- refused ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("kind", ["engine", "connection", "session"])
def test_a_start_within_a_connection_that_commits_each_statement_is_refused(
    bench: Bench, kind: str, driver: str
) -> None:
    options = {} if kind == "connection" else {"isolation_level": "AUTOCOMMIT"}
    with engine_of(bench, driver, **options) as engine, engine.connect() as connection:
        given: Any = connection.execution_options(isolation_level="AUTOCOMMIT") if kind == "connection" else connection
        with pytest.raises(InputError, match=r"commits each statement .* give one with a transaction"):
            bench.orchestrator.start(SEQUENCE, connection=Session(given) if kind == "session" else given)
        with engine.execution_options(isolation_level="READ COMMITTED").begin() as connection:
            handle = bench.orchestrator.start(SEQUENCE, connection=connection)
    assert bench.orchestrator.find() == [handle]


def test_a_psycopg_connection_in_autocommit_is_refused_with_what_works(bench: Bench) -> None:
    text = r"commits each .* `with connection.transaction\(\):`, or leave"
    with psycopg.connect(bench.url, autocommit=True) as connection, pytest.raises(InputError, match=text):
        bench.orchestrator.start(SEQUENCE, connection=connection)
    assert bench.orchestrator.find() == []


@contextmanager
def django_connection(bench: Bench, **options: Any) -> Iterator[Any]:
    before, settings._wrapped = settings._wrapped, UserSettingsHolder(global_settings)
    url = sqlalchemy.make_url(bench.url)
    database = {"ENGINE": "django.db.backends.postgresql", "NAME": url.database, "USER": url.username,
                "PASSWORD": url.password, "HOST": url.host, "PORT": url.port}  # fmt: skip
    connections = ConnectionHandler(
        {"default": {**database, **options}, "other": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
    )
    try:
        yield connections
    finally:
        connections.close_all()
        settings._wrapped = before


def test_django_outside_a_transaction_is_refused_with_what_works(bench: Bench) -> None:
    with django_connection(bench) as connections:
        for _ in range(2):  # not connected yet, and connected
            with pytest.raises(InputError, match=r"Django's autocommit.* `with transaction.atomic\(\):`"):
                bench.orchestrator.start(SEQUENCE, connection=connections["default"])
            connections["default"].ensure_connection()
    assert bench.orchestrator.find() == []


def test_django_without_autocommit_is_a_transaction(bench: Bench) -> None:
    with django_connection(bench, AUTOCOMMIT=False) as connections:
        wrapper = connections["default"]
        check_that_it_is_part(bench, wrapper, wrapper.commit, wrapper.rollback)


def test_django_of_another_database_is_refused(bench: Bench) -> None:
    with django_connection(bench) as connections:
        connections["other"].set_autocommit(False)
        with pytest.raises(InputError, match=r"is Django's of sqlite, .* expected one of Postgres"):
            bench.orchestrator.start(SEQUENCE, connection=connections["other"])


def test_what_is_asynchronous_is_refused_with_what_works(bench: Bench) -> None:
    async def use() -> None:
        engine = create_async_engine(url_for(bench, "psycopg"))
        async with AsyncSession(engine) as session, engine.connect() as connection:
            given: list[AsyncSession | AsyncConnection] = [session, connection]
            for each in given:
                with pytest.raises(InputError, match=r"is asynchronous; use `await session.run_sync\(lambda s: "):
                    bench.orchestrator.start(SEQUENCE, connection=each)
        await engine.dispose()
        async with await psycopg.AsyncConnection.connect(bench.url) as bare:
            with pytest.raises(InputError, match=r"is asynchronous; give a psycopg.Connection"):
                bench.orchestrator.start(SEQUENCE, connection=bare)

    asyncio.run(use())


def test_a_transaction_of_another_database_is_refused(bench: Bench) -> None:
    lite = sqlalchemy.create_engine("sqlite://")
    with (
        lite.connect() as connection,
        pytest.raises(InputError, match="one of sqlite, and the saga log is in Postgres"),
    ):
        bench.orchestrator.start(SEQUENCE, connection=connection)
    with Session() as session, pytest.raises(InputError, match="a Session with several databases"):
        bench.orchestrator.start(SEQUENCE, connection=session)
    lite.dispose()


def test_what_is_no_connection_is_refused(bench: Bench, engine: sqlalchemy.Engine) -> None:
    for given in (engine, 5, "postgresql://"):
        with pytest.raises(InputError, match=r"connection=.* expected a SQLAlchemy Session or Connection"):
            bench.orchestrator.start(SEQUENCE, connection=given)


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_database_without_the_log_is_named_with_its_remedy_through_any_driver(bench: Bench, driver: str) -> None:
    bench.start()
    with engine_of(bench, driver) as engine, engine.begin() as connection:
        connection.exec_driver_sql("ALTER SCHEMA saga RENAME TO moved")
        with pytest.raises(DatabaseNotReady, match="run `saga db upgrade`"):
            bench.orchestrator.start(SEQUENCE, connection=connection)
        connection.rollback()
