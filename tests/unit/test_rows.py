"""The rows of ``work`` are a function of the state: whatever is written, they are those of the next decision."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given

from saga.core.commands import AskPolicy, Command, KeepWatch, RunStep, Wait
from saga.core.due import Due, is_at_once, moment_of
from saga.core.events import (
    AttemptEvent,
    AttemptInterrupted,
    AttemptLost,
    AttemptStarted,
    AttemptTimedOut,
    Entry,
    SagaStarted,
)
from saga.core.machine import decide, replay
from saga.core.ref import AttemptRef, Phase
from saga.core.rows import Changes, Place, dispatches, next_inline, place_of, plan
from saga.core.state import State, StepStatus
from saga.language.catalog import Catalog, watch
from saga.language.definition import Parallel, Saga, Step

from .helpers import NOON, Log, fork, task_of
from .simulation import World, sagas, tapes

TOKEN = UUID(int=7)


@task_of
def do(): ...


@task_of
def redo(): ...


def catalog_of(saga: Saga) -> Catalog:
    catalog = Catalog(lambda task: f"queue of {task}" if task else "default")
    catalog.add(saga)
    return catalog


# --- rows that follow the plan ----------------------------------------------------------------------------------------


@dataclass
class Rows:
    """The rows of one saga, changed as the statements of ``work`` change them; ``None`` is one that a worker owns.

    Attributes:
        relay: the relay's facts are written as its own statements do it: they free the one row that they are about.
    """

    saga: Saga
    relay: bool
    rows: dict[str, Place | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.catalog = catalog_of(self.saga)

    def watch(self, _: World, entry: Entry, before: State, after: State) -> None:
        """Do to the rows what goes with an entry, then compare them with the decision."""
        event = entry.event
        if isinstance(event, SagaStarted):
            drafted = self.draft(before, event)
            for command in decide(self.saga, drafted):
                self.put(place_of(self.catalog, self.saga, drafted, command), entry.at)
        elif isinstance(event, AttemptStarted) and self.claimed(before, event):
            self.rows[event.lane] = None
        elif self.relay and isinstance(event, (AttemptTimedOut, AttemptLost, AttemptInterrupted)):
            freed = Place(event.lane, event.step, None, event.phase, "")
            assert event.lane in self.rows
            self.rows[event.lane] = freed
        else:
            self.apply(before, event, entry.at)
        self.compare(after, entry.at)

    @staticmethod
    def claimed(before: State, event: AttemptStarted) -> bool:
        """Whether the start was the claim's own statement, not that of a writer who held the lane or settled it."""
        track = before.track(event.step, event.undo)
        return not track.held and track.status is not StepStatus.UNDECIDED

    def draft(self, before: State, event: Any) -> State:
        """The state as a writer sees it, before the database says when."""
        return replay(self.saga, [Entry(before.seq + 1, event, None, 1)], before)

    def apply(self, before: State, event: Any, at: datetime | None) -> None:
        drafted = self.draft(before, event)
        changes = plan(
            self.catalog,
            self.saga.outline.fingerprint,
            self.saga,
            drafted,
            decide(self.saga, before),
            decide(self.saga, drafted),
        )
        lanes = [*changes.removed, *(place.lane for place in (*changes.added, *changes.moved))]
        assert len(set(lanes)) == len(lanes), "no statement touches a row twice"
        for lane in changes.removed:
            del self.rows[lane]
        for place in changes.added:
            assert place.lane not in self.rows, "an INSERT of a row that is there"
            self.put(place, at)
        for place in changes.moved:
            assert place.lane in self.rows, "an UPDATE of a row that is not there"
            self.put(place, at)

    def put(self, place: Place, at: datetime | None) -> None:
        assert at is not None
        due = place.due if is_at_once(place.due) or place.due.moment else Due.after(at, place.due.seconds)
        self.rows[place.lane] = None if place.owned else replace(place, due=due, sent=False)

    def compare(self, state: State, at: datetime | None) -> None:
        commands = decide(self.saga, state)
        assert self.rows.keys() == {command.lane for command in commands}
        for command in commands:
            row = self.rows[command.lane]
            if isinstance(command, Wait):
                assert row is None, "a row that is to be owned is free"
                continue
            assert row is not None, "a row that is to be free is owned"
            if row.attempt is None and not isinstance(command, KeepWatch):
                assert (row.step, row.phase) == (command.ref.step, command.ref.phase)
                assert isinstance(command, AskPolicy) or self.relay  # which frees a held lane too
                continue
            assert not isinstance(command, AskPolicy)
            expected = replace(place_of(self.catalog, self.saga, state, command), sent=False)
            assert _overdue(row, at) == _overdue(expected, at)


def _overdue(place: Place, at: datetime | None) -> Place:
    """A due time that is past is as good as none."""
    assert at is not None
    due = moment_of(place.due)
    return replace(place, due=place.due if due is not None and due > at else None)


@given(sagas(), tapes)
def test_the_changes_lead_from_the_rows_of_one_decision_to_those_of_the_next(saga, tape):
    rows = Rows(saga, relay=False)
    World(saga, tape, rows.watch, echo=False).run()
    assert rows.rows == {}


@given(sagas(), tapes)
def test_the_rows_are_those_of_the_decision_also_after_the_relay_gave_a_lane_back(saga, tape):
    rows = Rows(saga, relay=True)
    World(saga, tape, rows.watch, echo=False).run()
    assert rows.rows == {}


@given(sagas(), tapes)
def test_a_worker_goes_on_with_at_most_one_attempt_and_the_rest_is_offered(saga, tape):
    """With the attempt that is kept, the writer's one statement leads to the rows of the state after both entries."""
    catalog = catalog_of(saga)

    def watch_entry(world: World, entry: Entry, before: State, after: State) -> None:
        event = entry.event
        if not isinstance(event, AttemptEvent) or isinstance(event, AttemptStarted):
            return
        drafted = replay(saga, [replace(entry, at=None)], before)
        commands = decide(saga, before), decide(saga, drafted)
        kept = next_inline(*commands)
        changes = plan(catalog, saga.outline.fingerprint, saga, drafted, *commands, kept, TOKEN)
        owned = [place for place in (*changes.added, *changes.moved) if place.owned]
        if kept is None:
            assert all(isinstance(command, Wait) for command in commands[1] if command.lane in {p.lane for p in owned})
            return
        started = AttemptStarted(*kept.ref, timeout=1.0)
        state = replay(saga, [Entry(entry.seq + 1, started, entry.at, 1)], after)
        before_lanes = {command.lane for command in commands[0]}
        lanes = (before_lanes - set(changes.removed)) | {place.lane for place in changes.added}
        assert lanes == {command.lane for command in decide(saga, state)}
        # Either the writer's own lane goes on untouched, or the one it goes on in becomes its own.
        if kept.lane in before_lanes:
            was = next(command for command in commands[0] if command.lane == kept.lane)
            assert isinstance(was, Wait) or [place.lane for place in owned] == [kept.lane]
        else:
            assert [place.lane for place in owned] == [kept.lane]

    World(saga, tape, watch_entry, echo=False).run()


# --- by example -------------------------------------------------------------------------------------------------------


def saga_with(*items: Any) -> Saga:
    return Saga("place_order", *items)


def a(name: str, **options: Any) -> Step:
    return Step(do, name=name, **({"compensate": redo} | options))


def changes_of(log: Log, saga: Saga, event: Any, *, keep: bool = False) -> Changes:
    """The changes that go with an event, as the engine drafts it."""
    drafted = replay(saga, [Entry(log.state.seq + 1, event, None, 1)], log.state)
    before, after = decide(saga, log.state), decide(saga, drafted)
    kept = next_inline(before, after) if keep else None
    return plan(catalog_of(saga), saga.outline.fingerprint, saga, drafted, before, after, kept, TOKEN)


def succeeded(log: Log, name: str) -> Any:
    return replace(Log(log.outline).started(name).succeeded(name).entries[-1].event)


def test_a_lane_that_goes_on_inline_touches_no_row():
    saga = saga_with(a("one"), a("two"))
    log = Log(saga.outline).started("one")
    changes = changes_of(log, saga, succeeded(log, "one"), keep=True)
    assert changes.removed == changes.added == changes.moved == []


def test_a_step_that_cannot_go_on_inline_is_offered():
    saga = saga_with(a("one"), a("two", queue="slow", priority=3))
    log = Log(saga.outline).started("one")
    changes = changes_of(log, saga, succeeded(log, "one"))
    assert changes.moved == [Place("main", "two", 1, Phase.STEP, "slow", 3, sent=True)]
    (message,) = dispatches(UUID(int=1), changes)
    assert (message.lane, message.queue, message.priority) == ("main", "slow", 3)


def test_a_fork_offers_its_branches_and_gives_up_the_lane():
    saga = saga_with(a("one"), Parallel(a("two"), a("three")))
    log = Log(saga.outline).started("one")
    changes = changes_of(log, saga, succeeded(log, "one"), keep=True)
    assert changes.removed == ["main"]
    assert [place.lane for place in changes.added] == ["main/two", "main/three"]
    assert not any(place.owned for place in changes.added)


def test_the_last_branch_of_a_fork_goes_on_with_the_lane():
    saga = saga_with(Parallel(a("two"), a("three")), a("four"))
    log = Log(saga.outline).did("two").started("three")
    changes = changes_of(log, saga, succeeded(log, "three"), keep=True)
    assert changes.removed == ["main/three"]
    assert [(place.lane, place.owned, place.watch) for place in changes.added] == [("main", True, watch(saga))]


def test_the_end_of_a_saga_removes_its_last_row():
    saga = saga_with(a("one"))
    log = Log(saga.outline).started("one")
    assert changes_of(log, saga, succeeded(log, "one"), keep=True).removed == ["main"]


def test_a_wait_is_offered_later_and_not_sent():
    saga = saga_with(a("one"))
    log = Log(saga.outline).started("one")
    event = Log(log.outline).started("one").will_retry("one", wait=30).entries[-1].event
    changes = changes_of(log, saga, event, keep=True)
    assert changes.moved == [Place("main", "one", 2, Phase.STEP, "queue of shop.do", None, Due(seconds=30))]
    assert dispatches(UUID(int=1), changes) == []


def test_a_sagas_priority_is_its_steps_unless_they_have_one():
    saga = saga_with(Parallel(a("one"), a("two", priority=0)))
    log = Log(saga.outline, started=SagaStarted(priority=8))
    places = [place_of(catalog_of(saga), saga, log.state, command) for command in log.commands]
    assert [place.priority for place in places] == [8, 0]


def test_a_lane_can_be_placed_without_the_definition():
    saga = saga_with(a("one"))
    log = Log(saga.outline, started=SagaStarted(priority=8, deadline=60))
    catalog = Catalog(lambda _: "default")
    assert [place_of(catalog, None, log.state, command) for command in log.commands] == [
        Place("main", "one", 1, Phase.STEP, None, 8),
        Place("deadline", "", None, Phase.STEP, "default", 8, Due(NOON + timedelta(seconds=60))),
    ]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ([Wait(AttemptRef("main", "a", 1))], []),
        (
            [Wait(AttemptRef("main", "a", 1))],
            [RunStep(AttemptRef("main/b", "b", 1)), RunStep(AttemptRef("main/c", "c", 1))],
        ),
        ([Wait(AttemptRef("main", "a", 1))], [RunStep(AttemptRef("main", "a", 2), Due(seconds=0.1))]),
        ([Wait(AttemptRef("main", "a", 1))], [RunStep(AttemptRef("main", "a", 2), Due(NOON))]),
        ([Wait(AttemptRef("main", "a", 1))], [AskPolicy(AttemptRef("main", "a", 1))]),
        (
            [Wait(AttemptRef("main", "a", 1)), RunStep(AttemptRef("main/b", "b", 1))],
            [RunStep(AttemptRef("main/b", "b", 1))],
        ),
    ],
)
def test_there_is_nothing_to_go_on_with(before: list[Command], after: list[Command]):
    assert next_inline(before, after) is None


# --- what the relay gives back ----------------------------------------------------------------------------------------
#
# The relay appends that an attempt is over and frees that attempt's row; it changes no other row. So what it writes may
# not change the decision about any other lane, nor leave its own without a command.


@pytest.mark.parametrize("ends", [Log.timed_out, Log.lost, Log.interrupted], ids=lambda ends: ends.__name__)
@pytest.mark.parametrize("situation", ["running", "rolling back", "paused"])
def test_an_attempt_that_the_relay_ends_leaves_the_other_lanes_as_they_were(situation: str, ends: Any):
    log = two_branches(situation)
    before = {command.lane: command for command in log.commands}
    ends(log, "b")
    after = {command.lane: command for command in log.commands}
    assert after.keys() == before.keys(), "the relay neither adds nor removes a row"
    assert {lane for lane in after if after[lane] != before[lane]} == {"main/b"}
    assert after["main/b"] == AskPolicy(AttemptRef("main/b", "b", 1))


@pytest.mark.parametrize("ends", [Log.timed_out, Log.lost, Log.interrupted], ids=lambda ends: ends.__name__)
def test_an_undo_that_the_relay_ends_is_undecided_in_its_own_row(ends: Any):
    log = Log("first", fork("a", "b"), "last").did("first", "a", "b").broke("last", effect=False)
    log.started("a", "b", undo=True)
    ends(log, "b", undo=True)
    assert log.commands == (
        Wait(AttemptRef("main/a", "a", 1, Phase.COMPENSATION)),
        AskPolicy(AttemptRef("main/b", "b", 1, Phase.COMPENSATION)),
    )


def test_after_an_interruption_the_row_is_taken_by_the_next_attempt():
    saga = saga_with(a("one"))
    log = Log(saga.outline).started("one").interrupted("one")
    event = AttemptStarted("main", "one", 2, timeout=1.0)
    drafted = replay(saga, [Entry(log.state.seq + 1, event, None, 1)], log.state)
    changes = plan(catalog_of(saga), "", saga, drafted, log.commands, decide(saga, drafted), None, TOKEN)
    assert [(place.lane, place.attempt, place.owned) for place in changes.moved] == [("main", 2, True)]


def two_branches(situation: str) -> Log:
    """Branch ``b`` has an attempt open; branch ``a`` is done, or failed, or the saga was paused meanwhile."""
    log = Log("first", fork("a", "b"), "last").did("first").started("a", "b")
    if situation == "rolling back":
        return log.failed("a")
    log.succeeded("a")
    return log.pause() if situation == "paused" else log
