"""Short ids: the beginnings by which people name sagas, as git's short hashes name commits."""

from __future__ import annotations

import re
from collections.abc import Sequence
from uuid import UUID

from saga.store.postgres.database import Link

_DIGITS = 32
_SPARE = 1
"""Digits more than it takes today: sagas that start later share beginnings, too."""
_LEAST = 8


def range_of(beginning: str) -> tuple[UUID, UUID] | None:
    """The first and the last id that begin so; ``None`` if no id can."""
    digits = beginning.replace("-", "").lower()
    if not re.fullmatch(r"[0-9a-f]{1,32}", digits):
        return None
    return UUID(digits.ljust(_DIGITS, "0")), UUID(digits.ljust(_DIGITS, "f"))


def read_ids(link: Link, first: UUID, last: UUID, limit: int) -> list[UUID]:
    """The ids of sagas in a range, ``limit`` of them at most."""
    rows = link.run(
        "SELECT id FROM {s}.instance WHERE id BETWEEN %(first)s AND %(last)s ORDER BY id LIMIT %(limit)s",
        {"first": first, "last": last, "limit": limit},
    )
    return [row[0] for row in rows]


def shorten(link: Link, ids: Sequence[UUID]) -> dict[UUID, str]:
    """A beginning of each id that no other saga's id has."""
    rows = link.run(
        """
        SELECT wanted.id, (SELECT id FROM {s}.instance WHERE id < wanted.id ORDER BY id DESC LIMIT 1),
               (SELECT id FROM {s}.instance WHERE id > wanted.id ORDER BY id LIMIT 1)
        FROM unnest(%(ids)s::uuid[]) AS wanted (id)
        """,
        {"ids": list(ids)},
    )
    return {found: _unlike(found, [other for other in neighbours if other]) for found, *neighbours in rows}


def _unlike(found: UUID, neighbours: Sequence[UUID]) -> str:
    shared = max((_shared(found.hex, other.hex) for other in neighbours), default=0)
    digits = max(_LEAST, shared + 1 + _SPARE)
    length = next(end for end in range(37) if sum(letter != "-" for letter in str(found)[:end]) >= min(digits, _DIGITS))
    return str(found)[:length]


def _shared(one: str, other: str) -> int:
    return next((index for index, (a, b) in enumerate(zip(one, other, strict=True)) if a != b), _DIGITS)
