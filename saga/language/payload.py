"""Payload: what a signal carries, checked against the types of the waits for it."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from saga.core.address import name_of
from saga.core.text import JSON, Unencodable, dumps, refuse_large
from saga.errors import InputError
from saga.language.annotation import shown
from saga.language.codec import encode, problems_of
from saga.language.definition import Saga


def read_payload(saga: Saga, signal: str, given: Any, limit: int) -> JSON:
    """Check what a signal is sent with; gives the payload as it is stored.

    Args:
        signal: its name or address.
        limit: the largest payload, in bytes of JSON.

    Raises:
        InputError: it fits no wait for that signal, or cannot be stored.
    """
    place = f"saga {saga.name!r}, signal {signal!r}"
    try:
        refuse_large(given, limit)
        stored = _fitting(place, saga, name_of(signal), given)
        dumps(stored, limit)
    except (Unencodable, ValueError) as error:
        raise InputError(f"{place}: the payload cannot be stored: {error}") from None
    return stored


def _fitting(place: str, saga: Saga, signal: str, given: Any) -> JSON:
    """The payload as the first wait that it fits reads it."""
    problem = None
    for terms in saga.waits(signal):
        try:
            return terms.read(given)
        except ValidationError as error:
            problem = problem or f"{place}: the payload does not fit {shown(terms.payload)}: {problems_of(error)}"
    if problem is not None:
        raise InputError(problem)
    return encode(given)
