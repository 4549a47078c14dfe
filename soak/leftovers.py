"""Leftovers: processes that outlived the run.

Whatever the stack starts inherits a mark in its environment. Postgres writes its titles over that, but stays in its folder.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil

from saga.dev import guard

MARK = "SOAK_RUN"
"""The environment variable whose value tells one run from all others."""
PATIENCE = 10.0
"""Seconds that a process which is about to end is given."""


def leftovers(mark: str, folder: Path) -> list[str]:
    """The processes of a run, which has that mark and that folder, that are still there, in words."""
    deadline = time.monotonic() + PATIENCE
    while found := list(_left(mark, folder)):
        if time.monotonic() > deadline:
            return [f"process {process.pid} is left: {_command(process)}" for process in found]
        time.sleep(0.05)
    return []


def _left(mark: str, folder: Path) -> Iterator[psutil.Process]:
    for process in psutil.process_iter():
        # Another user's process is not ours, and shows us neither.
        with suppress(psutil.Error):
            ours = process.environ().get(MARK) == mark or Path(process.cwd()).is_relative_to(folder)
            if ours and guard.is_alive(process) and process.pid != os.getpid():
                yield process


def _command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return process.name() if process.is_running() else "gone by now"
