"""Postgres, a broker and workers, started and stopped together."""

from __future__ import annotations

import shutil
import tempfile
import uuid
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self, Unpack

from .broker import Broker
from .lock import FolderLock
from .postgres import Postgres
from .private import claim_folder
from .worker import Worker, WorkerOptions


class Stack:
    """Everything sagas run on, in one folder. A context manager: leaving it, however that happens, stops the workers,
    the broker and Postgres, in this order. If this process is killed instead, a guard ends them.

    Attributes:
        folder: holds the data, the logs and the ports.
        workers: the workers started so far, also those that have ended.

    Args:
        folder: may be used again later, with its data; by default a temporary folder that is removed at the end.
        settings: settings of the Postgres server, see `Postgres`.
        system: run the servers that are installed on this machine in place of those that come as packages.

    Raises:
        MissingExtra: a package of the `embedded` extra is not installed.
        MissingProgram: a server is not installed on this machine.
    """

    def __init__(
        self, folder: Path | None = None, *, settings: Mapping[str, str | int] | None = None, system: bool = False
    ) -> None:
        self._temporary = folder is None
        self._resources = ExitStack()
        self.folder = (folder or Path(tempfile.gettempdir()) / f"saga-{uuid.uuid4().hex}").absolute()
        self.postgres = Postgres(self.folder / "postgres", settings, system=system)
        self.broker = Broker(self.folder / "broker", system=system)
        self.workers: list[Worker] = []

    @property
    def database_url(self) -> str:
        """SQLAlchemy's URL of Postgres's first database. RuntimeError before `start`."""
        return self.postgres.url

    @property
    def broker_url(self) -> str:
        """The URL for Celery's `broker_url`. RuntimeError before `start`."""
        return self.broker.url

    def start(self) -> None:
        """Start Postgres and the broker, side by side, and wait until both are ready.

        Raises:
            FolderInUse: another process runs a stack in this folder.
            FolderUnsafe: the folder is not this user's alone.
            StartFailed: one of them did not start.
        """
        with self._resources as resources:
            claim_folder(self.folder)
            if self._temporary:
                resources.callback(shutil.rmtree, self.folder, ignore_errors=True)
            lock = FolderLock(self.folder)
            lock.acquire()
            resources.callback(lock.release)
            # What is thrown away anyway need not be written to disk first, which can take half a minute.
            resources.callback(self.postgres.stop, mode="immediate" if self._temporary else "fast")
            resources.callback(self.broker.stop)
            self.broker.spawn()
            self.postgres.start()
            self.broker.wait_ready()
            self._resources = resources.pop_all()

    def stop(self, timeout: float = 10) -> None:
        """Stop everything that runs; a worker still busy after `timeout` seconds is killed."""
        with self._resources:
            try:
                for worker in self.workers:
                    worker.terminate()
                for worker in self.workers:
                    worker.stop(timeout)
            finally:
                for worker in self.workers:
                    worker.kill()

    def worker(self, app: str, **options: Unpack[WorkerOptions]) -> Worker:
        """Start a worker for the Celery app `app` (see `Worker`), without waiting until it is ready. It finds the
        database in SAGA_DATABASE_URL and the broker in CELERY_BROKER_URL; its log is in the stack's folder.
        """
        urls = {"SAGA_DATABASE_URL": self.database_url, "CELERY_BROKER_URL": self.broker_url}
        options["env"] = {**urls, **options.get("env", {})}
        options.setdefault("log", self.folder / "workers" / f"{len(self.workers)}.log")
        worker = Worker(app, **options)
        self.workers.append(worker)
        worker.spawn()
        return worker

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
