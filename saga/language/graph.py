"""Graph: items that run as soon as what they depend on is done."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from saga.errors import DefinitionError, brief, cut, did_you_mean
from saga.language.fixed import Made
from saga.language.parallel import sequence_of
from saga.language.visibility import Here, Known, Layers
from saga.language.walk import Built, Construct, Walk

_NONE: Mapping[str, Sequence[str]] = MappingProxyType({})


class Graph(Made, Construct):
    """Items that run as soon as what they depend on is done, side by side where nothing is in the way.

    An item depends on those whose results the parameters of its tasks name: of the action, the compensation, ``check`` and
    ``confirm``; and on those that ``after`` lists. It is undone before they are.

    Args:
        items: each is a step, any other construct, or a list that forms a sequence.
        after: what has to be done first, though no parameter says so: ``{"order_certificate": ["create_dns"]}``. A name inside
            an item stands for that item.
    """

    word = "Graph"
    items: tuple[Construct | list[Any], ...]
    after: Mapping[str, Sequence[str]]

    def __init__(self, *items: Construct | list[Any], after: Mapping[str, Sequence[str]] = _NONE) -> None:
        vars(self)["items"] = tuple(list(item) if isinstance(item, list) else item for item in items)
        vars(self)["after"] = _frozen(after)

    def title(self) -> str | None:
        return None

    def sequences(self) -> Iterator[Sequence[Any]]:
        return map(sequence_of, self.items)

    def build(self, walk: Walk, here: Here) -> Built:
        if not self.items:
            place = f"saga {walk.ground.saga!r}"
            raise DefinitionError(f"{place}: the Graph after {walk.last!r} is empty; give it items or drop it")
        siblings = _Siblings(self, walk, replace(here, barred="inside a Graph"))
        siblings.build_all()
        gives: dict[str, Known] = {}
        for index in range(len(self.items)):
            gives.update(siblings.built[index].gives)
        docs = [siblings.built[index].doc for index in range(len(self.items))]
        waits = {str(index): sorted(others) for index, others in sorted(siblings.waits.items()) if others}
        return Built({"graph": docs, "after": waits}, gives)


def _frozen(after: Any) -> Any:
    if not isinstance(after, Mapping):
        return after
    return MappingProxyType({name: tuple(on) if isinstance(on, (list, tuple)) else on for name, on in after.items()})


class _Siblings(Mapping[str, Known]):
    """The results of the items, as the item sees them that is being built: one that it names is built first, and waited for."""

    def __init__(self, graph: Graph, walk: Walk, here: Here) -> None:
        self._items = [sequence_of(item) for item in graph.items]
        self._walk = walk
        self._here = replace(here, results=Layers(self, here.results))
        names = [[name for name, _ in walk.names_in(item)] for item in self._items]
        self._homes = {name: index for index, found in enumerate(names) for name in found}
        self._labels = [next(iter(found), "nothing") for found in names]
        self._place = f"saga {walk.ground.saga!r}, the Graph of {cut(', '.join(map(repr, self._labels)), 200)}"
        self._open: list[int] = []
        self._after = self._listed(graph.after)
        self.built: dict[int, Built] = {}
        self.waits: dict[int, set[int]] = {}

    def build_all(self) -> None:
        """Build each item, those first that others name."""
        for index, items in enumerate(self._items):
            if not items:
                raise DefinitionError(f"{self._place}: an item is empty; give it at least one Step")
            self._build(index)

    def _build(self, index: int) -> None:
        if index in self.built:
            return
        if index in self._open:
            self._refuse_circle(index)
        self._open.append(index)
        self.waits[index] = set()
        for other in self._after[index]:
            self._wait_for(other)
        self.built[index] = self._walk.sequence(self._items[index], self._here)
        self._open.pop()

    def _wait_for(self, index: int) -> None:
        self.waits[self._open[-1]].add(index)
        self._build(index)

    def __getitem__(self, name: str) -> Known:
        index = self._homes[name]
        if not self._open or index == self._open[-1]:
            raise KeyError(name)
        self._wait_for(index)
        return self.built[index].gives[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._homes)

    def __len__(self) -> int:
        return len(self._homes)

    def _refuse_circle(self, index: int) -> None:
        labels = [repr(self._labels[each]) for each in (*self._open[self._open.index(index) :], index)]
        circle = f"{labels[0]} waits for " + ", which waits for ".join(labels[1:])
        raise DefinitionError(
            f"{self._place}: it goes round in a circle: {circle}; take one of the names out of the parameters, or out of after="
        )

    def _listed(self, after: Any) -> list[list[int]]:
        """What ``after`` says, by the places of the items."""
        found: list[list[int]] = [[] for _ in self._items]
        if not isinstance(after, Mapping):
            raise DefinitionError(f"{self._place}: after={brief(after)} expected a mapping, {_EXPECTED}")
        for name, others in after.items():
            if not isinstance(others, tuple):
                raise DefinitionError(
                    f"{self._place}: after={{{name!r}: {brief(others)}}} expected a list, {_EXPECTED}"
                )
            found[self._home(name)] += [self._home(other) for other in others]
        return found

    def _home(self, name: Any) -> int:
        home = self._homes.get(name) if isinstance(name, str) else None
        if home is None:
            hint = did_you_mean(str(name), self._homes, likeness=0.5)
            raise DefinitionError(f"{self._place}: after= names {name!r}, which is nothing in this Graph{hint}")
        return home


_EXPECTED = "such as after={'order_certificate': ['create_dns']}"
