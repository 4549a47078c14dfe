"""The grants of the documentation's page on roles: enough for each role, and none too many."""

from __future__ import annotations

import json
import re
import time
import zlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from celery import Celery
from click.testing import CliRunner
from psycopg import errors as pg

from saga import Handle, Orchestrator, Parallel, Retry, Saga, Status, Step, schema
from saga.cli import saga as cli
from saga.cli.context import Context
from saga.cli.lanes import read_lanes
from saga.client.ids import uuid7
from saga.config import Settings
from saga.core.events import Paused, SagaStarted
from saga.core.outcome import Failure, Success
from saga.core.ref import Parent, Phase
from saga.core.rows import Changes, Dispatch, Place
from saga.core.text import digest
from saga.errors import DatabaseNotReady
from saga.ops import audit
from saga.relay import Relay
from saga.store.postgres import appends, clock, due, fleet, signals, work
from saga.store.postgres.database import Database, Link
from saga.store.postgres.fleet import lock_class
from saga.store.postgres.store import PostgresStore
from saga.store.values import Addition, NewStatus, Opening, Ping, Schedule, Signal
from saga.worker.attempt import Attempt
from saga.worker.claimer import Claimer
from saga.worker.liveness import Liveness
from saga.worker.membership import Membership
from saga.worker.recorder import Recorder
from tests.integration.conftest import act, always, never, undo
from tests.roles import OpenPostgres, blocks, upgrade

ROLES = ("saga_worker", "saga_client", "saga_operator", "saga_reader")


def _step(name: str, **options: Any) -> Step:
    return Step(act, name=name, compensate=undo, retry=Retry.none(), compensate_retry=Retry.none(), **options)


SHORT = Saga("short", _step("a"), _step("b", timeout=timedelta(seconds=60)))
WIDE = Saga("wide", _step("a"), Parallel(_step("b"), _step("c")), _step("d"))
UNKNOWN = Saga("unknown", _step("a"))


@pytest.fixture(scope="module")
def postgres(server_folder: Path) -> Iterator[OpenPostgres]:
    """A server with the roles in it."""
    server = OpenPostgres(server_folder / "postgres", {"fsync": "off"})
    server.start()
    server.set_up_roles()
    yield server
    server.stop(mode="immediate")


class Party:
    """What a process of one role has."""

    def __init__(self, postgres: OpenPostgres, role: str, *sagas: Saga) -> None:
        app = Celery(role, broker="memory://", set_as_current=False)
        app.conf.saga_realm = "roles"
        for task in (act, undo):
            app.task(task.run, name=task.name, shared=False)
        self.orchestrator = Orchestrator(app, sagas=sagas or [SHORT, WIDE], database_url=postgres.url_as(role))
        self.sent: list[Dispatch | Ping] = []
        self.orchestrator.engine.publish = self.sent.extend
        self.recorder = Recorder(self.orchestrator.engine, lambda: 1, inline_wait=1.0)
        self.relay = Relay(self.orchestrator.store, self.sent.extend, interval=0.05, grace=0)

    def claimed(self, handle: Handle, lane: str = "main") -> Attempt:
        run = Claimer(self.recorder).claim(handle.id, lane)
        assert run is not None
        return run

    def finish(self, handle: Handle, lane: str = "main") -> None:
        run: Attempt | None = self.claimed(handle, lane)
        while run is not None:
            run = self.recorder.record(run, Success(run.step), always)

    def fail(self, handle: Handle, lane: str = "main") -> None:
        self.recorder.record(self.claimed(handle, lane), Failure(RuntimeError("no"), final=True), never)


class Parties:
    """A process of each role, and the superuser, who puts clocks forward."""

    def __init__(self, postgres: OpenPostgres) -> None:
        self.postgres = postgres
        self.worker, self.client, self.operator, self.reader = (Party(postgres, role) for role in ROLES)
        self.stranger = Party(postgres, "saga_client", UNKNOWN)

    def sql(self, statement: str) -> None:
        with psycopg.connect(self.postgres.url_as("postgres"), autocommit=True) as connection:
            connection.execute(statement.encode())

    def empty(self) -> None:
        self.sql("TRUNCATE saga.log, saga.work, saga.instance, saga.probe, saga.relay, saga.schedule, saga.signal")

    def start(self, saga: Saga = SHORT, **options: Any) -> Handle:
        """A saga that the client has started, as the worker sees it."""
        return self.worker.orchestrator.get(self.client.orchestrator.start(saga, {}, **options).id)

    def close(self) -> None:
        for party in (self.worker, self.client, self.operator, self.reader, self.stranger):
            party.orchestrator.close()


@pytest.fixture
def parties(postgres: OpenPostgres) -> Iterator[Parties]:
    found = Parties(postgres)
    found.empty()
    yield found
    found.close()


# --- enough -----------------------------------------------------------------------------------------------------------


def run_sagas(parties: Parties) -> None:
    """What a worker does with steps: forward, back, parked, given back, late."""
    worker = parties.worker
    done, undone, parked, interrupted = parties.start(WIDE), parties.start(), parties.start(), parties.start()
    worker.finish(done)
    for lane in ("main/b", "main/c"):
        worker.finish(done, lane)
    assert worker.sent  # d is offered on
    worker.recorder.record(worker.claimed(undone), Success(1), never)
    worker.fail(undone)
    worker.finish(undone)
    assert [undone.status, done.status] == [Status.COMPENSATED, Status.COMPLETED]
    run = worker.claimed(interrupted)
    parties.operator.orchestrator.get(interrupted.id).pause()
    worker.recorder.record(run, Success(1), always)
    stranger = parties.stranger.orchestrator.start(UNKNOWN, {})
    assert Claimer(worker.recorder).claim(stranger.id, "main") is None
    assert parked.status == Status.RUNNING


def keep_up(parties: Parties) -> None:
    """What the relay and the upkeep do: due, overdue, lost, unrun; pings; the lock that shows a worker is alive."""
    worker = parties.worker
    schema.check(worker.orchestrator.database)
    late, unrun, lost = parties.start(), parties.start(), parties.start(delay=0.0)
    worker.claimed(late)
    parties.sql("UPDATE saga.work SET due_at = now() WHERE worker IS NOT NULL")
    parties.sql("UPDATE saga.log SET data = '{\"timeout\": 0}' WHERE kind = 'step_started'")
    worker.relay.tick()
    assert late.log()[-1].kind in ("attempt_timed_out", "attempt_lost")
    worker.finish(late)
    assert late.status == Status.COMPENSATED
    token = worker.claimed(unrun).lease.token
    with worker.orchestrator.database.link() as link:
        assert work.owned_tokens(link, 1) == [token]
        assert due.free_unrun(link, 1, [token])
    parties.sql("UPDATE saga.work SET sent = sent - interval '1 hour', dispatches = 0")
    worker.relay.tick()
    pings = [message for message in worker.sent if isinstance(message, Ping)]
    worker.orchestrator._see_ping(pings[0].queue, pings[0].number)
    worker.relay.tick()
    signal = Signal(lost.id, "approval", {"ok": True})
    assert parties.operator.orchestrator.store.post(signal)
    with worker.orchestrator.database.link() as link:
        signals.put_off(link, 0, "no such")
    worker.relay.tick()
    with parties.reader.orchestrator.database.link() as link:
        assert link.run("SELECT saga_id FROM {s}.log WHERE kind = 'signal_received'", {}) == [(lost.id,)]
    assert lost.id in {message.saga_id for message in worker.sent if isinstance(message, Dispatch)}
    parties.sql("UPDATE saga.relay SET behind = 60, ahead = 60")
    for _ in range(2):
        worker.relay.tick()
    with parties.reader.orchestrator.database.link() as link:
        assert clock.read_lead(link) <= 0
    assert not worker.relay._failing
    assert worker.orchestrator._identity.log_id() is not None
    liveness = Liveness(worker.orchestrator.database, worker.orchestrator.settings)
    orchestrator = worker.orchestrator
    membership = Membership(
        orchestrator.app, orchestrator.database, orchestrator.engine.catalog, liveness, worker.sent.extend, relays=True
    )
    membership.look(idle=True)
    with parties.reader.orchestrator.database.link() as link:
        assert [member.alive for member in fleet.read_members(link)] == [True]
    membership.leave()
    liveness.stop()
    with orchestrator.database.link() as link:
        looked = fleet.read_relay_age(link, orchestrator.database.realm)
    assert looked is not None
    assert looked < 60


def begin_parts(parties: Parties) -> None:
    """A worker begins a saga that is a part of another, with an entry of that one."""
    handle, store = parties.start(), parties.worker.orchestrator.store
    rows = [Place("main", "a", 1, Phase.STEP, "celery")]
    part = Opening(uuid7(), "short", SHORT.outline.fingerprint, None, None, "hash", SagaStarted({}), rows, True,
                   Parent(handle.id, "main", "a"))  # fmt: skip
    assert store.append([Addition(handle.id, 2, [Paused()], openings=[part])], 1)
    status = NewStatus("stuck", "no", False, part.parent)
    moved = Changes(SHORT.outline.fingerprint, None, moved=[Place("main", "a", None, Phase.STEP, "celery")])
    assert store.append([Addition(handle.id, 3, [Paused()], moved)], 1)
    [stored] = store.append([Addition(part.id, 2, [Paused()], status=status)], 1).values()
    [message] = stored.woken
    assert message.saga_id == handle.id


def schedule(parties: Parties) -> None:
    """What workers do with schedules."""
    parties.client.orchestrator.start("short", {})
    store = parties.worker.orchestrator.store
    keep_schedules(store)
    store.put_schedule(
        Schedule("hourly", "short", {}, "hourly", {"every": 3600}, "one", datetime(2026, 1, 1, tzinfo=UTC))
    )
    [due] = store.due_schedules(10).due
    rows = [Place("main", "a", 1, Phase.STEP, "celery")]
    opening = Opening(
        uuid7(), "short", SHORT.outline.fingerprint, "hourly/1", None, "hash", SagaStarted({}), rows, True
    )
    assert store.advance_schedule(due, None, [opening], 1.0) == {opening.id}
    [found] = store.schedules()
    assert found.last_tick == due.next_tick
    assert store.remove_schedule("hourly")


def schedule_by_hand(parties: Parties) -> None:
    """What operators do with schedules."""
    keep_schedules(parties.operator.orchestrator.store)


def keep_schedules(store: PostgresStore) -> None:
    for every in (60, 3600):
        store.put_schedule(Schedule("report", "short", {"n": every}, "report", {"every": every}, "one", None))
    assert store.pause_schedule("report")
    assert store.resume_schedule("report", datetime(2100, 1, 1, tzinfo=UTC))
    assert [each.name for each in store.schedules()] == ["report"]
    assert store.remove_schedule("report")


def rebuild(parties: Parties) -> None:
    """What `saga check --rebuild` does."""
    parties.start()
    parties.sql("UPDATE saga.instance SET reason = 'nobody knows'")
    assert audit.summarize(audit.rebuild(parties.worker.orchestrator.engine)).changed > 0


def operate(parties: Parties) -> None:
    """What operators do."""
    worker, operator = parties.worker, parties.operator.orchestrator
    cancelled, compensated, stuck, skipped, abandoned = (parties.start() for _ in range(5))
    asked = operator.get(cancelled.id)
    asked.pause()
    asked.resume(by="ann")
    assert [entry.data.get("session_user") for entry in cancelled.log()] == [None, "saga_operator", "saga_operator"]
    assert asked.cancel("changed my mind")
    worker.finish(compensated)
    operator.get(compensated.id).compensate("wrong")
    assert compensated.status == Status.COMPENSATING
    worker.finish(compensated)
    assert compensated.status == Status.COMPENSATED
    for handle in (stuck, skipped):
        worker.recorder.record(worker.claimed(handle), Success(1), never)
        worker.fail(handle)
        worker.fail(handle)
        assert handle.status == Status.STUCK
    operator.get(stuck.id).retry()
    operator.get(skipped.id).skip("b" if skipped.steps()["b"].over else "a", undo=False)
    operator.get(abandoned.id).abandon("no use")
    assert abandoned.status == Status.ABANDONED
    unknown = parties.stranger.orchestrator.start(UNKNOWN, {})
    operator.get(unknown.id).pause()
    assert operator._identity.log_id() is not None
    assert [lane.lane for lane in read_lanes(operator.database, stuck.id)] == ["main"]
    with operator.database.link() as link:
        assert fleet.read_members(link) == []
    schema.check(operator.database)


def start_sagas(parties: Parties) -> None:
    """What a client does."""
    client = parties.client.orchestrator
    handle = client.start("short", {}, key="k", tags={"region": "eu"})
    assert client.start("short", {}, key="k", tags={"region": "eu"}) == handle
    assert len(client.start_many("short", [{}, {}], keys=["m", "n"])) == 2
    with psycopg.connect(parties.postgres.url_as("saga_client")) as connection:
        within = client.start("short", {}, key="w", connection=connection)
    assert client._identity.log_id() is not None
    assert [lane.lane for lane in read_lanes(client.database, within.id)] == ["main"]
    with client.database.link() as link:
        assert fleet.read_members(link) == []
    parties.worker.finish(parties.worker.orchestrator.get(handle.id))
    assert handle.wait(5) == Status.COMPLETED
    assert handle.result() == {"a": "a", "b": "b"}
    assert [found.key for found in client.find(key="k", tags={"region": "eu"}, status="completed")] == ["k"]
    unknown = parties.stranger.orchestrator.start(UNKNOWN, {})
    assert client.get(unknown.id).replay().seq == 1
    schema.check(client.database)


def read(parties: Parties) -> None:
    """What a reader does."""
    handle = parties.start()
    reader = parties.reader.orchestrator
    assert reader.find() == [handle]
    seen = reader.get(handle.id)
    assert (seen.status, seen.replay().seq, len(seen.log())) == (Status.RUNNING, 1, 1)
    schema.check(reader.database)
    assert reader.store.schedules() == []
    for words in (
        ["list"],
        ["show", str(handle.id)],
        ["log", str(handle.id)],
        ["replay", str(handle.id)],
        ["check"],
        ["stats"],
        ["workers"],
    ):
        result = CliRunner().invoke(cli, words)
        assert result.exit_code == 0, result.output


@pytest.fixture(autouse=True)
def command_line_of_the_reader(parties: Parties, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("saga.cli.root.Context", lambda _: Context(None, parties.reader.orchestrator.app))


USES: dict[str, list[Callable[[Parties], None]]] = {
    "saga_worker": [run_sagas, keep_up, begin_parts, schedule, rebuild],
    "saga_operator": [operate, schedule_by_hand],
    "saga_client": [start_sagas],
    "saga_reader": [read],
}


@pytest.mark.parametrize("use", [use for uses in USES.values() for use in uses])
def test_a_role_may_do_what_it_is_for(parties: Parties, use: Callable[[Parties], None]) -> None:
    use(parties)


def test_the_owner_may_upgrade_again(postgres: OpenPostgres) -> None:
    upgrade(postgres.url_as("saga_owner"))


def test_a_worker_may_do_its_work_once_the_tables_are_upgraded_before_rights_are_granted_anew(parties: Parties) -> None:
    owner = Database(Settings.load({}, database_url=parties.postgres.url_as("saga_owner")))
    schema.downgrade(owner, "0009")
    schema.upgrade(owner)
    owner.dispose()
    keep_up(parties)
    begin_parts(parties)
    schedule(parties)
    with psycopg.connect(parties.postgres.url_as("saga_owner"), autocommit=True) as connection:
        connection.execute(blocks()[1].encode())


# --- and no more ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ROLES)
def test_a_table_that_comes_later_is_open_to_nobody(postgres: OpenPostgres, role: str) -> None:
    with psycopg.connect(postgres.url_as("saga_owner"), autocommit=True) as owner:
        owner.execute("CREATE TABLE saga.later (secret text)")
        try:
            with psycopg.connect(postgres.url_as(role)) as other, pytest.raises(pg.InsufficientPrivilege):
                other.execute("TABLE saga.later")
        finally:
            owner.execute("DROP TABLE saga.later")


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM saga.log",
        "UPDATE saga.log SET data = '{}'",
        "TRUNCATE saga.log",
        "DELETE FROM saga.instance",
        "UPDATE saga.instance SET key = 'mine'",
        "UPDATE saga.definition SET doc = '{}'",
        "DELETE FROM saga.definition",
        "UPDATE saga.work SET fingerprint = ''",
        "UPDATE saga.alembic_version SET version_num = '0'",
        "DROP TABLE saga.log",
        "ALTER TABLE saga.log ADD COLUMN mine integer",
        "CREATE TABLE saga.mine ()",
        "SELECT setval('saga.worker_id', 1)",
    ],
)
def test_nobody_but_the_owner_changes_what_is_written(postgres: OpenPostgres, role: str, statement: str) -> None:
    with psycopg.connect(postgres.url_as(role)) as connection, pytest.raises(pg.InsufficientPrivilege):
        connection.execute(statement.encode())


def test_grants_of_a_version_before_are_taken_back(postgres: OpenPostgres) -> None:
    with psycopg.connect(postgres.url_as("saga_owner"), autocommit=True) as owner:
        owner.execute(
            "GRANT INSERT ON saga.log, saga.work TO saga_client; GRANT UPDATE (problem) ON saga.work TO saga_operator"
        )
        owner.execute(blocks()[1].encode())
    for role, privilege in ("saga_client", "INSERT"), ("saga_operator", "UPDATE"):
        with psycopg.connect(postgres.url_as(role)) as connection:
            row = connection.execute("SELECT has_any_column_privilege('saga.work', %s)", (privilege,)).fetchone()
            assert row == (False,), role


def test_who_asks_is_noted_by_the_database(parties: Parties) -> None:
    handle = parties.start()
    given = Paused(by="ann", session_user="somebody")
    parties.operator.orchestrator.engine.request(handle.id, given)
    assert handle.log()[-1].data == {"by": "ann", "session_user": "saga_operator"}
    result = CliRunner().invoke(cli, ["log", str(handle.id), "--json"])
    assert json.loads(result.stdout)[-1]["data"]["session_user"] == "saga_operator"


def test_a_request_whose_answer_is_lost_is_found_again(parties: Parties, monkeypatch: pytest.MonkeyPatch) -> None:
    handle, ask = parties.start(), appends.request

    def lose(*args: Any) -> Any:
        ask(*args)
        raise psycopg.OperationalError("the answer is lost")

    monkeypatch.setattr(appends, "request", lose)
    parties.operator.orchestrator.get(handle.id).pause()
    assert [entry.kind for entry in handle.log()] == ["saga_started", "paused"]


@pytest.mark.parametrize(
    ("kind", "place", "status", "text"),
    [
        ("step_succeeded", 2, None, "cannot ask for step_succeeded"),
        ("saga_started", 1, None, "cannot ask for saga_started"),
        ("history_lost", 2, None, "cannot ask for history_lost"),
        (None, 2, None, "cannot ask for"),
        ("cancel_requested", 2, "completed", "status completed"),
        ("retry_requested", 2, "abandoned", "status abandoned"),
        ("abandoned", 2, "compensated", "status compensated"),
        ("paused", 1, "paused", None),
        ("paused", 3, "paused", None),
        ("compensate_requested", 2, "compensating", None),
    ],
)
def test_an_operator_asks_for_what_operators_may_and_writes_nothing_else(
    parties: Parties, kind: str, place: int, status: str, text: str | None
) -> None:
    handle = parties.start()
    other = parties.start()
    moved = [{"lane": "main", "step": "b", "undo": False, "watch": 0, "saga": str(other.id)}]
    with psycopg.connect(parties.postgres.url_as("saga_operator"), autocommit=True) as connection:
        ask = "SELECT saga.request(%s, %s, %s, NULL, NULL, '{}', 1, NULL, NULL, NULL, %s, %s, NULL)"
        given = [handle.id, place, kind, json.dumps(moved), status]
        if text is None:
            assert connection.execute(ask, given).fetchone() == (None,)
        else:
            with pytest.raises(pg.DataError, match=text):
                connection.execute(ask, given)
    assert (handle.status, len(handle.log())) == (Status.RUNNING, 1)
    assert [
        lane.step for each in (handle, other) for lane in read_lanes(parties.reader.orchestrator.database, each.id)
    ] == ["a", "a"]


@pytest.mark.parametrize(
    ("kind", "step", "said", "format"),
    [
        ("paused", None, {}, 32767),
        ("paused", None, {}, None),
        ("paused", None, {"nosuch": 1}, 1),
        ("paused", None, {"by": {}}, 1),
        ("paused", None, [], 1),
        ("paused", None, None, 1),
        ("paused", None, {"result": 1}, 1),
        ("step_skipped", None, {"result": 1}, 1),
        ("step_skipped", "a", {"undo": "yes"}, 1),
        ("step_skipped", "a", {"undo_later": None}, 1),
    ],
)
def test_an_operator_writes_no_entry_that_cannot_be_read(
    parties: Parties, kind: str, step: str | None, said: Any, format: int | None
) -> None:
    handle = parties.start()
    with psycopg.connect(parties.postgres.url_as("saga_operator"), autocommit=True) as connection:
        ask = "SELECT saga.request(%s, 2, %s, %s, %s, %s, %s, NULL, NULL, NULL, NULL, NULL, NULL)"
        with pytest.raises(pg.DataError, match="no entry"):
            connection.execute(ask, [handle.id, kind, step, step, None if said is None else json.dumps(said), format])
    assert [entry.kind for entry in handle.log()] == ["saga_started"]


@pytest.mark.parametrize("role", ["saga_client", "saga_reader"])
@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO saga.log SELECT saga_id, 2, 'compensate_requested', NULL, NULL, NULL, '{}', NULL, now(), 1 FROM saga.log",
        "INSERT INTO saga.instance (id) SELECT id FROM saga.instance",
        "INSERT INTO saga.work SELECT * FROM saga.work",
        "INSERT INTO saga.definition SELECT * FROM saga.definition",
        "UPDATE saga.work SET due_at = now()",
        "SELECT saga.canonical('{}', 0)",
        "SELECT saga.opening_of('[]', 'main')",
        "SELECT saga.request(NULL, 2, 'paused', '', '', '{}', 1, NULL, NULL, NULL, NULL, NULL, NULL)",
    ],
)
def test_who_may_start_sagas_may_write_no_row(postgres: OpenPostgres, role: str, statement: str) -> None:
    with psycopg.connect(postgres.url_as(role)) as connection, pytest.raises(pg.InsufficientPrivilege):
        connection.execute(statement.encode())


def _forged(parties: Parties, changes: dict[str, Any], place: dict[str, Any] | None) -> None:
    """Call the function as a client that does not keep to what pgsaga gives it."""
    saga = {"id": str(uuid7()), "name": "short", "fingerprint": SHORT.outline.fingerprint, "input_hash": "", "realm": "saga_worker",
            "data": {"input": {}}, **changes}  # fmt: skip
    work = {"id": saga["id"], "lane": "main", "step": "a", "attempt": 1, "queue": "celery", "sent": False}
    works = [] if place is None else [work | place]
    with psycopg.connect(parties.postgres.url_as("saga_client"), autocommit=True) as connection:
        connection.execute("SELECT saga.open(%s, %s, '1s', 1)", [json.dumps([saga]), json.dumps(works)])


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({"fingerprint": "0" * 32}, {}),
        ({"name": "wide"}, {}),
        ({"data": "text"}, {}),
        ({}, {"step": "b"}),
        ({}, {"lane": "main/b", "step": "b"}),
        ({}, {"lane": "elsewhere"}),
        ({}, {"attempt": 2}),
        ({}, {"attempt": None}),
        ({}, {"lane": "deadline", "step": "", "attempt": None}),
        ({}, {"id": "00000000-0000-0000-0000-000000000000"}),
        ({}, None),
    ],
    ids=repr,
)
def test_a_client_starts_what_a_definition_starts_with_and_nothing_else(
    parties: Parties, changes: dict[str, Any], place: dict[str, Any] | None
) -> None:
    other = parties.start()
    place = place and {key: str(other.id) if key == "id" else value for key, value in place.items()}
    before = parties.worker.orchestrator.find()
    with pytest.raises(pg.DataError, match="a saga can be started "):
        _forged(parties, changes, place)
    assert parties.worker.orchestrator.find() == before
    with parties.worker.orchestrator.database.link() as link:
        assert link.run("SELECT count(*) FROM saga.work", {}) == [(1,)]


@pytest.mark.parametrize("changes", [{"key": "k" * 501}, {"key": ""}, {"realm": "r" * 501}, {"input_hash": "h" * 501}])
def test_a_client_fills_no_index_with_long_texts(parties: Parties, changes: dict[str, Any]) -> None:
    with pytest.raises(pg.DataError, match="500 characters at most"):
        _forged(parties, changes, {})
    assert parties.worker.orchestrator.find() == []


def test_an_undo_is_not_started_by_a_client(parties: Parties) -> None:
    parties.start()
    _forged(
        parties, {}, {"undo": True, "worker": 1, "token": str(uuid7()), "dispatches": 7, "watch": 1, "problem": "x"}
    )
    with parties.worker.orchestrator.database.link() as link:
        rows = link.run("SELECT DISTINCT undo, worker, token, watch, problem FROM saga.work", {})
    assert rows == [(False, None, None, 0.0, None)]


def test_a_client_registers_no_definition_under_the_fingerprint_of_another(parties: Parties) -> None:
    mine, theirs = Saga("mine", _step("a")).outline, Saga("theirs", _step("b")).outline
    with psycopg.connect(parties.postgres.url_as("saga_client"), autocommit=True) as connection:
        for doc in (theirs.to_json(), {**mine.to_json(), "more": 1}, {"saga": "mine", "steps": []}, [], "mine", None):
            with pytest.raises(pg.DataError, match="has another fingerprint"):
                connection.execute("SELECT saga.register(%s, %s)", [mine.fingerprint, json.dumps(doc)])
        for doc in ({"saga": "mine", "steps": [{"task": 1}]}, {"steps": theirs.to_json()["steps"]}, 5):
            with pytest.raises(pg.DataError, match="it is none"):
                connection.execute("SELECT saga.register(%s, %s)", [digest(doc), json.dumps(doc)])
        deep: Any = []
        for _ in range(400):
            deep = [deep]
        with pytest.raises(pg.DataError, match="nested too deep"):
            connection.execute("SELECT saga.register(%s, %s)", [digest(deep), json.dumps(deep)])


NAMES = [
    "plain",
    "Größe",
    "日本",
    "\U0001f600\U0010ffff",
    "\x7f\x01\x1f",
    '"\\/',
    "\b\f\n\r\t",
    "\u2028\ufeff\ue000\uffff",
    "é",
]


def test_postgres_takes_the_fingerprint_that_python_takes(parties: Parties) -> None:
    found = {"step": "z", "task": "t", **{f"{name} b": name for name in NAMES}, **dict.fromkeys(NAMES, 1)}
    doc = {"saga": "".join(NAMES), "steps": [found, {"parallel": [[{"step": name}] for name in NAMES]}],
           "a": [True, False, None, -1, 10**15, [], {}, ""]}  # fmt: skip
    with psycopg.connect(parties.postgres.url_as("saga_client"), autocommit=True) as connection:
        connection.execute("SELECT saga.register(%s, %s)", [digest(doc), json.dumps(doc)])
        rows = connection.execute("SELECT doc FROM saga.definition WHERE name = %s", [doc["saga"]]).fetchall()
    assert rows == [(doc,)]


def test_a_function_of_the_owners_looks_nothing_up_where_its_caller_says(parties: Parties) -> None:
    parties.sql("CREATE SCHEMA IF NOT EXISTS trap AUTHORIZATION saga_client")
    trap = """
        CREATE OR REPLACE FUNCTION trap.set_config(text, text, boolean) RETURNS text LANGUAGE sql AS $$ SELECT (1 / 0)::text $$;
        CREATE OR REPLACE FUNCTION trap.clock_timestamp() RETURNS timestamptz LANGUAGE sql AS $$ SELECT 'infinity'::timestamptz $$;
        CREATE TEMP TABLE definition (LIKE saga.definition);
        SET search_path = pg_temp, trap, pg_catalog, saga
    """
    with psycopg.connect(parties.postgres.url_as("saga_client")) as connection:
        connection.execute(trap.encode())
        handle = parties.client.orchestrator.start("short", {}, connection=connection)
    assert parties.worker.orchestrator.get(handle.id).log()[0].at.year < 9999
    parties.sql("DROP SCHEMA trap CASCADE")


@pytest.mark.parametrize("role", ["saga_client", "saga_reader"])
def test_who_may_not_act_is_told_so(parties: Parties, role: str) -> None:
    party = parties.client if role == "saga_client" else parties.reader
    parties.worker.finish(completed := parties.start())
    handle = party.orchestrator.get(parties.start().id)
    parties.sql("UPDATE saga.instance SET reason = 'nobody knows'")
    writes: list[Callable[[], object]] = [
        handle.pause, handle.cancel, party.orchestrator.get(completed.id).compensate,
        lambda: audit.summarize(audit.rebuild(party.orchestrator.engine)),
    ]  # fmt: skip
    for write in writes:
        with pytest.raises(
            DatabaseNotReady, match=r"this role may not do that .* permission denied for (table|function)"
        ) as caught:
            write()
        assert 'under "Roles"' in str(caught.value)
    assert handle.replay().seq == 1


@pytest.mark.parametrize("role", ["saga_client", "saga_reader"])
def test_the_locks_of_who_may_not_write_hold_up_nobody(parties: Parties, role: str) -> None:
    worker, handle = parties.worker, parties.start()
    worker.claimed(handle)
    worker.relay.tick()
    with psycopg.connect(parties.postgres.url_as(role), autocommit=True) as connection:
        for key in range(1, 5):
            connection.execute("SELECT pg_advisory_lock(%s, %s)", (lock_class("saga"), key))
        connection.execute("SELECT pg_advisory_lock(%s)", (zlib.crc32(b"pgsaga.relay.saga"),))
        with pytest.raises(pg.InsufficientPrivilege):
            connection.execute("SELECT * FROM saga.relay FOR KEY SHARE")
        limit = time.monotonic() + 10
        while handle.log()[-1].kind != "attempt_lost" and time.monotonic() < limit:
            assert worker.relay.tick()
        assert handle.log()[-1].kind == "attempt_lost"


def test_a_lock_of_a_role_that_may_become_a_writer_is_a_workers(parties: Parties) -> None:
    parties.sql("DROP ROLE IF EXISTS service")
    parties.sql("CREATE ROLE service LOGIN NOINHERIT")
    parties.sql("GRANT saga_worker TO service")
    parties.worker.claimed(parties.start())
    with psycopg.connect(parties.postgres.url_as("service"), autocommit=True) as connection:
        connection.execute("SELECT pg_advisory_lock(%s, 1)", (lock_class("saga"),))
        with parties.worker.orchestrator.database.link() as link:
            assert due.absent_workers(link, lock_class("saga"), ["", "roles"]) == []


def test_a_reader_starts_nothing(parties: Parties) -> None:
    reader = parties.reader.orchestrator
    for start in (lambda: reader.start("short", {}), lambda: reader.start_many("short", [{}])):
        with pytest.raises(DatabaseNotReady, match="this role may not do that"):
            start()
    result = CliRunner().invoke(cli, ["start", "short", "{}"])
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("Error: this role may not do that to the saga log in ")


def test_a_role_without_any_right_is_told_so(postgres: OpenPostgres) -> None:
    with psycopg.connect(postgres.url_as("postgres"), autocommit=True) as connection:
        connection.execute("DROP ROLE IF EXISTS nobody_special")
        connection.execute("CREATE ROLE nobody_special LOGIN")
    party = Party(postgres, "nobody_special")
    for read in (party.orchestrator.find, lambda: schema.check(party.orchestrator.database)):
        with pytest.raises(DatabaseNotReady, match="permission denied for schema saga"):
            read()
    party.orchestrator.close()


def _grants() -> Iterator[tuple[str, str, str]]:
    """Every right on a table that the page grants: role, table, and the right, with its column where it has one."""
    for rights, tables, roles in re.findall(r"GRANT ([^;]*?)\s+ON (saga\.[^;]*?)\s+TO ([^;]*?);", blocks()[1]):
        for table in re.split(r",\s*", tables):
            for role in re.split(r",\s*", roles):
                columns = re.fullmatch(r"UPDATE \((.*)\)", rights, re.DOTALL)
                split = re.split(r",\s*", columns[1] if columns else rights)
                yield from ((role, table, f"UPDATE ({name})" if columns else name) for name in split)
    for functions, roles in re.findall(r"GRANT EXECUTE ON FUNCTION ([^;]*?)\s+TO ([^;]*?);", blocks()[1]):
        for function in re.findall(r"saga\.\w+\([^)]*\)", functions):
            yield from ((role, f"FUNCTION {function}", "EXECUTE") for role in re.split(r",\s*", roles))


def _is_refused(connection: psycopg.Connection[Any], statement: str, params: Any) -> bool:
    """Whether Postgres wants another right for a statement: it looks when it explains one, too."""
    values = {name: list(value) if isinstance(value, tuple) else value for name, value in params}
    try:
        with connection.transaction(force_rollback=True):
            connection.execute(f"EXPLAIN {statement}".encode(), values)
    except pg.InsufficientPrivilege:
        return True
    return False


def test_no_right_is_granted_in_vain(parties: Parties, monkeypatch: pytest.MonkeyPatch) -> None:
    statements: dict[str, set[tuple[str, Any]]] = {role: set() for role in ROLES}
    run = Link.run

    def noting(self: Link, statement: str, params: Any) -> Any:
        if isinstance(self.connection, psycopg.Connection):
            kept = {name: tuple(value) if isinstance(value, list) else value for name, value in params.items()}
            statements[self.connection.info.user].add((statement.replace("{s}", "saga"), tuple(kept.items())))
        return run(self, statement, params)

    monkeypatch.setattr(Link, "run", noting)
    for use in (use for uses in USES.values() for use in uses):
        parties.empty()
        use(parties)
    for found in statements.values():
        found.add(("SELECT version_num FROM saga.alembic_version", ()))

    def is_needed(role: str, table: str, right: str) -> bool:
        with psycopg.connect(parties.postgres.url_as("postgres")) as connection:
            connection.execute(f"REVOKE {right} ON {table} FROM {role}".encode())
            connection.execute(f"SET ROLE {role}".encode())
            refused = any(_is_refused(connection, *each) for each in statements[role])
            connection.rollback()
        return refused

    granted = list(_grants())
    assert len(granted) > 30
    assert [right for right in granted if not is_needed(*right)] == []
