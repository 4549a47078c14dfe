"""Redaction: what is taken out of the texts of errors before the log gets them, as the user's ``saga_redact`` says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from saga.core.events import Event
from saga.core.text import clean_text
from saga.telemetry.facts.attempts import RedactionFailed
from saga.telemetry.stream import emit

Redact = Callable[[str], str]
Said = TypeVar("Said", bound=Event)

_TEXTS = ("error", "traceback")


def redacted(event: Said, redact: Redact | None) -> Said:
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
