"""Saga: how a saga is defined. Definitions are values; they do not know the app."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, Generic, Literal

from typing_extensions import TypeVar

from saga.core.address import name_of
from saga.core.outline import Outline
from saga.errors import DefinitionWarning
from saga.language.builder import Builder, Job
from saga.language.step import PRIORITY, Fixed, Parallel, Step, is_priority
from saga.language.wiring import Value, Wire

Input = TypeVar("Input", default=Any)
"""The type of a saga's input."""


class Saga(Fixed, Generic[Input]):
    """A business operation made of steps. It is a value: equal to another of the same name, input and steps.

    To a type checker, ``Saga("order", …, input=Order)`` is a ``Saga[Order]``, whose starts take an ``Order`` or a mapping.

    Args:
        name: its name, also in the log.
        steps: ``Step`` and ``Parallel``, in order.
        input: the type of its input: a pydantic model, a dataclass or a ``TypedDict``; any mapping if not said.
        throws_abort: the exceptions that a task lists in Celery's ``throws=`` mean that definitely nothing happened, as if its
            step had ``abort_on=``. A step's own ``abort_on=`` comes first.
        on_failure: what follows when a step fails for good before the pivot has succeeded: ``"rollback"``, or ``"ask"``:
            the saga is stuck, and an operator goes forward (``retry``) or back (``cancel``).

    Raises:
        DefinitionError: something in it is wrong; the text names the saga, the step and the remedy.

    Attributes:
        outline: its bare structure.
        actions: step name to the job that does it.
        undos: step name to the job that undoes it, for the steps that have one.
        shortest_timeout: of all its jobs, in seconds.
        asks: the steps whose unknown outcome a person settles. A started saga keeps what was defined at its start.
        warnings: what may be a mistake; each was issued as a Python warning when the saga was built.
    """

    name: str
    items: tuple[Step | Parallel, ...]
    input: type[Input] | None
    outline: Outline
    actions: Mapping[str, Job]
    undos: Mapping[str, Job]
    shortest_timeout: float
    required_fields: Mapping[str, str]
    input_wires: tuple[tuple[str, Wire], ...]
    throws_abort: bool
    on_failure: Literal["rollback", "ask"]
    asks: tuple[str, ...]
    warnings: tuple[DefinitionWarning, ...]

    def __init__(
        self,
        name: str,
        *steps: Step | Parallel,
        input: type[Input] | None = None,
        throws_abort: bool = False,
        on_failure: Literal["rollback", "ask"] = "rollback",
    ) -> None:
        builder = Builder(name, input, throws_abort=throws_abort)
        builder.check_kind(throws_abort, on_failure)
        doc = builder.sequence(steps, in_parallel=False)
        vars(self).update(
            name=name,
            items=steps,
            input=input,
            outline=Outline(name, doc),
            actions=MappingProxyType(builder.actions),
            undos=MappingProxyType(builder.undos),
            shortest_timeout=min(job.timeout for jobs in (builder.actions, builder.undos) for job in jobs.values()),
            required_fields=MappingProxyType(builder.required_fields()),
            input_wires=builder.input_wires() if input is None else (),
            throws_abort=throws_abort,
            on_failure=on_failure,
            asks=tuple(builder.asks),
            warnings=tuple(builder.warnings),
        )
        for warning in self.warnings:
            warnings.warn(warning, stacklevel=2)

    def __repr__(self) -> str:
        return f"<Saga {self.name}: {', '.join(self.outline.steps)}>"

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

    def job(self, step: str, undo: bool) -> Job:
        """What runs the action of the step at an address, or its undo."""
        jobs = self.undos if undo else self.actions
        return jobs[step] if step in jobs else jobs[name_of(step)]

    def jobs(self) -> Iterator[Job]:
        """Every action and every undo."""
        yield from self.actions.values()
        yield from self.undos.values()


__all__ = ["PRIORITY", "Input", "Job", "Parallel", "Saga", "Step", "Value", "is_priority"]
