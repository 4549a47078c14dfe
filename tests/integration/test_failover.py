"""A real failover: a standby that streams, falls behind, and takes over, while workers hold what it never got."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from celery import Celery

from saga import Orchestrator, Status
from saga.client.handle import Handle
from saga.core.events import HistoryLost
from saga.core.outcome import Success
from saga.dev.port import HOST
from saga.dev.user import give_away
from saga.errors import SagaNotFound
from saga.ops.doctor.server import examine_server
from saga.store.postgres import due
from saga.worker.attempt import Attempt
from saga.worker.claimer import Claimer
from tests.acceptance.proxy import Proxy
from tests.integration.conftest import ASKED, SAGAS, SEQUENCE, Bench, act, always, undo
from tests.roles import OpenPostgres, upgrade


class Primary(OpenPostgres):
    """One that a standby may follow."""

    def _make_data(self) -> None:
        super()._make_data()
        with (self.data / "pg_hba.conf").open("a") as access:
            access.write(f"host replication all {HOST}/32 trust\n")


class Standby(Primary):
    """Follows another server, until it is promoted."""

    def __init__(self, folder: Path, primary: Primary) -> None:
        super().__init__(folder, {"fsync": "off"})
        self._primary = primary

    def _make_data(self) -> None:
        new = self.folder / "data.new"
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(mode=0o700)
        give_away([new], self.user)
        program = str(self._program.with_name("pg_basebackup"))
        self._run(program, "-D", str(new), "-d", self._primary.url_as("postgres"), "-R", "-c", "fast", "--no-sync")
        new.rename(self.data)

    def is_ready(self) -> bool:
        with contextlib.suppress(psycopg.Error), psycopg.connect(self.url_as("postgres")):
            return True
        return False

    def ask(self, statement: str) -> Any:
        with psycopg.connect(self.url_as("postgres"), autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            row = cursor.fetchone() if cursor.description else None
            return row[0] if row else None


class Cluster(Bench):
    """A bench whose database is behind an address that a failover moves."""

    primary: Primary
    standby: Standby
    proxy: Proxy

    def catch_up(self) -> None:
        """Wait until the standby has all there is."""
        (((here,),),) = [self.sql("SELECT pg_current_wal_lsn()::text")]
        self.until(lambda: self.standby.ask(f"SELECT pg_last_wal_replay_lsn() >= '{here}'"), "the standby")

    def fall_behind(self) -> None:
        """From now on the standby gets nothing more."""
        self.standby.ask("ALTER SYSTEM SET primary_conninfo = ''")
        self.standby.ask("SELECT pg_reload_conf()")
        self.until(lambda: not self.standby.ask("SELECT count(*) FROM pg_stat_wal_receiver"), "the end of streaming")

    def fail_over(self) -> None:
        self.primary.stop(mode="immediate")
        self.standby.ask("SELECT pg_promote()")
        self.until(lambda: not self.standby.ask("SELECT pg_is_in_recovery()"), "the promotion")
        self.proxy._server = (HOST, self.standby.port)
        self.proxy.drop()


@pytest.fixture
def cluster(server_folder: Path) -> Iterator[Cluster]:
    primary = Primary(server_folder / "primary", {"fsync": "off", "wal_level": "replica"})
    standby = Standby(server_folder / "standby", primary)
    with contextlib.ExitStack() as stack:
        for server in (primary, standby):
            server.start()
            stack.callback(server.stop, mode="immediate")
        upgrade(primary.url_as("postgres"))
        proxy = stack.enter_context(Proxy(HOST, primary.port))
        url = f"postgresql://postgres@{HOST}:{proxy.port}/saga"
        app = Celery("integration", broker="memory://", set_as_current=False)
        for task in (act, undo):
            app.task(task.run, name=task.name, shared=False)
        orchestrator = Orchestrator(app, sagas=SAGAS, database_url=url)
        published: list[Any] = []
        orchestrator.engine.publish = published.extend
        found = Cluster(orchestrator, url, published)
        found.primary, found.standby, found.proxy = primary, standby, proxy
        yield found
        orchestrator.close()


def entries_of(handle: Handle) -> list[int]:
    return [entry.seq for entry in handle.log()]


def test_a_failover_to_a_standby_that_lags_leaves_whole_logs_that_go_on(cluster: Cluster) -> None:
    worker = cluster.worker(1)
    handles = cluster.orchestrator.start_many(SEQUENCE, [{}] * 12)
    runs: list[Attempt | None] = [cluster.claimed(handle, worker=worker) for handle in handles]
    cluster.catch_up()
    warned = [found.what for found in examine_server(cluster.orchestrator.app, cluster.orchestrator.database)]
    assert any("1 server follows this one, and synchronous_standby_names is empty" in what for what in warned)
    cluster.fall_behind()
    lost = cluster.start()
    for number in range(len(runs)):  # none, one, two, three or all four of the steps
        for _ in range(number % 5):
            if (run := runs[number]) is not None:
                runs[number] = worker.record(run, Success(run.step), always)
    cluster.fail_over()

    for run in runs:
        if run is not None:
            cluster.finish(worker, run)
    assert worker.running == {}
    after = cluster.worker(2)
    take_over(cluster, after, 1)
    assert [handle.status for handle in handles] == [Status.COMPLETED] * 12
    for number, handle in enumerate(handles):
        assert entries_of(handle) == list(range(1, len(entries_of(handle)) + 1))
        told = [entry.event for entry in handle.log() if isinstance(entry.event, HistoryLost)]
        assert len(told) == (1 if number % 5 in (1, 2, 3) else 0), "who was ahead of the log when it went on tells so"
    with pytest.raises(SagaNotFound):
        _ = lost.status


def take_over(cluster: Cluster, worker: Any, gone: int) -> None:
    """Let another worker end what one that is gone had."""
    with cluster.orchestrator.database.link() as link:
        due.do(link, due.LOSE, {**ASKED, "workers": [gone]})
    for saga_id, lane in cluster.sql("SELECT saga_id, lane FROM saga.work"):
        run = Claimer(worker).claim(saga_id, lane)
        if run is not None and run.held:
            run = worker.wake(run)
        cluster.finish(worker, run)
