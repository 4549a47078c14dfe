"""Realms: whose a saga is, who may run it, and who sends its messages."""

from __future__ import annotations

import pytest
from celery import Celery

from saga import Orchestrator
from saga.core.outcome import Failure, Success
from saga.core.rows import Dispatch
from saga.worker.claimer import Claimer
from saga.worker.recorder import Recorder
from tests.integration.conftest import FORKED, SAGAS, Bench, act, always, undo
from tests.integration.test_relay import relay


def test_an_apps_work_is_its_own(bench: Bench) -> None:
    neighbour = Celery("neighbour", broker="memory://", set_as_current=False)
    for task in (act, undo):
        neighbour.task(task.run, name=task.name, shared=False)
    other = Orchestrator(neighbour, sagas=SAGAS, database_url=bench.url)
    handle = other.start(FORKED, {})
    assert bench.sql("SELECT realm FROM saga.work UNION SELECT realm FROM saga.instance") == [("neighbour",)]
    assert Claimer(bench.worker()).claim(handle.id, "main") is None

    worker = Recorder(other.engine, lambda: 2, inline_wait=1.0)
    run = Claimer(worker).claim(handle.id, "main")
    assert run is not None
    worker.record(run, Success(None), always)
    assert bench.sql("SELECT lane, realm FROM saga.work ORDER BY lane") == [
        ("main/b", "neighbour"), ("main/c", "neighbour")]  # fmt: skip
    other.close()


def test_work_from_before_there_were_realms_belongs_to_whoever_comes(bench: Bench) -> None:
    handle = bench.start()
    bench.sql("UPDATE saga.work SET realm = ''")
    bench.claimed(handle)
    assert bench.sql("SELECT realm FROM saga.work") == [("integration",)]


@pytest.mark.parametrize(
    ("given", "main", "realm"), [(None, "shop", "shop"), ("ours", "shop", "ours"), (None, None, "")]
)
def test_the_realm_is_the_apps_name_unless_set(given: str | None, main: str | None, realm: str) -> None:
    app = Celery(main, set_as_current=False)
    app.conf.saga_realm = given
    assert Orchestrator(app, database_url="postgresql://localhost/x").database.realm == realm


def test_an_operator_of_another_app_leaves_the_sending_to_the_sagas_own_relay(bench: Bench) -> None:
    neighbour = Celery("neighbour", broker="memory://", set_as_current=False)
    for task in (act, undo):
        neighbour.task(task.run, name=task.name, shared=False)
    other = Orchestrator(neighbour, sagas=SAGAS, database_url=bench.url)
    published: list[object] = []
    other.engine.publish = published.extend  # type: ignore[method-assign]
    handle, worker = bench.start(), bench.worker()
    worker.record(bench.claimed(handle, worker=worker), Failure(RuntimeError("x"), min_wait=60), always)
    bench.sql("UPDATE saga.work SET queue = 'payments'")
    assert [found.id for found in other.find()] == [handle.id]
    other.get(handle.id).retry()
    assert published == []
    assert bench.sql("SELECT queue, sent, realm FROM saga.work") == [("payments", None, "integration")]
    other.close()


def test_a_relay_sends_and_frees_only_what_is_of_its_realm(bench: Bench) -> None:
    ours, theirs, nobodys = bench.start(), bench.start(), bench.start()
    for handle, realm in ((theirs, "another"), (nobodys, "")):
        bench.sql("UPDATE saga.work SET realm = %s WHERE saga_id = %s", realm, handle.id)
    bench.sql("UPDATE saga.work SET sent = NULL")
    one, sent = relay(bench)
    one.tick()
    assert {message.saga_id for message in sent if isinstance(message, Dispatch)} == {ours.id, nobodys.id}
