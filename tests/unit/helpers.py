"""Small things that many unit tests want: an app without a broker, outlines in a line, logs that write themselves."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from celery import Celery

from saga.core.commands import Command
from saga.core.events import (
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
    LateResult,
    Paused,
    Request,
    Resumed,
    RetryRequested,
    SagaStarted,
    StepSkipped,
)
from saga.core.machine import decide, replay
from saga.core.outline import Outline
from saga.core.permission import check
from saga.core.ref import AttemptRef, way
from saga.core.state import State, Status, StepState, Track
from saga.core.verdict import failure_outcome

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
"""When every log of a test begins."""

app = Celery("tests", set_as_current=False)


def task_of(run: Callable[..., Any], **options: Any) -> Any:
    """A Celery task of a function; a task of the same name is forgotten."""
    name = f"shop.{run.__name__}"
    app.tasks.pop(name, None)
    return app.task(name=name, shared=False, **options)(run)


def step(name: str, *, undo: bool = True, pivot: bool = False, transactional: bool = False) -> dict[str, Any]:
    """A step as an outline stores it."""
    doc: dict[str, Any] = {"step": name, "task": f"do_{name}"}
    if undo and not pivot:
        doc["compensate"] = f"undo_{name}"
    if pivot:
        doc["pivot"] = True
    if transactional:
        doc["transactional"] = True
    return doc


def fork(*branches: Any) -> dict[str, Any]:
    """A Parallel as an outline stores it; a branch is an item or a list of them, a text a step."""
    lists = [branch if isinstance(branch, list) else [branch] for branch in branches]
    return {"parallel": [[step(item) if isinstance(item, str) else item for item in items] for items in lists]}


def outline_of(*items: Any, name: str = "place_order") -> Outline:
    """An outline; a text stands for a step of that name that has an undo."""
    return Outline(name, [step(item) if isinstance(item, str) else item for item in items])


class Log:
    """A log in the making: each verb appends one entry, a second after the last, about the step's latest attempt."""

    def __init__(self, *items: Any, started: SagaStarted | None = None) -> None:
        self.outline = items[0] if items and isinstance(items[0], Outline) else outline_of(*items)
        self.entries: list[Entry] = []
        self.state: State = replay(self.outline, [])
        self.now = NOON - timedelta(seconds=1)
        self.append(started or SagaStarted({"sku": "A1"}))

    def append(self, event: Event, *, worker: int | None = None) -> Log:
        """Append any event."""
        self.now += timedelta(seconds=1)
        entry = Entry(len(self.entries) + 1, event, self.now, worker)
        self.entries.append(entry)
        self.state = replay(self.outline, [entry], self.state)
        return self

    # attempts

    def started(self, *steps: str, undo: bool = False, timeout: float = 300, worker: int = 1) -> Log:
        for name in steps:
            attempt = self.track(name, undo).attempts + 1
            self.append(AttemptStarted(self.lane(name), name, attempt, way(undo), timeout), worker=worker)
        return self

    def succeeded(self, name: str, result: Any = None, *, undo: bool = False) -> Log:
        return self.append(AttemptSucceeded(*self.where(name, undo), result=result))

    def failed(self, name: str, error: str = "it broke", *, undo: bool = False, effect: bool = True) -> Log:
        """Fail for good."""
        outcome = failure_outcome(self.state, self.where(name, undo), effect=effect)
        return self.append(AttemptFailed(*self.where(name, undo), outcome=outcome, error=error, effect=effect))

    def will_retry(
        self,
        name: str,
        wait: float | None = 10,
        *,
        undo: bool = False,
        held: bool = False,
        effect: bool = True,
        error: str = "it broke",
    ) -> Log:
        return self.append(
            AttemptFailed(*self.where(name, undo), outcome="retry", error=error, wait=wait, held=held, effect=effect)
        )

    def timed_out(self, name: str, *, undo: bool = False) -> Log:
        return self.append(AttemptTimedOut(*self.where(name, undo)))

    def lost(self, name: str, *, undo: bool = False) -> Log:
        return self.append(AttemptLost(*self.where(name, undo)))

    def interrupted(self, name: str, *, undo: bool = False) -> Log:
        return self.append(AttemptInterrupted(*self.where(name, undo), error="warm shutdown"))

    def late(self, name: str, *, undo: bool = False) -> Log:
        return self.append(LateResult(*self.where(name, undo), outcome="success", result="too late"))

    def did(self, *steps: str) -> Log:
        """Each step started and succeeded."""
        for name in steps:
            self.started(name).succeeded(name, f"result of {name}")
        return self

    def undid(self, *steps: str) -> Log:
        """Each step's undo started and succeeded."""
        for name in steps:
            self.started(name, undo=True).succeeded(name, undo=True)
        return self

    def broke(self, name: str, *, effect: bool = True) -> Log:
        """The step started and failed for good."""
        return self.started(name).failed(name, effect=effect)

    # requests

    def ask(self, request: Request) -> Log:
        """Append what an operator asks for, if it is allowed."""
        check("place_order[1]", self.outline, self.state, request)
        return self.append(request)

    def cancel(self, reason: str | None = "changed my mind", by: str | None = "ann") -> Log:
        return self.ask(CancelRequested(by, reason))

    def compensate(self) -> Log:
        return self.ask(CompensateRequested("ann", "returned"))

    def pause(self) -> Log:
        return self.ask(Paused("ann"))

    def resume(self) -> Log:
        return self.ask(Resumed("ann"))

    def retry(self) -> Log:
        return self.ask(RetryRequested("ann"))

    def skip(self, name: str, result: Any = None, *, undo: bool = False, undo_later: bool = False) -> Log:
        return self.ask(StepSkipped("ann", "by hand", self.lane(name), name, undo, result, undo_later))

    def deadline_passed(self) -> Log:
        return self.append(DeadlinePassed())

    # looks

    def lane(self, name: str) -> str:
        return self.outline.steps[name].lane

    def where(self, name: str, undo: bool) -> AttemptRef:
        return AttemptRef(self.lane(name), name, self.track(name, undo).attempts, way(undo))

    def track(self, name: str, undo: bool = False) -> Track:
        return self.state.track(name, undo)

    def step(self, name: str) -> StepState:
        return self.state.steps[name]

    @property
    def status(self) -> Status:
        return self.state.status

    @property
    def commands(self) -> tuple[Command, ...]:
        return decide(self.outline, self.state)

    def todo(self) -> list[str]:
        """What is to be done, in short: ``Run pay 1``, ``Undo pay 2``, ``Wait pay 1``, ``AskPolicy pay 1``, ``KeepWatch``."""
        return sorted(map(in_short, self.commands))


def in_short(command: Any) -> str:
    """A command in a few words."""
    kind = type(command).__name__
    if kind == "KeepWatch":
        return kind
    verb = kind if kind != "RunStep" else "Undo" if command.ref.undo else "Run"
    undo = " undo" if command.ref.undo and kind != "RunStep" else ""
    return f"{verb} {command.ref.step} {command.ref.attempt}{undo}"
