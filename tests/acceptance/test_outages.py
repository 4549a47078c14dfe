"""Servers that restart, go away, hang, refuse to write, and connections that break: no saga is lost, no step runs twice."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import make_url

from saga import DatabaseNotReady, Handle, Status
from saga.dev import Stack, Worker
from tests.acceptance.conftest import BROKERS, World, broker_url, eventually
from tests.acceptance.proxy import Proxy

pytestmark = [pytest.mark.acceptance, pytest.mark.crash]

OUTAGE = float(os.environ.get("PGSAGA_OUTAGE", "30"))
"""Seconds that a server is down, where that is what is tested."""
LONG = 90.0
"""Seconds; after an outage Celery waits up to half a minute before it connects again."""


@pytest.fixture(scope="module")
def own() -> Iterator[Stack]:
    """Servers for these tests alone."""
    with Stack() as running:
        yield running


@pytest.fixture(params=BROKERS)
def broker(request: pytest.FixtureRequest, own: Stack) -> str:
    return broker_url(own, request.param)


@pytest.fixture
def world(own: Stack, broker: str) -> Iterator[World]:
    world = World(own, broker, {"saga_failover_grace": 10})
    yield world
    world.close()


class Folder:
    """Where steps leave a file for each attempt, whatever becomes of the servers."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def start(self, world: World, many: int, *, gated: str = "") -> list[Handle]:
        return world.orchestrator.start_many("filed", [{"folder": str(self.path), "gated": gated}] * many)

    def open(self) -> None:
        """Let the steps go on that wait."""
        (self.path / "open").touch()

    def ran(self, step: str = "*") -> list[str]:
        """The attempts that began: ``{saga}.{step}.{attempt}``."""
        return sorted(path.name for path in self.path.glob(f"*.{step}.*"))

    def await_ran(self, number: int, step: str = "*") -> None:
        eventually(lambda: len(self.ran(step)) >= number, f"{number} attempts of {step}")

    def check_each_ran_once(self, handles: Sequence[Handle], steps: str = "abc") -> None:
        """Whatever its number: an attempt whose claim was not answered has not run."""
        ran = sorted(name.rpartition(".")[0] for name in self.ran())
        assert ran == sorted(f"{handle.id}.{step}" for handle in handles for step in steps)


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def finish_all(handles: Sequence[Handle]) -> None:
    assert {handle.wait(LONG) for handle in handles} == {Status.COMPLETED}


@contextmanager
def supervised(worker: Worker) -> Iterator[None]:
    """Start a worker again whenever it ends: with Redis, kombu may end one that loses its broker."""
    over = threading.Event()

    def supervise() -> None:
        while not over.wait(0.2):
            if not worker.is_alive:
                worker.spawn()

    thread = threading.Thread(target=supervise)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def kinds(world: World) -> set[str]:
    return {kind for (kind,) in world.sql("SELECT DISTINCT kind FROM saga.log")}


# --- Postgres ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_a_postgres_restart_loses_none_of_fifty_running_steps(
    own: Stack, world: World, folder: Folder, mode: Any
) -> None:
    world.worker(pool="threads", concurrency=50)
    handles = folder.start(world, 50, gated="b")
    folder.await_ran(50, "b")
    own.postgres.restart(mode=mode)
    folder.open()
    finish_all(handles)
    folder.check_each_ran_once(handles)
    assert "attempt_lost" not in kinds(world)


def test_postgres_may_restart_again_and_again_under_load(own: Stack, world: World, folder: Folder) -> None:
    world.worker(concurrency=2)
    handles = folder.start(world, 300)
    for number, mode in enumerate(("fast", "immediate", "fast"), 1):
        folder.await_ran(number * 150)
        own.postgres.restart(mode=mode)  # type: ignore[arg-type]
    finish_all(handles)
    folder.check_each_ran_once(handles)
    assert world.leftovers() == []


def test_connections_that_break_at_any_moment_lose_and_double_nothing(world: World, folder: Folder) -> None:
    world.worker(concurrency=2)
    handles = folder.start(world, 300)
    for number in range(30):
        folder.await_ran(number * 25)
        hang_up(world, "TRUE")
    finish_all(handles)
    folder.check_each_ran_once(handles)
    assert world.leftovers() == []


@pytest.mark.parametrize("saga", ["sequence", "matrix_sequence"])
def test_a_connection_that_breaks_in_its_commit_neither_loses_nor_doubles_what_is_committed(
    own: Stack, world: World, saga: str
) -> None:
    world.worker(concurrency=1)
    step = "b" if saga == "sequence" else "t"
    handle = world.start(saga, {step: "wait commit"})
    world.await_effect(handle, step)
    with commits_that_are_not_answered(own, world):
        with psycopg.connect(world.database_url.replace("+psycopg", ""), autocommit=True) as connection:
            connection.execute("SET synchronous_commit = local")
            connection.execute("INSERT INTO gate VALUES ('commit')")
        eventually(lambda: hang_up(world, "wait_event = 'SyncRep'"), "a commit without an answer")
    assert world.finish(handle) == Status.COMPLETED
    ran = world.sql("SELECT step, attempt FROM effect WHERE saga = %s ORDER BY id", str(handle.id))
    assert ran == [(name, 1) for name in ("abc" if saga == "sequence" else "atbz")]
    entries = [(entry.kind, entry.step, entry.attempt) for entry in handle.log()]
    assert len(entries) == len(set(entries))
    assert len(world.sql("SELECT key FROM booking")) == (saga == "matrix_sequence")


@contextmanager
def commits_that_are_not_answered(own: Stack, world: World) -> Iterator[None]:
    """Have Postgres commit, then wait for a standby that is not there before it says so."""
    path = own.postgres.data / "postgresql.conf"
    before = path.read_text()

    def set_standby(name: str) -> None:
        path.write_text(f"{before}\nsynchronous_standby_names = '{name}'\n")
        own.postgres.signal(signal.SIGHUP)
        eventually(lambda: world.sql("SHOW synchronous_standby_names") == [(name,)], "the new setting")

    set_standby("nobody")
    try:
        yield
    finally:
        set_standby("")


def hang_up(world: World, which: str) -> list[Any]:
    """Have Postgres end the world's other connections, in the midst of whatever they do."""
    return world.sql(
        f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        f"WHERE datname = current_database() AND pid <> pg_backend_pid() AND {which}"
    )


@pytest.mark.timeout(OUTAGE + 2 * LONG)
def test_a_result_in_hand_outlives_an_outage_of_postgres(own: Stack, world: World, folder: Folder) -> None:
    world.worker(pool="threads", concurrency=10)
    handles = folder.start(world, 10, gated="b")
    folder.await_ran(10, "b")
    own.postgres.stop()
    folder.open()
    time.sleep(OUTAGE)  # the fault itself
    with pytest.raises(DatabaseNotReady, match="cannot be reached"):
        folder.start(world, 1)
    own.postgres.start()
    finish_all(handles)
    folder.check_each_ran_once(handles)
    assert world.leftovers() == []


def test_a_postgres_that_refuses_to_write_stops_everything_and_loses_nothing(world: World, folder: Folder) -> None:
    worker = world.worker(concurrency=2)
    handles = folder.start(world, 2, gated="b")
    folder.await_ran(2, "b")
    world.sql("CREATE SEQUENCE saga.refusal")
    world.sql(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM nextval('saga.refusal'); "
        "RAISE EXCEPTION 'could not extend file: no space left on device' USING ERRCODE = 'disk_full'; END $$"
    )
    world.sql("CREATE TRIGGER refuse BEFORE INSERT ON saga.log EXECUTE FUNCTION refuse()")
    folder.open()
    eventually(lambda: world.sql("SELECT last_value FROM saga.refusal")[0][0] > 10, "writes that are refused")
    with pytest.raises(DatabaseNotReady, match="no space left on device"):
        folder.start(world, 1)
    world.sql("DROP TRIGGER refuse ON saga.log")
    finish_all(handles)
    folder.check_each_ran_once(handles)
    assert worker.is_alive


def test_a_worker_that_is_cut_off_from_postgres_is_replaced_and_its_late_result_dropped(
    own: Stack, broker: str, folder: Folder
) -> None:
    world = World(own, broker)
    url = make_url(world.database_url)
    try:
        with Proxy("127.0.0.1", own.postgres.port) as proxy:
            near = url.set(port=proxy.port).render_as_string(hide_password=False)
            world.worker(concurrency=1, env={"SAGA_DATABASE_URL": near})
            (handle,) = folder.start(world, 1, gated="b")
            folder.await_ran(1, "b")
            proxy.cut()
            world.worker(concurrency=1)
            folder.await_ran(2, "b")
            proxy.restore()
            folder.open()
            finish_all([handle])
            assert folder.ran() == [f"{handle.id}.{attempt}" for attempt in ("a.1", "b.1", "b.2", "c.1")]
            eventually(lambda: "late_result" in kinds(world), "what the first worker brought too late")
    finally:
        world.close()


# --- the broker -------------------------------------------------------------------------------------------------------


def broker_port(broker: str) -> str:
    return ":5672" if broker.startswith("amqp") else f":{make_url(broker).port}"


@pytest.fixture
def proxied(own: Stack, broker: str) -> Iterator[tuple[World, Proxy]]:
    """A world whose client and workers reach the broker through a proxy."""
    with Proxy("127.0.0.1", int(broker_port(broker)[1:])) as proxy:
        world = World(own, broker.replace(broker_port(broker), f":{proxy.port}"))
        yield world, proxy
        proxy.restore()
        world.close()


@pytest.mark.timeout(OUTAGE + 2 * LONG)
def test_an_outage_of_the_broker_delays_sagas_and_loses_none(proxied: tuple[World, Proxy], folder: Folder) -> None:
    world, proxy = proxied
    with supervised(world.worker(concurrency=2)):
        before = folder.start(world, 2, gated="b")
        folder.await_ran(2, "b")
        proxy.cut()
        during = folder.start(world, 20)
        folder.open()
        time.sleep(OUTAGE)  # the fault itself
        proxy.restore()
        finish_all([*before, *during])
    folder.check_each_ran_once([*before, *during])
    assert world.leftovers() == []


def test_a_broker_that_hangs_holds_up_no_start(proxied: tuple[World, Proxy], folder: Folder) -> None:
    world, proxy = proxied
    with supervised(world.worker(concurrency=2)):
        finish_all(folder.start(world, 1))  # so that connections are open
        proxy.hang()
        handles = [handle for _ in range(20) for handle in folder.start(world, 1)]
        world.orchestrator.publisher.flush()
        proxy.restore()
        finish_all(handles)
    assert world.leftovers() == []


def test_a_broker_may_come_back_empty_again_and_again_under_load(
    own: Stack, proxied: tuple[World, Proxy], folder: Folder
) -> None:
    world, proxy = proxied
    with supervised(world.worker(concurrency=2)):
        handles = folder.start(world, 300)
        for number in range(1, 4):
            folder.await_ran(number * 150)
            empty(own, world)
            proxy.drop()
        finish_all(handles)
    folder.check_each_ran_once(handles)
    assert world.leftovers() == []


def empty(own: Stack, world: World) -> None:
    """Take away every message and queue, as a broker does that comes back without its disk."""
    if world.broker_url.startswith("redis"):
        own.broker.restart()
        return
    with world.orchestrator.app.connection_for_write() as connection:
        connection.default_channel.queue_delete(world.queue)
