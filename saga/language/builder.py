"""Builder: walks a definition once, checks it, and collects what runs each step."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any

from celery import canvas
from celery.app.task import Task

from saga.core.address import MARKS
from saga.core.outline import DEADLINE, MAIN
from saga.core.text import clean_text
from saga.errors import DefinitionError, DefinitionWarning, brief
from saga.language.care import missing_care
from saga.language.refusal import Refusal, refusal_of
from saga.language.retry import Retry
from saga.language.step import UNSAID, Parallel, Step, Unsaid, check_options, seconds
from saga.language.wiring import (
    INPUT,
    RESERVED,
    Scope,
    Signature,
    Wire,
    check_type,
    fields_of,
    promised_fields,
    resolving,
    signature_of,
)


@dataclass(frozen=True, slots=True)
class Job:
    """One task of a step, its action or its undo, ready to be run.

    Attributes:
        task: the task's name.
        wires: where its arguments come from.
        returns: the type of its result.
        timeout: seconds.
        refusal: the exceptions that mean that nothing happened.
    """

    task: str
    wires: tuple[Wire, ...]
    returns: Any
    retry: Retry
    timeout: float
    queue: str | None
    priority: int | None
    transactional: bool
    refusal: Refusal | None = None


class Builder:
    """Walks a definition once, checks it, and collects what runs each step."""

    def __init__(self, saga: str, input: type | None, *, throws_abort: bool = False) -> None:
        self.saga = saga
        self.input = input
        self.throws_abort = throws_abort
        self.warnings: list[DefinitionWarning] = []
        self.asks: list[str] = []
        self.actions: dict[str, Job] = {}
        self.undos: dict[str, Job] = {}
        self.pivot: str | None = None
        self.seen: MutableMapping[str, Any] = {}
        if not (isinstance(saga, str) and saga and clean_text(saga) == saga):
            raise DefinitionError(
                f"Saga({brief(saga)}, ...): the first argument is the saga's name, a text without NUL"
            )
        self.fields = self._input_fields(input)
        self.names: frozenset[str] = frozenset()

    def check_kind(self, throws_abort: Any, on_failure: Any) -> None:
        """Whether the saga's own options have values that fit them.

        Raises:
            DefinitionError: one does not.
        """
        if not isinstance(throws_abort, bool):
            raise DefinitionError(f"saga {self.saga!r}: throws_abort={brief(throws_abort)} expected True or False")
        if on_failure not in ("rollback", "ask"):
            raise DefinitionError(f"saga {self.saga!r}: on_failure={brief(on_failure)} expected 'rollback' or 'ask'")

    def _input_fields(self, input: type | None) -> Mapping[str, Any] | None:
        if input is None:
            return None
        with resolving(f"saga {self.saga!r}: an annotation of the input"):
            fields = fields_of(input)
        if fields is None:
            raise DefinitionError(
                f"saga {self.saga!r}: input={brief(input)} expected a pydantic model, a dataclass or a TypedDict"
            )
        for name in fields:
            if name in RESERVED:
                raise DefinitionError(f"saga {self.saga!r}: input field {name!r} is a reserved word; rename the field")
        check_type(f"saga {self.saga!r}: the input", input)
        return fields

    # the walk: each returns the document to store for what it has read

    def sequence(self, items: Any, *, in_parallel: bool) -> list[Any]:
        if not items:
            where = f"a branch of the Parallel after {self._last!r} is" if in_parallel else "it is"
            raise DefinitionError(f"saga {self.saga!r}: {where} empty; give it at least one Step")
        if not in_parallel:
            names = [name for item in items for name in self._names_in(item)]
            self._check_names(names)
            self.names = frozenset(names)
        return [self.item(item, in_parallel) for item in items]

    def item(self, item: Any, in_parallel: bool) -> dict[str, Any]:
        if isinstance(item, Step):
            return self.step(item, in_parallel)
        if isinstance(item, Parallel):
            return self.parallel(item)
        hint = f"; wrap it: Step({item.name.rsplit('.')[-1]})" if isinstance(item, Task) else ""
        what = brief(item)
        if isinstance(item, (list, tuple)):
            what = f"a {type(item).__name__} of {', '.join(map(repr, self._names_in(list(item)))) or 'nothing'}"
            hint = "; a list forms a branch, inside a Parallel only"
        raise DefinitionError(f"saga {self.saga!r}: expected a Step or a Parallel, got {what}{hint}")

    def parallel(self, item: Parallel) -> dict[str, Any]:
        if not item.branches:
            raise DefinitionError(
                f"saga {self.saga!r}: the Parallel after {self._last!r} is empty; give it branches or drop it"
            )
        before, after = self.seen, dict[str, Any]()
        branches = []
        for branch in item.branches:
            own: dict[str, Any] = {}
            self.seen = ChainMap(own, before)
            branches.append(self.sequence(branch if isinstance(branch, list) else [branch], in_parallel=True))
            after.update(own)
        self.seen = before
        self.seen.update(after)
        return {"parallel": branches}

    @property
    def _last(self) -> str:
        """The step before the present place of the walk."""
        return next(reversed([*self.seen]), "the start")

    def step(self, step: Step, in_parallel: bool) -> dict[str, Any]:
        name = self._name(step)
        place = f"saga {self.saga!r}, step {name!r}"
        self._check_kind(place, step, in_parallel)
        signature = self._read(place, "task", step.task)
        after_pivot = self.pivot is not None
        wires = self._scope(place, step, name, own=None).wire(signature, step.bind or {})
        retry = step.retry or (Retry.persistent() if after_pivot else Retry())
        timeout = seconds(place, "timeout", step.timeout)
        task: Task = step.task
        self.actions[name] = Job(task.name, wires, signature.returns, retry, timeout, step.queue, step.priority,
                                 step.transactional, self._refusal(place, step))  # fmt: skip
        self._compensation(place, step, name, signature.returns)
        if name in self.undos and not step.transactional and not step.careless:
            self.warnings += missing_care(place, name, wires, self.undos[name].wires)
        self.seen[name] = signature.returns
        if step.in_doubt == "ask":
            self.asks.append(name)
        if step.pivot:
            self.pivot = name
        return self._doc(step, name)

    def _refusal(self, place: str, step: Step) -> Refusal | None:
        refusal = refusal_of(place, step.abort_on, anything=step.transactional)
        if refusal is None and self.throws_abort:
            task: Task = step.task
            return refusal_of(place, task.throws or (), option="its task's throws=", anything=step.transactional)
        return refusal

    def _compensation(self, place: str, step: Step, name: str, returns: Any) -> None:
        self._check_compensation(place, step)
        if step.compensate is None or isinstance(step.compensate, Unsaid):
            return
        undo = self._read(place, "compensate", step.compensate)
        place = f"{place}, its compensation"
        wires = self._scope(place, step, name, own=returns).wire(undo, step.compensate_bind or {})
        timeout = step.timeout if step.compensate_timeout is None else step.compensate_timeout
        limit = seconds(place, "compensate_timeout", timeout)
        task: Task = step.compensate
        self.undos[name] = Job(task.name, wires, undo.returns, step.compensate_retry, limit, step.queue,
                               step.priority, step.transactional)  # fmt: skip

    def _scope(self, place: str, step: Step, name: str, own: Any) -> Scope:
        compensating = own is not None
        steps = ChainMap({name: own}, self.seen) if compensating else self.seen
        return Scope(place, self.fields, steps, self.names, name, compensating, step.transactional,
                     self.input, self.warnings)  # fmt: skip

    def _doc(self, step: Step, name: str) -> dict[str, Any]:
        task: Task = step.task
        doc: dict[str, Any] = {"step": name, "task": task.name}
        if isinstance(step.compensate, Task):
            doc["compensate"] = step.compensate.name
        if step.pivot:
            doc["pivot"] = True
        if step.transactional:
            doc["transactional"] = True
        return doc

    # the checks

    def _read(self, place: str, role: str, task: Any) -> Signature:
        if isinstance(task, canvas.Signature):
            raise DefinitionError(
                f"{place}: {role}={brief(task)} is a signature, not a Celery task; give the task itself, without .s()"
            )
        if not isinstance(task, Task):
            what = getattr(task, "__qualname__", brief(task))
            raise DefinitionError(
                f"{place}: {role}={what} is not a Celery task; decorate it with @app.task or @shared_task"
            )
        return signature_of(place, task)

    def _check_kind(self, place: str, step: Step, in_parallel: bool) -> None:
        check_options(place, step)
        if step.pivot and self.pivot is not None:
            raise DefinitionError(f"{place}: it is a second pivot after {self.pivot!r}; a saga has one at most")
        if step.pivot and in_parallel:
            raise DefinitionError(f"{place}: a pivot cannot be inside a Parallel; move it before or after")

    def _check_compensation(self, place: str, step: Step) -> None:
        said = step.compensate is not UNSAID and step.compensate is not None
        if (step.pivot or self.pivot is not None) and said:
            where = "the pivot" if step.pivot else f"after the pivot {self.pivot!r}"
            raise DefinitionError(f"{place}: it is {where}, from where nothing is undone; drop compensate=")
        if step.compensate is UNSAID and not step.pivot and self.pivot is None:
            raise DefinitionError(
                f"{place}: nothing says how to undo it; give compensate=a task, or compensate=None if there is nothing to undo"
            )
        if step.compensate_bind and not said:
            raise DefinitionError(f"{place}: compensate_bind is given, but no compensation")

    def _check_names(self, names: Iterable[Any]) -> None:
        taken: set[str] = set()
        for name in names:
            where = f"saga {self.saga!r}, step {name!r}"
            if not isinstance(name, str) or clean_text(name) != name:
                raise DefinitionError(f"{where}: its name is no text without NUL; give it another with name=")
            if name in RESERVED or name in (MAIN, DEADLINE):
                raise DefinitionError(f"{where}: its name is a reserved word; give it another with name=")
            if "/" in name or "." in name or not name:
                raise DefinitionError(
                    f"{where}: a step's name cannot be empty or hold '/' or '.'; give it another with name="
                )
            if any(mark in name for mark in MARKS):
                raise DefinitionError(
                    f"{where}: a step's name cannot hold '[', ']' or '#', which addresses of steps are made with; "
                    "give it another with name="
                )
            if name in taken:
                raise DefinitionError(f"{where}: two steps have that name; give one of them another with name=")
            if self.fields is not None and name in self.fields:
                raise DefinitionError(f"{where}: the input has a field of the same name; rename the step with name=")
            taken.add(name)

    def _names_in(self, item: Any) -> Iterator[str]:
        if isinstance(item, Step):
            yield self._name(item)
        elif isinstance(item, (Parallel, list)):
            for branch in item.branches if isinstance(item, Parallel) else item:
                yield from self._names_in(branch)

    def _name(self, step: Step) -> str:
        if step.name is not None:
            return step.name
        if isinstance(step.task, Task):
            return str(getattr(step.task, "__name__", None) or step.task.name.rsplit(".")[-1])
        if not hasattr(step.task, "__name__"):
            self._read(f"saga {self.saga!r}", "task", step.task)  # refuses it
        return str(step.task.__name__)

    def input_wires(self) -> tuple[tuple[str, Wire], ...]:
        """What the steps take from the input, each source and type once, with the first step that takes it."""
        found: dict[tuple[str, ...], list[tuple[str, Wire]]] = {}
        for jobs in (self.actions, self.undos):
            for name, job in jobs.items():
                for wire in job.wires:
                    if wire.source.origin == "input" or wire.source == INPUT:
                        known = found.setdefault(wire.source.path, [])
                        if not any(_takes_the_same(wire, other) for _, other in known):
                            known.append((name, wire))
        return tuple(taken for wires in found.values() for taken in wires)

    def required_fields(self) -> Mapping[str, str]:
        """Each field that a step needs and that the input's type does not promise, with that step."""
        promised = promised_fields(self.input) if self.input else frozenset()
        found: dict[str, str] = {}
        for jobs in (self.actions, self.undos):
            for name, job in jobs.items():
                for wire in job.wires:
                    if wire.source.origin == "input" and not wire.optional and wire.source.path[0] not in promised:
                        found.setdefault(wire.source.path[0], name)
        return found


def _takes_the_same(wire: Wire, other: Wire) -> bool:
    return wire.annotation == other.annotation and wire.optional == other.optional
