"""Visibility: what can be named at one place of a saga, and what may stand there.

A place sees the results of what is certainly over there. A result that may never come to be, such as that of a step in a way
of a ``Choice``, is seen with the reason why it may be missing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from saga.errors import DefinitionWarning
from saga.language.source import INDEX, Source


class Known(NamedTuple):
    """A result that can be named.

    Attributes:
        type: what it is declared as.
        missing: why it may be missing, in words; empty if it is certainly there.
    """

    type: Any
    missing: str = ""


class Element(NamedTuple):
    """An element of a ``ForEach``, as its body sees it.

    Attributes:
        for_each: the name of the ``ForEach``.
    """

    for_each: str
    type: Any


class Found(NamedTuple):
    """What a name stands for at a place.

    Attributes:
        type: what it is declared as; ``Any`` if that is not known.
        missing: why it may be missing, in words; empty if it is certainly there.
    """

    source: Source
    type: Any
    missing: str = ""


class Layers(Mapping[str, Known]):
    """Results of one sequence on top of those from before it."""

    def __init__(self, own: Mapping[str, Known], before: Mapping[str, Known]) -> None:
        self._own = own
        self._before = before

    def __getitem__(self, name: str) -> Known:
        try:
            return self._own[name]
        except KeyError:
            return self._before[name]

    def __iter__(self) -> Iterator[str]:
        yield from self._before
        yield from self._own

    def __len__(self) -> int:
        return len(self._own) + len(self._before)


@dataclass(frozen=True, slots=True)
class Ground:
    """What is the same at every place of a saga.

    Attributes:
        saga: its name.
        input: the type of its input; ``None`` if it has none.
        fields: the input's fields and their types; ``None`` if the input has no type.
        names: everything in the saga that has a name, with what it is: ``step``, ``Choice``, …
        hidden: names that are no longer seen, with the reason, in words.
        warnings: collects what may be a mistake.
    """

    saga: str
    input: Any
    fields: Mapping[str, Any] | None
    names: dict[str, str] = field(default_factory=dict)
    hidden: dict[str, str] = field(default_factory=dict)
    warnings: list[DefinitionWarning] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Here:
    """One place of a saga.

    Attributes:
        results: what can be named there.
        elements: of each ``ForEach`` around it, by the name of the parameter.
        innermost: the innermost ``ForEach`` around it, whose positions ``index`` gives.
        caught: the ``Try`` in whose ``otherwise`` it is; of several the innermost.
        barred: where it is, in words, if no pivot may be there.
        pivot: the name of the pivot that is past there.
        undone: a ``Try`` undoes what is done there, also after the pivot.
        tried: it is inside a ``Try``.
    """

    results: Mapping[str, Known] = field(default_factory=dict)
    elements: Mapping[str, Element] = field(default_factory=dict)
    innermost: str | None = None
    caught: str | None = None
    barred: str = ""
    pivot: str | None = None
    undone: bool = False
    tried: bool = False

    def knowing(self, results: Mapping[str, Known]) -> Here:
        """The same place with more results."""
        return replace(self, results=Layers(results, self.results))

    @property
    def forward_only(self) -> bool:
        """Whether nothing that is done there is undone."""
        return self.pivot is not None and not self.undone

    def find(self, ground: Ground, name: str) -> Found | None:
        """What a name that is no reserved word stands for."""
        if name == INDEX and self.innermost is not None:
            return Found(Source("index", self.innermost), int)
        if name in self.elements:
            element = self.elements[name]
            return Found(Source("item", element.for_each), element.type)
        known = self.results.get(name)
        if known is not None:
            return Found(Source("step", name), known.type, known.missing)
        if ground.fields is None:
            return None if name in ground.names else Found(Source("input", path=(name,)), Any)
        return Found(Source("input", path=(name,)), ground.fields[name]) if name in ground.fields else None

    def candidates(self, ground: Ground) -> list[str]:
        """All names that stand for something there, but for reserved words."""
        own = [INDEX] if self.innermost is not None else []
        return [*(ground.fields or ()), *self.results, *self.elements, *own]
