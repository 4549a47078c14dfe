"""Types: what the commands' arguments are read as."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import click

_AGE = re.compile(r"(\d+(?:\.\d+)?)\s*(s|min|m|h|d)")
_SECONDS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}


def time(text: str) -> datetime:
    """``2026-07-01T12:00`` (in this machine's time zone unless it names one), or ``2h`` for two hours ago."""
    ago = _AGE.fullmatch(text)
    try:
        if ago:
            return datetime.now(UTC) - timedelta(seconds=float(ago[1]) * _SECONDS[ago[2]])
        return datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError):
        raise click.BadParameter(
            f"{text!r} is none; expected a time such as 2026-07-01T12:00, or an age such as 30s, 15min, 2h, 7d"
        ) from None


def duration(text: str) -> float:
    """``90`` for seconds, or ``30s``, ``15min``, ``2h``, ``7d``; as seconds."""
    found = _AGE.fullmatch(text if text[-1:].isalpha() else f"{text}s")
    if not found:
        raise click.BadParameter(f"{text!r} is none; expected a time such as 90 (seconds), 30s, 15min, 2h or 7d")
    return float(found[1]) * _SECONDS[found[2]]


def json_value(text: str) -> Any:
    """A JSON text; ``-`` reads it from standard input."""
    try:
        return json.loads(sys.stdin.read() if text == "-" else text, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise click.BadParameter(f"that is not JSON: {error}") from None


def _no_number(text: str) -> None:
    raise ValueError(f"{text} is no number that JSON has")


def json_object(text: str) -> dict[str, Any]:
    """A JSON object; ``-`` reads it from standard input."""
    found = json_value(text)
    if not isinstance(found, dict):
        raise click.BadParameter('expected a JSON object of field names to values, such as \'{"sku": "A1"}\'')
    return found


def key_text(text: str) -> str:
    """An idempotency key."""
    if not 1 <= len(text) <= 500:
        raise click.BadParameter("expected a text of 1 to 500 characters, such as order-1001")
    return text


def seconds(text: str) -> float:
    """A number of seconds; ``inf`` is no limit."""
    try:
        found = float(text)
    except ValueError:
        found = -1
    if not found >= 0:
        raise click.BadParameter(f"{text!r} is none; expected seconds, as in --wait=30; alone, it comes last")
    return found


def tags_of(words: Sequence[str]) -> Any:
    """The tags that ``--tag`` gives: a mapping of ``k=v`` or a list of plain words, or either as JSON; ``None`` if none.

    Raises:
        click.UsageError: some are the one and some the other.
    """
    if len(words) == 1 and words[0][:1] in ("{", "["):
        return json_value(words[0])
    pairs = dict(word.split("=", 1) for word in words if "=" in word)
    if pairs and not all("=" in word for word in words):
        raise click.UsageError("--tag expected k=v each time, or a plain word each time")
    return pairs or list(words) or None
