"""What user code does to the connection of a transactional step stays in that step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy
from celery import Celery
from psycopg.rows import dict_row
from psycopg.types.json import set_json_loads

from saga import Abort, Orchestrator, Saga, Step
from saga.client.handle import Handle
from saga.language.retry import Retry
from tests.integration.conftest import Bench, perform_within
from tests.roles import OpenPostgres, upgrade

_mischief: list[Callable[[sqlalchemy.Connection], Any]] = []

app = Celery("transactional", broker="memory://", set_as_current=False)


@app.task(shared=False)
def write(connection: sqlalchemy.Connection) -> str:
    connection.exec_driver_sql("INSERT INTO public.effect VALUES ('written')")
    _mischief[-1](connection)
    return "done"


@app.task(shared=False)
def erase(connection: sqlalchemy.Connection) -> None: ...


@app.task(shared=False)
def act() -> None: ...


SAGA = Saga(
    "transactional",
    Step(write, transactional=True, compensate=erase, retry=Retry.none()),
    Step(act, compensate=None),
)


class Shop(Bench):
    """One worker process whose pool has one connection, so that each step meets what the one before left there."""

    def attempt(self, mischief: Callable[[sqlalchemy.Connection], Any]) -> Handle:
        """Run the step with this in it, up to the step after it."""
        handle = self.orchestrator.start(SAGA, {})
        worker = self.worker()
        _mischief.append(mischief)
        perform_within(app, worker, self.claimed(handle, worker=worker))
        return handle

    def left_behind(self, question: str) -> Any:
        """What the next step's connection answers."""
        answers: list[Any] = []
        self.attempt(lambda connection: answers.append(connection.exec_driver_sql(question).scalar()))
        return answers[0]

    def backend(self) -> int:
        found: int = self.left_behind("SELECT pg_backend_pid()")
        return found


@pytest.fixture(scope="module")
def served(server_folder: Path) -> Iterator[Shop]:
    """On a server with a superuser, who may become another role."""
    with OpenPostgres(server_folder, {"fsync": "off"}) as server:
        url = server.url_as("postgres")
        upgrade(url)
        orchestrator = Orchestrator(app, sagas=[SAGA], database_url=url)
        published: list[Any] = []
        orchestrator.engine.publish = published.extend
        found = Shop(orchestrator, url, published)
        found.sql("CREATE ROLE guest; CREATE TABLE public.effect (word text); GRANT INSERT ON public.effect TO guest")
        yield found
        orchestrator.close()


@pytest.fixture
def shop(served: Shop) -> Shop:
    served.sql("TRUNCATE public.effect")
    served.orchestrator.database.dispose()
    return served


def driver_of(connection: sqlalchemy.Connection) -> psycopg.Connection[Any]:
    found: Any = connection.connection.driver_connection
    return found


def fails(connection: sqlalchemy.Connection) -> None:
    raise ValueError("no luck")


SETTINGS = [
    ("SET search_path TO nowhere", "SHOW search_path", '"$user", public'),
    ("SET LOCAL search_path TO nowhere", "SHOW search_path", '"$user", public'),
    ("SET default_transaction_read_only = on", "SHOW transaction_read_only", "off"),
    ("SET TRANSACTION READ ONLY", "SHOW transaction_read_only", "off"),
    ("SET ROLE guest", "SELECT current_user = session_user", True),
    ("SET LOCAL ROLE guest", "SELECT current_user = session_user", True),
    ("SET SESSION AUTHORIZATION guest", "SELECT current_user::text", "postgres"),
    ("SET LOCAL statement_timeout = '1ms'", "SELECT current_setting('statement_timeout') <> '1ms'", True),
    ("SET statement_timeout = '1ms'", "SELECT current_setting('statement_timeout') <> '1ms'", True),
    ("SET LOCAL lock_timeout = '1ms'", "SHOW lock_timeout", "0"),
    ("SET DateStyle = 'SQL, DMY'", "SELECT current_setting('DateStyle') LIKE 'SQL%%'", False),
    ("SET my.tenant = 'a'", "SELECT coalesce(current_setting('my.tenant', true), '')", ""),
    ("SELECT pg_advisory_lock(11)", "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()", 0),
    ("CREATE TEMP TABLE note (word text)", "SELECT to_regclass('pg_temp.note')::text", None),
    ("PREPARE mine AS SELECT 1", "SELECT count(*) FROM pg_prepared_statements WHERE from_sql", 0),
    ("LISTEN news", "SELECT count(*) FROM pg_listening_channels()", 0),
    ("DECLARE kept CURSOR WITH HOLD FOR SELECT 1", "SELECT count(*) FROM pg_cursors WHERE is_holdable", 0),
]  # fmt: skip


@pytest.mark.parametrize(("mischief", "question", "answer"), SETTINGS, ids=[case[0] for case in SETTINGS])
def test_what_a_step_sets_neither_stops_its_entry_nor_meets_the_next_step(
    shop: Shop, mischief: str, question: str, answer: object
) -> None:
    backend = shop.backend()
    handle = shop.attempt(lambda connection: connection.exec_driver_sql(mischief))
    assert handle.steps()["write"].status == "succeeded"
    assert shop.left_behind(question) == answer
    assert shop.backend() == backend or mischief.startswith("PREPARE"), "made clean, not thrown away"


@pytest.mark.parametrize(("mischief", "question", "answer"), SETTINGS, ids=[case[0] for case in SETTINGS])
def test_a_step_that_fails_leaves_nothing_behind_either(
    shop: Shop, mischief: str, question: str, answer: object
) -> None:
    backend = shop.backend()

    def set_and_fail(connection: sqlalchemy.Connection) -> None:
        connection.exec_driver_sql(mischief)
        fails(connection)

    handle = shop.attempt(set_and_fail)
    assert handle.steps()["write"].status == "aborted"
    assert shop.left_behind(question) == answer
    assert shop.backend() == backend or mischief.startswith("PREPARE")


def use_dicts(connection: sqlalchemy.Connection) -> None:
    driver_of(connection).row_factory = dict_row


def read_json_as_text(connection: sqlalchemy.Connection) -> None:
    set_json_loads(lambda _: "spoilt", driver_of(connection))


def hear_notices(connection: sqlalchemy.Connection) -> None:
    driver_of(connection).add_notice_handler(lambda _: None)


@pytest.mark.parametrize("mischief", [use_dicts, read_json_as_text, hear_notices])
def test_what_a_step_does_to_the_driver_stays_in_it(
    shop: Shop, mischief: Callable[[sqlalchemy.Connection], None]
) -> None:
    found: list[Any] = []

    def look(connection: sqlalchemy.Connection) -> None:
        driver = driver_of(connection)
        row = driver.execute("SELECT '{\"a\": 1}'::jsonb").fetchone()
        found.append((row, len(driver._notice_handlers)))

    shop.attempt(look)
    assert shop.attempt(mischief).steps()["write"].status == "succeeded"
    assert shop.attempt(look).steps()["write"].status == "succeeded"
    assert found == [(({"a": 1},), 1)] * 2


ENDINGS: dict[str, Callable[[sqlalchemy.Connection], Any]] = {
    "COMMIT": lambda connection: connection.exec_driver_sql("COMMIT"),
    "ROLLBACK": lambda connection: connection.exec_driver_sql("ROLLBACK"),
    "COMMIT AND CHAIN": lambda connection: connection.exec_driver_sql("COMMIT AND CHAIN"),
    "ROLLBACK and BEGIN": lambda connection: connection.exec_driver_sql("ROLLBACK; BEGIN; SELECT 1"),
    "the driver's commit": lambda connection: driver_of(connection).commit(),
    "the driver's rollback": lambda connection: driver_of(connection).rollback(),
    "the connection's commit": lambda connection: connection.commit(),
    "the connection's rollback": lambda connection: connection.rollback(),
    "the connection's close": lambda connection: connection.close(),
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_step_that_ends_the_transaction_has_not_succeeded(shop: Shop, ending: str) -> None:
    handle = shop.attempt(ENDINGS[ending])
    step = handle.steps()["write"]
    assert step.status == "unknown", "what it wrote may be committed"
    assert step.error is not None
    assert "the step ended the log's own transaction" in step.error
    assert shop.left_behind("SHOW search_path") == '"$user", public'


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_step_that_ends_the_transaction_and_then_fails_may_have_had_its_effect(shop: Shop, ending: str) -> None:
    def end_and_refuse(connection: sqlalchemy.Connection) -> None:
        connection.exec_driver_sql("SET search_path TO nowhere; SELECT pg_advisory_lock(12)")
        ENDINGS[ending](connection)
        raise Abort("after all")

    handle = shop.attempt(end_and_refuse)
    step = handle.steps()["write"]
    assert (step.status, step.error) == ("unknown", "after all")
    assert shop.left_behind("SHOW search_path") == '"$user", public'
    lock = "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND objid = 12"
    shop.until(lambda: not shop.sql(lock), "the end of the session that held the lock")


def test_a_refusal_in_a_transaction_that_stands_is_certain(shop: Shop) -> None:
    def refuse(connection: sqlalchemy.Connection) -> None:
        raise Abort("no")

    assert shop.attempt(refuse).steps()["write"].status == "aborted"
    assert shop.sql("SELECT * FROM public.effect") == []


def test_an_error_that_the_step_swallows_has_not_let_it_succeed(shop: Shop) -> None:
    def swallow(connection: sqlalchemy.Connection) -> None:
        with pytest.raises(sqlalchemy.exc.DBAPIError):
            connection.exec_driver_sql("SELECT 1 / 0")

    assert shop.attempt(swallow).steps()["write"].status == "aborted"
    assert shop.sql("SELECT * FROM public.effect") == []


def test_a_step_costs_no_statement_more_for_it(shop: Shop) -> None:
    """Set limits, the step's own statement, settle, append, commit."""
    shop.backend()
    statements: list[str] = []
    real = psycopg.Cursor.execute

    def counted(cursor: Any, query: Any, *rest: Any, **options: Any) -> Any:
        if not cursor.connection.autocommit:
            statements.append(query)
        return real(cursor, query, *rest, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(psycopg.Cursor, "execute", counted)
        shop.attempt(lambda _: None)
    assert len(statements) == 5
