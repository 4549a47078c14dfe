"""What a client gives is checked before the database sees it, and definitions and inputs are compared by value."""

from __future__ import annotations

from typing import Any

import pytest
from celery import Celery

from saga import InputError, NotAllowed, Orchestrator, Saga, Step, schema
from saga.core.outcome import Failure
from saga.errors import DatabaseNotReady, DefinitionError, KeyConflict, SagaStuck, UnknownSaga
from saga.language.retry import Retry
from saga.store.postgres.errors import complaint
from saga.worker.claimer import Claimer
from tests.conftest import shown

from .conftest import SEQUENCE, Bench, act, always, step


def test_a_set_in_the_input_starts_the_same_saga_again_under_its_key(bench: Bench) -> None:
    words = ["pear", "apple", "fig", "plum", "date"]
    first = bench.orchestrator.start(SEQUENCE, {"codes": set(words)}, key="k")

    assert bench.orchestrator.start(SEQUENCE, {"codes": {*words, "fig"}}, key="k") == first
    assert bench.orchestrator.start(SEQUENCE, {"codes": sorted(words)}, key="k") == first
    assert first.replay().input == {"codes": sorted(words)}
    with pytest.raises(KeyConflict):
        bench.orchestrator.start(SEQUENCE, {"codes": {"pear"}}, key="k")


def test_an_equal_definition_starts_the_registered_one(bench: Bench) -> None:
    equal = Saga("sequence", *map(step, "abcd"))

    assert bench.orchestrator.start(equal).name == "sequence"
    bench.orchestrator.register(equal)
    assert bench.orchestrator.sagas[0] is equal
    assert bench.orchestrator.start(SEQUENCE).name == "sequence"


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"limit": -1}, r"find\(limit=-1\) expected a whole number"),
        ({"limit": "5"}, r"find\(limit='5'\) expected a whole number"),
        ({"limit": True}, r"find\(limit=True\) expected a whole number"),
        ({"limit": None}, r"find\(limit=None\) expected a whole number"),
        ({"limit": 10**20}, "expected a whole number"),
        ({"key": 5}, r"find\(key=5\) expected a text"),
        ({"key": "a\x00"}, "expected a text"),
        ({"saga": 5}, r"find\(saga=5\) expected a Saga or the name of one"),
        ({"saga": "a\x00"}, "expected a Saga or the name of one"),
        ({"since": "yesterday"}, r"find\(since='yesterday'\) expected a datetime"),
        ({"until": 5}, r"find\(until=5\) expected a datetime"),
        ({"status": 5}, "status=5 expected one of running"),
        ({"status": "lost"}, "status='lost' expected one of running"),
        ({"tags": [object()]}, "find: the tags cannot be stored"),
    ],
    ids=shown,
)
def test_what_cannot_be_found_by_is_refused_and_named(bench: Bench, given: Any, text: str) -> None:
    with pytest.raises(InputError, match=text):
        bench.orchestrator.find(**given)


@pytest.mark.parametrize("until", ["x", -1, True, 1.5, 10**20], ids=shown)
def test_a_replay_until_what_is_no_entry_is_refused(bench: Bench, until: Any) -> None:
    with pytest.raises(InputError, match=r"replay\(until=.*\) expected the number of an entry"):
        bench.start().replay(until)


@pytest.mark.parametrize("given", ["a\x00b\ud800", 5, ValueError("no"), "x" * 10_000], ids=lambda given: str(given)[:5])
def test_who_and_why_are_made_fit_for_the_log(bench: Bench, given: Any) -> None:
    handle = bench.start()
    handle.pause(given, by=given)

    event: Any = handle.log()[-1].event
    assert isinstance(event.by, str)
    assert event.by == event.reason
    assert str(given).replace("\x00", "\\x00").replace("\ud800", "\\ud800")[:4000] in event.by


def test_what_is_no_saga_cannot_be_started(bench: Bench) -> None:
    with pytest.raises(UnknownSaga, match="expected a Saga or the name of one, got None"):
        bench.orchestrator.start(None)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="priority=256"):
        bench.orchestrator.start(SEQUENCE, priority=256)


@pytest.mark.parametrize("app", ["shop", 5, SEQUENCE], ids=["text", "number", "saga"])
def test_what_is_no_app_is_refused(app: Any) -> None:
    with pytest.raises(DefinitionError, match=r"Orchestrator\(.*\) expected a Celery app"):
        Orchestrator(app)


@pytest.mark.parametrize("sagas", [SEQUENCE, "sequence", 5, ["sequence"]], ids=["saga", "text", "number", "texts"])
def test_what_is_no_list_of_sagas_is_refused(sagas: Any) -> None:
    with pytest.raises(DefinitionError, match=r"sagas=\["):
        Orchestrator(Celery("none", set_as_current=False), sagas=sagas)


def test_a_step_that_is_not_there_is_not_skipped_and_the_status_named(bench: Bench) -> None:
    with pytest.raises(NotAllowed, match="is running and has no step 'no-such-step'; it has a, b, c, d"):
        bench.start().skip("no-such-step")


def test_a_saga_whose_pivot_is_in_doubt_may_be_cancelled_and_says_so(bench: Bench) -> None:
    once = Saga("once", Step(act, name="a", retry=Retry.none(), pivot=True))
    bench.orchestrator.register(once)
    handle = bench.orchestrator.start(once)
    worker = bench.worker()
    worker.record(bench.claimed(handle, worker=worker), Failure(RuntimeError("no answer")), always)

    with pytest.raises(
        SagaStuck, match=r"pivot in doubt.*; see `saga show .*`, then `saga retry`, .* or `saga cancel`$"
    ):
        handle.result(10)
    assert handle.cancel()


def test_any_other_stuck_saga_is_retried_or_skipped() -> None:
    error = SagaStuck("ID", "undo of a failed: no answer")

    assert str(error).endswith("; see `saga show ID`, then `saga retry` or `saga skip`")


# --- a database that takes no entry -----------------------------------------------------------------------------------


def test_a_read_only_database_is_said_to_be_read_only(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    handle, worker = bench.start(), Claimer(bench.worker())
    make_read_only(bench)

    for ask in (bench.start, handle.cancel, handle.pause, lambda: bench.orchestrator.start_many(SEQUENCE, [{}, {}])):
        with pytest.raises(DatabaseNotReady, match=r"takes no entry: it is read-only .* the URL of the primary"):
            ask()
    with pytest.raises(DatabaseNotReady, match="read-only"):
        schema.downgrade(bench.orchestrator.database, "base")
    with pytest.raises(DatabaseNotReady) as raised:
        worker.claim(handle.id, "main")
    assert complaint(raised.value).startswith("it is read-only")
    bench.orchestrator.relay().tick()
    assert "takes no entry: it is read-only" in caplog.text
    assert handle.status == "running"


def make_read_only(bench: Bench) -> None:
    """What every new session of the database finds, as on a standby."""
    [(name,)] = bench.sql("SELECT current_database()")
    bench.sql(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
    bench.orchestrator.database.dispose()
