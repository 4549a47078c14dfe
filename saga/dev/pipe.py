"""The pipe to the guard: there while this process has children, and only then."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
from pathlib import Path

GUARD = Path(__file__).with_name("guard.py")


class Pipe:
    """Starts the guard for the first child and lets it go after the last one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._guard: subprocess.Popen[bytes] | None = None
        self._owner = 0

    def acquire(self) -> int:
        """Count one more child; returns the file descriptor it is to be given."""
        with self._lock:
            if self._owner != os.getpid():  # the first use, or after a fork: the other process's guard is not ours
                self._owner, self._users, self._guard = os.getpid(), 0, None
            if self._guard is None or self._guard.poll() is not None:
                self._guard = subprocess.Popen(
                    [sys.executable, "-P", str(GUARD), str(os.getpid())],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.DEVNULL,
                    bufsize=0,
                    start_new_session=True,
                )
            self._users += 1
            assert self._guard.stdin is not None
            return self._guard.stdin.fileno()

    def release(self, pid: int | None) -> None:
        """Count one child less, `pid` if it is known to have ended; the last one takes the guard with it."""
        with self._lock:
            self._users -= 1
            guard = self._guard
            if guard is None or guard.stdin is None:
                return
            with contextlib.suppress(BrokenPipeError):
                if pid is not None:
                    guard.stdin.write(f"{pid} 0\n".encode())
                if not self._users:
                    guard.stdin.write(b"end\n")
            if not self._users:
                self._guard = None
                guard.stdin.close()
                guard.wait()


PIPE = Pipe()
