"""Appends: the statements that append to logs, and change the rows of work and of the index as follows from it.

The primary key of the log is its lock: an entry goes to ``(saga_id, seq)`` or nowhere, and all else in its statement
selects from the row that ``won``. A connection is passed in; nothing commits here.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any
from uuid import UUID

from saga.core.events import FORMAT, Event, data_of, kind_of
from saga.core.rows import Dispatch
from saga.core.text import dumps
from saga.store.postgres.database import Link
from saga.store.postgres.log import ENTRY, header_row, work_rows
from saga.store.postgres.work import AT_ONCE
from saga.store.values import Addition, Stored


def append(link: Link, additions: Sequence[Addition], worker: int | None) -> dict[UUID, Stored]:
    """Append to the logs of sagas, and change their rows as follows from it: of each saga all or nothing.

    What concerns a parent takes a statement of its own: it locks a row of the parent's, which has nothing to do with the
    order in which a statement about several sagas locks theirs.

    Args:
        additions: of different sagas.

    Returns:
        the sagas whose place in the log was the next one and free, and who are neither too late nor too early, with the
        time, by the database's clock.
    """
    parts = [addition for addition in additions if addition.status is not None and addition.status.parent is not None]
    if not parts:
        return _append(link, additions, worker)
    others = [addition for addition in additions if addition not in parts]
    found = _append(link, others, worker) if others else {}
    for addition in parts:
        found |= _append(link, [addition], worker)
    return found


def _append(link: Link, additions: Sequence[Addition], worker: int | None) -> dict[UUID, Stored]:
    entries: list[dict[str, Any]] = []
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in _CHANGES}
    for addition in additions:
        saga_id = str(addition.saga_id)
        entries += [_entry_row(saga_id, addition, index, event) for index, event in enumerate(addition.events)]
        if changes := addition.changes:
            rows["removed"] += changes.removed_rows(saga_id)
            rows["added"] += changes.added_rows(saga_id)
            rows["moved"] += changes.moved_rows(saga_id)
        if status := addition.status:
            rows["statuses"].append(
                {"saga": saga_id, "status": status.status, "reason": status.reason, "terminal": status.terminal}
            )
            if parent := status.parent:
                rows["woken"].append(rows["statuses"][-1] | {"parent": str(parent.saga_id), "lane": parent.lane})
        for opening in addition.openings:
            rows["begun"].append({"opener": saga_id, **header_row(opening)})
            rows["queued"] += [{"opener": saga_id, "saga": str(opening.id), **row} for row in work_rows(opening)]
    changed = {name: dumps(found) for name, found in rows.items() if found}
    gated = any(addition.not_before or addition.signal_key is not None for addition in additions)
    statement = _statement(len(entries) > len(additions), gated, *changed)
    params = {"entries": dumps(entries), "worker": worker} | changed
    return {row[0]: Stored(row[1], _woken(row[2:])) for row in link.run(statement, params)}


def _woken(row: Sequence[Any]) -> tuple[Dispatch, ...]:
    return (Dispatch(*row),) if row and row[0] is not None else ()


def _entry_row(saga_id: str, addition: Addition, index: int, event: Event) -> dict[str, Any]:
    row = {"saga": saga_id, "seq": addition.seq + index, "follows": index > 0, "kind": kind_of(event),
           "lane": getattr(event, "lane", None), "step": getattr(event, "step", None),
           "attempt": getattr(event, "attempt", None), "data": data_of(event)}  # fmt: skip
    if not index:
        row["before"] = addition.before and addition.before.isoformat()
        row["after"] = addition.after and addition.after.isoformat()
        if addition.not_before or addition.signal_key is not None:
            row["not_before"] = addition.not_before and addition.not_before.isoformat()
            row["signal_key"] = addition.signal_key
    return row


def request(link: Link, addition: Addition) -> datetime | None:
    """Append what an operator asks for, and change the saga's rows as follows from it; a completed saga is taken up again.

    The entry says as which role of the database the operator was there.

    Returns:
        when, by the database's clock; ``None`` where its place in the log is taken, or the saga not completed any more.
    """
    [event], changes, status = addition.events, addition.changes, addition.status
    saga_id = str(addition.saga_id)
    # A function of the owner's: an operator has no right to write anything else.
    rows = link.run(
        f"""
        SELECT {{s}}.request(%(saga)s, %(place)s, %(kind)s, %(lane)s, %(step)s, %(said)s::jsonb, {FORMAT}::integer, %(after)s,
                           %(removed)s::jsonb, %(added)s::jsonb, %(moved)s::jsonb, %(status)s, %(reason)s)
        """,
        {"saga": addition.saga_id, "place": addition.seq, "kind": kind_of(event), "lane": getattr(event, "lane", None),
         "step": getattr(event, "step", None), "said": dumps(data_of(event)), "after": addition.after,
         "removed": dumps(changes.removed_rows(saga_id) if changes else []),
         "added": dumps(changes.added_rows(saga_id) if changes else []),
         "moved": dumps(changes.moved_rows(saga_id) if changes else []),
         "status": status and status.status, "reason": status and status.reason},
    )  # fmt: skip
    found: datetime | None = rows[0][0]
    return found


# --- the statement of append: its parts, each whole in itself ----------------------------------------------------------


@lru_cache(maxsize=256)
def _statement(follows: bool, gated: bool, *changed: str) -> str:
    """The statement of ``append``, with what it needs: entries that follow others, and each of ``_CHANGES`` that is made.

    Args:
        gated: something else than the place in the log and the deadline decides, too.
    """
    parts = [_given(_GATES), _won(_GATED)] if gated else [_given(), _won()]
    parts += [*[_FURTHER] * follows, *(_CHANGES[name] for name in changed)]
    if "woken" in changed:
        return f"WITH {', '.join(parts)} {_AND_WOKEN}"
    return f"WITH {', '.join(parts)} SELECT saga_id, at FROM won"


_GATES = ", not_before timestamptz, signal_key text"

_GATED = """ AND coalesce(not_before <= clock_timestamp(), true) AND (signal_key IS NULL OR NOT EXISTS (
            SELECT FROM {s}.log AS b WHERE b.saga_id = saga AND b.kind = 'signal_received' AND b.data ->> 'key' = signal_key))"""


def _given(gates: str = "") -> str:
    return f"""
    given AS MATERIALIZED (
        SELECT * FROM json_to_recordset(%(entries)s::json) AS r (
            saga uuid, seq integer, follows boolean, kind text, lane text, step text, attempt integer, data jsonb,
            before timestamptz, after timestamptz{gates})
    )
"""


def _won(gated: str = "") -> str:
    """In the order of the sagas: two statements that share some would otherwise wait for each other."""
    return f"""
    won AS (
        INSERT INTO {{s}}.log ({ENTRY})
        SELECT saga, seq, kind, lane, step, attempt, data, %(worker)s::integer, clock_timestamp(), {FORMAT}
        FROM given
        WHERE NOT follows AND coalesce(before > clock_timestamp(), true){gated} AND EXISTS (
            SELECT FROM {{s}}.log AS b WHERE b.saga_id = saga AND b.seq = given.seq - 1 AND b.at = coalesce(after, b.at))
        ORDER BY saga
        ON CONFLICT DO NOTHING
        RETURNING saga_id, at
    )
"""


_FURTHER = f"""
    further AS (
        INSERT INTO {{s}}.log ({ENTRY})
        SELECT saga, seq, kind, lane, step, attempt, data, %(worker)s::integer, won.at, {FORMAT}
        FROM won JOIN given ON given.saga = won.saga_id WHERE follows
    )
"""

_PLACE = """
    saga uuid, lane text, step text, attempt integer, phase text, queue text, priority smallint, due timestamptz,
    wait float8, owned boolean, watch float8, sent boolean, token uuid, until timestamptz, within float8
"""
"""The columns of ``r``: what a row of work is to say, as ``core.rows`` gives it."""

_DUE = f"""
    CASE WHEN r.due IS NOT NULL THEN r.due WHEN NOT r.owned AND coalesce(r.wait, 0) = 0 THEN {AT_ONCE}
         ELSE clock_timestamp() + make_interval(secs => CASE WHEN r.owned THEN r.watch ELSE r.wait END) END
"""
_UNTIL = "coalesce(r.until, clock_timestamp() + make_interval(secs => r.within))"
_SENT = "CASE WHEN r.sent THEN clock_timestamp() END"
_DISPATCHES = "CASE WHEN r.sent THEN 1 ELSE 0 END"
_WORKER = "CASE WHEN r.owned THEN %(worker)s::integer END"

_REMOVED = """
    removed AS (
        DELETE FROM {s}.work AS w USING won, json_to_recordset(%(removed)s::json) AS r (saga uuid, lane text)
        WHERE r.saga = won.saga_id AND w.saga_id = r.saga AND w.lane = r.lane
    )
"""


def _put(name: str, of: str, columns: str = "") -> str:
    """Insert the rows of the parameter ``name``, whose column ``of`` is the saga that won."""
    return f"""
    {name} AS (
        INSERT INTO {{s}}.work (
            saga_id, lane, step, attempt, phase, undo, fingerprint, queue, priority, due_at, watch, sent, dispatches, worker, token, until, realm)
        SELECT r.saga, r.lane, r.step, r.attempt, r.phase, r.phase = 'compensation', r.fingerprint, coalesce(r.queue, r.default_queue), r.priority,
               {_DUE}, r.watch, {_SENT}, {_DISPATCHES}, {_WORKER}, r.token, {_UNTIL},
               coalesce((SELECT realm FROM {{s}}.instance WHERE id = {of}), '')
        FROM won JOIN json_to_recordset(%({name})s::json) AS r ({_PLACE}, fingerprint text, default_queue text{columns})
            ON {of} = won.saga_id
    )
"""


_ADDED, _QUEUED = _put("added", "r.saga"), _put("queued", "r.opener", ", opener uuid")

_MOVED = f"""
    moved AS (
        UPDATE {{s}}.work AS w
        SET step = r.step, attempt = r.attempt, phase = r.phase, undo = r.phase = 'compensation', queue = coalesce(r.queue, w.queue), priority = r.priority,
            due_at = {_DUE}, watch = r.watch, sent = {_SENT}, dispatches = {_DISPATCHES}, worker = {_WORKER},
            token = r.token, until = {_UNTIL}, problem = NULL
        FROM won JOIN json_to_recordset(%(moved)s::json) AS r ({_PLACE}) ON r.saga = won.saga_id
        WHERE w.saga_id = r.saga AND w.lane = r.lane
    )
"""

_PROJECTED = """
    projected AS (
        UPDATE {s}.instance AS i
        SET status = r.status, reason = r.reason, updated_at = won.at, finished_at = CASE WHEN r.terminal THEN won.at END
        FROM won JOIN json_to_recordset(%(statuses)s::json) AS r (saga uuid, status text, reason text, terminal boolean)
            ON r.saga = won.saga_id
        WHERE i.id = r.saga
    )
"""

_BEGUN = f"""
    started AS (
        INSERT INTO {{s}}.log ({ENTRY})
        SELECT r.id, 1, 'saga_started', NULL, NULL, NULL, r.data, %(worker)s::integer, won.at, {FORMAT}
        FROM won JOIN json_to_recordset(%(begun)s::json) AS r (opener uuid, id uuid, data jsonb) ON r.opener = won.saga_id
    ), begun AS (
        INSERT INTO {{s}}.instance (id, name, fingerprint, key, status, tags, input_hash, realm, started_at, updated_at,
                                  parent, parent_lane, parent_step)
        SELECT r.id, r.name, r.fingerprint, r.key, 'running', r.tags, r.input_hash,
               coalesce((SELECT realm FROM {{s}}.instance WHERE id = r.opener), ''), won.at, won.at,
               r.parent, r.parent_lane, r.parent_step
        FROM won JOIN json_to_recordset(%(begun)s::json) AS r (
            opener uuid, id uuid, name text, fingerprint text, key text, tags jsonb, input_hash text,
            parent uuid, parent_lane text, parent_step text) ON r.opener = won.saga_id
    )
"""
"""Parts of the saga that won begin. Who has a key of theirs is another saga: that is an error, and nothing is appended."""

_WOKEN = f"""
    woken AS (
        UPDATE {{s}}.work AS w
        SET due_at = {AT_ONCE}, sent = clock_timestamp(), dispatches = 1,
            problem = CASE WHEN r.status = 'stuck' THEN concat('child ', r.saga, ' (', i.name, ') is stuck', ': ' || r.reason) END
        FROM won, {{s}}.instance AS i, json_to_recordset(%(woken)s::json) AS r (
            saga uuid, parent uuid, lane text, status text, reason text, terminal boolean)
        WHERE r.saga = won.saga_id AND i.id = won.saga_id AND w.saga_id = r.parent AND w.lane = r.lane
          AND w.worker IS NULL AND w.attempt IS NULL
          AND (r.terminal OR r.status = 'stuck' OR starts_with(w.problem, concat('child ', r.saga)))
        RETURNING w.saga_id, w.lane, w.queue, w.priority
    )
"""
"""The lane of the parent, which waits for the saga that won."""

_AND_WOKEN = """
    SELECT won.saga_id, won.at, woken.saga_id, woken.lane, woken.queue, woken.priority FROM won LEFT JOIN woken ON true
"""

_CHANGES = {"queued": _QUEUED, "removed": _REMOVED, "added": _ADDED, "moved": _MOVED, "woken": _WOKEN, "begun": _BEGUN,
            "statuses": _PROJECTED}  # fmt: skip
"""By parameter, the part that makes the changes it lists; in the order in which rows are locked: work, then instance."""
