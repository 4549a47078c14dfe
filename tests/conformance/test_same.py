"""Whatever is asked of them in whatever order, both stores give the same answers."""

from __future__ import annotations

import os
from collections.abc import Sequence

from hypothesis import HealthCheck, given, settings

from saga.core.events import KINDS
from saga.store.values import Task

from .memory import MemoryStand
from .postgres import PostgresStand
from .script import SCRIPTS, Actor, Op

FEW = settings(
    max_examples=int(os.environ.get("PGSAGA_SCRIPTS", "15")), deadline=None, derandomize="PGSAGA_SCRIPTS" not in os.environ,
    database=None, suppress_health_check=list(HealthCheck),
)  # fmt: skip
MANY = settings(
    max_examples=150, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)


@FEW
@given(script=SCRIPTS)
def test_both_stores_answer_alike(postgres_stand: PostgresStand, script: Sequence[Op]) -> None:
    postgres_stand.clear()
    memory, postgres = Actor(MemoryStand()), Actor(postgres_stand)
    for op in script:
        if op[0] in ("relay", "give_back") and memory.doubtful:
            continue
        assert postgres.do(op) == memory.do(op), op
    assert postgres.standing() == memory.standing()


@MANY
@given(script=SCRIPTS)
def test_a_log_only_grows_and_rows_change_hands_only_with_an_entry(script: Sequence[Op]) -> None:
    actor = Actor(MemoryStand())
    for op in script:
        known = len(actor.sagas)
        before = [(actor.log(saga), hands(actor, saga)) for saga in actor.sagas]
        actor.do(op)
        for saga, (log, held) in zip(actor.sagas[:known], before, strict=True):
            entries = actor.log(saga)
            assert entries[: len(log)] == log
            assert [entry[0] for entry in entries] == list(range(1, len(entries) + 1))
            assert len(entries) > len(log) or hands(actor, saga) == held, op


def hands(actor: Actor, saga: object) -> list[object]:
    """What only an entry changes: who has which lane, and for what."""
    return [
        (row.lane, row.step, row.attempt, row.phase, row.queue, row.priority, row.worker, row.token)
        for row in actor.stand.rows(saga)  # type: ignore[arg-type]
    ]


def test_the_scripts_reach_what_they_are_for() -> None:
    """Answers that are all alike because nothing is ever done would prove nothing."""
    seen: set[object] = set()

    @MANY
    @given(script=SCRIPTS)
    def look(script: Sequence[Op]) -> None:
        actor = Actor(MemoryStand())
        for op in script:
            answer = actor.do(op)
            seen.add((op[0], answer if isinstance(answer, str) else bool(answer)))
            if op[0] == "relay":
                seen.add((op[1], bool(answer)))
            if op[0] == "claim" and not isinstance(answer, str):
                seen.update(("claim", offer[3], offer[4]) for offer in answer.values())
        seen.update(entry[1] for saga in actor.sagas for entry in actor.log(saga))

    look()
    verbs = (
        "append",
        "request",
        "claim",
        "offer_on",
        "hand_on",
        "ping",
        "sleep_on",
        *["post"] * ("signal_received" in KINDS),
    )
    missing = {(verb, answer) for verb in verbs for answer in (True, False)} - seen - {("ping", False)}
    missing |= {("append", "Refused"), ("append", "ValueRefused"), ("request", "ValueRefused")} - seen
    missing |= {("claim", True, True), ("claim", True, False), ("claim", False, False)} - seen
    assert missing == set()
    assert {(task, True) for task in Task if task is not Task.WATCH_ON} - seen == set()
    assert {"attempt_lost", "attempt_timed_out", "attempt_interrupted", "compensation_started"} - seen == set()
