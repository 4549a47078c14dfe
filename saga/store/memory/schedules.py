"""Schedules: when sagas are started again and again; within a transaction."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from uuid import UUID

from saga.store.memory.jsonb import require, stored
from saga.store.memory.log import open_sagas
from saga.store.memory.tables import Tables, Transaction
from saga.store.values import Opening, Schedule, Ticks

_PATIENCE = 5.0


def put(within: Transaction, schedule: Schedule, realm: str) -> None:
    """Have a schedule, in place of the one of its name; with the same plan, that goes on where it is."""
    require(len(realm) <= 500 and 1 <= len(schedule.name) <= 500, "schedule_named")
    stored([schedule.name, schedule.saga, schedule.key_prefix, schedule.missed])
    kept = replace(
        schedule, realm=realm, input=json.loads(stored(schedule.input)), spec=json.loads(stored(schedule.spec))
    )
    known = within.schedule(realm, schedule.name, _PATIENCE)
    if known is not None:
        goes_on = known.spec == kept.spec
        kept = replace(kept, paused=known.paused, last_tick=known.last_tick,
                       next_tick=known.next_tick if goes_on else kept.next_tick)  # fmt: skip
    within.set_schedule(kept)


def read(tables: Tables, realm: str) -> list[Schedule]:
    """Those of a realm, by name."""
    found = [_copy(schedule) for schedule in tables.schedules.values() if schedule.realm == realm]
    return sorted(found, key=lambda schedule: schedule.name.encode())


def pause(within: Transaction, realm: str, name: str) -> bool:
    """Start nothing by a schedule; whether it is there."""
    known = within.schedule(realm, name, _PATIENCE)
    if known is not None:
        within.set_schedule(replace(known, paused=True))
    return known is not None


def resume(within: Transaction, realm: str, name: str, next_tick: datetime | None) -> bool:
    """Go on with a schedule, at that time or else where it was; whether it is there."""
    known = within.schedule(realm, name, _PATIENCE)
    if known is not None:
        within.set_schedule(replace(known, paused=False, next_tick=next_tick or known.next_tick))
    return known is not None


def remove(within: Transaction, realm: str, name: str) -> bool:
    """Take a schedule out; whether it was there."""
    known = within.schedule(realm, name, _PATIENCE)
    if known is not None:
        within.drop_schedule(known)
    return known is not None


def read_due(tables: Tables, realm: str, limit: int) -> Ticks:
    """Those whose time has come, the longest due first, and the time."""
    now = tables.now
    due = [
        each for each in read(tables, realm) if not each.paused and each.next_tick is not None and each.next_tick <= now
    ]
    return Ticks(now, sorted(due, key=lambda schedule: schedule.next_tick or now)[:limit])


def advance(
    within: Transaction,
    schedule: Schedule,
    next_tick: datetime | None,
    openings: Sequence[Opening],
    realm: str,
    patience: float,
) -> set[UUID] | None:
    """Start sagas and say when next, if the schedule is where it was seen; the ids of those whose key was free."""
    known = within.schedule(schedule.realm, schedule.name, patience)
    if known is None or known.paused or known.next_tick is None or known.next_tick != schedule.next_tick:
        return None
    found = open_sagas(within, openings, realm, patience)
    within.set_schedule(replace(known, next_tick=next_tick, last_tick=known.next_tick))
    return found


def _copy(schedule: Schedule) -> Schedule:
    """It, with JSON of its own."""
    return replace(schedule, input=json.loads(json.dumps(schedule.input)), spec=json.loads(json.dumps(schedule.spec)))
