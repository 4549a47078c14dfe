"""Step: a Celery task, and the task that undoes it. It is a value, and does not know the saga that it is in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from types import MappingProxyType
from typing import Any, ClassVar, Final, Literal, TypeAlias

from celery.app.task import Task

from saga.core.text import clean_text
from saga.errors import DefinitionError, brief
from saga.language.care import missing_care
from saga.language.job import Job
from saga.language.refusal import AbortOn, Refusal, refusal_of
from saga.language.retry import LONGEST, Retry
from saga.language.signature import Signature, task_of
from saga.language.source import Value, Wire
from saga.language.visibility import Here, Known
from saga.language.walk import Built, Construct, Walk
from saga.language.wiring import Role, Scope

TaskLike: TypeAlias = Task | Callable[..., Any]
"""A Celery task. Without the stubs of ``celery-types``, a type checker thinks that ``@app.task`` makes a function."""


class Unsaid:
    def __repr__(self) -> str:
        return "..."


UNSAID: Final = Unsaid()


@dataclass(frozen=True, slots=True)
class Step(Construct):
    """One step: a Celery task, and the task that undoes it.

    Attributes:
        task: the action, an ordinary Celery task whose arguments are bound by name.
        name: unique in the saga; the function's name by default. Later steps take its result by this name.
        compensate: the task that undoes it, or ``None`` for nothing to undo. It is required before the pivot and refused from
            the pivot on. It must be idempotent and do no harm when there is nothing to undo.
        retry: when a failed attempt is made again; three attempts by default, ``Retry.persistent()`` after the pivot.
        compensate_retry: the same for the undo; ``Retry.persistent()`` by default.
        timeout: how long one attempt may take; ten years at most.
        compensate_timeout: the same for the undo; ``timeout`` by default.
        pivot: the point of no return: before it the saga can roll back; once it has succeeded, the saga only goes forward.
        transactional: the task and its undo may take a SQLAlchemy ``connection`` or ``session`` on the log's database. What
            they write there commits with the log: exactly once.
        queue: the queue to run on; Celery's ``task_routes`` decides by default.
        priority: the message priority, as Celery's broker counts it; the saga's own by default.
        bind: where parameters get their values, if not by their names: ``{"to": "input.email", "kind": Value("sold")}``.
        compensate_bind: the same for the undo.
        abort_on: exceptions of the action that mean that definitely nothing happened, as if the task had raised ``Abort``; or
            a function that says this of an exception. If the function fails, it has not said so. The undo keeps its own
            ``compensate_retry``.
        in_doubt: what follows when nobody knows whether the action had its effect: ``"undo"``, or ``"ask"``: the saga is
            stuck until a person says whether it happened.
        careless: the step is meant to lack what makes it safe to repeat or to undo, so there is no warning.
        confirm: the task of a second phase, as a capture follows a hold: it runs right after the pivot, or, in a saga without
            one, at the end. Bound like the undo, but for ``error``; it is retried persistently, and never undone.
        confirm_bind: where its parameters get their values, if not by their names.
        check: the task that asks the other system what happened after an attempt whose outcome nobody knows. It gets what the
            action gets, returns ``Happened(result)`` or ``DidNotHappen()``, or raises ``NotYet``; retried as the undo is.
        within: how long the action may take as a whole, from its first attempt on, with all attempts, waits and checks.
    """

    word: ClassVar[str] = "step"
    task: TaskLike
    name: str | None = field(default=None, kw_only=True)
    compensate: TaskLike | Unsaid | None = field(default=UNSAID, kw_only=True)
    retry: Retry | None = field(default=None, kw_only=True)
    compensate_retry: Retry = field(default_factory=Retry.persistent, kw_only=True)
    timeout: timedelta = field(default=timedelta(minutes=5), kw_only=True)
    compensate_timeout: timedelta | None = field(default=None, kw_only=True)
    pivot: bool = field(default=False, kw_only=True)
    transactional: bool = field(default=False, kw_only=True)
    queue: str | None = field(default=None, kw_only=True)
    priority: int | None = field(default=None, kw_only=True)
    bind: Mapping[str, str | Value] | None = field(default=None, kw_only=True)
    compensate_bind: Mapping[str, str | Value] | None = field(default=None, kw_only=True)
    abort_on: AbortOn = field(default=(), kw_only=True)
    in_doubt: Literal["undo", "ask"] = field(default="undo", kw_only=True)
    careless: bool = field(default=False, kw_only=True)
    confirm: TaskLike | None = field(default=None, kw_only=True)
    confirm_bind: Mapping[str, str | Value] | None = field(default=None, kw_only=True)
    check: TaskLike | None = field(default=None, kw_only=True)
    within: timedelta | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        for option in ("bind", "compensate_bind", "confirm_bind"):
            value = getattr(self, option)
            if isinstance(value, Mapping):
                object.__setattr__(self, option, MappingProxyType(dict(value)))
        if isinstance(self.abort_on, (list, set, frozenset)):
            object.__setattr__(self, "abort_on", tuple(self.abort_on))

    def __hash__(self) -> int:
        return hash((getattr(self.task, "name", None), self.name))

    def title(self) -> str:
        if self.name is not None:
            return self.name
        if isinstance(self.task, Task):
            return str(getattr(self.task, "__name__", None) or self.task.name.rsplit(".")[-1])
        return str(getattr(self.task, "__name__", ""))

    def untitled(self, saga: str) -> None:
        task_of(f"saga {saga!r}", "task", self.task)  # refuses what is no task

    def build(self, walk: Walk, here: Here) -> Built:
        return _Building(self, walk, here).build()


def _is_binding(value: Any) -> bool:
    return value is None or (isinstance(value, Mapping) and all(isinstance(name, str) for name in value))


def _is_queue(value: Any) -> bool:
    return value is None or (isinstance(value, str) and value != "" and clean_text(value) == value)


def is_priority(value: Any) -> bool:
    """Whether it is a message priority, or ``None``."""
    return value is None or (isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 255)


PRIORITY: Final = "a whole number from 0 to 255, such as priority=5"
_BINDING = "a mapping of parameters to sources, such as {'to': 'input.email'}"
_OPTIONS: Final[tuple[tuple[str, Callable[[Any], bool], str], ...]] = (
    ("pivot", lambda value: isinstance(value, bool), "True or False"),
    ("in_doubt", lambda value: value in ("undo", "ask"), "'undo' or 'ask'"),
    ("careless", lambda value: isinstance(value, bool), "True or False"),
    ("transactional", lambda value: isinstance(value, bool), "True or False"),
    ("queue", _is_queue, "the name of a queue, such as 'slow'"),
    ("priority", is_priority, PRIORITY),
    ("bind", _is_binding, _BINDING),
    ("compensate_bind", _is_binding, _BINDING),
    ("confirm_bind", _is_binding, _BINDING),
)
"""Options of a step: how a value is checked, and what is expected."""


def check_options(place: str, step: Step) -> None:
    """Whether each option of a step has a value that fits it.

    Raises:
        DefinitionError: one does not.
    """
    for option, fits, expected in _OPTIONS:
        value = getattr(step, option)
        if not fits(value):
            raise DefinitionError(f"{place}: {option}={brief(value)} expected {expected}")
    for option in ("retry", "compensate_retry"):
        value = getattr(step, option)
        unsaid = value is None and option == "retry"  # whose default depends on where the step stands
        if not unsaid and not isinstance(value, Retry):
            raise DefinitionError(
                f"{place}: {option}={brief(value)} expected a Retry, such as Retry(stop=stop_after_attempt(5))"
            )


def seconds(place: str, option: str, value: Any) -> float:
    """How long a timeout is.

    Raises:
        DefinitionError: it is not a timeout.
    """
    if not isinstance(value, timedelta) or not timedelta(0) < value <= LONGEST:
        raise DefinitionError(
            f"{place}: {option}={brief(value)} expected a positive timedelta of ten years at most, such as timedelta(seconds=30)"
        )
    return value.total_seconds()


class _Building:
    """A step at its place in a saga."""

    def __init__(self, step: Step, walk: Walk, here: Here) -> None:
        self.step = step
        self.walk = walk
        self.here = here
        self.name = step.title()
        self.place = walk.place(step)
        self.returns: Any = Any

    def build(self) -> Built:
        step, walk, name = self.step, self.walk, self.name
        self._check_kind()
        signature = task_of(self.place, "task", step.task)
        self.returns = walk.returns[name] = signature.returns
        walk.actions[name] = self._action(signature)
        self._compensation()
        self._confirmation()
        self._check()
        self._warn()
        if step.in_doubt == "ask":
            walk.asks.append(name)
        gives = {name: Known(signature.returns)}
        return Built(self._doc(), gives, signature.returns, name if step.pivot else None)

    def _action(self, signature: Signature) -> Job:
        step = self.step
        wires = self._scope(self.place, Role.ACTION).wire(signature, step.bind or {})
        persists = self.here.pivot is not None and not self.here.tried
        retry = step.retry or (Retry.persistent() if persists else Retry())
        within = None if step.within is None else seconds(self.place, "within", step.within)
        return self._job(
            step.task, wires, retry, seconds(self.place, "timeout", step.timeout),
            refusal=self._refusal(), within=within, checked=step.check is not None,
        )  # fmt: skip

    def _compensation(self) -> None:
        step = self.step
        self._check_compensation()
        if step.compensate is None or isinstance(step.compensate, Unsaid):
            return
        undo = task_of(self.place, "compensate", step.compensate)
        wires = self._scope(f"{self.place}, its compensation", Role.COMPENSATION).wire(undo, step.compensate_bind or {})
        timeout = step.timeout if step.compensate_timeout is None else step.compensate_timeout
        limit = seconds(f"{self.place}, its compensation", "compensate_timeout", timeout)
        job = self._job(step.compensate, wires, step.compensate_retry, limit, returns=undo.returns)
        self.walk.undos[self.name] = job

    def _confirmation(self) -> None:
        step = self.step
        if step.confirm is None:
            if step.confirm_bind:
                raise DefinitionError(f"{self.place}: confirm_bind is given, but no confirm")
            return
        if step.pivot or self.here.pivot is not None:
            where = "the pivot" if step.pivot else f"after the pivot {self.here.pivot!r}"
            raise DefinitionError(
                f"{self.place}: it is {where}, and what is confirmed is done before that; drop confirm=, and have the task do all"
            )
        task = task_of(self.place, "confirm", step.confirm)
        wires = self._scope(f"{self.place}, its confirm", Role.CONFIRMATION).wire(task, step.confirm_bind or {})
        limit = seconds(self.place, "timeout", step.timeout)
        self.walk.confirms[self.name] = self._job(step.confirm, wires, Retry.persistent(), limit, returns=task.returns)

    def _check(self) -> None:
        step = self.step
        if step.check is None:
            return
        if step.transactional:
            raise DefinitionError(
                f"{self.place}: a transactional step commits with the log, so its outcome is always known; drop check="
            )
        task = task_of(self.place, "check", step.check, stored=False)
        bind = {name: target for name, target in (step.bind or {}).items() if name in task.names()}
        wires = self._scope(f"{self.place}, its check", Role.CHECK).wire(task, bind)
        limit = seconds(self.place, "timeout", step.timeout)
        self.walk.checks[self.name] = self._job(step.check, wires, step.compensate_retry, limit)

    def _job(
        self, task: Any, wires: tuple[Wire, ...], retry: Retry, timeout: float, returns: Any = UNSAID, **more: Any
    ) -> Job:
        step = self.step
        kind = self.returns if returns is UNSAID else returns
        return Job(task.name, wires, kind, retry, timeout, step.queue, step.priority, step.transactional, **more)

    def _scope(self, place: str, role: Role) -> Scope:
        here = self.here
        if role in (Role.COMPENSATION, Role.CONFIRMATION):
            here = here.knowing({self.name: Known(self.returns)})
        return Scope(place, self.walk.ground, here, role, self.returns, self.step.transactional)

    def _refusal(self) -> Refusal | None:
        step = self.step
        refusal = refusal_of(self.place, step.abort_on, anything=step.transactional)
        if refusal is None and self.walk.throws_abort:
            task: Task = step.task
            return refusal_of(self.place, task.throws or (), option="its task's throws=", anything=step.transactional)
        return refusal

    def _check_kind(self) -> None:
        check_options(self.place, self.step)
        if self.step.pivot:
            self.walk.check_pivot(self.place, self.here)

    def _check_compensation(self) -> None:
        step, here = self.step, self.here
        said = step.compensate is not UNSAID and step.compensate is not None
        if (step.pivot or here.forward_only) and said:
            where = "the pivot" if step.pivot else f"after the pivot {here.pivot!r}"
            raise DefinitionError(f"{self.place}: it is {where}, from where nothing is undone; drop compensate=")
        if step.compensate is UNSAID and not step.pivot and not here.forward_only:
            who = "" if here.pivot is None else ", as the Try that it is in may have to"
            raise DefinitionError(
                f"{self.place}: nothing says how to undo it{who}; "
                f"give compensate=a task, or compensate=None if there is nothing to undo"
            )
        if step.compensate_bind and not said:
            raise DefinitionError(f"{self.place}: compensate_bind is given, but no compensation")

    def _warn(self) -> None:
        step, walk, name = self.step, self.walk, self.name
        if step.transactional or step.careless:
            return
        wires = {
            role: jobs[name].wires
            for role, jobs in (
                ("action", walk.actions),
                ("undo", walk.undos),
                ("confirm", walk.confirms),
                ("check", walk.checks),
            )
            if name in jobs
        }
        walk.ground.warnings.extend(missing_care(self.place, name, wires))

    def _doc(self) -> dict[str, Any]:
        step = self.step
        task: Task = step.task
        doc: dict[str, Any] = {"step": self.name, "task": task.name}
        if isinstance(step.compensate, Task):
            doc["compensate"] = step.compensate.name
        if step.pivot:
            doc["pivot"] = True
        if step.transactional:
            doc["transactional"] = True
        if isinstance(step.confirm, Task):
            doc["confirm"] = step.confirm.name
        return doc
