"""Search: the statements that read ``instance``, a row a saga: one saga's, those of some ids or keys, or those that match.

A connection is passed in; nothing commits here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from saga.core.ref import Parent
from saga.core.state import Status
from saga.core.text import dumps, portable
from saga.store.postgres.database import Link
from saga.store.postgres.work import DUE_SINCE
from saga.store.values import Header


def _held(column: str) -> str:
    held = f"least(greatest({column}, '0001-01-02 UTC'), '9999-12-30 UTC')"
    return f"CASE WHEN {column} IS NOT NULL THEN {held} END AS {column}"  # of NULL and a time, greatest() is the time


HEADER = (
    "id, name, fingerprint, key, status, reason, tags, "
    f"{_held('started_at')}, {_held('updated_at')}, {_held('finished_at')}, realm, parent, parent_lane, parent_step"
)
"""Times that Python cannot hold come as the nearest that it can: one such row must not hide all others."""


def read_header(link: Link, saga_id: UUID) -> Header | None:
    """One saga's row."""
    rows = link.run(f"SELECT {HEADER} FROM {{s}}.instance WHERE id = %(saga)s", {"saga": saga_id})
    return _header(*rows[0]) if rows else None


def _header(*row: Any) -> Header:
    parent = None if row[-3] is None else Parent(*row[-3:])
    return replace(Header(*row[:-3]), parent=parent)


def read_holders(link: Link, name: str, keys: Sequence[str | None]) -> list[tuple[UUID, str] | None]:
    """The id and input hash of the saga of that name under each of these keys, in their order."""
    rows = link.run(
        """
        SELECT wanted.place::text, id::text, input_hash
        FROM jsonb_array_elements_text(%(keys)s::jsonb) WITH ORDINALITY AS wanted (key, place)
        JOIN {s}.instance AS i ON i.key = wanted.key AND i.name = %(name)s::jsonb ->> 0
        """,
        {"name": portable([name]), "keys": portable(keys)},
    )
    found = {int(place) - 1: (UUID(saga_id), input_hash) for place, saga_id, input_hash in rows}
    return [found.get(place) for place in range(len(keys))]


def read_statuses(link: Link, ids: Sequence[UUID]) -> dict[UUID, str]:
    """The status of each of these sagas that exists."""
    rows = link.run("SELECT id, status FROM {s}.instance WHERE id = ANY(%(ids)s)", {"ids": list(ids)})
    return {row[0]: row[1] for row in rows}


def find_headers(
    link: Link,
    *,
    name: str | None = None,
    statuses: Sequence[str] = (),
    key: str | None = None,
    tags: Any = None,
    since: datetime | None = None,
    until: datetime | None = None,
    after: UUID | None = None,
    parent: UUID | None = None,
    limit: int = 100,
    parked_after: float | None = None,
) -> list[Header]:
    """Sagas, newest first, one page of them: those before ``after`` in that order."""
    where = ["TRUE"]
    where += ["name = %(name)s"] * (name is not None)
    where += ["key = %(key)s"] * (key is not None)
    where += ["tags IS NOT NULL AND tags @> %(tags)s::jsonb"] * (tags is not None)
    where += ["started_at >= %(since)s"] * (since is not None)
    where += ["started_at < %(until)s"] * (until is not None)
    where += ["parent = %(parent)s"] * (parent is not None)
    where += [_PARKED] * (parked_after is not None)
    where += ["id < %(after)s"] * (after is not None)
    parts = [
        f"(SELECT {HEADER} FROM {{s}}.instance WHERE {' AND '.join([*where, status, time])} ORDER BY id DESC LIMIT %(limit)s)"
        for status in _by_status(statuses)
        for time in _by_time(since, until)
    ]
    rows = link.run_planned(
        f"SELECT {HEADER} FROM ({' UNION ALL '.join(parts)}) AS found ORDER BY id DESC LIMIT %(limit)s",
        {"name": name, "key": key, "tags": None if tags is None else dumps(tags), "since": since, "until": until,
         "low": _id_at(since, -1), "high": _id_at(until, 1), "after": after, "limit": limit, "parent": parent, "parked": parked_after},
    )  # fmt: skip
    return [_header(*row) for row in rows]


_PARKED = f"""id IN (
    SELECT saga_id FROM {{s}}.work
    WHERE worker IS NULL AND (problem IS NOT NULL OR {DUE_SINCE} <= clock_timestamp() - make_interval(secs => %(parked)s)))"""


def _by_status(statuses: Sequence[str]) -> list[str]:
    """Conditions that together find each saga of these statuses once; each has an index with them in order."""
    found = []
    for status in dict.fromkeys(statuses):
        assert status in list(Status), status
        if status == Status.RUNNING:
            # What runs has work; no index knows it. The coalesce hides the statistics of the status from the planner: after
            # a burst of starts they still say that next to nothing runs, and it would read the whole table.
            found.append("coalesce(status, '') = 'running' AND id IN (SELECT saga_id FROM {s}.work)")
        elif status == Status.COMPLETED:
            found.append("status = 'completed'")
        else:
            found.append(f"notable = '{status}'")
    return found or ["TRUE"]


def _by_time(since: datetime | None, until: datetime | None) -> list[str]:
    """Conditions that together find each saga of that time once: by its id, or among those with a wrong time in the id."""
    if since is None and until is None:
        return ["TRUE"]
    near = " AND ".join(["id >= %(low)s"] * (since is not None) + ["id < %(high)s"] * (until is not None))
    return [near, f"skewed AND NOT ({near})"]


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


_SKEW = timedelta(minutes=1)
"""How far the time in an id may be off before ``instance.skewed`` says so."""


_ZONES = timedelta(hours=27)
"""How far the session's time zone may move a moment that names no zone."""


def _id_at(moment: datetime | None, sign: int) -> UUID | None:
    """An id below, or above, those of the sagas started at that moment, by clocks that are not skewed."""
    if moment is None:
        return None
    slack = (_SKEW + timedelta(seconds=1)) if moment.tzinfo else _ZONES
    since_epoch = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - _EPOCH + sign * slack
    millis = since_epoch // timedelta(milliseconds=1)
    return UUID(int=min(max(millis, 0), (1 << 48) - 1) << 80)


def count_sagas(link: Link, *, everything: bool) -> int:
    """How many sagas are not finished, or how many there are."""
    rows = link.run(
        "SELECT count(*) FROM {s}.instance WHERE %(everything)s OR (status <> 'completed' AND finished_at IS NULL)",
        {"everything": everything},
    )
    return int(rows[0][0])


def sagas_in_flight(link: Link, after: UUID | None, limit: int, *, everything: bool) -> list[Header]:
    """A page of the sagas that are not finished, or of all, oldest first."""
    rows = link.run(
        f"""
        SELECT {HEADER} FROM {{s}}.instance
        WHERE (%(after)s::uuid IS NULL OR id > %(after)s)
          AND (%(everything)s OR (status <> 'completed' AND finished_at IS NULL))
        ORDER BY id LIMIT %(limit)s
        """,
        {"after": after, "limit": limit, "everything": everything},
    )
    return [_header(*row) for row in rows]
