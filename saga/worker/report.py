"""Report: what ended an attempt, as the log keeps it, without what the user's ``saga_redact`` takes out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from saga.core.events import Event
from saga.core.outcome import Broken, Failure, Interruption, Outcome, Report, Success
from saga.core.text import JSON, Unencodable, ascii_only, clean_text, dumps
from saga.errors import Abort, StepTimeout, WorkerLost
from saga.language.codec import encode
from saga.telemetry.facts.attempts import RedactionFailed
from saga.telemetry.stream import emit

Ending = TypeVar("Ending", bound=Event)

Redact = Callable[[str], str]
"""What the texts of errors go through before they are written."""

_TEXTS = ("error", "traceback")
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


def redacted(event: Ending, redact: Redact | None) -> Ending:
    """An event whose texts have gone through ``redact``. If that fails, the texts are not kept."""
    if redact is None:
        return event
    texts = {name: _text(redact, value) for name in _TEXTS if (value := getattr(event, name, None))}
    return replace(event, **texts) if texts else event


def _text(redact: Redact, text: str) -> str:
    try:
        found = redact(text)
        if not isinstance(found, str):
            raise TypeError(f"it returned {type(found).__name__}, expected str")
        return clean_text(found)
    except Exception as error:
        # Its own text may hold what it was to take out.
        emit(RedactionFailed(type(error).__name__))
        return f"<left out: saga_redact failed: {type(error).__name__}>"
