"""What worker processes tell of themselves, and what becomes of work that some of them do not know."""

from __future__ import annotations

import os
import socket
from typing import Any

import pytest

from saga import Saga
from saga.client.handle import Handle
from saga.config import Settings
from saga.core.rows import Dispatch
from saga.relay import Relay
from saga.store.postgres import fleet
from saga.store.postgres.fleet import About, Member, lock_class
from saga.worker.claimer import Claimer
from saga.worker.liveness import Liveness
from saga.worker.membership import Membership
from saga.worker.process import Shutdown, Worker
from tests.integration.conftest import SEQUENCE, Bench, step

NEW = Saga("new", step("a"))


def members(bench: Bench) -> list[Member]:
    with bench.orchestrator.database.link() as link:
        return fleet.read_members(link)


class Process:
    """A worker process: its lock, and its row."""

    def __init__(self, bench: Bench, **options: Any) -> None:
        self.orchestrator = bench.orchestrator
        self.sent: list[Dispatch] = []
        self.liveness = Liveness(self.orchestrator.database, self.orchestrator.settings)
        self.membership = Membership(
            self.orchestrator.app, self.orchestrator.database, self.orchestrator.engine.catalog, self.liveness,
            self.sent.extend, **{"relays": True, **options},
        )  # fmt: skip

    def look(self, *, idle: bool = True) -> list[Dispatch]:
        """Look after its row and what is parked; returns what was offered."""
        self.sent.clear()
        self.membership.look(idle=idle)
        return list(self.sent)


def enrol(
    bench: Bench, number: int, queues: tuple[str, ...] = ("celery",), sagas: tuple[Saga, ...] = (SEQUENCE,)
) -> None:
    """Write the row of another process, which has those definitions."""
    known = tuple(saga.outline.fingerprint for saga in sagas)
    about = About(bench.orchestrator.app.main or "", f"celery@{number}", "elsewhere", number, "1", True, queues, known)
    with bench.orchestrator.database.link() as link:
        fleet.enrol(link, number, about)


def live(bench: Bench, number: int) -> Any:
    """Hold the lock of a process; returns the session that does."""
    connection = bench.connect()
    connection.execute("SELECT pg_advisory_lock(%s, %s)", (lock_class("saga"), number))
    return connection


def parked(bench: Bench) -> Handle:
    """A saga whose definition no worker has that asked for it."""
    handle = bench.start()
    bench.sql("UPDATE saga.work SET fingerprint = %s", SEQUENCE.outline.fingerprint + "?")
    assert Claimer(bench.worker()).claim(handle.id, "main") is None
    bench.sql("UPDATE saga.work SET fingerprint = %s", SEQUENCE.outline.fingerprint)
    assert bench.sql("SELECT sent, unknown, due_at > now() FROM saga.work") == [(None, True, True)]
    bench.published.clear()
    return handle


def test_a_process_tells_where_it_runs_and_what_it_listens_to_and_knows(bench: Bench) -> None:
    process = Process(bench, node="celery@here")
    process.look()
    (found,) = members(bench)
    assert found.alive
    assert (found.about.host, found.about.pid, found.about.node) == (socket.gethostname(), os.getpid(), "celery@here")
    assert found.about.queues == ("celery",)
    assert set(found.about.fingerprints) == {saga.outline.fingerprint for saga in bench.orchestrator.sagas}
    bench.orchestrator.register(NEW)
    process.look(idle=False)
    assert NEW.outline.fingerprint in members(bench)[0].about.fingerprints
    process.membership.leave()
    process.liveness.stop()
    assert members(bench) == []


def test_a_process_that_starts_and_ends_comes_and_goes(bench: Bench) -> None:
    settings = Settings.load({}, database_url=bench.url, relay=False, relay_interval=0.01)
    worker = Worker(
        bench.orchestrator.app,
        bench.engine,
        bench.orchestrator.database,
        settings,
        bench.published.extend,
        Shutdown(),
        kills_itself=False,
    )
    worker.start()
    bench.until(lambda: [member.alive for member in members(bench)] == [True], "its row")
    worker.stop()
    assert members(bench) == []


def test_the_rows_of_dead_processes_are_taken_out_and_those_of_living_ones_kept(bench: Bench) -> None:
    for number in (1, 2, 3):
        enrol(bench, number)
    with live(bench, 2):
        assert [member.alive for member in members(bench)] == [False, True, False]
        Relay(bench.orchestrator.store, bench.published.extend, interval=0.05, grace=3600).tick()
        assert len(members(bench)) == 3  # soon after a restart nobody is known to be dead
        Relay(bench.orchestrator.store, bench.published.extend, interval=0.05, grace=0).tick()
        assert [member.number for member in members(bench)] == [2]


def test_a_process_whose_lock_broke_writes_its_row_anew(bench: Bench) -> None:
    process = Process(bench)
    process.look()
    bench.sql("DELETE FROM saga.worker")
    bench.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'pgsaga liveness' "
              "AND datname = current_database()")  # fmt: skip
    bench.until(lambda: process.liveness.sessions == 2, "the lock to be taken again")
    process.look(idle=False)
    assert [member.alive for member in members(bench)] == [True]
    process.liveness.stop()


def test_a_worker_that_starts_offers_what_is_parked_for_it_at_once(bench: Bench) -> None:
    handle = parked(bench)
    process = Process(bench)
    assert [offer.saga_id for offer in process.look(idle=False)] == [handle.id]
    assert bench.claimed(handle).step == "a"
    process.liveness.stop()


def test_a_worker_that_learns_a_definition_offers_what_is_parked_for_it_at_once(bench: Bench) -> None:
    process = Process(bench)
    process.look()
    handle = parked(bench)
    bench.sql("UPDATE saga.work SET fingerprint = %s", NEW.outline.fingerprint)
    assert process.look() == []
    bench.orchestrator.register(NEW)
    assert [offer.saga_id for offer in process.look(idle=False)] == [handle.id]
    process.liveness.stop()


def test_an_idle_worker_asks_for_what_others_did_not_know_and_a_busy_one_does_not(bench: Bench) -> None:
    process = Process(bench)
    process.look()
    handle = parked(bench)
    assert process.look(idle=False) == []
    assert [offer.saga_id for offer in process.look(idle=True)] == [handle.id]
    process.liveness.stop()


def test_an_idle_worker_asks_ever_less_for_what_never_reaches_it(bench: Bench) -> None:
    process = Process(bench)
    process.look()
    parked(bench)
    asked = []
    for number in range(30):
        if process.look():
            asked.append(number)
        bench.sql("UPDATE saga.work SET problem = 'unknown', unknown = true, sent = NULL")
    assert asked == [0, 1, 3, 7, 15]
    process.liveness.stop()


def test_a_log_that_cannot_be_read_is_not_asked_for_by_idle_workers(bench: Bench) -> None:
    process = Process(bench)
    process.look()
    handle = bench.start()
    bench.sql("UPDATE saga.log SET format = 999")
    assert Claimer(bench.worker()).claim(handle.id, "main") is None
    assert bench.sql("SELECT problem IS NOT NULL, unknown FROM saga.work") == [(True, False)]
    assert process.look() == []
    process.liveness.stop()


def unknown_here(bench: Bench) -> Handle:
    handle = bench.start()
    bench.sql("UPDATE saga.work SET fingerprint = %s", NEW.outline.fingerprint)
    bench.published.clear()
    return handle


def test_a_lane_that_a_living_worker_knows_is_handed_on_at_once_but_not_for_ever(bench: Bench) -> None:
    handle = unknown_here(bench)
    enrol(bench, 7, sagas=(NEW,))
    with live(bench, 7):
        hops = 0
        while bench.sql("SELECT problem IS NULL FROM saga.work") == [(True,)]:
            assert Claimer(bench.worker()).claim(handle.id, "main") is None
            hops += 1
        assert len(bench.published) == hops - 1 == 7
        assert {dispatch.saga_id for dispatch in bench.published} == {handle.id}


@pytest.mark.parametrize("why", ["it is dead", "it listens elsewhere", "it does not know it either", "it is this one"])
def test_a_lane_that_nobody_else_can_run_is_parked(bench: Bench, why: str) -> None:
    handle = unknown_here(bench)
    enrol(
        bench,
        1 if why == "it is this one" else 7,
        queues=("elsewhere",) if why == "it listens elsewhere" else ("celery",),
        sagas=(SEQUENCE,) if why == "it does not know it either" else (NEW,),
    )
    with live(bench, 8 if why == "it is dead" else 7), live(bench, 1):
        assert Claimer(bench.worker()).claim(handle.id, "main") is None
    assert bench.published == []
    assert bench.sql("SELECT sent, unknown FROM saga.work") == [(None, True)]
