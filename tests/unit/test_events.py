"""Every kind of entry survives its way through the log's row; a row that is not understood is refused."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from saga.core.events import (
    FORMAT,
    KINDS,
    Abandoned,
    AttemptFailed,
    AttemptInterrupted,
    AttemptLost,
    AttemptStarted,
    AttemptSucceeded,
    AttemptTimedOut,
    CancelRequested,
    CompensateRequested,
    DeadlinePassed,
    Entry,
    Event,
    HistoryLost,
    LateResult,
    Paused,
    Resumed,
    RetryRequested,
    SagaStarted,
    StepSkipped,
    data_of,
    entry_from_row,
    kind_of,
)
from saga.core.ref import AttemptRef, Phase
from saga.errors import CorruptLog

ID = UUID("018f3b1e-0000-7000-8000-000000000001")
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
DO = AttemptRef("main/pay", "pay", 2)
UNDO = AttemptRef("main/pay", "pay", 3, Phase.COMPENSATION)
CONFIRM = AttemptRef("main/pay", "pay[3]#2", 1, Phase.CONFIRMATION)
CHECK = AttemptRef("main/pay", "pay", 1, Phase.CHECK)

EVENTS: list[Event] = [
    SagaStarted(),
    SagaStarted({"sku": "A1"}, 60.0, 5.0, 0),
    SagaStarted(input=False),
    AttemptStarted(*DO, timeout=30.0),
    AttemptStarted(*UNDO, timeout=0),
    AttemptStarted(*CONFIRM, timeout=30.0),
    AttemptStarted(*CHECK, timeout=30.0),
    AttemptSucceeded(*DO),
    AttemptSucceeded(*CONFIRM, result=1),
    AttemptSucceeded(*CHECK),
    AttemptSucceeded(*DO, result={"a": [1, None]}),
    AttemptSucceeded(*UNDO, result=0),
    AttemptSucceeded(*UNDO, result=False),
    AttemptSucceeded(*UNDO, result=""),
    AttemptFailed(*DO),
    AttemptFailed(*DO, outcome="retry", error="it broke", traceback="...", wait=1.5, held=True, effect=False),
    AttemptFailed(*UNDO, outcome="failed", error="it broke", wait=0.0),
    AttemptFailed(
        *DO, outcome="aborted", error="declined", error_type="Abort", code=51, details={"by": ["bank", None]}
    ),
    AttemptFailed(*CONFIRM, outcome="failed", error="it broke"),
    AttemptFailed(*CHECK, outcome="retry", error="it broke", wait=1.0),
    AttemptTimedOut(*DO),
    AttemptTimedOut(*CHECK),
    AttemptTimedOut(*UNDO),
    AttemptLost(*DO),
    AttemptLost(*UNDO),
    AttemptInterrupted(*DO, error="warm shutdown"),
    AttemptInterrupted(*UNDO),
    AttemptInterrupted(*CONFIRM, error="warm shutdown"),
    LateResult(*DO, outcome="success", result={"late": True}),
    LateResult(*UNDO, outcome="failure", error="it broke"),
    LateResult(*CONFIRM, outcome="success", result=1),
    LateResult(*DO, outcome="failure", error="declined", error_type="Abort", code="51", details=0),
    CancelRequested("ann", "fraud"),
    CancelRequested(),
    CompensateRequested("ann"),
    Paused(reason="deploy"),
    Resumed("ann"),
    RetryRequested("ann", "fixed"),
    StepSkipped("ann", "by hand", "main/pay", "pay", True, None, False),
    StepSkipped("ann", "by hand", "main/pay", "pay", False, {"id": 1}, True),
    Abandoned("ann", "the bank is closed"),
    Abandoned(),
    DeadlinePassed(),
    HistoryLost(7, [{"seq": 7, "kind": "step_started", "lane": "main", "step": "pay", "attempt": 1}]),
]


def row_of(event: Event, **changes: Any) -> tuple[Any, ...]:
    """The row that an event is stored as, read back."""
    place = {name: getattr(event, name, None) for name in ("lane", "step", "attempt")}
    data = json.loads(json.dumps(data_of(event)))
    row = {"seq": 7, "kind": kind_of(event), **place, "data": data, "worker": 3, "at": NOON, "format": FORMAT}
    return tuple((row | changes).values())


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: kind_of(event))
def test_an_event_survives_its_way_through_the_log(event: Event):
    entry = entry_from_row(ID, row_of(event))
    assert entry == Entry(7, event, NOON, 3)
    assert type(entry.event) is type(event)


def test_every_kind_is_tried():
    assert {kind_of(event) for event in EVENTS} == set(KINDS)


def test_kinds_are_in_the_past_tense_and_tell_an_undo_from_an_action():
    assert KINDS == (
        "abandoned",
        "attempt_interrupted",
        "attempt_lost",
        "attempt_timed_out",
        "cancel_requested",
        "check_failed",
        "check_started",
        "check_succeeded",
        "compensate_requested",
        "compensation_failed",
        "compensation_started",
        "compensation_succeeded",
        "confirmation_failed",
        "confirmation_started",
        "confirmation_succeeded",
        "deadline_passed",
        "history_lost",
        "late_result",
        "paused",
        "resumed",
        "retry_requested",
        "saga_started",
        "step_failed",
        "step_skipped",
        "step_started",
        "step_succeeded",
    )


def test_defaults_are_not_stored():
    assert data_of(AttemptSucceeded(*DO)) == {}
    assert data_of(AttemptStarted(*UNDO, timeout=30.0)) == {"timeout": 30.0}
    assert data_of(AttemptLost(*UNDO)) == {"undo": True}
    assert data_of(AttemptLost(*CHECK)) == {"phase": "check"}
    assert data_of(AttemptStarted(*CHECK, timeout=30.0)) == {"timeout": 30.0}


def test_a_failure_written_before_types_were_kept_reads_as_it_did():
    data = {"outcome": "aborted", "error": "declined", "effect": False}
    entry = entry_from_row(ID, row_of(AttemptFailed(*DO), format=1, data=data))
    assert entry.event == AttemptFailed(*DO, outcome="aborted", error="declined", effect=False)
    assert entry.data == data


def test_an_entry_shows_its_columns():
    entry = Entry(7, AttemptFailed(*UNDO, outcome="retry", error="no", wait=1.0))
    assert (entry.kind, entry.lane, entry.step, entry.attempt) == ("compensation_failed", "main/pay", "pay", 3)
    assert entry.data == {"outcome": "retry", "error": "no", "wait": 1.0}
    assert (Entry(1, SagaStarted()).lane, Entry(1, SagaStarted()).step, Entry(1, SagaStarted()).attempt) == (None,) * 3


def refused(row: tuple[Any, ...]) -> str:
    with pytest.raises(CorruptLog) as caught:
        entry_from_row(ID, row)
    text = str(caught.value)
    assert text.startswith(f"saga {ID}, entry 7: ")
    return text


def test_an_unknown_kind_is_refused():
    assert "unknown kind 'step_teleported'; a newer pgsaga may have written it" in refused(
        row_of(DeadlinePassed(), kind="step_teleported")
    )


def test_a_newer_format_is_refused_even_where_its_kind_is_known():
    text = refused(row_of(DeadlinePassed(), format=FORMAT + 1))
    assert f"format {FORMAT + 1} is newer than this pgsaga reads ({FORMAT}): upgrade it" in text


@pytest.mark.parametrize(
    "changes",
    [
        {"data": {"colour": "red"}},
        {"data": None},
        {"data": [1]},
        {"data": "text"},
        {"data": {"lane": "main"}},
        {"data": {"undo": True}},
        {"data": {"phase": "check"}},
    ],
    ids=str,
)
def test_damaged_data_is_refused(changes: dict[str, Any]):
    assert "damaged step_succeeded" in refused(row_of(AttemptSucceeded(*DO), **changes))


@pytest.mark.parametrize("data", [{"undo": 1}, {"phase": "dance"}, {"phase": None}, {"phase": []}], ids=str)
def test_a_phase_that_there_is_not_is_refused(data: dict[str, Any]):
    assert "damaged attempt_lost" in refused(row_of(AttemptLost(*DO), data=data))


@pytest.mark.parametrize("column", ["lane", "step", "attempt"])
def test_an_attempt_without_its_place_is_refused(column: str):
    assert "damaged step_started" in refused(row_of(AttemptStarted(*DO, timeout=1.0), **{column: None}))


@pytest.mark.parametrize("column", ["lane", "step"])
def test_a_skip_without_its_place_is_refused(column: str):
    assert f"damaged step_skipped: it has no {column}" in refused(
        row_of(StepSkipped("ann", None, "main", "pay"), **{column: None})
    )


def test_an_outcome_that_is_not_known_is_refused():
    assert "damaged step_failed" in refused(row_of(AttemptFailed(*DO), data={"outcome": "vanished"}))


def test_an_event_names_the_attempt_it_is_about():
    assert AttemptLost(*UNDO).ref == UNDO
    assert AttemptSucceeded(*DO.next, result=1).ref == AttemptRef("main/pay", "pay", 3)
