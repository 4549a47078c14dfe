"""Beginning: what a saga may begin with, by its stored definition."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from saga.core.address import name_of
from saga.core.rows import Place

_NAMED = ("step", "choice", "for_each", "child", "sleep", "wait", "try")


def may_begin(steps: Sequence[Any], places: Sequence[Place]) -> bool:
    """Whether these may be the first rows: all first steps; else such as are decided about, or names of what comes first."""
    first = _first_steps(steps, "main")
    if first is not None:
        return {place.lane: place.step for place in places if place.attempt == 1} == first and len(places) == len(first)
    names = set(_first_names(steps))
    return bool(places) and all(
        place.attempt in (1, None) and name_of(place.step) in names and place.lane.partition("/")[0] == "main"
        for place in places
    )


def _first_steps(steps: Sequence[Any], lane: str) -> dict[str, str] | None:
    """Lane to step of what is run first, if all of that are steps."""
    first = steps[0]
    if "step" in first:
        return {lane: first["step"]}
    found: dict[str, str] = {}
    for branch in first.get("parallel", ()):
        name = _first_name(branch)
        part = None if name is None else _first_steps(branch, f"{lane}/{name}")
        if part is None:
            return None
        found |= part
    return found or None


def _first_name(branch: Sequence[Any]) -> str | None:
    first = branch[0]
    if "parallel" in first:
        return _first_name(first["parallel"][0])
    name: str | None = first.get("step")
    return name


def _first_names(steps: Sequence[Any]) -> Iterator[str]:
    """The names of what a sequence may begin with. Branches of a graph that wait for others do not begin it."""
    if not steps:
        return
    first = steps[0]
    yield from (first[word] for word in _NAMED if word in first)
    waiting = first.get("after", {})
    branches = [*first.get("parallel", ()), *first.get("graph", ()), *([first["body"]] if "try" in first else [])]
    for place, branch in enumerate(branches):
        if str(place) not in waiting:
            yield from _first_names(branch)
