"""A Celery worker as a child process."""

from __future__ import annotations

import os
import signal
import sys
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, TypedDict

import psutil

from . import guard
from .child import Child

Pool = Literal["prefork", "threads", "solo", "gevent"]
Loglevel = Literal["info", "debug"]


class WorkerOptions(TypedDict, total=False):
    """The options of `Worker` that `Stack.worker` passes on."""

    log: Path
    pool: Pool
    concurrency: int
    queues: Sequence[str]
    name: str
    loglevel: Loglevel
    arguments: Sequence[str]
    env: Mapping[str, str]
    cwd: Path


class Worker(Child):
    """`python -m celery -A APP worker`, with its output in a log file. It may be started again after it ended.

    Args:
        app: what `-A` takes.
        log: the log file; appended to.
        pool: prefork, threads, solo, or gevent where it is installed.
        concurrency: pool processes, threads or greenlets.
        queues: the queues it consumes; by default those of the app.
        name: the part of the host name before `@`; by default a unique one.
        loglevel: info or debug; with less, Celery does not say when it is ready.
        arguments: further arguments of `celery worker`.
        env: added to this process's environment.
        cwd: the folder it runs in, from which it imports.

    It leaves out mingle and gossip, which take a second at the start and mean nothing to sagas.
    """

    name = "the worker"
    umask = -1  # what tasks write is for the user to share

    def __init__(
        self,
        app: str,
        *,
        log: Path,
        pool: Pool = "prefork",
        concurrency: int = 2,
        queues: Sequence[str] = (),
        name: str | None = None,
        loglevel: Loglevel = "info",
        arguments: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> None:
        super().__init__(log, cwd=cwd, env={"PYTHONUNBUFFERED": "1", **(env or {})})
        self.app = app
        self.pool = pool
        self.concurrency = concurrency
        self.queues = tuple(queues)
        self.hostname = f"{name or f'saga-{uuid.uuid4().hex[:8]}'}@{os.uname().nodename}"
        self.loglevel = loglevel
        self.arguments = tuple(arguments)

    def command(self) -> list[str]:
        options = {
            "--pool": self.pool,
            "--concurrency": str(self.concurrency),
            "--hostname": self.hostname,
            "--loglevel": self.loglevel,
            **({"--queues": ",".join(self.queues)} if self.queues else {}),
        }
        return [
            *(sys.executable, "-m", "celery", "-A", self.app, "worker", "--without-mingle", "--without-gossip"),
            *(f"{option}={value}" for option, value in options.items()),
            *self.arguments,
        ]

    def is_ready(self) -> bool:
        return f"{self.hostname} ready." in self.output()

    def children(self) -> list[psutil.Process]:
        """The processes of a prefork pool, the oldest first."""
        if not self.is_alive or self.pool != "prefork":
            return []
        return [child for child in psutil.Process(self.pid).children() if guard.is_alive(child)]

    def kill_child(self, timeout: float = 10) -> int:
        """SIGKILL the oldest process of a prefork pool, as the out-of-memory killer would; returns its process id.

        Raises:
            TimeoutError: there is none, and none was started within `timeout` seconds.
        """
        deadline = time.monotonic() + timeout
        while not (children := self.children()):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.hostname} has no pool process (pool {self.pool})")
            time.sleep(0.01)
        guard.send(children[:1], signal.SIGKILL)
        return children[0].pid
