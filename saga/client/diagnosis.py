"""Diagnosis: what waiting work waits for, by what the worker processes say of themselves. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from saga.store.postgres.fleet import Member, Waiting

PATIENCE = 5.0
"""Seconds that work may wait before it is reported."""


def obstacle(waiting: Waiting, members: Sequence[Member]) -> str | None:
    """Why no process will ever take it; ``None`` if one could."""
    if waiting.problem:
        return waiting.problem
    living = serving(members, waiting.realm)
    knowing = [member for member in living if waiting.fingerprint in member.about.fingerprints]
    saga = repr(waiting.saga) if waiting.saga else "of that definition"
    if not living:
        return "no worker is alive" + (f" in realm {waiting.realm!r}" if any_alive(members) else "")
    if not knowing:
        return f"no living worker knows saga {saga}"
    if not any(waiting.queue in member.about.queues for member in knowing):
        return f"no living worker that knows saga {saga} listens to queue {waiting.queue!r}"
    if not waiting.sent and not relaying(members, waiting.realm):
        return "no relay is alive to send its message"
    return None


def reason(waiting: Waiting, members: Sequence[Member]) -> str:
    """What it waits for, in words."""
    found = obstacle(waiting, members)
    if found is not None:
        return found
    if not waiting.sent:
        return "the relay has not sent its message yet"
    able = [
        member
        for member in serving(members, waiting.realm)
        if waiting.fingerprint in member.about.fingerprints and waiting.queue in member.about.queues
    ]
    processes = f"{len(able)} processes" if len(able) > 1 else "one process"
    return f"{processes} could run it, but all are busy, or its message has not come through"


def serving(members: Sequence[Member], realm: str) -> list[Member]:
    """The living processes that run steps of that realm."""
    return [member for member in members if member.alive and member.about.queues and _is_of(member, realm)]


def relaying(members: Sequence[Member], realm: str) -> list[Member]:
    """The living processes that run a relay for that realm."""
    return [member for member in members if member.alive and member.about.relays and _is_of(member, realm)]


def any_alive(members: Sequence[Member]) -> bool:
    """Whether any process that runs steps is alive, in any realm."""
    return any(member.alive and member.about.queues for member in members)


def _is_of(member: Member, realm: str) -> bool:
    return realm in ("", member.about.realm)
