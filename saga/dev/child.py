"""A child process of the stack: what Postgres, the broker and the workers have in common."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

import psutil

from . import guard
from .errors import StartFailed
from .pipe import PIPE
from .private import open_private

LAUNCH = Path(__file__).with_name("launch.py")
TAIL = 30
"""Lines of the log that an error shows."""

SUSPENDING = 5.0
"""Seconds within which a signal to stop takes hold."""


def launcher(*command: str, pipe: str = "-", death: int = signal.SIGKILL, user: str = "-") -> list[str]:
    """The command line that runs `command` through `launch`."""
    return [sys.executable, "-I", "-S", str(LAUNCH), pipe, str(int(death)), user, *command]


class Child(ABC):
    """A process in a session of its own, so that a terminal's Ctrl-C does not reach it, ended by the guard if its
    parent dies. Start and stop it as often as you like; as a context manager, once.

    Attributes:
        log: the file its output is appended to.
        cwd: the folder it runs in; None means the parent's.
        env: what is added to the parent's environment.
    """

    name: ClassVar[str]
    death: ClassVar[int] = signal.SIGKILL
    """What the guard sends when the parent has died."""
    umask: ClassVar[int] = 0o077
    """Of the files it makes; -1 for the parent's."""

    def __init__(self, log: Path, *, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> None:
        self.log = log.absolute()
        self.cwd = cwd
        self.env = dict(env or {})
        self.user = "-"
        self._popen: subprocess.Popen[bytes] | None = None
        self._settled = True
        self._logged = 0

    @abstractmethod
    def command(self) -> list[str]:
        """The program's absolute path and its arguments."""

    @abstractmethod
    def is_ready(self) -> bool:
        """Whether it does its work by now; asked only while it is alive."""

    def start(self, timeout: float = 60) -> None:
        """Start it and wait up to `timeout` seconds until it is ready. Does nothing if it is alive.

        Raises:
            StartFailed: it ended, or was not ready in time.
        """
        if not self.is_alive:
            self.spawn()
            self.wait_ready(timeout)

    def spawn(self) -> None:
        """Start it without waiting. What is left of its last run is killed first."""
        self.kill()
        self.log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        pipe = PIPE.acquire()
        try:
            with os.fdopen(open_private(self.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT), "ab") as log:
                self._logged = log.tell()
                self._popen = subprocess.Popen(
                    launcher(*self.command(), pipe=str(pipe), death=self.death, user=self.user),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    cwd=self.cwd,
                    env={**os.environ, **self.env},
                    pass_fds=[pipe],
                    start_new_session=True,
                    umask=self.umask,
                )
            self._settled = False
        except BaseException:
            PIPE.release(None)
            raise

    def wait_ready(self, timeout: float = 60) -> None:
        """Wait up to `timeout` seconds until it is ready.

        Raises:
            StartFailed: it ended, or was not ready in time. It is not left running.
        """
        deadline = time.monotonic() + timeout
        while not (self.is_alive and self.is_ready()):
            if not self.is_alive:
                problem = f"{self.name} ended with code {self.returncode} before it was ready"
            elif time.monotonic() > deadline:
                problem = f"{self.name} was not ready after {timeout:g} s"
            else:
                time.sleep(0.01)
                continue
            self.kill()
            raise StartFailed(f"{problem}. The end of {self.log}:\n{self.tail()}")

    @property
    def pid(self) -> int:
        """Its process id.

        Raises:
            ProcessLookupError: it was never started.
        """
        if self._popen is None:
            raise ProcessLookupError(f"{self.name} was not started")
        return self._popen.pid

    @property
    def is_alive(self) -> bool:
        """Whether its main process runs (suspended counts)."""
        return self._popen is not None and self._popen.poll() is None

    @property
    def returncode(self) -> int | None:
        """How it ended: the exit code, or minus the signal's number; None while it runs or was never started."""
        return self._popen.poll() if self._popen else None

    def output(self) -> str:
        """What it has logged since it was last started."""
        if not self.log.exists():
            return ""
        with self.log.open("rb") as log:
            log.seek(self._logged)
            return log.read().decode(errors="replace")

    def tail(self) -> str:
        """The last lines of `output()`."""
        return "\n".join(self.output().splitlines()[-TAIL:])

    def signal(self, number: int) -> None:
        """Send a signal to its main process, if that runs."""
        if self._popen is not None:
            self._popen.send_signal(number)

    def suspend(self) -> None:
        """Stop the whole process family in its tracks (SIGSTOP): its connections stay open, and nothing answers."""
        self.signal(signal.SIGSTOP)  # first, so that it starts no more children
        members = self.family()
        guard.send(members, signal.SIGSTOP)
        guard.wait_stopped(members, SUSPENDING)

    def resume(self) -> None:
        """Let a suspended family go on (SIGCONT)."""
        guard.send(self.family(), signal.SIGCONT)

    def family(self) -> list[psutil.Process]:
        """Its main process, first, and everything that one started; empty if it does not run."""
        return guard.family(self.pid) if self.is_alive else []

    def kill(self) -> None:
        """SIGKILL the whole process family, and wait until it is gone. Does nothing if nothing is left of it."""
        if self._popen is None or self._settled:
            return
        if self.is_alive or not psutil.pid_exists(self.pid):  # else the id belongs to another by now
            guard.kill(self.pid)
        self._popen.wait()
        self._settled = True
        PIPE.release(self.pid)

    def terminate(self) -> None:
        """Ask it to end (SIGTERM), without waiting."""
        self.signal(signal.SIGTERM)

    def stop(self, timeout: float = 10) -> None:
        """Ask it to end; kill what has not ended after `timeout` seconds. Does nothing if it does not run."""
        self._end(signal.SIGTERM, timeout)

    def _end(self, number: int, timeout: float) -> None:
        if self._popen is None:
            return
        try:
            if self.is_alive:
                self.signal(number)
                self.resume()  # a suspended process heeds no other signal
                self._popen.wait(timeout)
        except subprocess.TimeoutExpired:
            pass
        finally:
            self.kill()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
