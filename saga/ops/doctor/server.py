"""The checks of the Postgres server that holds the saga log."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from celery import Celery

from saga import schema
from saga.errors import DatabaseNotReady, counted
from saga.ops.doctor.finding import Finding, Level
from saga.store.postgres.database import Database
from saga.store.postgres.errors import clear_errors

_OLDEST = 14
_EACH_PROCESS = 6
"""Connections of one worker process: one that shows it is alive, and up to three that read and write."""


@dataclass(frozen=True, slots=True)
class Server:
    """What the checks have to know.

    Attributes:
        settings: name to value, as they are for our own connections, in their base units.
        standby: it only follows another server.
        others: how many connections are not ours.
        followers: how many other servers stream from this one.
        client: the most connections of one client.
        concurrency: how many processes a worker of the app has.
    """

    settings: Mapping[str, str]
    standby: bool
    others: int
    concurrency: int
    followers: int = 0
    client: int = 10


def examine_server(app: Celery, database: Database) -> Iterator[Finding]:
    """Ask the server, and judge its answers."""
    try:
        server = _ask(database, app.conf.worker_concurrency or os.cpu_count() or 1)
    except DatabaseNotReady as error:
        yield Finding(Level.BAD, str(error), "start Postgres, or correct saga_database_url")
        return
    for check in SERVER_CHECKS:
        yield from check(server)
    try:
        schema.check(database)
    except DatabaseNotReady as error:
        yield Finding(Level.BAD, str(error), "run `saga db upgrade`")


def _ask(database: Database, concurrency: int) -> Server:
    with clear_errors(database), database.link() as link:
        settings = link.run("SELECT name, setting FROM pg_settings", {})
        [(standby, others, followers)] = link.run(
            """
            SELECT pg_is_in_recovery(), count(*), (SELECT count(*) FROM pg_stat_replication) FROM pg_stat_activity
            WHERE datid IS NOT NULL AND application_name NOT LIKE 'pgsaga%%'
            """,
            {},
        )
    return Server({row[0]: row[1] for row in settings}, standby, others, concurrency, followers,
                  2 * database.settings.pool_size)  # fmt: skip


def version(server: Server) -> Iterator[Finding]:
    """Postgres is new enough."""
    if int(server.settings["server_version_num"]) < _OLDEST * 10_000:
        yield Finding(
            Level.BAD,
            f"Postgres {server.settings['server_version']} is too old",
            f"upgrade to Postgres {_OLDEST} or newer",
        )


def encoding(server: Server) -> Iterator[Finding]:
    """Every text can be stored."""
    found = server.settings["server_encoding"]
    if found != schema.ENCODING:
        yield Finding(Level.BAD, schema.encoding_problem(found), schema.ENCODING_REMEDY)


def standby(server: Server) -> Iterator[Finding]:
    """The log can be written to."""
    if server.standby:
        yield Finding(
            Level.BAD,
            "the server is a standby, which cannot be written to",
            "connect to the primary: target_session_attrs",
        )


def durability(server: Server) -> Iterator[Finding]:
    """What is committed survives a crash of the server."""
    for name in ("synchronous_commit", "fsync", "full_page_writes"):
        if server.settings[name] == "off":
            yield Finding(
                Level.WARNING,
                f"{name} is off: after a crash of Postgres, steps that were logged as done may run again",
                f"turn {name} on, for the role of the saga log at least",
            )


def replication(server: Server) -> Iterator[Finding]:
    """What is committed survives a failover."""
    # Who is not a monitor sees of the standbys only how many there are. It does see what makes them all asynchronous.
    named, commit = server.settings.get("synchronous_standby_names", ""), server.settings["synchronous_commit"]
    if server.followers and (not named or commit in ("off", "local")):
        why = "synchronous_standby_names is empty" if not named else f"synchronous_commit is {commit}"
        yield Finding(
            Level.WARNING,
            f"{counted(server.followers, 'server follows', 'servers follow')} this one, and {why}: a failover may lose what was committed last, and "
            "steps that were logged as done run again",
            "name synchronous standbys, promote no other, and leave synchronous_commit on for the role of the saga log",
        )


def timeouts(server: Server) -> Iterator[Finding]:
    """Connections that idle are ended where they block others."""
    if server.settings["idle_in_transaction_session_timeout"] == "0":
        yield Finding(
            Level.NOTE,
            "idle_in_transaction_session_timeout is off: "
            "a caller that starts a saga and leaves its transaction open holds the key, and vacuum, for good",
            "set it to a few minutes; transactional steps set their own",
        )


def vacuum(server: Server) -> Iterator[Finding]:
    """The busy table of work is vacuumed."""
    if server.settings["autovacuum"] == "off":
        yield Finding(Level.WARNING, "autovacuum is off: the table of waiting work grows without end", "turn it on")


def connections(server: Server) -> Iterator[Finding]:
    """The workers' connections fit into ``max_connections``."""
    reserved = sum(
        int(server.settings.get(name, 0)) for name in ("superuser_reserved_connections", "reserved_connections")
    )
    free = int(server.settings["max_connections"]) - reserved - server.others
    wanted = server.concurrency * _EACH_PROCESS
    budget = f"{counted(free, 'connection is', 'connections are')} free for sagas, and each worker process takes up to {_EACH_PROCESS}"
    if wanted > free:
        yield Finding(
            Level.WARNING,
            f"{budget}: too few for a worker with {counted(server.concurrency, 'process', 'processes')}",
            "raise max_connections, lower the concurrency, or put a pooler in between (saga_direct_url around it)",
        )
    else:
        yield Finding(
            Level.NOTE,
            f"{budget}: enough for {counted(free // _EACH_PROCESS, 'process', 'processes')}",
            "count the processes of all workers of all apps on this server, and the clients, "
            f"which take one or two as a rule and {server.client} at most",
        )


SERVER_CHECKS: tuple[Callable[[Server], Iterator[Finding]], ...] = (
    version,
    encoding,
    standby,
    durability,
    replication,
    timeouts,
    vacuum,
    connections,
)
