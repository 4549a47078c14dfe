"""Outline: the bare structure of a saga. It is all that is needed to read a log.

It holds names only, no callables, so it is stored in the database, and a log can be replayed without the code.

A saga runs in **lanes**. The main lane is the sequence of its steps; each branch of a ``Parallel`` is a lane of its
own, named after its first step below the lane that forks: ``main/payment``, ``main/courier``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from saga.core.address import name_of
from saga.core.scope import OUTERMOST, Scope
from saga.core.text import digest
from saga.errors import CorruptLog

MAIN = "main"
DEADLINE = "deadline"
"""The lane of a saga's own deadline, which runs no step."""


@dataclass(frozen=True, slots=True)
class StepOutline:
    """One step: its task, its undo, and how it stands to the point of no return.

    Attributes:
        after_pivot: it comes after the pivot, so it can only go forward.
        scope: the innermost that it is in.
    """

    name: str
    lane: str
    task: str
    compensate: str | None
    pivot: bool
    transactional: bool
    after_pivot: bool
    scope: str = OUTERMOST


@dataclass(frozen=True, slots=True)
class Fork:
    """The point where a lane waits for its branches."""

    lanes: tuple[Lane, ...]


@dataclass(frozen=True, slots=True)
class Lane:
    """A sequence of steps and forks.

    Attributes:
        parent: the lane that forks into it and its siblings.
        scope: the innermost that it is in, with all its steps.
    """

    name: str
    items: tuple[StepOutline | Fork, ...]
    parent: str | None = None
    scope: str = OUTERMOST

    def lanes(self) -> Iterator[Lane]:
        """This lane and those below it, in the order of definition."""
        yield self
        for item in self.items:
            if isinstance(item, Fork):
                for lane in item.lanes:
                    yield from lane.lanes()

    def steps(self) -> Iterator[StepOutline]:
        """Every step of this lane and of the lanes below it, in the order of definition."""
        for item in self.items:
            if isinstance(item, StepOutline):
                yield item
            else:
                for lane in item.lanes:
                    yield from lane.steps()


class Outline:
    """The structure of one saga.

    Attributes:
        name: the saga's name.
        doc: the structure as JSON, as it is stored.
        scopes: each scope to those that it is in, from itself on to the outermost.
    """

    def __init__(self, name: str, doc: Sequence[Any]) -> None:
        self.name = name
        self.doc = list(doc)
        self.main = _Reader().lane(MAIN, doc)
        self.lanes: Mapping[str, Lane] = {lane.name: lane for lane in self.main.lanes()}
        self.steps: Mapping[str, StepOutline] = {step.name: step for step in self.main.steps()}
        self.scopes: Mapping[str, tuple[str, ...]] = {OUTERMOST: (OUTERMOST,)}

    @property
    def outline(self) -> Outline:
        """Itself: an outline can be used in place of a saga."""
        return self

    def step(self, address: str) -> StepOutline:
        """The step at an address, which of one that runs once is its name.

        Raises:
            KeyError: there is none of that name.
        """
        try:
            return self.steps[address]
        except KeyError:
            return self.steps[name_of(address)]

    @cached_property
    def fingerprint(self) -> str:
        """Changes with names, order, task names, compensations, pivot and transactional; never with policies."""
        return digest(self.to_json())

    @cached_property
    def beginning(self) -> Mapping[str, Scope]:
        """Each scope as it stands when nothing has happened: with all of its steps ahead."""
        steps = Counter(scope for step in self.steps.values() for scope in self.scopes[step.scope])
        return {scope: Scope(left=steps[scope]) for scope in self.scopes}

    def to_json(self) -> dict[str, Any]:
        """The document to store."""
        return {"saga": self.name, "steps": self.doc}

    @classmethod
    def from_json(cls, doc: Any) -> Outline:
        """Read a stored document.

        Raises:
            CorruptLog: it is not one.
        """
        try:
            return cls(doc["saga"], doc["steps"])
        except (KeyError, TypeError, IndexError, AttributeError) as error:
            raise CorruptLog(f"a stored definition cannot be read: {error!r}") from None

    def difference(self, other: Outline) -> str:
        """What ``other`` has changed, in words, step by step; empty when nothing has."""
        changes = [f"step {name!r} is gone" for name in self.steps if name not in other.steps]
        changes += [f"step {name!r} is new" for name in other.steps if name not in self.steps]
        for name in self.steps.keys() & other.steps.keys():
            changes += _changed_fields(self.steps[name], other.steps[name])
        if not changes and self.doc != other.doc:
            changes.append("the order of the steps is another")
        return "; ".join(sorted(changes))


class _Reader:
    """Reads a stored document from top to bottom, remembering whether the pivot was passed."""

    def __init__(self) -> None:
        self.after_pivot = False

    def lane(self, name: str, items: Sequence[Any], parent: str | None = None) -> Lane:
        return Lane(name, tuple(self.item(name, item) for item in items), parent)

    def item(self, lane: str, item: Mapping[str, Any]) -> StepOutline | Fork:
        if "parallel" in item:
            branches = item["parallel"]
            return Fork(tuple(self.lane(f"{lane}/{_first_name(branch)}", branch, lane) for branch in branches))
        step = StepOutline(
            name=item["step"],
            lane=lane,
            task=item["task"],
            compensate=item.get("compensate"),
            pivot=item.get("pivot", False),
            transactional=item.get("transactional", False),
            after_pivot=self.after_pivot,
        )
        self.after_pivot = self.after_pivot or step.pivot
        return step


def _first_name(branch: Sequence[Any]) -> str:
    first = branch[0]
    return str(first["step"]) if "step" in first else _first_name(first["parallel"][0])


def _changed_fields(old: StepOutline, new: StepOutline) -> list[str]:
    fields = ("lane", "task", "compensate", "pivot", "transactional")
    return [
        f"step {old.name!r} has {field} {getattr(new, field)!r} instead of {getattr(old, field)!r}"
        for field in fields
        if getattr(old, field) != getattr(new, field)
    ]
