"""How an attempt ended, as the process that ran it saw it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from saga.core.text import JSON


@dataclass(frozen=True, slots=True)
class Success:
    """The task returned; ``result`` is JSON."""

    result: Any


@dataclass(frozen=True, slots=True)
class Failure:
    """The task raised, or what it returned cannot be stored.

    Attributes:
        error: what the retry policy is asked about.
        effect: whether the attempt may have had an effect.
        final: no policy is asked: it is over.
        min_wait: seconds that the task itself wished to wait.
    """

    error: BaseException
    effect: bool = True
    final: bool = False
    min_wait: float = 0.0
    traceback: str | None = None


@dataclass(frozen=True, slots=True)
class Interruption:
    """The worker was told to stop before the task was over."""

    reason: str


Outcome = Success | Failure | Interruption


class Report(NamedTuple):
    """What the log is told of an exception.

    Attributes:
        error_type: its class, by name.
        code: what an ``Abort`` was given, as JSON; likewise ``details``.
    """

    error: str | None
    error_type: str | None = None
    code: JSON = None
    details: JSON = None


@dataclass(frozen=True, slots=True)
class Broken:
    """A failure, as the log is told of it.

    Attributes:
        effect: whether the attempt may have had an effect.
    """

    said: Report
    effect: bool = True
    traceback: str | None = None
