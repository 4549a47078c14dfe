"""An operator ends a saga without undoing more, whatever runs at that moment."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from saga import NotAllowed, SagaAbandoned, Status, saga_abandoned, schema
from saga.core.outcome import Success
from saga.store.postgres.database import Link
from saga.store.postgres.store import Joined
from saga.worker.claimer import Claimer
from tests.integration.conftest import Bench, always

BEFORE = "0004"
"""The last revision without the status."""


def test_a_step_that_runs_while_its_saga_is_abandoned_brings_evidence_only(bench: Bench) -> None:
    told: list[dict[str, Any]] = []
    saga_abandoned.connect(lambda **named: told.append(named), weak=False, sender="sequence", dispatch_uid="test")
    handle, worker = bench.start(deadline=60), bench.worker()
    run = worker.record(bench.claimed(handle, worker=worker), Success(1), always)
    assert run is not None
    handle.abandon("written off", by="ann")
    saga_abandoned.disconnect(dispatch_uid="test", sender="sequence")

    assert worker.record(run, Success("too late"), always) is None
    assert Claimer(worker).claim(handle.id, "main") is None

    assert handle.status == Status.ABANDONED
    assert [entry.kind for entry in handle.log()[-2:]] == ["abandoned", "late_result"]
    assert handle.log()[-1].data["result"] == "too late"
    assert bench.sql("SELECT * FROM saga.work") == []
    assert bench.sql("SELECT status, finished_at IS NOT NULL FROM saga.instance") == [("abandoned", True)]
    assert bench.orchestrator.find(status="abandoned") == [handle]
    assert handle.replay().undos_owed == ("a", "b")
    with pytest.raises(SagaAbandoned, match=r"abandoned by ann: written off; not undone: a, b") as raised:
        handle.result(timeout=5)
    assert raised.value.undos_owed == ("a", "b")
    assert told[0]["reason"] == "abandoned by ann: written off"
    assert told[0]["undos_owed"] == ("a", "b")
    with pytest.raises(NotAllowed, match="is abandoned"):
        handle.retry()


def test_a_transactional_step_that_runs_while_its_saga_is_abandoned_commits_nothing(bench: Bench) -> None:
    handle, worker = bench.start(), bench.worker()
    run = bench.claimed(handle, worker=worker)
    handle.abandon()
    with bench.orchestrator.database.link() as link, link.connection.transaction():
        assert worker.record_within(run, Success(1), Joined(bench.orchestrator.database, link), keep=True) is None
    assert handle.log()[-1].kind == "abandoned"


def test_a_saga_is_abandoned_or_goes_on_never_both(bench: Bench) -> None:
    """An entry and the request at the same place: one wins, the other reads on."""
    handle, worker = bench.start(), bench.worker()
    run = bench.claimed(handle, worker=worker)
    with bench.connect() as other:
        worker.engine.write(
            worker.draft(run, Success(1), None, keep=True, hold=False),
            Joined(bench.orchestrator.database, Link(other, "saga")),
        )
        with ThreadPoolExecutor() as pool:
            asked = pool.submit(handle.abandon, "enough")
            bench.until_blocked()
            other.commit()
            asked.result(10)
    assert [entry.kind for entry in handle.log()[-3:]] == ["step_succeeded", "step_started", "abandoned"]
    assert handle.replay().undos_owed == ("a", "b")
    assert bench.sql("SELECT * FROM saga.work") == []


def test_older_tables_take_an_abandoned_saga_for_one_that_needs_an_operator(bench: Bench) -> None:
    handle = bench.start()
    handle.abandon()
    schema.downgrade(bench.orchestrator.database, BEFORE)
    assert bench.sql("SELECT status, finished_at FROM saga.instance") == [("stuck", None)]
    schema.upgrade(bench.orchestrator.database)
    assert bench.orchestrator.find(status="stuck") == [handle]
