"""Log: how definitions are stored, sagas opened, and logs read; ``appends`` and ``claims`` write to them.

A connection is passed in; nothing commits here.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from saga.core.events import FORMAT, Entry
from saga.core.outline import Outline
from saga.core.state import Status
from saga.core.text import digest, dumps, portable
from saga.errors import CorruptLog
from saga.store.postgres.database import Link
from saga.store.values import End, NewStatus, Opening, entries_of

READ = "seq, kind, lane, step, attempt, data, worker, at, format"
"""What is read of an entry."""

ENTRY = f"saga_id, {READ}"
"""The columns of ``log``."""


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
        {"fingerprint": outline.fingerprint, "doc": dumps(outline.to_json()), "patience": milliseconds(patience)},
    )


def milliseconds(seconds: float) -> str:
    """A time as a setting of Postgres."""
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


def header_row(saga: Opening) -> dict[str, Any]:
    """What opens a saga, as JSON, but for its rows of work and its realm."""
    row = {"id": str(saga.id), "name": saga.name, "fingerprint": saga.fingerprint, "key": saga.key, "tags": saga.tags,
           "input_hash": saga.input_hash, "data": saga.data}  # fmt: skip
    if parent := saga.parent:
        row |= {"parent": str(parent.saga_id), "parent_lane": parent.lane, "parent_step": parent.step}
    return row


def work_rows(saga: Opening) -> list[dict[str, Any]]:
    """Its first rows of work, as JSON."""
    own = {"id": str(saga.id), "fingerprint": saga.fingerprint}
    return [place.row() | own | {"sent": place.sent and saga.sent} for place in saga.rows]


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
        {"sagas": portable(sagas), "works": portable(works), "patience": milliseconds(patience)},
    )
    return [UUID(row[0]) for row in rows]


def read_entries(link: Link, saga_id: UUID, after: int = 0, until: int | None = None) -> list[Entry]:
    """The entries after one position, up to another.

    Raises:
        CorruptLog: one cannot be read, or the saga has none.
    """
    try:
        rows = link.run(
            f"""
            SELECT {READ} FROM {{s}}.log
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
        SELECT {READ} FROM {{s}}.log
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
        SELECT i.id, i.fingerprint, i.status, i.status = ANY(%(ended)s), {READ}
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
