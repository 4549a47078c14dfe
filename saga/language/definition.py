"""Saga: how a saga is defined. Definitions are values; they do not know the app."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, Generic, Literal, overload

from typing_extensions import TypeVar

from saga.core.address import name_of
from saga.core.outline import Outline
from saga.core.ref import Phase
from saga.errors import DefinitionWarning
from saga.language.builder import Builder
from saga.language.fixed import Fixed
from saga.language.job import Job
from saga.language.parallel import Parallel
from saga.language.source import Value, Wire
from saga.language.step import PRIORITY, Step, is_priority
from saga.language.visibility import Known
from saga.language.walk import Construct

Input = TypeVar("Input", default=Any)
"""The type of a saga's input."""


class Saga(Fixed, Generic[Input]):
    """A business operation made of steps. It is a value: equal to another of the same name, input and steps.

    To a type checker, ``Saga("order", …, input=Order)`` is a ``Saga[Order]``, whose starts take an ``Order`` or a mapping.

    Args:
        name: its name, also in the log.
        steps: ``Step``, ``Parallel`` and the other constructs, in order.
        input: the type of its input: a pydantic model, a dataclass or a ``TypedDict``; any mapping if not said.
        throws_abort: the exceptions that a task lists in Celery's ``throws=`` mean that definitely nothing happened, as if its
            step had ``abort_on=``. A step's own ``abort_on=`` comes first.
        on_failure: what follows when a step fails for good before the pivot has succeeded: ``"rollback"``, or ``"ask"``:
            the saga is stuck, and an operator goes forward (``retry``) or back (``cancel``).

    Raises:
        DefinitionError: something in it is wrong; the text names the saga, the step and the remedy.

    Attributes:
        outline: its bare structure.
        names: all that has a name in it, in order, with what it is: ``step``, ``Choice``, …
        actions: step name to the job that does it.
        undos: step name to the job that undoes it, for the steps that have one; likewise ``confirms`` and ``checks``.
        functions: the name of a ``Choice`` to the job that decides it, for those that ask a function.
        shortest_timeout: of all its jobs, in seconds.
        returns: each name to the type of the result.
        results: what can be named at its end.
        asks: the steps whose unknown outcome a person settles. A started saga keeps what was defined at its start.
        point_of_no_return: after what it cannot be undone as a whole, in words; ``None`` if it always can be.
        warnings: what may be a mistake; each was issued as a Python warning when the saga was built.
    """

    name: str
    items: tuple[Construct, ...]
    input: type[Input] | None
    outline: Outline
    names: Mapping[str, str]
    actions: Mapping[str, Job]
    undos: Mapping[str, Job]
    confirms: Mapping[str, Job]
    checks: Mapping[str, Job]
    functions: Mapping[str, Job]
    shortest_timeout: float
    returns: Mapping[str, Any]
    results: Mapping[str, Known]
    required_fields: Mapping[str, str]
    input_wires: tuple[tuple[str, Wire], ...]
    throws_abort: bool
    on_failure: Literal["rollback", "ask"]
    asks: tuple[str, ...]
    point_of_no_return: str | None
    warnings: tuple[DefinitionWarning, ...]
    _jobs: Mapping[str | bool, Mapping[str, Job]]
    _terms: Mapping[str, Any]
    _children: tuple[Saga[Any], ...]

    def __init__(
        self,
        name: str,
        *steps: Construct,
        input: type[Input] | None = None,
        throws_abort: bool = False,
        on_failure: Literal["rollback", "ask"] = "rollback",
    ) -> None:
        builder = Builder(name, input, throws_abort=throws_abort, on_failure=on_failure)
        built = builder.build(steps)
        walk = builder.walk
        kinds = ("actions", "undos", "confirms", "checks", "functions")
        vars(self).update({kind: MappingProxyType(builder.in_order(getattr(walk, kind))) for kind in kinds})
        vars(self).update(
            name=name,
            items=steps,
            input=input,
            outline=Outline(name, built.doc),
            names=MappingProxyType(builder.ground.names),
            shortest_timeout=min((job.timeout for job in self.jobs()), default=_UNTIMED),
            returns=MappingProxyType(walk.returns),
            results=MappingProxyType(dict(built.gives)),
            required_fields=MappingProxyType(builder.required_fields()),
            input_wires=builder.input_wires() if input is None else (),
            throws_abort=throws_abort,
            on_failure=on_failure,
            asks=tuple(name for name in builder.ground.names if name in walk.asks),
            point_of_no_return=builder.point_of_no_return(built.pivot),
            warnings=tuple(builder.ground.warnings),
            _jobs={key: jobs for keys, jobs in self._by_phase() for key in keys},
            _terms=MappingProxyType(walk.terms),
            _children=tuple(walk.children),
        )
        for warning in self.warnings:
            warnings.warn(warning, stacklevel=2)

    def __repr__(self) -> str:
        return f"<Saga {self.name}: {', '.join(self.names)}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Saga) and (
            self is other
            or (
                self.is_like(other)
                and self.input is other.input
                and self.throws_abort is other.throws_abort
                and self.on_failure == other.on_failure
                and self.items == other.items
            )
        )

    def __hash__(self) -> int:
        return hash((self.name, self.outline.fingerprint))

    def is_like(self, other: Saga) -> bool:
        """Whether it has the same name and structure, so that each can go on with what the other began."""
        return self.name == other.name and self.outline.fingerprint == other.outline.fingerprint

    @overload
    def job(self, step: str, undo: bool) -> Job: ...

    @overload
    def job(self, step: str, phase: str = "step") -> Job: ...

    def job(self, step: str, phase: str | bool = "step", undo: bool | None = None) -> Job:  # type: ignore[misc]
        """What runs at an address.

        Args:
            step: the address of a step, or of a ``Choice`` that asks a function.
            phase: ``step``, ``compensation``, ``confirmation`` or ``check``; ``True`` stands for the second, ``False`` for the
                first.
            undo: the same as a ``phase`` that is ``True`` or ``False``.

        Raises:
            KeyError: nothing runs there.
        """
        jobs = self._jobs[phase if undo is None else undo]
        return jobs[step] if step in jobs else jobs[name_of(step)]

    def _by_phase(self) -> Iterator[tuple[tuple[str | bool, ...], Mapping[str, Job]]]:
        yield (Phase.STEP, False), {**self.actions, **self.functions}
        yield (Phase.COMPENSATION, True), self.undos
        yield (Phase.CONFIRMATION,), self.confirms
        yield (Phase.CHECK,), self.checks

    def jobs(self) -> Iterator[Job]:
        """All that it runs: actions, undos, confirmations, checks and functions."""
        for jobs in (self.actions, self.undos, self.confirms, self.checks, self.functions):
            yield from jobs.values()

    def terms(self, name: str) -> Any:
        """What is in the definition only of a ``ForEach``, ``Sleep``, ``WaitFor``, ``Try`` or ``SubSaga``, by its name or address.

        Raises:
            KeyError: there is none of that name.
        """
        return self._terms[name_of(name)]

    def children(self) -> Iterator[Saga[Any]]:
        """The sagas that it starts as steps, and theirs."""
        for child in self._children:
            yield child
            yield from child.children()

    def waits(self, signal: str) -> Iterator[Any]:
        """The terms of each ``WaitFor`` that takes a signal, in order of definition."""
        for name in self.names:
            terms = self._terms.get(name)
            if signal in getattr(terms, "signals", ()):
                yield terms

    def what(self, name: str) -> str:
        """A part of it in words, by its name: ``step 'reserve'``."""
        return f"{self.names.get(name, 'step')} {name!r}"


_UNTIMED = 300.0
"""The shortest timeout, in seconds, of a saga that runs nothing."""

__all__ = ["PRIORITY", "Input", "Job", "Parallel", "Saga", "Step", "Value", "is_priority"]
