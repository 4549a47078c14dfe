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
from saga.core.text import dumps
from saga.store.postgres.database import Link
from saga.store.postgres.log import ENTRY
from saga.store.postgres.work import AT_ONCE
from saga.store.values import Addition


def append(link: Link, additions: Sequence[Addition], worker: int | None) -> dict[UUID, datetime]:
    """Append to the logs of sagas, and change their rows as follows from it: of each saga all or nothing.

    Args:
        additions: of different sagas.

    Returns:
        the sagas whose place in the log was the next one and free, and who are not too late, with the time, by the
        database's clock.
    """
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
    changed = {name: dumps(found) for name, found in rows.items() if found}
    statement = _statement(len(entries) > len(additions), *changed)
    params = {"entries": dumps(entries), "worker": worker} | changed
    return {row[0]: row[1] for row in link.run(statement, params)}


def _entry_row(saga_id: str, addition: Addition, index: int, event: Event) -> dict[str, Any]:
    row = {"saga": saga_id, "seq": addition.seq + index, "follows": index > 0, "kind": kind_of(event),
           "lane": getattr(event, "lane", None), "step": getattr(event, "step", None),
           "attempt": getattr(event, "attempt", None), "data": data_of(event)}  # fmt: skip
    if not index:
        row["before"] = addition.before and addition.before.isoformat()
        row["after"] = addition.after and addition.after.isoformat()
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


@lru_cache(maxsize=64)
def _statement(follows: bool, *changed: str) -> str:
    """The statement of ``append``, with what it needs: entries that follow others, and each of ``_CHANGES`` that is made."""
    parts = [_GIVEN, _WON, *[_FURTHER] * follows, *(_CHANGES[name] for name in changed)]
    return f"WITH {', '.join(parts)} SELECT saga_id, at FROM won"


_GIVEN = """
    given AS MATERIALIZED (
        SELECT * FROM json_to_recordset(%(entries)s::json) AS r (
            saga uuid, seq integer, follows boolean, kind text, lane text, step text, attempt integer, data jsonb,
            before timestamptz, after timestamptz)
    )
"""

_WON = f"""
    won AS (
        INSERT INTO {{s}}.log ({ENTRY})
        SELECT saga, seq, kind, lane, step, attempt, data, %(worker)s::integer, clock_timestamp(), {FORMAT}
        FROM given
        WHERE NOT follows AND coalesce(before > clock_timestamp(), true) AND EXISTS (
            SELECT FROM {{s}}.log AS b WHERE b.saga_id = saga AND b.seq = given.seq - 1 AND b.at = coalesce(after, b.at))
        ORDER BY saga
        ON CONFLICT DO NOTHING
        RETURNING saga_id, at
    )
"""
"""In the order of the sagas: two statements that share some would otherwise wait for each other."""

_FURTHER = f"""
    further AS (
        INSERT INTO {{s}}.log ({ENTRY})
        SELECT saga, seq, kind, lane, step, attempt, data, %(worker)s::integer, won.at, {FORMAT}
        FROM won JOIN given ON given.saga = won.saga_id WHERE follows
    )
"""

_PLACE = """
    saga uuid, lane text, step text, attempt integer, phase text, queue text, priority smallint, due timestamptz,
    wait float8, owned boolean, watch float8, sent boolean, token uuid
"""
"""The columns of ``r``: what a row of work is to say, as ``core.rows`` gives it."""

_DUE = f"""
    CASE WHEN r.due IS NOT NULL THEN r.due WHEN NOT r.owned AND coalesce(r.wait, 0) = 0 THEN {AT_ONCE}
         ELSE clock_timestamp() + make_interval(secs => CASE WHEN r.owned THEN r.watch ELSE r.wait END) END
"""
_SENT = "CASE WHEN r.sent THEN clock_timestamp() END"
_DISPATCHES = "CASE WHEN r.sent THEN 1 ELSE 0 END"
_WORKER = "CASE WHEN r.owned THEN %(worker)s::integer END"

_REMOVED = """
    removed AS (
        DELETE FROM {s}.work AS w USING won, json_to_recordset(%(removed)s::json) AS r (saga uuid, lane text)
        WHERE r.saga = won.saga_id AND w.saga_id = r.saga AND w.lane = r.lane
    )
"""

_ADDED = f"""
    added AS (
        INSERT INTO {{s}}.work (
            saga_id, lane, step, attempt, phase, undo, fingerprint, queue, priority, due_at, watch, sent, dispatches, worker, token, realm)
        SELECT r.saga, r.lane, r.step, r.attempt, r.phase, r.phase = 'compensation', r.fingerprint, coalesce(r.queue, r.default_queue), r.priority,
               {_DUE}, r.watch, {_SENT}, {_DISPATCHES}, {_WORKER}, r.token,
               coalesce((SELECT realm FROM {{s}}.instance WHERE id = r.saga), '')
        FROM won JOIN json_to_recordset(%(added)s::json) AS r ({_PLACE}, fingerprint text, default_queue text)
            ON r.saga = won.saga_id
    )
"""

_MOVED = f"""
    moved AS (
        UPDATE {{s}}.work AS w
        SET step = r.step, attempt = r.attempt, phase = r.phase, undo = r.phase = 'compensation', queue = coalesce(r.queue, w.queue), priority = r.priority,
            due_at = {_DUE}, watch = r.watch, sent = {_SENT}, dispatches = {_DISPATCHES}, worker = {_WORKER},
            token = r.token, problem = NULL
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

_CHANGES = {"removed": _REMOVED, "added": _ADDED, "moved": _MOVED, "statuses": _PROJECTED}
"""By parameter, the part that makes the changes it lists; in the order in which rows are locked: work, then instance."""
