"""Jsonb: what becomes of values in Postgres, so that a store in memory takes and gives back the same."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from saga.core.text import JSON, Unencodable, dumps
from saga.errors import first_line
from saga.store.values import Refused, ValueRefused

_INTEGER, _SMALL = 2**31, 2**15
_LONGEST = 9.2e12
"""Seconds until Postgres knows no time any more; Python's calendar ends sooner."""


def stored(value: JSON) -> str:
    """The text of a value as a ``jsonb`` column gives it back.

    Raises:
        ValueRefused: Postgres does not take it.
    """
    try:
        text = dumps(value)
    except Unencodable as error:
        raise ValueRefused(first_line(error)) from None
    return json.dumps(json.loads(text, object_pairs_hook=_ordered, parse_float=_number), ensure_ascii=False)


def _ordered(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Shorter names first; those of one length by their bytes."""
    if len(pairs) < 2:
        return dict(pairs)
    return dict(sorted(((name, value) for name, value in pairs), key=lambda pair: _rank(pair[0])))


def _rank(name: str) -> tuple[int, bytes]:
    raw = name.encode()
    return len(raw), raw


def _number(text: str) -> float | int:
    """A number with a fraction stays one; Postgres writes the others out, and has no negative zero."""
    if "e+" in text:
        return int(Decimal(text))
    return float(text) or 0.0


def text_of(value: str) -> str:
    """A value for a text column.

    Raises:
        ValueRefused: Postgres does not take it.
    """
    stored(value)
    return value


def integer(value: int | None, *, small: bool = False) -> int | None:
    """A value for a column of integers.

    Raises:
        ValueRefused: it is too large for that.
    """
    limit = _SMALL if small else _INTEGER
    if value is not None and not -limit <= value < limit:
        raise ValueRefused(f"{value} is out of range")
    return value


def later(moment: datetime, seconds: float) -> datetime:
    """A moment so many seconds later, or the last one that Python knows.

    Raises:
        ValueRefused: Postgres does not know it.
    """
    if not abs(seconds) < _LONGEST:
        raise ValueRefused(f"{seconds} seconds are out of range")
    try:
        return moment + timedelta(seconds=seconds)
    except OverflowError:
        return (datetime.max if seconds > 0 else datetime.min).replace(tzinfo=moment.tzinfo)


def require(holds: bool, constraint: str) -> None:
    """Keep to a constraint of a table.

    Raises:
        Refused: it does not hold.
    """
    if not holds:
        raise Refused(f"this violates the constraint {constraint}")
