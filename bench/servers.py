"""Servers: Postgres, the broker and the workers of a run, embedded or given, and what is to be asked of them."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import psycopg
from psycopg import sql
from redis import Redis
from sqlalchemy.engine import make_url

from examples.stage import environment, upgrade_log
from saga.config import postgres_url
from saga.dev import Broker, Postgres, Worker
from saga.dev.worker import Pool
from saga.errors import SagaError, first_line

from . import app as bench
from . import dbos_peer, floor
from .dbos_peer import DbosPeer

ROOT = Path(__file__).parents[1]
SCHEMAS = (bench.SCHEMA, dbos_peer.SCHEMA, floor.SCHEMA)
"""All that is written to a database is in these, which are dropped before and after."""

MEMORY, ROOM = Path("/dev/shm"), 2**30
"""Bytes that a short run may take in memory, far more than it does."""

HBA = "host all all 127.0.0.1/32 trust\n"
COUNTING = "pg_stat_statements"


class ServerUnfit(Exception):
    """A server that was given does not answer, or cannot be used; the text says which."""


@dataclass
class Servers:
    """What contenders run on.

    Attributes:
        database_url: SQLAlchemy's URL.
        observer: a connection of ours, in autocommit, through `ask`.
        folder: of the logs.
        children: the processes that we started, by what they are.
        asked: how many statements the observer has run.
        dbos: its process, while it runs.
        load: how many processes of others wanted to run, before we started ours.
    """

    database_url: str
    broker_url: str
    store: Redis
    observer: psycopg.Connection[Any]
    folder: Path
    children: dict[str, Callable[[], list[psutil.Process]]] = field(default_factory=dict)
    asked: int = 0
    dbos: DbosPeer | None = None
    load: float = field(default_factory=lambda: os.getloadavg()[0])

    def ask(self, statement: str, params: Mapping[str, Any] | None = None) -> Any:
        """The first row of what a statement returns."""
        self.asked += 1
        return self.observer.execute(statement.encode(), params).fetchone()

    @contextmanager
    def workers(self, pool: Pool, concurrency: int, count: int = 1, app: str = "bench.app") -> Iterator[None]:
        """Workers of the app, of the module that has it, for a while. Who runs something first waits for them."""
        name = f"{pool}-{concurrency}"
        workers = [
            # Told to say less than a worker that is waited for: a line for each task would slow tasks down more than sagas.
            Worker(app, log=self.folder / f"worker-{name}-{number}.log", pool=pool, concurrency=concurrency,
                   cwd=ROOT, arguments=["--loglevel=warning"])
            for number in range(count)
        ]  # fmt: skip
        try:
            for worker in workers:
                worker.spawn()
            self.children["workers"] = lambda: [process for worker in workers for process in worker.family()]
            yield
        finally:
            del self.children["workers"]
            # Not asked to end, which takes a Celery worker seconds: nothing is under way.
            for worker in workers:
                worker.kill()

    @contextmanager
    def dbos_with(self, threads: int | None) -> Iterator[None]:
        """The process of DBOS for a while.

        Raises:
            PeerFailed: it does not start.
        """
        with dbos_peer.dbos_peer(self.database_url, self.folder, threads) as peer:
            self.dbos = peer
            self.children["dbos"] = peer.processes
            try:
                yield
            finally:
                self.dbos = None
                del self.children["dbos"]


@contextmanager
def open_servers(
    database_url: str | None, broker_url: str | None, *, counting: bool = False, in_memory: bool = False
) -> Iterator[Servers]:
    """Everything but the workers, ready and empty; what is not given is embedded, and ends with the run.

    Args:
        counting: have the embedded Postgres count statements. It costs all that use Postgres a percent or two.
        in_memory: keep its data in memory where there is room: a disk that others use too is the noisiest of all parts.

    Raises:
        ServerUnfit: a server that was given does not answer.
    """
    with ExitStack() as stack:
        folder = Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-", dir=memory() if in_memory else None))
        )
        folder.chmod(0o711)  # run by root, Postgres has to reach its data as another user
        children: dict[str, Callable[[], list[psutil.Process]]] = {}
        if database_url is None:
            postgres = embedded_postgres(stack, folder, counting=counting)
            database_url, children["postgres"] = postgres.url, postgres.family
        store_url = broker_url
        if broker_url is None or not broker_url.startswith(("redis://", "rediss://", "valkey://")):
            broker = Broker(folder / "broker")
            stack.enter_context(broker)
            children["broker"], store_url = broker.family, broker.url
            broker_url = broker_url or broker.url
        assert store_url is not None
        stack.enter_context(
            environment(
                SAGA_DATABASE_URL=database_url,
                SAGA_SCHEMA=bench.SCHEMA,
                CELERY_BROKER_URL=broker_url,
                CELERY_RESULT_BACKEND=store_url,
                TMPDIR=str(folder),
                **{bench.STORE: store_url},
            )
        )
        observer = stack.enter_context(connect(database_url))
        servers = Servers(database_url, broker_url, bench.store(), observer, folder, children)
        clear(observer)
        stack.callback(clear, observer)
        prepare(servers)
        stack.callback(bench.orchestrator.close)
        yield servers


def memory() -> str | None:
    """The folder of the file system in memory, if there is one with room."""
    if MEMORY.is_dir() and os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free > ROOM:
        return str(MEMORY)
    return None


def embedded_postgres(stack: ExitStack, folder: Path, *, counting: bool) -> Postgres:
    """A Postgres of our own; counting statements takes a superuser once."""
    settings: dict[str, str | int] = {"max_wal_size": "4GB"}
    if counting:
        (folder / "pg_hba.conf").write_text(HBA)
        settings |= {"shared_preload_libraries": COUNTING, "hba_file": str(folder / "pg_hba.conf")}
    postgres = Postgres(folder / "postgres", settings)
    stack.callback(postgres.stop, mode="immediate")  # nothing is kept
    postgres.start()
    if counting:
        url = make_url(postgres.url).set(username="postgres")
        with psycopg.connect(plain(url.render_as_string(hide_password=False)), autocommit=True) as connection:
            connection.execute(f"CREATE EXTENSION {COUNTING}".encode())
    return postgres


def plain(url: str) -> str:
    """SQLAlchemy's URL as libpq takes it.

    Raises:
        ServerUnfit: it is none of Postgres.
    """
    try:
        return postgres_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    except SagaError as error:
        raise ServerUnfit(f"the database: {error}") from None


def connect(url: str) -> psycopg.Connection[Any]:
    """A connection in autocommit.

    Raises:
        ServerUnfit: the database does not answer, or its URL is none.
    """
    try:
        return psycopg.connect(plain(url), autocommit=True, connect_timeout=5)
    except psycopg.Error as error:
        raise ServerUnfit(f"the database does not answer: {first_line(error)}") from None


def clear(connection: psycopg.Connection[Any]) -> None:
    """Drop what a run writes."""
    if connection.broken:
        return
    for schema in SCHEMAS:
        connection.execute(sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(sql.Identifier(schema)))


def prepare(servers: Servers) -> None:
    """Make the tables, and empty our queue of what an earlier run left.

    Raises:
        ServerUnfit: the broker does not answer, or the tables cannot be made.
    """
    try:
        with bench.app.connection_for_write() as connection:
            connection.ensure_connection(max_retries=1, interval_start=0.1)
    except Exception as error:  # each transport has its own
        raise ServerUnfit(f"the broker does not answer: {first_line(error)}") from None
    try:
        upgrade_log()
        floor.create(servers.observer)
    except (SagaError, psycopg.Error) as error:
        raise ServerUnfit(f"the tables cannot be made: {first_line(error)}") from None
    bench.app.set_current()  # celery-saga sends through that
    bench.app.control.purge()


def processor_count() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
