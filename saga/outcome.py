"""How an attempt ended, as the process that ran it saw it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from saga.codec import JSON, Unencodable, clean_text, dumps, encode
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


def report(error: BaseException) -> Report:
    """An exception as the log keeps it."""
    code, details = (
        (_kept(error, "code", 200), _kept(error, "details", 10_000)) if isinstance(error, Abort) else (None, None)
    )
    return Report(describe(error), type(error).__name__, code, details)


def _kept(error: Abort, name: str, limit: int) -> JSON:
    """What an ``Abort`` was given as JSON, in so many bytes at most; else in words. It is a refusal whatever it carries."""
    try:
        given = getattr(error, name)
    except Exception as failed:  # a subclass that computes it
        return clean_text(f"<{type(failed).__name__}: {failed}>", limit)
    try:
        found = encode(given)
        dumps(found, limit)
    except Unencodable:
        return clean_text(given, limit)
    except Exception as failed:  # whatever the code of what it holds may raise
        return clean_text(f"<{type(given).__name__} that cannot be stored: {type(failed).__name__}>", limit)
    return found


def describe(error: BaseException) -> str:
    """An exception in one line: an ``Abort`` by its reason, anything else with its type before."""
    text = clean_text(error)
    if isinstance(error, (Abort, WorkerLost, StepTimeout)):
        return text or type(error).__name__
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
