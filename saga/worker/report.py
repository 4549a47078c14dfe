"""Report: what ended an attempt, as the log keeps it."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

from saga.core.events import Event
from saga.core.outcome import Broken, Failure, Interruption, Outcome, Report, Success
from saga.core.text import JSON, Unencodable, ascii_only, clean_text, dumps
from saga.errors import Abort, StepTimeout, WorkerLost
from saga.language.codec import encode

Ending = TypeVar("Ending", bound=Event)

_WORDS = ("error", "traceback", "error_type", "code", "details", "result")
"""Where the events of an ending have what user code said."""


def told(outcome: Outcome) -> Success | Broken | Interruption:
    """How an attempt ended, as the log is told of it."""
    if isinstance(outcome, Failure):
        return Broken(report(outcome.error), outcome.effect, outcome.traceback)
    return outcome


def report(error: BaseException) -> Report:
    """An exception as the log keeps it."""
    code, details = (
        (_kept(error, "code", 200), _kept(error, "details", 10_000)) if isinstance(error, Abort) else (None, None)
    )
    return Report(describe(error), type(error).__name__, code, details)


def in_ascii(event: Ending) -> Ending:
    """An ending that every database can store, whatever its encoding: what comes from user code in ASCII."""
    words = {name: ascii_only(value) for name in _WORDS if (value := getattr(event, name, None)) is not None}
    return replace(event, **words)


def _kept(error: Abort, name: str, limit: int) -> JSON:
    """What an ``Abort`` was given, as JSON of so many bytes at most, else as text. It is a refusal in any case."""
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
    """An exception in one line: an ``Abort`` by its reason, others with their type in front."""
    text = clean_text(error)
    if isinstance(error, (Abort, WorkerLost, StepTimeout)):
        return text or type(error).__name__
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
