"""Trace: which attempts really ran, told by the tasks themselves: a line each in one file.

The log says what is meant to run. The trace has nothing to do with Postgres, so it can contradict the log.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from saga.context import current

FILE = "SOAK_TRACE"
"""The environment variable that names the file; without it, nothing is noted."""


class Attempt(NamedTuple):
    """One attempt of a step's action, or of its undo."""

    saga: str
    step: str
    undo: bool
    number: int

    def __str__(self) -> str:
        return f"saga {self.saga}, {'undo of ' if self.undo else ''}step {self.step}, attempt {self.number}"


class Ran(NamedTuple):
    """An attempt, and the id of the main process of the worker in which it ran."""

    attempt: Attempt
    main: int


def note(**_: Any) -> None:
    """Note the attempt that is about to run; a signal handler of Celery's `task_prerun`."""
    attempt = current()
    if attempt is not None and FILE in os.environ:
        words = (attempt.saga_id, attempt.step, int(attempt.compensating), attempt.attempt, os.getppid())
        line = " ".join(map(str, words)) + "\n"
        os.write(_file(), line.encode())


@cache
def _file() -> int:
    # Appending in one write keeps the lines of many processes whole, and a killed process loses none.
    return os.open(os.environ[FILE], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)


def workers_of(mains: Collection[int], ran: Iterable[Ran], started: Mapping[Attempt, int]) -> set[int]:
    """The numbers of the workers that these main processes had.

    Args:
        started: the worker of each attempt, by the log.
    """
    return {started[each.attempt] for each in ran if each.main in mains and each.attempt in started}


def read(file: Path) -> list[Ran]:
    """All attempts that ran, in the order in which they began."""
    rows = (line.split() for line in file.read_text().splitlines()) if file.exists() else ()
    return [Ran(Attempt(saga, step, undo == "1", int(number)), int(main)) for saga, step, undo, number, main in rows]
