"""Work: how lanes are claimed and offered by those who run them; within a transaction."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from saga.core.address import name_of
from saga.core.due import Due
from saga.core.outline import DEADLINE
from saga.core.ref import Phase
from saga.core.rows import Dispatch
from saga.store.memory.jsonb import integer, later, stored, text_of
from saga.store.memory.log import known_until
from saga.store.memory.tables import AT_ONCE_BEFORE, Record, SagaRows, Tables, Transaction, Work
from saga.store.values import Lane, Offer, Row, Wish

_HOPS = 8
_AGAIN = 10.0
_PARKED_LONGEST = 300.0
_JUST_SENT = timedelta(seconds=0.25)


def claim(
    within: Transaction, wishes: Sequence[Wish], worker: int, realm: str, limits: dict[str, Any]
) -> dict[Lane, Offer]:
    """Take lanes that are free and due: the start of each one's attempt is appended, each row gets an owner.

    Args:
        wishes: of different lanes.
        realm: the worker's; it takes no lanes of another, and makes those of none its own.
        limits: fingerprint to phase to step to what the entry of such a start says.
    """
    integer(worker)
    offers: dict[Lane, Offer] = {}
    for saga_id in sorted({wish.saga_id for wish in wishes}):
        rows = within.take(saga_id)
        if rows is not None:
            asked = sorted((wish for wish in wishes if wish.saga_id == saga_id), key=lambda wish: wish.lane)
            offers |= _claim_of(within.tables, rows, asked, worker, realm, limits)
    return offers


def _claim_of(
    tables: Tables, rows: SagaRows, wishes: Sequence[Wish], worker: int, realm: str, limits: dict[str, Any]
) -> dict[Lane, Offer]:
    """The wishes about one saga: of its lanes all that are ready are taken."""
    news: list[Row] = []
    offers: dict[Lane, Offer] = {}
    known: list[int] = []
    late = _may_be_late(rows, tables)
    for wish in wishes:
        work = rows.work.get(wish.lane)
        if work is None or work.realm not in ("", realm):
            continue
        over = late or (work.until is not None and work.until <= tables.now)
        attempt = work.attempt if work.phase is not Phase.STEP or not over else None
        limit = limits.get(work.fingerprint)
        is_open = work.free and work.due_at <= tables.now
        won = is_open and attempt is not None and limit is not None
        if is_open and limit is not None:
            known.append(known_until(rows, wish.known, wish.known_at))
            if attempt is not None:
                timeout = _start(tables, rows, work, worker, limit)
                watch = limit["watch"]
                rows.change(wish.lane, worker=worker, token=wish.token, realm=realm, problem=None, watch=watch,
                            due_at=later(tables.now, watch if timeout is None else min(watch, timeout)))  # fmt: skip
        since = work.due_at if is_open and attempt is None else None
        offers[wish.saga_id, wish.lane] = Offer(work.fingerprint, attempt, work.queue, is_open, won, news, since)
    if known:
        news.extend(record.row() for record in rows.log[min(known) :])
    return offers


def _may_be_late(rows: SagaRows, tables: Tables) -> bool:
    """Whether the saga's own deadline may have passed."""
    row = rows.work.get(DEADLINE)
    return row is not None and (row.due_at <= tables.now or row.problem is not None)


def _start(tables: Tables, rows: SagaRows, work: Work, worker: int, limit: dict[str, Any]) -> float | None:
    """Append the start of an attempt; returns its timeout."""
    data = limit.get(work.phase, {}).get(name_of(work.step), {"timeout": None})
    if work.until is not None:
        left = max(0.0, (work.until - tables.now).total_seconds())
        data = {**data, "timeout": left if data.get("timeout") is None else min(data["timeout"], left)}
    kind = f"{work.phase}_started"
    rows.log.append(Record(len(rows.log) + 1, kind, work.lane, work.step, work.attempt, stored(data), worker,
                           tables.now))  # fmt: skip
    timeout: float | None = data.get("timeout")
    return timeout


def read_limits(limits: str) -> dict[str, Any]:
    """The limits of a claim, which come as JSON."""
    found: dict[str, Any] = json.loads(limits)
    return found


def owned_tokens(within: Transaction, worker: int) -> list[UUID]:
    """The claim tokens that a worker holds."""
    active = within.tables.active.values()
    return [work.token for rows in active for work in rows.work.values() if work.worker == worker and work.token]


def park(within: Transaction, saga_id: UUID, lane: str, problem: str, *, unknown: bool) -> None:
    """Note why a free lane cannot be run here, and offer it again later: after 1 s, then twice as long each time, to 5 min."""
    text_of(lane), text_of(problem)
    now = within.tables.now
    rows = within.take(saga_id)
    work = rows.work.get(lane) if rows is not None else None
    if rows is not None and work is not None and work.free and work.due_at <= now:
        seconds = min(_PARKED_LONGEST, 0.5 * 2 ** min(work.dispatches, 20))
        rows.change(lane, problem=problem, unknown=unknown, sent=None, due_at=later(now, seconds))


def sleep_on(within: Transaction, saga_id: UUID, lane: str, seen: datetime, due: Due) -> bool:
    """Let a free lane without an attempt wait until then, if nobody has woken it since it was seen; whether it was put off."""
    rows = within.take(saga_id)
    work = rows.work.get(lane) if rows is not None else None
    if rows is None or work is None or not work.free or work.attempt is not None or work.due_at != seen:
        return False
    now = within.tables.now
    due_at = due.moment or later(now, due.seconds)
    if work.due_at < AT_ONCE_BEFORE:
        due_at = min(due_at, later(now, _AGAIN))
    rows.change(lane, due_at=due_at, sent=None, dispatches=0)
    return True


def hand_on(within: Transaction, saga_id: UUID, lane: str, worker: int) -> list[Dispatch]:
    """Offer a lane at once to another worker that lives, listens to its queue and has its definition; nothing if none does."""
    tables = within.tables
    rows = within.take(saga_id)
    work = rows.work.get(lane) if rows is not None else None
    if rows is None or work is None or not work.free or work.due_at > tables.now or work.dispatches >= _HOPS:
        return []
    if not any(_can_take(tables, number, work) for number in tables.members if number != worker):
        return []
    rows.change(lane, sent=tables.now, dispatches=work.dispatches + 1, problem=None)
    return [dispatch_of(saga_id, work)]


def _can_take(tables: Tables, number: int, work: Work) -> bool:
    member = tables.members[number]
    knows = work.fingerprint in member.fingerprints and work.queue in member.queues
    return knows and work.realm in ("", member.realm) and number in tables.living


def offer_on(within: Transaction, lanes: Sequence[Lane], *, alone: bool) -> list[Dispatch]:
    """The messages of those lanes that there are and that are free, to be sent anew by a worker that took the first ones."""
    now = within.tables.now
    found = []
    for saga_id, lane in lanes:
        rows = within.saga(saga_id)
        work = rows.work.get(lane) if rows is not None else None
        if work is None or not work.free:
            continue
        found.append(Dispatch(saga_id, lane, work.queue, work.priority, alone))
        if work.sent is not None and work.sent < now - _JUST_SENT and not within.tables.held(saga_id, but_by=within):
            taken = within.take(saga_id)
            assert taken is not None
            taken.change(lane, sent=now)
    return found


def dispatch_of(saga_id: UUID, work: Work) -> Dispatch:
    """The message that offers a lane."""
    return Dispatch(saga_id, work.lane, work.queue, work.priority)
