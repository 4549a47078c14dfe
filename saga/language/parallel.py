"""Parallel: branches that run at the same time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from saga.errors import DefinitionError
from saga.language.fixed import Made
from saga.language.visibility import Here, Known
from saga.language.walk import Built, Construct, Walk


class Parallel(Made, Construct):
    """Branches that run at the same time; each is a step, any other construct, or a list that forms a sequence."""

    word = "Parallel"
    branches: tuple[Construct | list[Any], ...]

    def __init__(self, *branches: Construct | list[Any]) -> None:
        vars(self)["branches"] = tuple(list(branch) if isinstance(branch, list) else branch for branch in branches)

    def title(self) -> str | None:
        return None

    def sequences(self) -> Iterator[Sequence[Any]]:
        return map(sequence_of, self.branches)

    def build(self, walk: Walk, here: Here) -> Built:
        place = f"saga {walk.ground.saga!r}"
        if not self.branches:
            raise DefinitionError(f"{place}: the Parallel after {walk.last!r} is empty; give it branches or drop it")
        gives: dict[str, Known] = {}
        docs = []
        inside = replace(here, barred="inside a Parallel")
        for branch in self.branches:
            items = sequence_of(branch)
            if not items:
                raise DefinitionError(
                    f"{place}: a branch of the Parallel after {walk.last!r} is empty; give it at least one Step"
                )
            built = walk.sequence(items, inside)
            gives.update(built.gives)
            docs.append(built.doc)
        return Built({"parallel": docs}, gives)


def sequence_of(branch: Any) -> Sequence[Any]:
    """A branch as a sequence: a list is one, anything else is its only item."""
    return branch if isinstance(branch, list) else [branch]
