"""Due: what the relay does to lanes in memory, and the pings that tell it what was lost; within a transaction."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from saga.core.ref import STARTS
from saga.core.rows import Dispatch
from saga.store.memory.jsonb import later, stored
from saga.store.memory.tables import AT_ONCE_BEFORE, CENTURY, Probe, Record, SagaRows, Tables, Transaction, Work, lanes
from saga.store.memory.work import dispatch_of
from saga.store.values import Lane, Ping, Task

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TIMEOUT = 300.0
_MOST = 1_000_000
_HELD_TOKENS = 100
_QUIET = timedelta(seconds=0.3)

Lot = tuple[str, int, int]
"""Sent lanes that are alike: their queue, their priority or -1, and how often they were sent."""

# --- what is done to which lanes --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Scope:
    """Which lanes a relay sees to.

    Attributes:
        limit: how many at a time.
        until: what is due later has not come, even if it has since the relay began to look.
    """

    realms: Sequence[str]
    limit: int
    until: datetime


def do(within: Transaction, task: Task, scope: Scope, **which: Any) -> list[Dispatch]:
    """Do something to all lanes that it is to be done to; returns their messages."""
    tables = within.tables
    until = min(tables.now, scope.until)
    match task:
        case Task.SEND_DUE:
            return _send(within, _due(tables, scope, until))
        case Task.SEND_LOST:
            return _send(within, _lost(tables, scope.limit, **which))
        case Task.TIME_OUT:
            return _end(within, _looked_at(tables, scope), "attempt_timed_out", lambda start: _deadline(start) <= until)
        case Task.LOSE:
            return _end(within, _of_workers(tables, scope, **which), "attempt_lost")
        case Task.WATCH_ON:
            return _watch_on(within, _looked_at(tables, scope))


def _due(tables: Tables, scope: Scope, until: datetime) -> list[Lane]:
    """Free lanes that are due and were not sent; what is due at once and what is due by the clock have turns of their own."""
    found: list[Lane] = []
    for realm in scope.realms:
        unsent = [
            (saga_id, work) for saga_id, work in lanes(tables) if work.free and work.realm == realm and not work.sent
        ]
        unsent.sort(key=lambda pair: pair[1].due_at)
        at_once = [pair for pair in unsent if pair[1].due_at <= AT_ONCE_BEFORE]
        by_clock = [pair for pair in unsent if AT_ONCE_BEFORE < pair[1].due_at <= until]
        found += [_lane(pair) for pair in (*at_once[: scope.limit], *by_clock[: scope.limit])]
    return found


def _lost(tables: Tables, limit: int, *, realm: str, after: str, lots: int) -> list[Lane]:
    """What was sent before a ping that came through and is still unclaimed: its message is lost.

    Each further sending waits twice as long. What was sent in the future, by a clock that stepped back, is old.
    """
    found: list[Lane] = []
    for lot, members in _page(tables, realm, after, lots):
        probe = tables.probes.get((realm, lot[0]))
        if probe is not None:
            patience = timedelta(seconds=0.25 * 2 ** lot[2])
            seen = probe.through is not None and probe.through <= tables.now
            until = min(probe.through, tables.now - patience) if seen and probe.through else None
            old = [pair for pair in members if pair[1].sent > tables.now or (until and pair[1].sent < until)]
            found += [_lane(pair) for pair in sorted(old, key=lambda pair: pair[1].sent)[:limit]]
    return found[:limit]


def _looked_at(tables: Tables, scope: Scope) -> list[Lane]:
    """Claimed lanes that are to be looked at."""
    found: list[Lane] = []
    for realm in scope.realms:
        due = [pair for pair in lanes(tables) if not pair[1].free and pair[1].realm == realm]
        due = sorted((pair for pair in due if pair[1].due_at <= tables.now), key=lambda pair: pair[1].due_at)
        found += [_lane(pair) for pair in due[: scope.limit]]
    return found


def _of_workers(tables: Tables, scope: Scope, *, workers: Sequence[int]) -> list[Lane]:
    """The lanes of workers that are gone."""
    mine = [(saga_id, work) for saga_id, work in lanes(tables) if work.worker in workers and work.realm in scope.realms]
    return [_lane(pair) for pair in mine if pair[1].problem is None or pair[1].due_at <= tables.now][: scope.limit]


def _send(within: Transaction, picked: Iterable[Lane]) -> list[Dispatch]:
    now = within.tables.now
    return [
        _changed(
            rows, saga_id, lane, sent=now, dispatches=min(work.dispatches, _MOST) + 1, due_at=_at_once(work.due_at)
        )
        for saga_id, lane, rows, work in _taken(within, picked)
        if work.free
    ]


def _at_once(due_at: datetime) -> datetime:
    """When that is due which is sent: at once from then on."""
    return due_at if due_at < AT_ONCE_BEFORE else due_at - CENTURY


def _watch_on(within: Transaction, picked: Iterable[Lane]) -> list[Dispatch]:
    """Look again at the attempt's deadline, or sooner if a step that may follow inline has a shorter timeout."""
    now = within.tables.now
    found = []
    for saga_id, lane, rows, work in _taken(within, picked):
        if not work.free and work.due_at <= now:
            start = _last_start(rows, lane)
            ends = [later(now, min(work.watch, 1e9)), *([_deadline(start)] if start is not None else [])]
            found.append(_changed(rows, saga_id, lane, due_at=max(later(now, 1.0), min(ends))))
    return found


def free_unrun(within: Transaction, worker: int, tokens: Sequence[UUID]) -> list[Dispatch]:
    """Give back claims of a worker that nothing in it runs."""
    mine = [pair for pair in lanes(within.tables) if pair[1].worker == worker and pair[1].token in tokens]
    return _end(within, [_lane(pair) for pair in mine[:_HELD_TOKENS]], "attempt_interrupted")


def _end(
    within: Transaction, picked: Iterable[Lane], kind: str, which: Callable[[Record], bool] = bool
) -> list[Dispatch]:
    """Append a fact about the open attempt of claimed lanes, and free them for a worker that can decide what follows.

    Of each saga, one: the next round has the others.
    """
    now = within.tables.now
    found: dict[UUID, Dispatch] = {}
    for saga_id, lane, rows, work in _taken(within, picked):
        start = _last_start(rows, lane)
        if saga_id in found or work.free or start is None or not which(start):
            continue
        phase = STARTS[start.kind]
        data = stored(phase.data)
        rows.log.append(Record(len(rows.log) + 1, kind, lane, start.step, start.attempt, data, work.worker, now))
        found[saga_id] = _changed(
            rows, saga_id, lane, worker=None, token=None, step=start.step, phase=phase, attempt=None, problem=None,
            due_at=within.tables.at_once, sent=now, dispatches=1,
        )  # fmt: skip
    return list(found.values())


def _taken(within: Transaction, picked: Iterable[Lane]) -> Iterable[tuple[UUID, str, SagaRows, Work]]:
    for saga_id, lane in picked:
        rows = within.take(saga_id)
        if rows is not None and lane in rows.work:
            yield saga_id, lane, rows, rows.work[lane]


def _changed(rows: SagaRows, saga_id: UUID, lane: str, **values: Any) -> Dispatch:
    rows.change(lane, **values)
    return dispatch_of(saga_id, rows.work[lane])


def _lane(pair: tuple[UUID, Work]) -> Lane:
    return pair[0], pair[1].lane


def _last_start(rows: SagaRows, lane: str) -> Record | None:
    return next((record for record in reversed(rows.log) if record.lane == lane and record.kind in STARTS), None)


def _deadline(start: Record) -> datetime:
    """When an attempt is over."""
    timeout = json.loads(start.data).get("timeout")
    known = isinstance(timeout, (int, float)) and not isinstance(timeout, bool)
    return later(start.at, min(max(timeout, 0), 1e9) if known else _TIMEOUT)


# --- pings ------------------------------------------------------------------------------------------------------------


def next_pings(tables: Tables, realm: str, after: str, lots: int) -> tuple[list[Ping], str]:
    """The queues with work sent but unclaimed for a while and no ping on its way (or one overdue), each with a new number.

    Returns:
        the pings, and the queue after which to go on; empty when that was all.
    """
    now = tables.now
    page = _page(tables, realm, after, lots)
    ranks: dict[str, set[int]] = {}
    for (queue, rank, _), members in page:
        times = [work.sent for _, work in members if work.sent is not None]
        if min(times) <= now - _QUIET or max(times) > now:
            ranks.setdefault(queue, set()).add(rank)
    found = []
    for queue, known in ranks.items():
        probe = tables.probes.get((realm, queue))
        if probe is None or _is_answered(probe) or _is_overdue(probe, now):
            tables.probes[realm, queue] = _next_probe(probe, now)
            ranked = min((rank for rank in known if rank >= 0), default=None)
            priority = 0 if -1 in known and ranked is not None else ranked
            found.append(Ping(queue, (now - _EPOCH) // timedelta(microseconds=1), priority, realm))
    return found, max(queue for (queue, _, _), _ in page) if page and len(page) == lots else ""


def _is_answered(probe: Probe) -> bool:
    return probe.through is not None and probe.through >= probe.sent_at


def _is_overdue(probe: Probe, now: datetime) -> bool:
    patience = timedelta(seconds=min(60, 2 ** min(probe.tries, 6)))
    return probe.sent_at > now or probe.sent_at < now - patience


def _next_probe(probe: Probe | None, now: datetime) -> Probe:
    if probe is None:
        return Probe(now)
    through = probe.through if probe.through is not None and probe.through <= now else None
    return Probe(now, through, 0 if _is_answered(probe) else min(probe.tries, 5) + 1)


def see_ping(tables: Tables, realm: str, queue: str, number: int) -> None:
    """Note that a ping came through, be it the outstanding one or one before: all that was sent before it had its turn."""
    probe = tables.probes.get((realm, queue))
    # Compared as a number: a forged one may be no time at all.
    if probe is not None and number <= (probe.sent_at - _EPOCH) // timedelta(microseconds=1):
        seen = max(_EPOCH + timedelta(microseconds=number), probe.through or _EPOCH)
        tables.probes[realm, queue] = Probe(probe.sent_at, seen, probe.tries)


def _page(tables: Tables, realm: str, after: str, lots: int) -> list[tuple[Lot, list[tuple[UUID, Any]]]]:
    """The lots of sent lanes after a queue, a page of them: each of one queue, one priority, and sent as often."""
    found: dict[Lot, list[tuple[UUID, Any]]] = {}
    for saga_id, work in lanes(tables):
        if work.free and work.sent is not None and work.realm == realm and work.queue > after:
            rank = -1 if work.priority is None else work.priority
            found.setdefault((work.queue, rank, min(work.dispatches, 12)), []).append((saga_id, work))
    return sorted(found.items())[:lots]
