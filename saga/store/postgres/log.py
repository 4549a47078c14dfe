"""Log: every statement on ``definition``, ``instance`` and ``log``. A connection is passed in; nothing commits here.

The primary key of the log is its lock: an entry goes to ``(saga_id, seq)`` or nowhere, and all else in its statement
selects from the row that won.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any
from uuid import UUID

from saga.core.events import FORMAT, Entry, Event, data_of, kind_of
from saga.core.outline import Outline
from saga.core.state import Status
from saga.core.text import digest, dumps, portable
from saga.errors import CorruptLog
from saga.store.postgres.database import Link
from saga.store.postgres.work import ADD, MOVE, REMOVE
from saga.store.values import Addition, End, NewStatus, entries_of

_COLUMNS = "saga_id, seq, kind, lane, step, attempt, data, worker, at, format"
_READ = "seq, kind, lane, step, attempt, data, worker, at, format"


def read_identity(link: Link) -> UUID | None:
    """The id of this log, of all that may share a broker."""
    rows = link.run("SELECT log_id FROM {s}.identity", {})
    return rows[0][0] if rows else None


def register(link: Link, outline: Outline, patience: float) -> None:
    """Store a definition, once, as the next version under its name.

    Args:
        patience: seconds to wait for another open transaction that stores the same one.

    Raises:
        psycopg.errors.LockNotAvailable: it was open for longer.
    """
    link.run(
        """
        WITH patience AS MATERIALIZED (SELECT set_config('lock_timeout', %(patience)s, true))
        SELECT {s}.register(%(fingerprint)s, %(doc)s::jsonb) FROM patience
        """,
        {"fingerprint": outline.fingerprint, "doc": dumps(outline.to_json()), "patience": _milliseconds(patience)},
    )


def _milliseconds(seconds: float) -> str:
    return f"{max(1, round(seconds * 1000))}ms"  # 0 is no limit to Postgres


def read_definition(link: Link, fingerprint: str) -> Outline | None:
    """The stored outline of that fingerprint.

    Raises:
        CorruptLog: what is stored has another fingerprint.
    """
    rows = link.run("SELECT doc FROM {s}.definition WHERE fingerprint = %(fingerprint)s", {"fingerprint": fingerprint})
    if not rows:
        return None
    try:
        if digest(rows[0][0]) != fingerprint:
            raise CorruptLog(f"definition {fingerprint} is damaged: what is stored has another fingerprint")
        return Outline.from_json(rows[0][0])
    except RecursionError:
        raise CorruptLog(f"definition {fingerprint} is damaged: it is nested too deep to be read") from None


def open_sagas(
    link: Link, sagas: Sequence[dict[str, Any]], works: Sequence[dict[str, Any]], patience: float
) -> list[UUID]:
    """Insert new sagas with their first entry and work; returns the ids of those whose key was free.

    Args:
        patience: seconds to wait for another open transaction that holds a key.

    Raises:
        psycopg.errors.LockNotAvailable: it held it for longer.
    """
    # A function of the owner: a client that starts sagas has no right to write anything else.
    rows = link.run(
        f"SELECT {{s}}.open(%(sagas)s::jsonb, %(works)s::jsonb, %(patience)s, {FORMAT})",
        {"sagas": portable(sagas), "works": portable(works), "patience": _milliseconds(patience)},
    )
    return [UUID(row[0]) for row in rows]


def append(link: Link, additions: Sequence[Addition], worker: int | None) -> dict[UUID, datetime]:
    """Append to the logs of sagas, and change their rows as follows from it: of each saga all or nothing.

    Args:
        additions: of different sagas.

    Returns:
        the sagas whose place in the log was the next one and free, and who are not too late, with the time, by the
        database's clock.
    """
    entries: list[dict[str, Any]] = []
    rows: dict[str, list[dict[str, Any]]] = {"removed": [], "added": [], "moved": [], "statuses": []}
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
    follows = len(entries) > len(additions)
    params = {"entries": dumps(entries), "worker": worker} | {
        name: dumps(found) for name, found in rows.items() if found
    }
    statement = _append_statement(follows, *map(bool, rows.values()))
    return {row[0]: row[1] for row in link.run(statement, params)}


def _entry_row(saga_id: str, addition: Addition, index: int, event: Event) -> dict[str, Any]:
    row = {"saga": saga_id, "seq": addition.seq + index, "follows": index > 0, "kind": kind_of(event),
           "lane": getattr(event, "lane", None), "step": getattr(event, "step", None),
           "attempt": getattr(event, "attempt", None), "data": data_of(event)}  # fmt: skip
    if not index:
        row["before"] = addition.before and addition.before.isoformat()
        row["after"] = addition.after and addition.after.isoformat()
    return row


@lru_cache(maxsize=64)
def _append_statement(follows: bool, removed: bool, added: bool, moved: bool, statuses: bool) -> str:
    parts = [_FIRST] + [_FURTHER] * follows
    parts += [f"removed AS ({REMOVE})"] * removed + [f"added AS ({ADD})"] * added + [f"moved AS ({MOVE})"] * moved
    parts += [f"projected AS ({_PROJECT})"] * statuses
    return f"WITH {', '.join(parts)} SELECT saga_id, at FROM won"


_FIRST = f"""
    given AS MATERIALIZED (
        SELECT * FROM json_to_recordset(%(entries)s::json) AS r (
            saga uuid, seq integer, follows boolean, kind text, lane text, step text, attempt integer, data jsonb,
            before timestamptz, after timestamptz)
    ), won AS (
        INSERT INTO {{s}}.log ({_COLUMNS})
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
        INSERT INTO {{s}}.log ({_COLUMNS})
        SELECT saga, seq, kind, lane, step, attempt, data, %(worker)s::integer, won.at, {FORMAT}
        FROM won JOIN given ON given.saga = won.saga_id WHERE follows
    )
"""

_PROJECT = """
    UPDATE {s}.instance AS i
    SET status = r.status, reason = r.reason, updated_at = won.at, finished_at = CASE WHEN r.terminal THEN won.at END
    FROM won JOIN json_to_recordset(%(statuses)s::json) AS r (saga uuid, status text, reason text, terminal boolean)
        ON r.saga = won.saga_id
    WHERE i.id = r.saga
"""


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


def read_entries(link: Link, saga_id: UUID, after: int = 0, until: int | None = None) -> list[Entry]:
    """The entries after one position, up to another.

    Raises:
        CorruptLog: one cannot be read, or the saga has none.
    """
    try:
        rows = link.run(
            f"""
            SELECT {_READ} FROM {{s}}.log
            WHERE saga_id = %(saga)s AND seq > %(after)s AND (%(until)s::integer IS NULL OR seq <= %(until)s)
            ORDER BY seq
            """,
            {"saga": saga_id, "after": after, "until": until},
        )
    except CorruptLog as error:
        raise CorruptLog(f"saga {saga_id}, after entry {after}: {error}") from None
    if not rows and not after and until != 0:
        raise CorruptLog(f"saga {saga_id}, entry 1 is missing")
    return entries_of(saga_id, rows)


def read_on(link: Link, saga_id: UUID, seq: int, at: datetime | None) -> list[Entry]:
    """The log from a known entry on, with that entry; the whole log, if it does not have that entry at that time.

    Returns:
        nothing if there is no such saga any more.
    """
    rows = link.run(
        f"""
        SELECT {_READ} FROM {{s}}.log
        WHERE saga_id = %(saga)s AND seq >= coalesce(
            (SELECT k.seq FROM {{s}}.log AS k WHERE k.saga_id = %(saga)s AND k.seq = %(seq)s AND k.at = coalesce(%(at)s, k.at)), 1)
        ORDER BY seq
        """,
        {"saga": saga_id, "seq": seq, "at": at},
    )
    return entries_of(saga_id, rows)


_ENDED = [str(status) for status in Status if status.terminal or status is Status.STUCK]


def read_ends(link: Link, ids: Sequence[UUID], logs: Sequence[UUID]) -> dict[UUID, End]:
    """Where each of these sagas stands, if it exists, with the log of those that have ended and whose log is wanted.

    Raises:
        CorruptLog: one of them holds JSON that Python does not read.
    """
    rows = link.run(
        f"""
        SELECT i.id, i.fingerprint, i.status, i.status = ANY(%(ended)s), {_READ}
        FROM {{s}}.instance AS i LEFT JOIN {{s}}.log AS l
            ON l.saga_id = CASE WHEN i.status = ANY(%(ended)s) AND i.id = ANY(%(logs)s) THEN i.id END
        WHERE i.id = ANY(%(ids)s) ORDER BY i.id, seq
        """,
        {"ids": list(ids), "logs": list(logs), "ended": _ENDED},
    )
    found: dict[UUID, End] = {}
    for saga_id, fingerprint, status, ended, *entry in rows:
        end = found.setdefault(saga_id, End(fingerprint, status, ended, []))
        if entry[0] is not None:
            end.rows.append(tuple(entry))
    return found


def rebuild_header(link: Link, saga_id: UUID, status: NewStatus) -> bool:
    """Make the instance's row say what its log says; whether it had said something else."""
    rows = link.run(
        """
        UPDATE {s}.instance AS i
        SET status = %(status)s, reason = %(reason)s, updated_at = clock_timestamp(),
            finished_at = CASE WHEN %(terminal)s THEN
                coalesce(finished_at, (SELECT max(at) FROM {s}.log WHERE saga_id = i.id)) END
        WHERE id = %(saga)s AND (status <> %(status)s OR reason IS DISTINCT FROM %(reason)s)
        RETURNING id
        """,
        {"saga": saga_id, "status": status.status, "reason": status.reason, "terminal": status.terminal},
    )
    return bool(rows)
