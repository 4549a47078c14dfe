"""A world in miniature: random definitions, and workers, a relay and operators that do whatever they may.

All choices come from a tape of bytes, so hypothesis can draw, replay and shrink them. Where the tape ends everyone is
at their best: attempts succeed, and what is stuck is settled.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from hypothesis import strategies as st

from saga.core.commands import AskPolicy, Command, KeepWatch, RunStep, Wait
from saga.core.due import moment_of
from saga.core.events import (
    Abandoned,
    AttemptEvent,
    AttemptFailed,
    AttemptInterrupted,
    AttemptLost,
    AttemptSucceeded,
    AttemptTimedOut,
    CancelRequested,
    CompensateRequested,
    DeadlinePassed,
    Entry,
    Event,
    LateResult,
    Paused,
    Request,
    Resumed,
    RetryRequested,
    SagaStarted,
    StepSkipped,
)
from saga.core.machine import decide, replay
from saga.core.outcome import Broken, Interruption, Report, Success
from saga.core.permission import check, is_asked
from saga.core.ref import AttemptRef, way
from saga.core.state import State, StepStatus
from saga.core.verdict import answer, verdict
from saga.errors import NotAllowed
from saga.language.definition import Parallel, Saga, Step

from .helpers import NOON, task_of

MOST_STEPS = 9
_SECOND = timedelta(seconds=1)


class Tape:
    """A source of choices: a byte is one choice, and past the end it is always the first option."""

    def __init__(self, choices: bytes) -> None:
        self._choices = iter(choices)

    def pick(self, options: Sequence[Any]) -> Any:
        return options[next(self._choices, 0) % len(options)]

    def flip(self) -> bool:
        return bool(self.pick([False, True]))


# --- definitions ------------------------------------------------------------------------------------------------------


@task_of
def act(): ...


@task_of
def undo(): ...


Shape = list[Any]
"""Items in order: ``None`` for a step, a list of shapes for a parallel."""


def shape_of(tape: Tape, room: list[int], depth: int = 0) -> Shape:
    """Draw a sequence of steps and forks, of as many steps as there is room for."""
    items: Shape = []
    for _ in range(tape.pick([2, 1, 3, 4] if depth == 0 else [1, 2, 1, 3])):
        if room[0] <= 0 and items:
            break
        if depth < 3 and room[0] > 1 and tape.pick([False, False, True] if depth else [False, True]):
            items.append([shape_of(tape, room, depth + 1) for _ in range(tape.pick([2, 1, 3]))])
        else:
            room[0] -= 1
            items.append(None)
    return items


def saga_of(tape: Tape) -> Saga:
    """Draw a definition."""
    shape = shape_of(tape, [MOST_STEPS])
    plain = [index for index, item in enumerate(shape) if item is None]
    pivot = tape.pick(plain) if plain and tape.pick([False, True, False]) else None
    numbers = iter(range(1000))

    def a_step(*, pivot: bool = False, past: bool = False) -> Step:
        options: dict[str, Any] = {"name": f"s{next(numbers)}", "transactional": tape.pick([False, False, True])}
        options["in_doubt"] = tape.pick(["undo", "undo", "ask"])
        if pivot:
            return Step(act, pivot=True, **options)
        return Step(act, **options) if past else Step(act, compensate=tape.pick([undo, undo, None]), **options)

    def items_of(shape: Shape, *, past: bool) -> list[Any]:
        return [
            a_step(past=past) if item is None else Parallel(*[items_of(branch, past=past) for branch in item])
            for item in shape
        ]

    items: list[Any] = []
    for index, item in enumerate(shape):
        if index == pivot:
            items.append(a_step(pivot=True))
        else:
            items += items_of([item], past=pivot is not None and index > pivot)
    return Saga("simulated", *items, on_failure=tape.pick(["rollback", "rollback", "rollback", "ask"]))


def bytes_of(length: int) -> st.SearchStrategy[bytes]:
    """Bytes, some that shrink well, most as dice fall: what hypothesis draws by itself repeats itself too often to lead far."""
    thrown = st.integers(0, 2**32).map(lambda seed: random.Random(seed).randbytes(length))
    return st.one_of(st.binary(min_size=length, max_size=length), thrown, thrown)


@st.composite
def sagas(draw: st.DrawFn) -> Saga:
    """Definitions with forks in forks, some with a pivot, with and without undos, some steps transactional."""
    return saga_of(Tape(draw(bytes_of(40))))


tapes = bytes_of(120).map(Tape)


def precedences(doc: Sequence[Any]) -> Iterator[tuple[str, str]]:
    """Each pair of steps of which the first must be over before the second starts; read from the stored document."""
    before: list[str] = []
    for item in doc:
        here = list(_names(item))
        yield from ((first, second) for first in before for second in here)
        for branch in item.get("parallel", ()):
            yield from precedences(branch)
        before += here


def _names(item: Any) -> Iterator[str]:
    if "step" in item:
        yield item["step"]
    for branch in item.get("parallel", ()):
        for inner in branch:
            yield from _names(inner)


# --- the world --------------------------------------------------------------------------------------------------------


@dataclass
class World:
    """A saga on its way, with a log that only grows; ``watch`` is told of each entry: what it is, before and after.

    Attributes:
        echoes: seqs of entries that say again what had been said.
        denied: the steps in doubt that a cancel said had not happened.
    """

    saga: Saga
    tape: Tape
    watch: Callable[[World, Entry, State, State], None] = lambda *_: None
    entries: list[Entry] = field(default_factory=list)
    state: State = None  # type: ignore[assignment]
    now: datetime = NOON
    echoes: set[int] = field(default_factory=set)
    denied: set[str] = field(default_factory=set)
    echo: bool = True

    def __post_init__(self) -> None:
        self.state = replay(self.saga, [])
        self.append(
            SagaStarted(
                {"sku": "A1"},
                deadline=self.tape.pick([None, 5.0, 60.0]),
                delay=self.tape.pick([None, 3.0]),
                priority=self.tape.pick([None, 4]),
                asks=list(self.saga.asks) or None,
                ask_first=self.saga.on_failure == "ask",
            )
        )

    @property
    def commands(self) -> tuple[Command, ...]:
        return decide(self.saga, self.state)

    def append(self, event: Event, *, worker: int | None = 1, echo: bool = False) -> None:
        before = self.state
        if isinstance(event, CancelRequested):
            doubts = {
                step for step, undo in before.stuck_on if not undo and before.steps[step].status is StepStatus.UNKNOWN
            }
            self.denied |= doubts & set(self.saga.asks)
        entry = Entry(len(self.entries) + 1, event, self.now, worker)
        self.entries.append(entry)
        if echo:
            self.echoes.add(entry.seq)
        self.state = replay(self.saga, [entry], before)
        self.watch(self, entry, before, self.state)
        self.now += _SECOND

    def run(self, limit: int = 600) -> None:
        """Go on until there is nothing to be done by anyone, operators included."""
        for _ in range(limit):
            options = list(self.options())
            if not options:
                return
            self.tape.pick(options)()
        raise AssertionError(f"no end in sight: {self.state}")

    def options(self) -> Iterator[Callable[[], None]]:
        """What may happen next; first what the machine asks for, or where it asks for nothing what settles it."""
        commands = self.commands
        for command in commands:
            if not isinstance(command, KeepWatch):
                yield from [lambda command=command: self.follow(command)] * 3
        if not any(not isinstance(command, KeepWatch) for command in commands):
            settle = self.settling()
            if settle is None:
                # Nobody has anything to do: a terminal saga may still be echoed or compensated.
                if self.tape.flip():
                    yield self.do_unasked
                return
            yield lambda: self.append(settle, worker=None)
        for command in commands:
            if isinstance(command, KeepWatch):
                yield self.pass_deadline
        yield self.do_unasked

    def settling(self) -> Request | None:
        """What an operator does about a saga that does not go on by itself."""
        if self.state.stuck_on:
            choices: list[Request] = [RetryRequested("ann")]
            if not self.allows(choices[0]):
                choices = []
            step, undo = next(iter(self.state.stuck_on))
            lane = self.saga.outline.steps[step].lane
            later = not undo and self.saga.outline.steps[step].compensate is not None and self.tape.flip()
            choices.append(StepSkipped("ann", "by hand", lane, step, undo, {"by": "hand"}, later))
            if is_asked(self.state):
                choices.append(CancelRequested("ann", "it did not happen"))
            return self.tape.pick(choices)
        if self.state.paused and not self.state.status.terminal:
            return Resumed("ann")
        return None

    def do_unasked(self) -> None:
        """What nobody waits for: an operator's request, an entry that comes again, or one that comes too late."""
        unasked = [self.say_again, self.bring_late, self.request_something]
        self.tape.pick(unasked if self.echo else [self.request_something])()

    def request_something(self) -> None:
        """An operator asks for something, if it is allowed."""
        step = self.tape.pick(list(self.saga.outline.steps.values()))
        requests: list[Request] = [
            Paused("ann"),
            Resumed("ann"),
            RetryRequested("ann"),
            CompensateRequested("ann", "returned"),
            StepSkipped("ann", None, step.lane, step.name, self.state.steps[step.name].undo is not None, 1),
        ]
        if self.tape.flip():
            requests.append(CancelRequested("ann", "changed my mind"))
        if self.tape.flip() and self.tape.flip():
            requests.append(Abandoned("ann", "nobody will undo this"))
        allowed = [request for request in requests if self.allows(request)]
        if allowed:
            self.append(self.tape.pick(allowed), worker=None)

    def allows(self, request: Request) -> bool:
        try:
            check("simulated[1]", self.saga.outline, self.state, request)
        except NotAllowed:
            return False
        return True

    def say_again(self) -> None:
        """An entry about an attempt, or the start, is written once more."""
        known = [
            entry.event
            for entry in self.entries
            if isinstance(entry.event, (AttemptEvent, SagaStarted)) and entry.seq not in self.echoes
        ]
        self.append(self.tape.pick(known), echo=True)

    def bring_late(self) -> None:
        """An attempt that is not the open one, or that was never made, brings something."""
        name = self.tape.pick(list(self.saga.outline.steps))
        step = self.saga.outline.steps[name]
        undo = self.state.steps[name].undo is not None and self.tape.flip()
        number = self.state.track(name, undo).attempts + self.tape.pick([-1, 2])
        where = AttemptRef(step.lane, name, number, way(undo))
        event = self.tape.pick(
            [
                LateResult(*where, outcome="success", result=1),
                AttemptSucceeded(*where, result="late"),
                AttemptFailed(*where, outcome="unknown"),
                AttemptTimedOut(*where),
                AttemptLost(*where),
                AttemptInterrupted(*where),
            ]
        )
        self.append(event, echo=True)

    def pass_deadline(self) -> None:
        self.append(DeadlinePassed())

    # what workers and the relay do

    def follow(self, command: Command) -> None:
        """Do what a command says, or let the attempt that it waits for end."""
        if isinstance(command, RunStep):
            self.start(command)
        elif isinstance(command, AskPolicy):
            self.answer(command, self.policy())
        else:
            assert isinstance(command, Wait)
            self.end(command)

    def policy(self) -> float | None:
        """What the retry policy says: seconds to the next attempt, or that there is none."""
        return self.tape.pick([0.0, 0.5, 30.0]) if self.tape.flip() else None

    def answer(self, command: Command, wait: float | None = None) -> None:
        """What the worker says that has taken the lane."""
        assert isinstance(command, (RunStep, AskPolicy))
        timeout = self.saga.job(command.ref.step, command.ref.undo).timeout
        event = answer(self.saga.outline, self.state, command, wait, timeout=timeout)
        assert event is not None
        self.append(event, worker=self.tape.pick([1, 2, 3]))

    def start(self, command: RunStep) -> None:
        if due := moment_of(command.due):
            self.now = max(self.now, due)
        self.answer(command)

    def end(self, command: Wait) -> None:
        ref = command.ref
        track = self.state.track(ref.step, ref.undo)
        if track.held:
            ends = [lambda: self.start(RunStep(ref.next, track.again))]
        else:
            ends = [lambda: self.report(ref, Success(f"{ref.step} {ref.attempt}"))] * 8
            ends += [lambda: self.fail(ref, effect=True), lambda: self.fail(ref, effect=False)]
        ends += [
            lambda: self.append(AttemptTimedOut(*ref)),
            lambda: self.append(AttemptLost(*ref)),
            lambda: self.report(ref, Interruption("shutdown")),
        ]
        self.tape.pick(ends)()

    def fail(self, ref: AttemptRef, *, effect: bool) -> None:
        """The attempt fails: one of a transactional action without an effect."""
        effect = effect and (ref.undo or not self.saga.outline.steps[ref.step].transactional)
        error = Report(f"{ref.step} broke in attempt {ref.attempt}")
        self.report(ref, Broken(error, effect), self.policy(), hold=self.tape.pick([0.0, 60.0]))

    def report(
        self, ref: AttemptRef, ended: Success | Broken | Interruption, wait: float | None = None, *, hold: float = 0.0
    ) -> None:
        self.append(verdict(self.saga.outline, self.state, ref, ended, wait, hold=hold))


def through_json(value: Any) -> Any:
    """A JSON value as the database gives it back."""
    return json.loads(json.dumps(value))


def open_actions(state: State) -> list[str]:
    """The actions of which an attempt runs or is undecided, counted from the steps."""
    unclear = (StepStatus.RUNNING, StepStatus.UNDECIDED)
    return [name for name, step in state.steps.items() if step.status in unclear]
