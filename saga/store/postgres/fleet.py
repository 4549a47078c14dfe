"""Fleet: every statement on ``worker``: which processes run sagas, which of them live, and what waits for one.

A connection is passed in; nothing commits here. A row says what a process told of itself; its liveness lock shows whether
it is alive.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from saga.core.ref import Phase
from saga.core.rows import Dispatch
from saga.store.postgres.database import Link
from saga.store.postgres.work import AT_ONCE, AT_ONCE_BEFORE, DUE_SINCE, NOW, RANK, STARTED, TIMES


@dataclass(frozen=True, slots=True)
class About:
    """What a worker process tells of itself.

    Attributes:
        realm: whose work it runs.
        node: the name of its Celery worker; ``None`` outside one.
        version: of pgsaga.
        relays: it runs a relay.
        queues: those it listens to.
        fingerprints: of the definitions it has.
    """

    realm: str
    node: str | None
    host: str
    pid: int
    version: str
    relays: bool
    queues: tuple[str, ...]
    fingerprints: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Member:
    """A worker process as the others see it.

    Attributes:
        alive: it holds, or awaits, its liveness lock.
    """

    number: int
    about: About
    started_at: datetime
    alive: bool

    @property
    def place(self) -> str:
        """Where it runs, in words."""
        return f"{self.about.host}, process {self.about.pid}"


def lock_class(schema: str) -> int:
    """The first half of the key of a worker's liveness lock: one number for each schema. The other is its own."""
    return zlib.crc32(f"pgsaga.{schema}".encode()) & 0x7FFF_FFFF


_WRITES = "has_column_privilege({role}, '{{s}}.work', 'worker', 'UPDATE')"

ALIVE = f"""
    SELECT held.objid::integer FROM pg_locks AS held, pg_stat_get_activity(held.pid) AS session
    WHERE locktype = 'advisory' AND classid = %(lock_class)s::oid AND objsubid = 2
      AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
      AND ({_WRITES.format(role="session.usesysid")}
           OR EXISTS (SELECT FROM pg_roles AS role
                      WHERE pg_has_role(session.usesysid, role.oid, 'MEMBER') AND {_WRITES.format(role="role.oid")}))
"""
"""The workers that hold or await their liveness lock, in a role that may write or become one that may: anybody can lock."""

_COLUMNS = "realm, node, host, pid, version, relays, queues, fingerprints"


def enrol(link: Link, number: int, about: About) -> None:
    """Write what a worker process tells of itself, in place of what it told before."""
    link.run(
        f"""
        INSERT INTO {{s}}.worker (number, {_COLUMNS}, started_at)
        VALUES (%(number)s, %(realm)s, %(node)s, %(host)s, %(pid)s, %(version)s, %(relays)s, %(queues)s, %(fingerprints)s,
                clock_timestamp())
        ON CONFLICT (number) DO UPDATE
        SET ({_COLUMNS}, started_at) = (SELECT {", ".join(f"excluded.{name}" for name in _COLUMNS.split(", "))},
            CASE WHEN (worker.host, worker.pid) = (excluded.host, excluded.pid) THEN worker.started_at ELSE excluded.started_at END)
        """,
        {"number": number, "realm": about.realm, "node": about.node, "host": about.host, "pid": about.pid,
         "version": about.version, "relays": about.relays, "queues": list(about.queues),
         "fingerprints": list(about.fingerprints)},
    )  # fmt: skip


def leave(link: Link, number: int) -> None:
    """Take the row of a worker process out: it ends."""
    link.run("DELETE FROM {s}.worker WHERE number = %(number)s", {"number": number})


def bury(link: Link, limit: int) -> int:
    """Take out the rows of processes that are gone; one that is back writes its own anew."""
    rows = link.run(
        f"""
        DELETE FROM {{s}}.worker WHERE number IN (
            SELECT number FROM {{s}}.worker WHERE number NOT IN ({ALIVE}) ORDER BY number LIMIT %(limit)s)
        RETURNING number
        """,
        {"lock_class": lock_class(link.schema), "limit": limit},
    )
    return len(rows)


def read_members(link: Link) -> list[Member]:
    """All of them, the oldest first."""
    rows = link.run(
        f"""
        SELECT number, {_COLUMNS}, started_at, number IN ({ALIVE}) FROM {{s}}.worker ORDER BY started_at, number
        """,
        {"lock_class": lock_class(link.schema)},
    )
    return [
        Member(number, About(realm, node, host, pid, version, relays, tuple(queues), tuple(known)), started_at, alive)
        for number, realm, node, host, pid, version, relays, queues, known, started_at, alive in rows
    ]


_HOPS = 8
"""How often workers hand a lane on before it waits for one that knows it to be free, and to ask."""


def hand_on(link: Link, saga_id: UUID, lane: str, worker: int) -> list[Dispatch]:
    """Offer a lane at once to another worker that lives, listens to its queue and has its definition; nothing if none does."""
    rows = link.run(
        f"""
        UPDATE {{s}}.work AS w SET sent = clock_timestamp(), dispatches = w.dispatches + 1, problem = NULL
        WHERE w.saga_id = %(saga)s AND w.lane = %(lane)s AND w.worker IS NULL AND w.due_at <= clock_timestamp()
          AND w.dispatches < {_HOPS}
          AND EXISTS (
            SELECT FROM {{s}}.worker AS m
            WHERE m.number <> %(worker)s AND w.realm IN ('', m.realm) AND w.fingerprint = ANY(m.fingerprints) AND w.queue = ANY(m.queues)
              AND m.number IN ({ALIVE}))
        RETURNING w.saga_id, w.lane, w.queue, w.priority
        """,
        {"saga": saga_id, "lane": lane, "worker": worker, "lock_class": lock_class(link.schema)},
    )
    return [Dispatch(*row) for row in rows]


def offer_parked(link: Link, about: About, limit: int) -> list[Dispatch]:
    """Offer at once what is parked because no worker had its definition, if this process has it."""
    rows = link.run(
        f"""
        UPDATE {{s}}.work AS w SET due_at = {AT_ONCE}, sent = clock_timestamp(), dispatches = 1, problem = NULL
        FROM (
            SELECT saga_id, lane FROM {{s}}.work
            WHERE unknown AND problem IS NOT NULL AND fingerprint = ANY(%(fingerprints)s)
              AND worker IS NULL AND realm IN ('', %(realm)s) AND queue = ANY(%(queues)s)
            LIMIT %(limit)s FOR UPDATE SKIP LOCKED
        ) AS parked
        WHERE w.saga_id = parked.saga_id AND w.lane = parked.lane
        RETURNING w.saga_id, w.lane, w.queue, w.priority
        """,
        {"fingerprints": list(about.fingerprints), "queues": list(about.queues), "realm": about.realm, "limit": limit},
    )
    return [Dispatch(*row) for row in rows]


@dataclass(frozen=True, slots=True)
class Waiting:
    """Lanes that are alike and wait for a worker.

    Attributes:
        saga: the name of their saga; ``None`` if its definition is not stored.
        problem: why they are parked.
        sent: their messages are on their way.
        lanes: how many.
        seconds: for how long the first of them has been due.
        more: there may be more of them than were looked at, and some that have waited longer.
    """

    queue: str
    fingerprint: str
    saga: str | None
    realm: str
    problem: str | None
    sent: bool
    lanes: int
    seconds: float
    more: bool = False

    @property
    def amount(self) -> str:
        """How many lanes, in words."""
        return f"{self.lanes:,}{' or more' if self.more else ''}"


_WAITING = f"""
    SELECT {{which}} w.queue, w.fingerprint, min(d.name), w.realm, w.problem, w.sent IS NOT NULL, count(*),
           greatest(0, extract(epoch FROM clock_timestamp() - min({DUE_SINCE})))::float8
    FROM {{{{s}}}}.work AS w LEFT JOIN {{{{s}}}}.definition AS d USING (fingerprint)
    WHERE w.worker IS NULL
      AND (w.problem IS NOT NULL OR {DUE_SINCE} <= clock_timestamp() - make_interval(secs => %(after)s)) {{given}}
    GROUP BY {{which}} w.queue, w.fingerprint, w.realm, w.problem, w.sent IS NOT NULL
    ORDER BY 8 DESC
"""


_LOT = f"realm, queue, {RANK}, {TIMES}"
_LOOK = f"SELECT queue, fingerprint, realm, problem, {DUE_SINCE} AS since"

_BACKLOG = f"""
    WITH RECURSIVE lot (realm, queue, rank, times) AS (
        (SELECT {_LOT} FROM {{s}}.work WHERE worker IS NULL AND sent IS NOT NULL ORDER BY {_LOT} LIMIT 1)
        UNION ALL
        SELECT next.* FROM lot, LATERAL (
            SELECT {_LOT} FROM {{s}}.work
            WHERE worker IS NULL AND sent IS NOT NULL AND ({_LOT}) > (lot.realm, lot.queue, lot.rank, lot.times)
            ORDER BY {_LOT} LIMIT 1
        ) AS next
    ), page AS MATERIALIZED (SELECT * FROM lot LIMIT 1000
    ), share AS MATERIALIZED (SELECT greatest(100, %(most)s / greatest(1, count(*))) AS lanes FROM page
    ), scope (realm) AS (
        (SELECT realm FROM {{s}}.work WHERE worker IS NULL AND sent IS NULL ORDER BY realm LIMIT 1)
        UNION ALL
        SELECT next.* FROM scope, LATERAL (
            SELECT realm FROM {{s}}.work WHERE worker IS NULL AND sent IS NULL AND realm > scope.realm ORDER BY realm LIMIT 1
        ) AS next
    ), seen AS (
        SELECT w.*, true AS sent, count(*) OVER (PARTITION BY page.*) >= (SELECT lanes FROM share) AS more
        FROM page, LATERAL (
            {_LOOK} FROM {{s}}.work
            WHERE ({_LOT}) = (page.realm, page.queue, page.rank, page.times) AND worker IS NULL AND sent IS NOT NULL
            ORDER BY work.sent LIMIT (SELECT lanes FROM share)
        ) AS w
        UNION ALL
        SELECT w.*, false, count(*) OVER (PARTITION BY scope.*, span.*) >= %(most)s
        FROM scope,
            (VALUES ('-infinity', '{AT_ONCE_BEFORE}'::timestamptz), ('{AT_ONCE_BEFORE}', {NOW}),
                    ({NOW}, {NOW} + interval '6 min')) AS span (low, high), -- parked is what is offered again in 5 min
            LATERAL (
                {_LOOK} FROM {{s}}.work
                WHERE realm = scope.realm AND worker IS NULL AND sent IS NULL AND due_at >= span.low AND due_at < span.high
                ORDER BY due_at LIMIT %(most)s
            ) AS w
    ), waiting AS (
        SELECT queue, fingerprint, realm, problem, sent, count(*) AS lanes, min(since) AS since, bool_or(more) AS more
        FROM seen WHERE problem IS NOT NULL OR since <= {NOW} - make_interval(secs => %(after)s)
        GROUP BY queue, fingerprint, realm, problem, sent
    )
    SELECT queue, fingerprint, d.name, realm, problem, sent, lanes,
           greatest(0, extract(epoch FROM clock_timestamp() - since))::float8, more
    FROM waiting LEFT JOIN {{s}}.definition AS d USING (fingerprint)
    ORDER BY 8 DESC
"""
"""What waits, however much that is: the first lanes of each range of the indexes that the relay uses."""


def read_waiting(link: Link, after: float, most: int = 10_000) -> list[Waiting]:
    """Lanes that are parked, or have been due for so many seconds; those that have waited longest come first.

    Args:
        most: how many lanes are looked at, of those that were sent and of each kind that was not.
    """
    return [Waiting(*row) for row in link.run(_BACKLOG, {"after": after, "most": most})]


def read_waiting_of(link: Link, sagas: Sequence[UUID], after: float) -> dict[UUID, Waiting]:
    """The lane that has waited longest of each of these sagas, if it is parked or has been due for so many seconds."""
    statement = _WAITING.format(which="w.saga_id,", given="AND w.saga_id = ANY(%(sagas)s)").replace("BY 8", "BY 9")
    rows = link.run(statement, {"after": after, "sagas": list(sagas)})
    return {row[0]: Waiting(*row[1:]) for row in reversed(rows)}


@dataclass(frozen=True, slots=True)
class Running:
    """An attempt under way.

    Attributes:
        seconds: since it was started.
    """

    worker: int
    saga_id: UUID
    saga: str
    lane: str
    step: str
    phase: Phase
    attempt: int
    seconds: float

    @property
    def undo(self) -> bool:
        """Whether it is one of the step's undo."""
        return self.phase is Phase.COMPENSATION


def read_running(link: Link, limit: int) -> list[Running]:
    """The attempts under way, by worker; as many as that."""
    rows = link.run(
        f"""
        SELECT w.worker, w.saga_id, i.name, w.lane, open.step, left(open.kind, -8), open.attempt,
               greatest(0, extract(epoch FROM clock_timestamp() - open.at))::float8
        FROM (SELECT * FROM {{s}}.work WHERE worker IS NOT NULL ORDER BY worker LIMIT %(limit)s) AS w
        JOIN {{s}}.instance AS i ON i.id = w.saga_id,
        LATERAL (
            SELECT step, kind, attempt, at FROM {{s}}.log
            WHERE saga_id = w.saga_id AND lane = w.lane AND kind IN ({STARTED})
            ORDER BY seq DESC LIMIT 1
        ) AS open
        ORDER BY w.worker, w.saga_id, w.lane
        """,
        {"limit": limit},
    )
    return [
        Running(worker, saga_id, saga, lane, step, Phase(phase), *rest)
        for worker, saga_id, saga, lane, step, phase, *rest in rows
    ]


def read_relay_age(link: Link, realm: str) -> float | None:
    """Seconds since a relay of that realm has looked; ``None`` when none ever has."""
    rows = link.run(
        """
        SELECT extract(epoch FROM clock_timestamp() - looked_at)::float8 FROM {s}.relay
        WHERE realm = %(realm)s AND looked_at IS NOT NULL
        """,
        {"realm": realm},
    )
    return float(rows[0][0]) if rows else None


def has_work(link: Link, realm: str) -> bool:
    """Whether there is work in that realm that waits or runs."""
    kinds = ("worker IS NULL AND sent IS NULL", "worker IS NULL AND sent IS NOT NULL", "worker IS NOT NULL")
    # By an index for each kind: those of another realm, which may be millions, are not read.
    found = [f"EXISTS (SELECT FROM {{s}}.work WHERE realm = r.realm AND {kind})" for kind in kinds]
    rows = link.run(
        f"SELECT 1 FROM (VALUES (''), (%(realm)s::text)) AS r (realm) WHERE {' OR '.join(found)} LIMIT 1",
        {"realm": realm},
    )
    return bool(rows)
