"""A saga of many branches costs for each of them what a saga of few does; counted in instructions, never in time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from uuid import UUID

import pytest

from saga.core.commands import RunStep
from saga.core.events import AttemptFailed, AttemptSucceeded, Entry, Event, SagaStarted
from saga.core.machine import decide, replay
from saga.core.state import Results, State, Status
from saga.engine.draft import Instance, Lease
from saga.engine.engine import Engine, start_of
from saga.language.binding import Values, arguments
from saga.language.catalog import Catalog
from saga.language.definition import Parallel, Saga, Step

from .effort import effort
from .helpers import NOON, task_of
from .walk import walk

FEW, MANY = 100, 1000


@task_of
def reserve() -> int: ...


@task_of
def release(): ...


@task_of
def settle(s7: int, sku: str = ""): ...


def wide(branches: int) -> Saga:
    """A saga that does as many things at once."""
    steps = [Step(reserve, name=f"s{number}", compensate=release) for number in range(branches)]
    return Saga("wide", Parallel(*steps), Step(settle, compensate=None))


class Worker:
    """What a worker makes of one saga after another entry, without the database between."""

    def __init__(self, saga: Saga) -> None:
        catalog = Catalog(lambda _: "celery")
        catalog.add(saga)
        self.saga = saga
        self.engine = Engine(None, catalog, lambda _: None)  # type: ignore[arg-type] # it reads and writes nothing
        self.instance = Instance.of(UUID(int=1), saga)
        self.state: State = replay(saga, [Entry(1, SagaStarted({}), NOON)])

    def claim(self, command: RunStep) -> None:
        """Start an attempt as a claim does, and bind its arguments."""
        self.state = self.instance.replay([self.entry(start_of(self.saga, command))], self.state)
        job = self.saga.job(command.ref.step, command.ref.undo)
        arguments(self.saga, job, Values(self.state.input, Results(self.state.steps), {}))

    def record(self, event: Event, *, keep: bool = True) -> RunStep | None:
        """Write how an attempt ended; returns the attempt that this worker goes on with."""
        draft = self.engine.draft(self.instance, self.state, event, Lease(1, UUID(int=2), "celery"), keep=keep)
        written = self.engine._written(draft, NOON)
        self.state = written.state
        return written.kept

    def do(self, command: RunStep | None, *, keep: bool = True) -> None:
        """Do a step, or undo it, and go on inline."""
        assert command
        self.claim(command)
        following = self.record(AttemptSucceeded(*command.ref, result=7), keep=keep)
        while following:
            following = self.record(AttemptSucceeded(*following.ref, result=7), keep=keep)

    def fail(self, command: RunStep) -> None:
        """Do a step that refuses."""
        self.claim(command)
        self.record(AttemptFailed(*command.ref, outcome="aborted", error="no", effect=False))

    def todo(self) -> Iterator[RunStep]:
        """The attempts that can be made."""
        return (command for command in decide(self.saga, self.state) if isinstance(command, RunStep))

    def entry(self, event: Event) -> Entry:
        return Entry(self.state.seq + 1, event, NOON, 1)


def half_done(saga: Saga) -> Callable[[], object]:
    """One branch of many, when some are done and others are not."""
    worker = Worker(saga)
    branches = list(worker.todo())
    for branch in branches[:10]:
        worker.do(branch)
    return lambda: worker.do(branches[50])


def half_undone(saga: Saga) -> Callable[[], object]:
    """The undo of one branch of many, when some are undone and others are not."""
    worker = Worker(saga)
    for branch in list(worker.todo()):
        worker.do(branch, keep=False)
    worker.fail(next(worker.todo()))
    undos = list(worker.todo())
    for undo in undos[:10]:
        worker.do(undo)
    return lambda: worker.do(undos[50])


def turned_back(saga: Saga) -> Callable[[], object]:
    """The end of one open branch of many, when another has failed and nothing new may start."""
    worker = Worker(saga)
    branches = list(worker.todo())
    for branch in branches[:60]:
        worker.claim(branch)
    worker.record(AttemptFailed(*branches[0].ref, outcome="aborted", effect=False))
    worker.record(AttemptSucceeded(*branches[1].ref))
    return lambda: worker.record(AttemptSucceeded(*branches[2].ref))


def ended_together(saga: Saga, number: int = 16) -> Callable[[], object]:
    """The ends of some branches of many, as many as share a message, on their way into the log."""
    worker = Worker(saga)
    branches = list(worker.todo())[:16]
    for branch in branches:
        worker.claim(branch)
    events = tuple(AttemptSucceeded(*branch.ref, result=7) for branch in branches[:number])
    claim = Lease(1, UUID(int=2), "celery")
    return lambda: worker.engine.draft_all(worker.instance, worker.state, events, claim, keep=True)


@pytest.mark.parametrize(
    "scene", [half_done, half_undone, turned_back, ended_together], ids=lambda scene: scene.__name__
)
def test_an_entry_costs_as_much_among_many_branches_as_among_few(scene: Callable[[Saga], Callable[[], object]]):
    few, many = effort(scene(wide(FEW))), effort(scene(wide(MANY)))
    assert few > 100, "nothing was counted"
    assert many <= few * 1.05


def test_ends_that_are_recorded_together_are_drafted_together():
    """Of a saga that many workers append to, many drafts come too late; one of those is not to cost as much as sixteen."""
    one, sixteen = effort(ended_together(wide(MANY), 1)), effort(ended_together(wide(MANY)))
    assert sixteen <= 16 * one * 0.6


@pytest.mark.parametrize("end", [Status.COMPLETED, Status.COMPENSATED])
def test_a_thousand_branches_come_to_their_end(end: Status):
    worker = Worker(wide(MANY))
    branches = list(worker.todo())
    assert len(branches) == MANY
    for branch in branches:
        worker.do(branch, keep=False)
    last = next(worker.todo())
    assert last.ref.step == "settle"
    if end is Status.COMPENSATED:
        worker.fail(last)
        undos = list(worker.todo())
        assert len(undos) == MANY
        for undo in undos:
            worker.do(undo)
    else:
        worker.do(last)
    assert worker.state.status is end
    assert decide(worker.saga, worker.state) == walk(worker.saga.outline, worker.state) == ()


@task_of
def pack(item: str): ...


def picky(branches: int) -> Saga:
    """A saga each of whose branches takes something else from the input."""
    steps = [
        Step(pack, name=f"s{number}", compensate=None, bind={"item": f"input.item{number}"})
        for number in range(branches)
    ]
    return Saga("picky", Step(reserve, compensate=release), Parallel(*steps))


@pytest.mark.parametrize("make", [wide, picky], ids=lambda make: make.__name__)
def test_a_definition_takes_as_much_for_each_branch_among_many_as_among_few(make: Callable[[int], Saga]):
    few, many = effort(lambda: make(FEW)) / FEW, effort(lambda: make(MANY)) / MANY
    assert few > 100, "nothing was counted"
    assert many <= few * 1.05


def test_a_saga_that_goes_on_and_on_is_not_forgotten_for_those_that_come_and_wait():
    """Whoever forgets a state reads the whole log for the next branch."""
    worker = Worker(wide(FEW))
    for number in range(3000):
        worker.engine.memory.remember(worker.instance.id, worker.state)
        worker.engine.memory.remember(UUID(int=1000 + number), worker.state)
    assert worker.engine.memory.recall(worker.instance.id) is worker.state


def test_a_claim_says_no_more_about_a_saga_of_many_branches_than_about_one_of_few():
    few, many = Catalog(lambda _: "celery"), Catalog(lambda _: "celery")
    few.add(wide(FEW))
    many.add(wide(MANY))
    assert len(many.limits(["main/s50"])) == len(few.limits(["main/s50"]))
