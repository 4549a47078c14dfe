"""Passwords and payloads: nothing that is printed, logged or raised shows them."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from celery import Celery
from click.testing import CliRunner
from pydantic import BaseModel

from saga import InputError, Orchestrator, Saga, Step
from saga.broker.publisher import Publisher
from saga.cli import saga as cli
from saga.config import Settings
from saga.core.outcome import Failure
from saga.core.rows import Dispatch
from saga.dev.postgres import HOST, Postgres
from saga.ops import doctor
from saga.relay import Relay
from saga.store.postgres.database import Database
from saga.store.postgres.store import PostgresStore
from saga.worker.liveness import Liveness
from tests.integration.conftest import SEQUENCE, Bench, act, never

PASSWORD = "hush"
UNREACHABLE = f"postgresql://ann:{PASSWORD}@127.0.0.1:1/shop"
URLS = {
    "unreachable": UNREACHABLE,
    "not to be parsed": f"postgresql://ann:{PASSWORD}@db:port/shop",
    "no URL": f"host=db password={PASSWORD}",
    "another backend": f"mysql://ann:{PASSWORD}@127.0.0.1:1/shop",
    "an @ in the password": f"postgresql://ann:{PASSWORD}@{PASSWORD}@127.0.0.1:1/shop",
    "a slash in the password": f"postgresql://ann:{PASSWORD}/{PASSWORD}@127.0.0.1:1/shop",
    "an option that libpq does not know": f"postgresql://ann:{PASSWORD}@127.0.0.1:1/shop?colour=red",
    "a value that libpq does not know": f"postgresql://ann:{PASSWORD}@127.0.0.1:1/shop?sslmode=red",
    "the password as an option": f"postgresql://ann@127.0.0.1:1/shop?password={PASSWORD}",
    "the wrong password": "",
}


class LockedPostgres(Postgres):
    """One that lets in nobody who has no password, and no role has one."""

    def _make_data(self) -> None:
        super()._make_data()
        (self.data / "pg_hba.conf").write_text(f"host all all {HOST}/32 scram-sha-256\n")


@pytest.fixture(scope="module")
def locked_url(server_folder: Path) -> Iterator[str]:
    server = LockedPostgres(server_folder / "postgres", {"fsync": "off"})
    server.start()
    yield f"postgresql://saga:{PASSWORD}@{HOST}:{server.port}/saga"
    server.stop(mode="immediate")


def raised(use: Callable[[], Any]) -> str:
    """All that an error says: its text, those it came from, and where."""
    try:
        return str(use())
    except Exception as error:
        return "".join(traceback.format_exception(error))


@pytest.mark.parametrize("url", URLS.values(), ids=list(URLS))
def test_no_error_and_no_log_shows_the_databases_password(
    url: str, locked_url: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = url or locked_url
    monkeypatch.delenv("CELERY_BROKER_URL", raising=False)
    caplog.set_level(logging.DEBUG)
    orchestrator = Orchestrator(
        Celery("secret", broker="memory://", set_as_current=False), sagas=[SEQUENCE], database_url=url
    )
    settings = orchestrator.settings

    def look() -> bool:
        return Relay(PostgresStore(Database(settings)), lambda _: None).tick()

    def live() -> int:
        return Liveness(Database(settings), settings).worker()

    uses: list[Callable[[], Any]] = [
        orchestrator.find, lambda: orchestrator.start(SEQUENCE, {}), lambda: doctor.examine(orchestrator), look, live,
        lambda: orchestrator._process_worker().executor, lambda: Database(settings).begin(),
    ]  # fmt: skip
    said = [raised(use) for use in uses]
    for words in (["db", "current", "--url", url], ["db", "upgrade", "--url", url]):
        result = CliRunner().invoke(cli, words)
        assert result.exit_code == 1
        assert isinstance(result.exception, SystemExit)
        said.append(result.output)
    orchestrator.close()

    assert PASSWORD not in "\n".join(said)
    assert PASSWORD not in caplog.text


def test_no_object_shows_a_password_when_it_is_printed() -> None:
    settings = Settings.load({}, database_url=UNREACHABLE, direct_url=UNREACHABLE)
    database = Database(settings)
    orchestrator = Orchestrator(Celery("shown", set_as_current=False), database_url=UNREACHABLE)
    shown = [settings, database, database.url, database.engine, database.link(), Liveness(database, settings),
             orchestrator, orchestrator.engine, orchestrator.settings]  # fmt: skip

    assert PASSWORD not in " ".join(f"{each!r} {each!s}" for each in shown)


@pytest.mark.parametrize(
    "url",
    [
        f"redis://:{PASSWORD}@127.0.0.1:1/0",
        f"amqp://ann:{PASSWORD}@127.0.0.1:1//",
        f"redis://:{PASSWORD}/x@127.0.0.1:1/0",
        f"amqp://ann:{PASSWORD}#x@127.0.0.1:1//",
        f"nonsense://ann:{PASSWORD}@127.0.0.1:1//",
        f"amqp://ann:{PASSWORD}@127.0.0.1:port//",
        f"sentinel://:{PASSWORD}@127.0.0.1:1;sentinel://:{PASSWORD}@127.0.0.1:2",
    ],
)
def test_the_doctor_and_the_publisher_do_not_show_the_brokers_password(
    url: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CELERY_BROKER_URL", raising=False)
    caplog.set_level(logging.DEBUG)
    app = Celery("broker", broker=url, set_as_current=False)

    found = doctor.examine(Orchestrator(app, database_url=UNREACHABLE))
    publisher = Publisher(app, timeout=0.5)
    raised(lambda: publisher.publish([Dispatch(SEQUENCE.outline.fingerprint, "main", "celery")]))  # type: ignore[arg-type]
    publisher.flush(2)

    assert [finding for finding in found if finding.what.startswith(("the broker at", "broker_url is no URL"))]
    assert PASSWORD not in repr(found)
    assert PASSWORD not in caplog.text


def test_a_broker_url_that_cannot_be_read_fails_no_start_and_is_not_shown(
    database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    app = Celery("broker", broker=f"amqp://ann:{PASSWORD}@127.0.0.1:{PASSWORD}/", set_as_current=False)
    app.task(act.run, name=act.name, shared=False)
    orchestrator = Orchestrator(app, sagas=[Saga("one", Step(act, compensate=None))], database_url=database_url)
    handle = orchestrator.start("one")
    assert handle.status == "running"
    orchestrator.close()
    assert "is the broker's URL as it should be?" in caplog.text
    assert PASSWORD not in caplog.text


# --- payloads ---------------------------------------------------------------------------------------------------------

CARD = "4111-1111-1111-1111"


class Order(BaseModel):
    card: int


def test_an_input_that_does_not_fit_is_not_shown(database_url: str) -> None:
    app = Celery("typed", broker="memory://", set_as_current=False)

    @app.task(shared=False)
    def charge(card: int) -> int: ...

    typed = Saga("typed", Step(charge, compensate=None), input=Order)
    untyped = Saga("untyped", Step(charge, compensate=None))
    orchestrator = Orchestrator(app, sagas=[typed, untyped], database_url=database_url)

    for saga in (typed, untyped):
        with pytest.raises(InputError, match="the input does not fit") as caught:
            orchestrator.start(saga, {"card": CARD})
        assert CARD not in raised(lambda: (_ for _ in ()).throw(caught.value))
    orchestrator.close()


def test_a_statement_that_fails_in_a_transactional_step_does_not_tell_its_parameters(bench: Bench) -> None:
    with bench.orchestrator.database.begin() as connection, pytest.raises(sqlalchemy.exc.DBAPIError) as caught:
        connection.execute(sqlalchemy.text("SELECT 1 / 0 WHERE :card <> ''"), {"card": CARD})
    assert CARD not in str(caught.value)


@pytest.mark.parametrize(
    ("result", "problem"),
    [("x" * 2_000_000, "over saga_max_payload = 1,048,576"), ("a\x00", "NUL"), ("a\ud800", "surrogate")],
)
def test_a_result_that_cannot_be_stored_is_refused_to_an_operator(bench: Bench, result: str, problem: str) -> None:
    handle = bench.start(SEQUENCE)
    worker = bench.worker()
    worker.record(bench.claimed(handle, worker=worker), Failure(RuntimeError("no"), final=True), never)

    with pytest.raises(InputError, match=problem) as caught:
        handle.skip("a", result)
    assert len(str(caught.value)) < 500


def test_what_an_operator_says_is_cut_and_cleaned(bench: Bench) -> None:
    handle = bench.start()
    handle.pause("x" * 1_000_000 + "\x00", by="an\x00n\ud800")
    said = handle.log()[-1].data
    assert len(said["reason"]) < 5000
    assert said["by"] == "an\\x00n\\ud800"


def test_a_start_with_an_input_that_is_too_large_or_no_text_writes_nothing(bench: Bench) -> None:
    for given in ({"a": "x" * 2_000_000}, {"a": "\x00"}, {"a": "\ud800"}, {"a": float("nan")}):
        with pytest.raises(InputError, match="the input cannot be stored") as caught:
            bench.orchestrator.start(SEQUENCE, given)
        assert len(str(caught.value)) < 500
    for option in ({"tags": {"a": "x" * 2_000_000}}, {"tags": ["\x00"]}, {"key": "a\ud800"}, {"key": "\x00"}):
        with pytest.raises(InputError):
            bench.orchestrator.start(SEQUENCE, {}, **option)
    assert bench.sql("SELECT count(*) FROM saga.instance") == [(0,)]
