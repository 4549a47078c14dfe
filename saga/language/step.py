"""Step and Parallel: what a saga is made of. They are values, and do not know the saga that they are in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import FrozenInstanceError, dataclass, field
from datetime import timedelta
from types import MappingProxyType
from typing import Any, Final, Literal, TypeAlias

from celery.app.task import Task

from saga.core.text import clean_text
from saga.errors import DefinitionError, brief
from saga.language.refusal import AbortOn
from saga.language.retry import LONGEST, Retry
from saga.language.wiring import Value

TaskLike: TypeAlias = Task | Callable[..., Any]
"""A Celery task. Without the stubs of ``celery-types``, a type checker thinks that ``@app.task`` makes a function."""


class Unsaid:
    def __repr__(self) -> str:
        return "..."


UNSAID: Final = Unsaid()


@dataclass(frozen=True, slots=True)
class Step:
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
    """

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

    def __post_init__(self) -> None:
        for option in ("bind", "compensate_bind"):
            value = getattr(self, option)
            if isinstance(value, Mapping):
                object.__setattr__(self, option, MappingProxyType(dict(value)))
        if isinstance(self.abort_on, (list, set, frozenset)):
            object.__setattr__(self, "abort_on", tuple(self.abort_on))

    def __hash__(self) -> int:
        return hash((getattr(self.task, "name", None), self.name))


class Fixed:
    """What cannot be changed once it is made."""

    def __setattr__(self, name: str, value: Any) -> None:
        raise FrozenInstanceError(f"{self!r} cannot be changed: {name!r}; make another one")

    def __delattr__(self, name: str) -> None:
        raise FrozenInstanceError(f"{self!r} cannot be changed: {name!r}; make another one")


class Parallel(Fixed):
    """Branches that run at the same time; each is a step, another ``Parallel``, or a list that forms a sequence."""

    branches: tuple[Step | Parallel | list[Any], ...]

    def __init__(self, *branches: Step | Parallel | list[Any]) -> None:
        vars(self)["branches"] = tuple(list(branch) if isinstance(branch, list) else branch for branch in branches)

    def __repr__(self) -> str:
        return f"Parallel({', '.join(map(repr, self.branches))})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Parallel) and self.branches == other.branches

    def __hash__(self) -> int:
        return hash(tuple(tuple(branch) if isinstance(branch, list) else branch for branch in self.branches))


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
