"""Walk: goes through a definition once, from its first step to its last, checks it, and collects what runs it.

Each construct builds itself: it is told what holds at its place, and says what is stored of it, and what it adds to the
results that those after it can name.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, NamedTuple

from celery.app.task import Task

from saga.errors import DefinitionError, brief
from saga.language.job import Job
from saga.language.source import Wire
from saga.language.visibility import Ground, Here, Known
from saga.language.wiring import Role, Scope

NOTHING = type(None)
"""The type of the result of what has none."""

_WORDS = "a Step, Parallel, Graph, Choice, ForEach, SubSaga, Sleep, WaitFor or Try"


@dataclass(frozen=True, slots=True)
class Built:
    """What comes of a construct, or of a sequence of them.

    Attributes:
        doc: what is stored of it.
        gives: the results that it adds.
        returns: the type of its result; of a sequence, of that of its last item.
        pivot: the name of the pivot in it.
    """

    doc: Any
    gives: Mapping[str, Known] = field(default_factory=dict)
    returns: Any = NOTHING
    pivot: str | None = None

    def missing(self, why: str) -> dict[str, Known]:
        """Its results, where they may be missing."""
        return {name: known if known.missing else Known(known.type, why) for name, known in self.gives.items()}


class Construct(ABC):
    """What may stand in a sequence of a saga: a step, or what says how steps follow each other."""

    __slots__ = ()

    word: ClassVar[str]
    """What it is called in errors."""

    @abstractmethod
    def title(self) -> str | None:
        """Its name, given or by default; an empty one if it needs one and has none, ``None`` if it needs none."""

    def untitled(self, saga: str) -> None:
        """What is said where its name is empty.

        Raises:
            DefinitionError: it has to be given one.
        """
        raise DefinitionError(
            f"saga {saga!r}: a {self.word} has no name by itself: {brief(self)}; give it one with name="
        )

    def sequences(self) -> Iterator[Sequence[Any]]:
        """The sequences in it, in order of definition."""
        return iter(())

    @abstractmethod
    def build(self, walk: Walk, here: Here) -> Built:
        """Check it at its place in a saga, and add what runs it to the walk.

        Raises:
            DefinitionError: something in it is wrong.
        """


class Taken(NamedTuple):
    """What a construct itself takes from elsewhere, by a path or by name."""

    name: str
    wire: Wire


class Walk:
    """One way through a definition.

    Attributes:
        ground: what is the same at every place.
        throws_abort: the exceptions in a task's ``throws`` are refusals.
        actions: step to job; likewise ``undos``, ``confirms`` and ``checks``.
        functions: ``Choice`` to job, for those that ask a function.
        terms: construct to what only the definition says of it.
        taken: what constructs take that is no argument of a job.
        returns: the type of each result.
        asks: the steps whose unknown outcome a person settles.
        children: the sagas that are started as steps.
        elements: of each ``ForEach``, the parameter that gets the element, with its name.
    """

    def __init__(self, ground: Ground, *, throws_abort: bool = False) -> None:
        self.ground = ground
        self.throws_abort = throws_abort
        self.actions: dict[str, Job] = {}
        self.undos: dict[str, Job] = {}
        self.confirms: dict[str, Job] = {}
        self.checks: dict[str, Job] = {}
        self.functions: dict[str, Job] = {}
        self.terms: dict[str, Any] = {}
        self.taken: list[Taken] = []
        self.returns: dict[str, Any] = {}
        self.asks: list[str] = []
        self.children: list[Any] = []
        self.elements: dict[str, str] = {}
        self.last = "the start"

    def place(self, construct: Construct) -> str:
        """The saga and the construct in words, for errors."""
        return f"saga {self.ground.saga!r}, {construct.word} {construct.title()!r}"

    def scope(self, place: str, here: Here, role: Role = Role.OTHER) -> Scope:
        """What can be named at a place."""
        return Scope(place, self.ground, here, role)

    def sequence(self, items: Sequence[Any], here: Here) -> Built:
        """Build items that follow each other."""
        gives: dict[str, Known] = {}
        here = here.knowing(gives)
        docs, returns, pivot = [], NOTHING, None
        for item in items:
            built = self._item(item, here)
            gives.update(built.gives)
            docs.append(built.doc)
            returns = built.returns
            if built.pivot is not None:
                pivot = built.pivot
                here = replace(here, pivot=pivot)
        return Built(docs, gives, returns, pivot)

    def take(self, name: str, wire: Wire, path: str) -> str:
        """Note what a construct takes by a path; gives the path as it is stored, which names the input where it leads there."""
        self.taken.append(Taken(name, replace(wire, annotation=Any)))
        source = wire.source
        return f"input.{'.'.join(source.path)}" if source.origin == "input" else path

    def check_pivot(self, place: str, here: Here) -> None:
        """Whether a pivot may stand somewhere.

        Raises:
            DefinitionError: it may not.
        """
        if here.pivot is not None:
            raise DefinitionError(f"{place}: it is a second pivot after {here.pivot!r}; a saga has one at most")
        if here.barred:
            raise DefinitionError(f"{place}: a pivot cannot be {here.barred}; move it before or after")

    def names_in(self, item: Any) -> Iterator[tuple[str, Construct]]:
        """What has a name, in an item or a list of them, with that name."""
        if isinstance(item, (list, tuple)):
            for each in item:
                yield from self.names_in(each)
        elif isinstance(item, Construct):
            title = item.title()
            if title is not None:
                yield title, item
            for sequence in item.sequences():
                yield from self.names_in(sequence)

    def labels(self, item: Any) -> str:
        """The names in an item, in words."""
        return ", ".join(repr(name) for name, _ in self.names_in(item)) or "nothing"

    def _item(self, item: Any, here: Here) -> Built:
        if not isinstance(item, Construct):
            raise DefinitionError(f"saga {self.ground.saga!r}: {self._unexpected(item)}")
        built = item.build(self, here)
        for name, _ in self.names_in(item):
            self.last = name
            break
        return built

    def _unexpected(self, item: Any) -> str:
        if isinstance(item, (list, tuple)):
            what = f"a {type(item).__name__} of {self.labels(item)}"
            return (
                f"expected a Step or a Parallel, got {what}; a list forms a branch, inside a Parallel or a Graph only"
            )
        hint = ""
        if isinstance(item, Task):
            hint = f"; wrap it: Step({item.name.rsplit('.')[-1]})"
        elif isinstance(getattr(item, "items", None), tuple):
            hint = "; wrap it: SubSaga(...)"
        return f"expected {_WORDS}, got {brief(item)}{hint}"


def as_items(value: Any) -> Any:
    """A sequence that cannot be changed; anything else, which is refused when the saga is built, as it is."""
    return tuple(value) if isinstance(value, (list, tuple)) else value


def check_items(place: str, option: str, value: Any) -> None:
    """Whether a sequence was given.

    Raises:
        DefinitionError: something else was.
    """
    if not isinstance(value, tuple):
        raise DefinitionError(f"{place}: {option}={brief(value)} expected a list of steps, such as [Step(...)]")
