"""Databases whose defaults are somebody's taste: what pgsaga relies on it sets, and what cannot hold its texts it refuses."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
import sqlalchemy
from celery import Celery

from saga import Abort, DatabaseNotReady, Orchestrator, Retry, Saga, Step, schema
from saga.core.events import AttemptFailed
from saga.core.outcome import Failure, Success
from saga.dev import Stack
from saga.ops.doctor.server import examine_server
from saga.worker.liveness import Liveness
from saga.worker.recorder import Recorder
from tests.integration.conftest import Bench, act, always, never, perform_within, undo

_numbers = itertools.count(1)
app = Celery("defaults", broker="memory://", set_as_current=False)
for _task in (act, undo):
    app.task(_task.run, name=_task.name, shared=False)


@app.task(shared=False)
def write(connection: sqlalchemy.Connection) -> list[Any]:
    """What user code finds in its session, and a date that it reads."""
    names = ("TimeZone", "search_path", "standard_conforming_strings", "transaction_isolation")
    read = sqlalchemy.text("SELECT current_setting(:name)")
    return [
        *(connection.scalar(read, {"name": name}) for name in names),
        str(connection.scalar(sqlalchemy.text("SELECT date '2026-02-01'"))),
    ]


PLAIN = Saga("plain", Step(act, name="a", compensate=undo, retry=Retry.none(), compensate_retry=Retry.none()))
WRITING = Saga("writing", Step(write, name="w", compensate=None, transactional=True, retry=Retry.none()))

DEFAULTS = {
    "formats": {"datestyle": "'German, DMY'", "intervalstyle": "sql_standard", "timezone": "'Asia/Kathmandu'",
                "extra_float_digits": "-10", "bytea_output": "escape"},
    "sql, mdy": {"datestyle": "'SQL, MDY'", "timezone": "'<+02>-02'"},
    "isolation": {"default_transaction_isolation": "serializable"},
    "repeatable read": {"default_transaction_isolation": "'repeatable read'"},
    "search path": {"search_path": "hostile, pg_catalog"},
    "strings": {"standard_conforming_strings": "off", "array_nulls": "off", "transform_null_equals": "on"},
    "impatience": {"statement_timeout": "'5s'", "lock_timeout": "'1s'", "idle_session_timeout": "'300ms'"},
}  # fmt: skip

HOSTILE = """
    CREATE SCHEMA hostile;
    CREATE FUNCTION hostile.clock_timestamp() RETURNS timestamptz LANGUAGE sql AS $$ SELECT 'infinity'::timestamptz $$;
    CREATE FUNCTION hostile.set_config(text, text, boolean) RETURNS text LANGUAGE sql AS $$ SELECT (1 / 0)::text $$
"""


@pytest.fixture
def make(stack: Stack) -> Iterator[Callable[..., Bench]]:
    """Makes a database with other defaults, upgrades it, and gives a bench on it."""
    made: list[Bench] = []

    def make(options: str = "", defaults: dict[str, str] | None = None, **settings: Any) -> Bench:
        name = f"defaults_{next(_numbers)}"
        url = stack.postgres.url_of(name)
        with psycopg.connect(plain(stack.postgres.url_of("postgres")), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name} TEMPLATE template0 {options}".encode())
            for key, value in (defaults or {}).items():
                connection.execute(f"ALTER DATABASE {name} SET {key} = {value}".encode())
        if "hostile" in (defaults or {}).get("search_path", ""):
            with psycopg.connect(plain(url), autocommit=True) as connection:
                connection.execute(HOSTILE.encode())
        orchestrator = Orchestrator(fresh_app(settings), sagas=[PLAIN, WRITING], database_url=url)
        published: list[Any] = []
        orchestrator.engine.publish = published.extend
        bench = Bench(orchestrator, plain(url), published)
        made.append(bench)
        schema.upgrade(orchestrator.database)
        return bench

    yield make
    for bench in made:
        bench.orchestrator.close()


def fresh_app(settings: dict[str, Any]) -> Celery:
    found = Celery("defaults", broker="memory://", set_as_current=False)
    for task in (act, undo, app.tasks[write.name]):
        found.task(task.run, name=task.name, shared=False)
    found.conf.update({f"saga_{name}": value for name, value in settings.items()})
    return found


def plain(url: str) -> str:
    return url.replace("+psycopg", "")


def run_everything(bench: Bench) -> None:
    """What clients, workers, the relay and operators do, with results and errors in any script."""
    orchestrator, worker = bench.orchestrator, bench.worker()
    handle = orchestrator.start(PLAIN, {}, key="schlüssel-日", tags={"straße": "\\ '日"}, delay=0.0)
    assert orchestrator.start(PLAIN, {}, key="schlüssel-日", tags={"straße": "\\ '日"}) == handle
    worker.record(bench.claimed(handle, worker=worker), Success("\\日"), always)
    assert handle.result() == {"a": "\\日"}
    assert handle.log()[0].at.utcoffset() is not None
    moment = datetime.now(UTC) - timedelta(minutes=1)
    assert orchestrator.find(since=moment, key="schlüssel-日", tags={"straße": "\\ '日"}) == [handle]
    assert orchestrator.find(since=moment.replace(tzinfo=None), status="completed") == [handle]
    assert orchestrator.find(until=moment) == []
    failed = orchestrator.start(PLAIN, {})
    failed.pause()
    failed.resume()
    failure = Failure(ValueError("日本"), final=True)
    bench.finish(worker, worker.record(bench.claimed(failed, worker=worker), failure, always))
    assert (failed.status, failed.steps()["a"].error) == ("compensated", "ValueError: 日本")
    late = orchestrator.start(PLAIN, {})
    bench.claimed(late, worker=worker)
    bench.sql("UPDATE saga.work SET due_at = now() - interval '1 s'")
    bench.sql("UPDATE saga.log SET data = '{\"timeout\": 0}' WHERE kind = 'step_started'")
    relay = orchestrator.relay()
    relay.tick()
    assert not relay._failing
    assert late.log()[-1].kind == "attempt_timed_out"


def write_within(bench: Bench) -> list[Any]:
    """What a transactional step found."""
    handle = bench.orchestrator.start(WRITING, {})
    worker = bench.worker()
    perform_within(app, worker, bench.claimed(handle, worker=worker))
    found: list[Any] = handle.result()["w"]
    return found


@pytest.mark.parametrize("name", DEFAULTS)
def test_a_database_of_other_defaults_serves(make: Callable[..., Bench], name: str) -> None:
    defaults = DEFAULTS[name]
    bench = make(defaults=defaults)
    run_everything(bench)
    # User code has the defaults of its role, but for the isolation, and for the dates that the driver reads.
    ordinary = {"timezone": "Etc/UTC", "search_path": '"$user", public', "standard_conforming_strings": "on"}
    wanted = [defaults.get(key, value).strip("'") for key, value in ordinary.items()]
    found = write_within(bench)
    assert found[1:] == [*wanted[1:], "read committed", "2026-02-01"]
    assert found[0].removeprefix("Etc/") == wanted[0].removeprefix("Etc/")
    assert not [
        finding.what
        for finding in examine_server(bench.orchestrator.app, bench.orchestrator.database)
        if finding.level == "bad"
    ]


@pytest.mark.parametrize("name", [name for name in DEFAULTS if "isolation" not in repr(DEFAULTS[name])])
def test_behind_a_pooler_no_session_is_set_and_none_need_be(make: Callable[..., Bench], name: str) -> None:
    bench = make(defaults=DEFAULTS[name] | {"search_path": "public"}, prepared_statements=False)
    run_everything(bench)
    with bench.orchestrator.database.link() as link:
        assert link.run("SELECT name FROM pg_settings WHERE source = 'session'", {}) == []


def test_behind_a_pooler_another_isolation_level_is_refused_with_the_remedy(make: Callable[..., Bench]) -> None:
    bench = make(prepared_statements=False)
    database = bench.orchestrator.database
    bench.sql(f"ALTER DATABASE {database.url.database} SET default_transaction_isolation = serializable")
    database.dispose()
    for ask in (bench.orchestrator.find, lambda: bench.orchestrator.start(PLAIN, {}), database.begin):
        with pytest.raises(DatabaseNotReady, match="ALTER ROLE saga SET default_transaction_isolation"):
            ask()
    (finding,) = examine_server(bench.orchestrator.app, database)
    assert finding.level == "bad"


def test_a_worker_shows_that_it_is_alive_whatever_the_roles_timeouts_are(make: Callable[..., Bench]) -> None:
    bench = make(defaults=DEFAULTS["impatience"])
    liveness = Liveness(bench.orchestrator.database, bench.orchestrator.settings)
    liveness.worker()
    held = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    # Its session has the timeouts off, so there is nothing to wait for.
    assert liveness._connection is not None
    for name in ("idle_session_timeout", "statement_timeout", "lock_timeout"):
        assert liveness._connection.execute(f"SHOW {name}".encode()).fetchone() == ("0",)
    assert bench.sql(held) == [(1,)]
    liveness.stop()


# --- encodings --------------------------------------------------------------------------------------------------------

ENCODINGS = ["LATIN1", "SQL_ASCII"]


def in_encoding(make: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch, encoding: str) -> Bench:
    """A log that was made there before."""
    monkeypatch.setattr(schema, "ENCODING", encoding)
    bench = make(f"ENCODING '{encoding}' LOCALE 'C' LOCALE_PROVIDER libc")
    monkeypatch.undo()
    return bench


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_database_that_cannot_hold_every_text_is_refused(
    make: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch, encoding: str
) -> None:
    bench = in_encoding(make, monkeypatch, encoding)
    with pytest.raises(DatabaseNotReady, match=f"the encoding of the database is {encoding}.*ENCODING 'UTF8'"):
        schema.upgrade(bench.orchestrator.database)
    bad = [
        finding
        for finding in examine_server(bench.orchestrator.app, bench.orchestrator.database)
        if finding.level == "bad"
    ]
    assert [encoding in finding.what for finding in bad] == [True]


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize(
    ("outcome", "error"),
    [
        (Failure(ValueError("日本"), final=True, traceback="日本"), r"ValueError: \u65e5\u672c"),
        (Failure(Abort("日本", code="日", details={"本": ["日"]}), effect=False), r"\u65e5\u672c"),
    ],
)  # fmt: skip
def test_what_the_database_cannot_store_ends_the_attempt_in_ascii(
    make: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch, encoding: str, outcome: Any, error: str
) -> None:
    bench = in_encoding(make, monkeypatch, encoding)
    handle = bench.orchestrator.start(PLAIN, {})
    worker = bench.worker()
    appends = count_appends(worker, monkeypatch)
    worker.record(bench.claimed(handle, worker=worker), outcome, never)
    assert appends[0] <= 2
    event = handle.log()[-1].event
    if encoding == "LATIN1":
        assert isinstance(event, AttemptFailed)
        assert error in event.error
        assert event.outcome == ("aborted" if isinstance(outcome.error, Abort) else "unknown")
    else:
        assert repr(event).count("日") > 0


def test_a_result_that_the_database_cannot_store_is_a_failure(
    make: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = in_encoding(make, monkeypatch, "LATIN1")
    handle = bench.orchestrator.start(PLAIN, {})
    worker = bench.worker()
    worker.record(bench.claimed(handle, worker=worker), Success("日本"), never)
    assert (handle.steps()["a"].error or "").startswith("ResultError: the result cannot be stored: ")
    assert handle.status == "compensating"


def test_a_late_attempts_evidence_is_kept_in_ascii(make: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch) -> None:
    bench = in_encoding(make, monkeypatch, "LATIN1")
    handle = bench.orchestrator.start(PLAIN, {})
    worker = bench.worker()
    run = bench.claimed(handle, worker=worker)
    bench.sql("UPDATE saga.work SET due_at = now() - interval '1 s'")
    bench.sql("UPDATE saga.log SET data = '{\"timeout\": 0}' WHERE kind = 'step_started'")
    bench.orchestrator.relay().tick()
    run.state = worker.engine.read(run.instance, run.state)
    worker.record(run, Success({"日": "本"}), always)
    assert handle.log()[-1].event.result == {r"\u65e5": r"\u672c"}


def test_an_entry_that_no_log_takes_is_not_tried_without_end(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    handle = bench.start()
    worker = bench.worker()
    run = bench.claimed(handle, worker=worker)
    bench.sql("ALTER TABLE saga.log ADD CONSTRAINT nothing_fails CHECK (kind <> 'step_failed')")
    appends = count_appends(worker, monkeypatch)
    assert worker.record(run, Failure(ValueError("no"), final=True), always) is None
    assert appends[0] < 10
    assert not worker.running
    rows = bench.sql("SELECT worker, problem FROM saga.work WHERE saga_id = %s", handle.id)
    assert len(rows) == 1
    assert rows[0][0] is None
    assert "its log takes no entry" in rows[0][1]


def count_appends(worker: Recorder, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    count, write = [0], worker.engine.write

    def counted(*args: Any) -> Any:
        count[0] += 1
        return write(*args)

    monkeypatch.setattr(worker.engine, "write", counted)
    return count
