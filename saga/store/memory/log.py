"""Log: how sagas are opened and appended to, and what readers ask of their logs; within a transaction."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import UUID

from saga.core.due import Due
from saga.core.events import (
    Abandoned,
    CompensateRequested,
    Entry,
    Event,
    Paused,
    Request,
    Resumed,
    StepSkipped,
    data_of,
    kind_of,
)
from saga.core.outline import DEADLINE, Outline
from saga.core.ref import Phase
from saga.core.rows import Changes, Dispatch, Place
from saga.core.state import Status
from saga.core.text import digest
from saga.errors import CorruptLog
from saga.store.memory.beginning import may_begin
from saga.store.memory.jsonb import integer, later, require, stored, text_of
from saga.store.memory.parts import tell_parent
from saga.store.memory.tables import Record, SagaRows, Transaction, Work, refuse_twice
from saga.store.values import Addition, End, Header, NewStatus, Opening, Refused, Stored, ValueRefused, entries_of

USER = "memory"
"""The role that operators are there as."""

# --- definitions ------------------------------------------------------------------------------------------------------


def register(within: Transaction, outline: Outline, patience: float) -> None:
    """Store a definition, once."""
    within.define(outline.fingerprint, stored(outline.to_json()), patience)


def read_definition(within: Transaction, fingerprint: str) -> Outline | None:
    """The stored outline of that fingerprint.

    Raises:
        CorruptLog: what is stored is not what the fingerprint was taken of.
    """
    text = within.definition(text_of(fingerprint))
    if text is None:
        return None
    doc = json.loads(text)
    if digest(doc) != fingerprint:
        raise CorruptLog(f"definition {fingerprint} is damaged: what is stored has another fingerprint")
    return Outline.from_json(doc)


# --- starting ---------------------------------------------------------------------------------------------------------


def open_sagas(within: Transaction, sagas: Sequence[Opening], realm: str, patience: float) -> set[UUID]:
    """Write new sagas with their first entry and work; returns the ids of those whose key was free."""
    for saga in sagas:
        _check(within, saga, realm)
    found = set()
    for saga in sorted(sagas, key=lambda saga: (saga.name, saga.key or "", str(saga.id))):
        rows = _new(within, saga, realm)
        if within.put(saga.id, rows, patience):
            found.add(saga.id)
    return found


def _check(within: Transaction, saga: Opening, realm: str) -> None:
    doc = within.definition(saga.fingerprint)
    if doc is None or json.loads(doc)["saga"] != saga.name:
        raise ValueRefused("a saga can be started of a registered definition only, under its name")
    deadlines = [place for place in saga.rows if place.lane == DEADLINE]
    others = [place for place in saga.rows if place.lane != DEADLINE]
    fit = all(place.step == "" and place.attempt is None for place in deadlines) and (
        not deadlines or saga.started.deadline is not None
    )
    if not fit or not may_begin(json.loads(doc)["steps"], others):
        raise ValueRefused("a saga can be started at the first steps of its definition only")
    short = len(realm) <= 500 and len(saga.input_hash) <= 500 and all(len(p.queue or "") <= 500 for p in saga.rows)
    if not short or not (saga.key is None or 1 <= len(saga.key) <= 500):
        raise ValueRefused("the key, the realm and the queues of a saga have 500 characters at most")


def _new(within: Transaction, saga: Opening, realm: str) -> SagaRows:
    now = within.tables.now
    for text in (saga.name, saga.key or "", saga.input_hash, realm):
        text_of(text)
    header = Header(
        saga.id,
        saga.name,
        saga.fingerprint,
        saga.key,
        str(Status.RUNNING),
        None,
        None,
        now,
        now,
        None,
        realm,
        saga.parent,
    )
    rows = SagaRows(header, stored(saga.tags), saga.input_hash)
    rows.log.append(Record(1, kind_of(saga.started), None, None, None, stored(saga.data), None, now))
    for place in saga.rows:
        sent = place.sent and saga.sent
        seconds = place.due.seconds if place.due else 0.0
        work = Work(place.lane, text_of(place.step), place.attempt, Phase.STEP, saga.fingerprint, _queue(place.queue),
                    integer(place.priority, small=True),
                    later(now, seconds) if seconds > 0 else within.tables.at_once, 0.0, now if sent else None, int(sent),
                    realm=realm)  # fmt: skip
        refuse_twice(rows, place.lane)
        rows.work[place.lane] = work
    return rows


# --- progress ---------------------------------------------------------------------------------------------------------


def append(within: Transaction, additions: Sequence[Addition], worker: int | None) -> dict[UUID, Stored]:
    """Append to the logs of sagas, and change their rows as follows from it: of each saga all or nothing."""
    now = within.tables.now
    # Values are refused whether or not the place is free.
    records = [[_record(addition, index, event, worker, now) for index, event in enumerate(addition.events)]
               for addition in additions]  # fmt: skip
    won = {}
    for addition, found in sorted(zip(additions, records, strict=True), key=lambda pair: pair[0].saga_id):
        if addition.changes is not None:
            _check_values(addition.changes)
        if addition.status is not None:
            stored([addition.status.status, addition.status.reason])
        rows = within.take(addition.saga_id)
        if rows is None or not found or not _may_follow(rows, addition, now):
            continue
        first = Record(*found[0])  # checked whether or not its place is free
        if first.seq <= len(rows.log):
            continue
        rows.log += [first, *(Record(*record) for record in found[1:])]
        if addition.changes is not None:
            _change(within, rows, addition.changes, worker, addition.changes.fingerprint)
        for opening in addition.openings:
            _begin(within, opening, rows.header.realm)
        woken: tuple[Dispatch, ...] = ()
        if addition.status is not None:
            woken = tell_parent(within, addition.status.parent, rows.header, addition.status)
            _project(rows, addition.status, now, terminal=addition.status.terminal)
        won[addition.saga_id] = Stored(now, woken)
    return won


def _begin(within: Transaction, opening: Opening, realm: str) -> None:
    """A part of a saga begins with it."""
    if not within.put(opening.id, _new(within, opening, realm), 0.0):
        raise Refused("this violates the constraint instance_key_name")


def _record(addition: Addition, index: int, event: Event, worker: int | None, now: datetime) -> tuple[Any, ...]:
    lane, step, attempt = (getattr(event, name, None) for name in ("lane", "step", "attempt"))
    stored([lane, step])
    return (integer(addition.seq + index), kind_of(event), lane, step, integer(attempt), stored(data_of(event)),
            integer(worker), now)  # fmt: skip


def _may_follow(rows: SagaRows, addition: Addition, now: datetime) -> bool:
    """Whether the log has the entry before, and it is neither too late nor too early, and no signal that is there already."""
    last = rows.entry(addition.seq - 1)
    in_time = (addition.before is None or addition.before > now) and (addition.not_before or now) <= now
    new = addition.signal_key is None or not has_signal(rows, addition.signal_key)
    return last is not None and last.at == (addition.after or last.at) and in_time and new


def has_signal(rows: SagaRows, key: str) -> bool:
    """Whether a signal was received under that key."""
    return any(record.kind == "signal_received" and json.loads(record.data).get("key") == key for record in rows.log)


def _check_values(changes: Changes) -> None:
    for place in (*changes.added, *changes.moved):
        stored([place.lane, place.step, place.queue])
        integer(place.attempt)
        integer(place.priority, small=True)
        if place.owned and changes.token is None:
            raise ValueRefused("a row with an owner has a token")


def _change(within: Transaction, rows: SagaRows, changes: Changes, worker: int | None, fingerprint: str) -> None:
    for lane in changes.removed:
        rows.work.pop(lane, None)
    for place in changes.added:
        refuse_twice(rows, place.lane)
        queue = changes.default_queue if place.queue is None else place.queue
        work = Work(place.lane, place.step, place.attempt, place.phase, fingerprint, _queue(queue), place.priority,
                    within.tables.now, realm=rows.header.realm)  # fmt: skip
        rows.work[place.lane] = replace(work, **_standing(within, place, changes.token, worker))
    for place in changes.moved:
        if (known := rows.work.get(place.lane)) is not None:
            rows.change(
                place.lane, step=place.step, attempt=place.attempt, phase=place.phase, priority=place.priority,
                queue=known.queue if place.queue is None else place.queue, problem=None,
                **_standing(within, place, changes.token, worker),
            )  # fmt: skip


def _standing(within: Transaction, place: Place, token: UUID | None, worker: int | None) -> dict[str, Any]:
    """Who has a row, from when on it may be claimed or is looked at, and whether its message is out."""
    due = place.due or Due()
    now = within.tables.now
    if due.moment is not None:
        due_at = due.moment
    elif place.owned or due.seconds:
        due_at = later(now, place.watch if place.owned else due.seconds)
    else:
        due_at = within.tables.at_once
    return {"due_at": due_at, "watch": place.watch, "sent": now if place.sent else None, "dispatches": int(place.sent),
            "until": _until(place, now), "worker": worker if place.owned else None, "token": token if place.owned else None}  # fmt: skip


def _until(place: Place, now: datetime) -> datetime | None:
    return None if place.until is None else place.until.moment or later(now, place.until.seconds)


def _queue(queue: str | None) -> str:
    require(queue is not None, "work.queue, not null")
    return queue or ""


def _project(rows: SagaRows, status: NewStatus, now: datetime, *, terminal: bool) -> None:
    known = status.status in list(Status)
    require(known, "instance_status_known")
    require(terminal == Status(status.status).terminal, "instance_finished_when_terminal")
    rows.header = replace(rows.header, status=status.status, reason=status.reason, updated_at=now,
                          finished_at=now if terminal else None)  # fmt: skip


def request(within: Transaction, addition: Addition) -> datetime | None:
    """Append what an operator asks for, and change the saga's rows as follows from it; a completed saga is taken up again.

    The entry says as which role the operator was there.
    """
    [event] = addition.events
    status = addition.status
    _check_request(event, status)
    assert isinstance(event, Request)
    record = _record(addition, 0, replace(event, session_user=USER), None, within.tables.now)
    if addition.changes is not None:
        _check_values(replace(addition.changes, token=UUID(int=0)))
    rows = within.take(addition.saga_id)
    again = isinstance(event, CompensateRequested)
    if rows is None or (again and rows.header.status != Status.COMPLETED):
        return None
    key = getattr(event, "key", None)
    taken = addition.seq <= len(rows.log) or (key is not None and has_signal(rows, key))
    if taken or not _may_follow(rows, replace(addition, before=None), within.tables.now):
        return None
    rows.log.append(Record(*record))
    if addition.changes is not None:
        changes = replace(addition.changes, token=None)
        _change(within, rows, changes, None, rows.header.fingerprint)
    require(status is not None or not again, "instance.status, not null")
    if status is not None:
        terminal = status.status in list(Status) and Status(status.status).terminal
        tell_parent(within, rows.header.parent, rows.header, status, sent=False)
        _project(rows, status, within.tables.now, terminal=terminal)
    return within.tables.now


def _check_request(event: Event, status: NewStatus | None) -> None:
    """Refuse what no operator can ask for."""
    new = status.status if status is not None else None
    if (
        not isinstance(event, Request)
        or (new == Status.ABANDONED) != isinstance(event, Abandoned)
        or (new == Status.PAUSED and not isinstance(event, Paused))
        or (new == Status.COMPLETED and not isinstance(event, (StepSkipped, Resumed)))
    ):
        raise ValueRefused(f"an operator cannot ask for {kind_of(event)}, status {new}")
    if status is not None:
        stored([status.status, status.reason])


# --- reading ----------------------------------------------------------------------------------------------------------


def read_entries(within: Transaction, saga_id: UUID, after: int, until: int | None) -> list[Entry]:
    """The entries after one position, up to another.

    Raises:
        CorruptLog: the saga has none.
    """
    rows = within.saga(saga_id)
    found = [] if rows is None else [record.row() for record in rows.log[max(after, 0) : until]]
    if not found and not after and until != 0:
        raise CorruptLog(f"saga {saga_id}, entry 1 is missing")
    return entries_of(saga_id, found)


def read_on(within: Transaction, saga_id: UUID, seq: int, at: datetime | None) -> list[Entry]:
    """The log from a known entry on, that one included; all of it where it does not have that entry, or is not as old."""
    rows = within.saga(saga_id)
    if rows is None:
        return []
    first = max(known_until(rows, seq, at), 1)
    return entries_of(saga_id, [record.row() for record in rows.log[first - 1 :]])


def known_until(rows: SagaRows, seq: int, at: datetime | None) -> int:
    """The entry that a reader knows, if the log has it; else 0."""
    known = rows.entry(seq)
    return seq if known is not None and known.at == (at or known.at) else 0


def read_header(within: Transaction, saga_id: UUID) -> Header | None:
    """One saga's row in the index."""
    rows = within.saga(saga_id)
    return None if rows is None else replace(rows.header, tags=json.loads(rows.tags))


def read_ends(within: Transaction, ids: Sequence[UUID], logs: Sequence[UUID]) -> dict[UUID, End]:
    """Where each of these sagas stands that exists, with the log of those that have ended and whose log is wanted."""
    found = {}
    for saga_id in ids:
        if (rows := within.saga(saga_id)) is not None:
            status = Status(rows.header.status)
            ended = status.terminal or status is Status.STUCK
            log = [record.row() for record in rows.log] if ended and saga_id in logs else []
            found[saga_id] = End(rows.header.fingerprint, str(status), ended, log)
    return found


def read_holders(within: Transaction, name: str, keys: Sequence[str | None]) -> list[tuple[UUID, str] | None]:
    """The id and input hash of the saga of that name under each of these keys, in their order."""
    stored([name, *keys])
    return [_holder(within, None if key is None else within.of_key(name, key)) for key in keys]


def _holder(within: Transaction, saga_id: UUID | None) -> tuple[UUID, str] | None:
    rows = None if saga_id is None else within.saga(saga_id)
    return None if rows is None else (rows.header.id, rows.input_hash)
