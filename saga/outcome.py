"""How an attempt ended, as the process that ran it saw it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from saga.codec import clean_text
from saga.errors import Abort, StepTimeout, WorkerLost


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


def describe(error: BaseException) -> str:
    """An exception in one line: an ``Abort`` by its reason, anything else with its type before."""
    text = clean_text(error)
    if isinstance(error, (Abort, WorkerLost, StepTimeout)):
        return text or type(error).__name__
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
