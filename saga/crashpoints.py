"""Crash points: named places, one at every boundary of a statement, where a test makes a process die or fail.

They are off, and cost nothing but an empty call, unless ``SAGA_CRASH_POINTS`` names a folder when the process starts. A
test arms one point by putting a file there (``arm``); the first process that reaches it takes the file away and does
what it says, so every arming strikes once.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

FOLDER = "SAGA_CRASH_POINTS"

Strike = Literal["kill", "drop", "raise", "pause"]

POINTS = {
    "start.before_open": "before a new saga is written",
    "start.after_open": "after it is committed, before its message is handed over",
    "publish.before_send": "before a message goes to the broker",
    "publish.after_send": "after it",
    "claim.before": "before a lane is claimed",
    "claim.after": "after the claim is committed, before anything runs",
    "settle.before_append": "before an undecided lane is settled",
    "settle.after_append": "after that is committed",
    "hold.before_wake": "after a held wait, before the next attempt is appended",
    "hold.after_wake": "after that is committed",
    "relay.before_commit": "after the relay has marked and freed rows, before its commit",
    "relay.after_commit": "after that commit, before it sends",
    "clock.before_commit": "after the relay has moved times because the clock stepped, before its commit",
} | {
    f"{path}.{place}": f"{where}, of {what}"
    for path, what in (("run", "an action"), ("undo", "an undo"))
    for place, where in {
        "before_task": "before the user's code",
        "after_task": "after it, before its outcome is recorded",
        "before_append": "before an outcome is appended",
        "after_append": "after it is committed, before its messages are handed over",
        "before_commit": "after the entry of a transactional step is appended, before its commit",
        "after_commit": "after that commit",
    }.items()
}
"""Every point, and where it is."""


class Struck(RuntimeError):
    """What a crash point raises when it is told to."""


def arm(folder: Path, point: str, strike: Strike = "kill") -> None:
    """Make the next process that reaches a point do something there.

    Args:
        strike: ``kill`` itself with SIGKILL, ``drop`` its database connection, ``raise`` an exception, or ``pause``
            until ``release``.
    """
    if point not in POINTS:
        raise ValueError(f"no crash point {point!r}")
    ready = folder / f".{point}"
    ready.write_text(strike)
    ready.rename(folder / point)


def is_armed(folder: Path, point: str) -> bool:
    """Whether nobody has reached the point since it was armed."""
    return (folder / point).exists()


def struck_at(folder: Path, point: str) -> float:
    """When a process was last struck at a point, in seconds since 1970."""
    return max(taken.stat().st_ctime for taken in folder.glob(f"{point}.struck.*"))


def is_paused(folder: Path, point: str) -> bool:
    """Whether a process pauses at a point."""
    return (folder / f"{point}.paused").exists()


def release(folder: Path, point: str) -> None:
    """Let the process go on that pauses at a point."""
    (folder / f"{point}.paused").unlink(missing_ok=True)


def _off(point: str, connection: Any = None) -> None:
    pass


def _on(point: str, connection: Any = None) -> None:
    armed = Path(os.environ[FOLDER]) / point
    taken = armed.with_name(f"{point}.struck.{os.getpid()}")
    try:
        armed.rename(taken)  # one process only gets it
    except FileNotFoundError:
        return
    strike = taken.read_text()
    if strike == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif strike == "drop" and connection is not None:
        connection.close()
    elif strike == "pause":
        _pause(armed.with_name(f"{point}.paused"))
    else:
        raise Struck(f"crash point {point}")


def _pause(flag: Path) -> None:
    flag.touch()
    while flag.exists():
        time.sleep(0.01)


reach: Callable[..., None] = _on if os.environ.get(FOLDER) else _off
"""Be at a point: ``reach("claim.before", connection)``."""
