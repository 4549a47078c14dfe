"""Schedules: when sagas are started again and again. A connection is passed in; nothing commits here."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from saga.core.events import FORMAT
from saga.core.text import dumps, portable
from saga.store.postgres.database import Link, Row
from saga.store.postgres.log import milliseconds
from saga.store.postgres.work import NOW
from saga.store.values import Schedule, Ticks

_COLUMNS = "name, saga, input, key_prefix, spec, missed, next_tick, paused, last_tick, realm"


def put(link: Link, schedule: Schedule, realm: str) -> None:
    """Have a schedule, in place of the one of its name; with the same plan, that goes on where it is."""
    link.run(
        """
        INSERT INTO {s}.schedule AS known (realm, name, saga, input, key_prefix, spec, missed, next_tick, updated_at)
        VALUES (%(realm)s, %(name)s, %(saga)s, %(input)s::jsonb, %(prefix)s, %(spec)s::jsonb, %(missed)s, %(next)s,
                clock_timestamp())
        ON CONFLICT (realm, name) DO UPDATE
        SET saga = excluded.saga, input = excluded.input, key_prefix = excluded.key_prefix, spec = excluded.spec,
            missed = excluded.missed, updated_at = excluded.updated_at,
            next_tick = CASE WHEN known.spec = excluded.spec THEN known.next_tick ELSE excluded.next_tick END
        WHERE (known.saga, known.input, known.key_prefix, known.spec, known.missed) IS DISTINCT FROM
              (excluded.saga, excluded.input, excluded.key_prefix, excluded.spec, excluded.missed)
        """,
        {"realm": realm, "name": schedule.name, "saga": schedule.saga, "prefix": schedule.key_prefix,
         "input": None if schedule.input is None else dumps(schedule.input), "spec": dumps(schedule.spec),
         "missed": schedule.missed, "next": schedule.next_tick},
    )  # fmt: skip


def read(link: Link, realm: str) -> list[Schedule]:
    """Those of a realm, by name."""
    return _schedules(
        link.run(f'SELECT {_COLUMNS} FROM {{s}}.schedule WHERE realm = %(realm)s ORDER BY name COLLATE "C"', {"realm": realm})
    )  # fmt: skip


def pause(link: Link, realm: str, name: str) -> bool:
    """Start nothing by a schedule; whether it is there."""
    return _changed(link, "paused = true", {"realm": realm, "name": name})


def resume(link: Link, realm: str, name: str, next_tick: datetime | None) -> bool:
    """Go on with a schedule, at that time or else where it was; whether it is there."""
    said = "paused = false, next_tick = coalesce(%(next)s::timestamptz, next_tick)"
    return _changed(link, said, {"realm": realm, "name": name, "next": next_tick})


def remove(link: Link, realm: str, name: str) -> bool:
    """Take a schedule out; whether it was there."""
    given = {"realm": realm, "name": name}
    return bool(link.run("DELETE FROM {s}.schedule WHERE realm = %(realm)s AND name = %(name)s RETURNING name", given))


def read_due(link: Link, realm: str, limit: int) -> Ticks:
    """Those whose time has come, the longest due first, and the time."""
    rows = link.run(
        f"""
        SELECT now, due.* FROM (SELECT clock_timestamp() AS now) AS clock LEFT JOIN (
            SELECT {_COLUMNS} FROM {{s}}.schedule WHERE realm = %(realm)s AND NOT paused AND next_tick <= {NOW}
            ORDER BY next_tick, name LIMIT %(limit)s
        ) AS due ON true ORDER BY next_tick, name
        """,
        {"realm": realm, "limit": limit},
    )
    return Ticks(rows[0][0], _schedules([row[1:] for row in rows if row[1] is not None]))


def advance(
    link: Link, schedule: Schedule, next_tick: datetime | None, sagas: Sequence[dict[str, Any]], works: Sequence[dict[str, Any]],
    patience: float,
) -> set[UUID] | None:  # fmt: skip
    """Start sagas and say when next, in one statement, if the schedule is where it was seen; the ids of those whose key was free."""
    opened = f"SELECT {{s}}.open(%(sagas)s::jsonb, %(works)s::jsonb, %(patience)s, {FORMAT})"
    rows = link.run(
        f"""
        WITH won AS (
            UPDATE {{s}}.schedule SET next_tick = %(next)s, last_tick = next_tick, updated_at = clock_timestamp()
            WHERE realm = %(realm)s AND name = %(name)s AND next_tick = %(seen)s AND NOT paused
            RETURNING name
        )
        SELECT ARRAY({opened if sagas else "SELECT NULL::text WHERE false"}) FROM won
        """,
        {"next": next_tick, "realm": schedule.realm, "name": schedule.name, "seen": schedule.next_tick}
        | ({"sagas": portable(sagas), "works": portable(works), "patience": milliseconds(patience)} if sagas else {}),
    )
    return {UUID(found) for found in rows[0][0]} if rows else None


def _changed(link: Link, said: str, given: dict[str, Any]) -> bool:
    rows = link.run(
        f"""
        UPDATE {{s}}.schedule SET {said}, updated_at = clock_timestamp()
        WHERE realm = %(realm)s AND name = %(name)s RETURNING name
        """,
        given,
    )
    return bool(rows)


def _schedules(rows: Sequence[Row]) -> list[Schedule]:
    return [Schedule(*row) for row in rows]
