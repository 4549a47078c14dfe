"""The checks of what is alive: workers and relays, and whether waiting work can reach a worker that may run it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from celery import Celery

from saga.broker.publisher import RUN
from saga.client.diagnosis import PATIENCE as UNNOTICED
from saga.client.diagnosis import any_alive, obstacle, reason, relaying, serving
from saga.errors import DatabaseNotReady
from saga.language.catalog import Catalog
from saga.ops.doctor.finding import Finding, Level
from saga.store.postgres import fleet
from saga.store.postgres.database import Database
from saga.store.postgres.errors import clear_errors
from saga.store.postgres.fleet import Member, Waiting
from saga.telemetry.thread import answer_within

_LATE = 60.0
_RELAY_LATE = 30.0
_MOST = 20
_ANSWER = 1.0
_PATIENCE = 5.0


@dataclass(frozen=True, slots=True)
class Fleet:
    """What the checks have to know.

    Attributes:
        realm: the app's own.
        at_work: there is something to be done in it.
        looked: seconds since a relay looked, if that is known.
        sagas: name to fingerprint, of the app's definitions.
        queues: those of the app's steps.
        nodes: the broker's Celery workers that answer: the queues each consumes, and the tasks it knows.
    """

    realm: str
    at_work: bool
    members: Sequence[Member]
    waiting: Sequence[Waiting]
    looked: float | None
    sagas: Mapping[str, str]
    queues: frozenset[str]
    nodes: Mapping[str, tuple[frozenset[str], frozenset[str]]]

    @property
    def grave(self) -> Level:
        """How grave it is that no worker is alive."""
        return Level.BAD if self.at_work else Level.WARNING


def examine_workers(app: Celery, catalog: Catalog, database: Database) -> Iterator[Finding]:
    """Ask the log and the workers themselves, and judge their answers."""
    try:
        found = _ask(app, catalog, database)
    except DatabaseNotReady:
        return  # said already
    for check in WORKER_CHECKS:
        yield from check(found)


def _ask(app: Celery, catalog: Catalog, database: Database) -> Fleet:
    with clear_errors(database), database.link() as link:
        at_work, looked = fleet.has_work(link, database.realm), fleet.read_relay_age(link, database.realm)
        members, waiting = fleet.read_members(link), fleet.read_waiting(link, UNNOTICED)
    sagas = {saga.name: saga.outline.fingerprint for saga in catalog}
    return Fleet(database.realm, at_work, members, waiting, looked, sagas, _queues(catalog), _nodes(app))


def _queues(catalog: Catalog) -> frozenset[str]:
    found = set()
    for saga in catalog:
        for undo, jobs in ((False, saga.actions), (True, saga.undos)):
            for step in jobs:
                try:
                    found.add(catalog.queue(saga, step, undo))
                except Exception:  # what is wrong with a route is said by the checks of steps
                    continue
    return frozenset(found)


def _nodes(app: Celery) -> dict[str, tuple[frozenset[str], frozenset[str]]]:
    """What the Celery workers say of themselves; nothing if the broker does not answer, or cannot broadcast."""
    # In a thread: not every transport keeps to a timeout while it connects.
    answers = answer_within(_PATIENCE, "saga-doctor", lambda: _inspected(app))
    return answers[0] if answers else {}


def _inspected(app: Celery) -> dict[str, tuple[frozenset[str], frozenset[str]]]:
    inspect = app.control.inspect(timeout=_ANSWER)
    queues: Mapping[str, Any] = inspect.active_queues() or {}
    tasks: Mapping[str, Any] = inspect.registered() or {} if queues else {}
    return {
        node: (frozenset(queue["name"] for queue in consumed), frozenset(name.split(" ")[0] for name in tasks[node]))
        for node, consumed in queues.items()
        if node in tasks
    }


def workers(found: Fleet) -> Iterator[Finding]:
    """A worker lives."""
    if not serving(found.members, found.realm):
        others = ", though some of other apps are" if any_alive(found.members) else ""
        yield Finding(found.grave, f"no worker is alive{others}: no saga goes on", "start one: `celery -A … worker`")


def relays(found: Fleet) -> Iterator[Finding]:
    """A relay lives, and looks."""
    alive = relaying(found.members, found.realm)
    if not alive and serving(found.members, found.realm):
        what = "no relay is alive: what is due, late or lost is not sent"
        yield Finding(found.grave, what, "run `saga relay`, or set saga_relay = True for the workers")
    elif alive and found.at_work and found.looked is not None and found.looked > _RELAY_LATE:
        living = "a relay is alive, but has not" if len(alive) == 1 else f"{len(alive)} relays are alive, but none has"
        what = f"{living} looked for {found.looked:.0f} s"
        yield Finding(Level.BAD, what, "see the workers' log; somebody may hold the row of the relay locked")


def late_work(found: Fleet) -> Iterator[Finding]:
    """No work waits that no worker can take, or waits for long."""
    for each in [one for one in found.waiting if one.realm in ("", found.realm)][:_MOST]:
        hindered = obstacle(each, found.members) is not None
        if hindered or each.seconds > _LATE:
            saga = f"saga {each.saga!r}" if each.saga else "a saga of unknown definition"
            lanes, wait = ("lane", "waits") if each.lanes == 1 else ("lanes", "wait")
            what = f"{each.amount} {lanes} of {saga} {wait} on queue {each.queue!r}, for {each.seconds:.0f} s"
            yield Finding(
                Level.BAD if hindered else Level.WARNING,
                f"{what}: {reason(each, found.members)}",
                "start workers that import the saga and listen to that queue; `saga stats` shows all that waits",
            )


def definitions(found: Fleet) -> Iterator[Finding]:
    """The living workers know the app's sagas as they are here."""
    living = serving(found.members, found.realm)
    known = {fingerprint for member in living for fingerprint in member.about.fingerprints}
    unknown = sorted(name for name, fingerprint in found.sagas.items() if fingerprint not in known)
    if living and found.sagas and len(unknown) == len(found.sagas):
        yield Finding(
            Level.WARNING,
            f"the living workers of realm {found.realm!r} know none of this app's sagas",
            "if another app shares this schema under the same name, set saga_realm; else deploy workers with these sagas",
        )
    elif living and unknown:
        yield Finding(
            Level.WARNING,
            f"no living worker knows saga {', '.join(map(repr, unknown))} as it is defined here",
            "deploy workers with this version before anything is started",
        )


def listeners(found: Fleet) -> Iterator[Finding]:
    """A worker listens to each queue of the app's steps."""
    living = serving(found.members, found.realm)
    heard = {queue for member in living for queue in member.about.queues}
    for queue in sorted(found.queues - heard) if living else ():
        yield Finding(
            Level.WARNING,
            f"no living worker listens to queue {queue!r}, on which steps run",
            f"start one with -Q {queue}",
        )


def strangers(found: Fleet) -> Iterator[Finding]:
    """Which other workers take messages from the app's queues."""
    ours = {member.about.node for member in found.members if member.alive}
    for node, (queues, tasks) in sorted(found.nodes.items()):
        shared = ", ".join(sorted(queues & found.queues))
        if not shared or node in ours:
            continue
        if RUN not in tasks:
            yield Finding(
                Level.BAD,
                f"worker {node} listens to queue {shared} but never imported the sagas: it throws their messages away "
                f"(\"Received unregistered task of type '{RUN}'\")",
                "let it import the module that makes the Orchestrator, or give it other queues",
            )
        else:
            yield Finding(
                Level.WARNING,
                f"worker {node} listens to queue {shared}, but is not in this log: another environment shares the broker",
                "give each environment a virtual host, a database number or queues of its own",
            )


def other_realms(found: Fleet) -> Iterator[Finding]:
    """Which other apps use the schema."""
    others = sorted({member.about.realm for member in found.members if member.alive} - {found.realm})
    if others:
        yield Finding(
            Level.NOTE,
            f"other apps share this schema: realm {', '.join(map(repr, others))}; this one is {found.realm!r}",
            "nothing, if that is meant; else set saga_realm, or saga_schema",
        )


WORKER_CHECKS: tuple[Callable[[Fleet], Iterator[Finding]], ...] = (
    workers,
    relays,
    late_work,
    definitions,
    listeners,
    strangers,
    other_realms,
)
