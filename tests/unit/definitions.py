"""Definitions for unit tests: steps of functions, what is built of them, and the text with which they are refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from saga.errors import DefinitionError
from saga.language.builder import Builder
from saga.language.step import Step
from saga.language.visibility import Known
from saga.language.walk import Walk

from .helpers import task_of


def step(run: Callable[..., Any] | str, **options: Any) -> Step:
    """A step with nothing to undo; a text is the name of one that takes and gives nothing."""
    if isinstance(run, str):
        return Step(task_of(named(run)), **{"compensate": None} | options)
    return Step(task_of(run), **{"compensate": None} | options)


def named(name: str) -> Callable[..., Any]:
    """A function of that name that takes and gives nothing."""

    def function() -> None: ...

    function.__name__ = function.__qualname__ = name
    return function


def taking(parameter: str, name: str = "subject", **options: Any) -> Step:
    """A step that wants that parameter, which may have an annotation and a default: ``"count: int = 1"``."""
    return step(function_of(parameter, name), **options)


def function_of(parameters: str, name: str = "subject") -> Callable[..., Any]:
    """A function with such parameters."""
    found: dict[str, Any] = {"__name__": __name__}
    exec(f"from typing import *\ndef {name}({parameters}): ...", found)
    function: Callable[..., Any] = found[name]
    return function


class Definition:
    """What is built of a saga named ``shop``."""

    def __init__(self, *items: Any, input: Any = None, name: str = "shop") -> None:
        builder = Builder(name, input)
        self._built = builder.build(items)
        self.builder = builder
        self.walk: Walk = builder.walk
        self.doc: list[Any] = self._built.doc

    @property
    def results(self) -> dict[str, Known]:
        """What can be named at the end."""
        return dict(self._built.gives)

    @property
    def types(self) -> dict[str, Any]:
        """The types of what can be named at the end."""
        return {name: known.type for name, known in self._built.gives.items()}

    @property
    def missing(self) -> set[str]:
        """What may be missing at the end."""
        return {name for name, known in self._built.gives.items() if known.missing}

    def sources(self, name: str = "subject", kind: str = "actions") -> dict[str, tuple[str, str, tuple[str, ...]]]:
        """Where a job's arguments come from: parameter to origin, name and path."""
        wires = getattr(self.walk, kind)[name].wires
        return {wire.parameter: (wire.source.origin, wire.source.name, wire.source.path) for wire in wires}


def refused(*items: Any, input: Any = None, name: str = "shop") -> str:
    """The text with which a saga of some items is refused."""
    with pytest.raises(DefinitionError) as caught:
        Definition(*items, input=input, name=name)
    return str(caught.value)


def lacks(text: str, words: list[str]) -> list[str]:
    """The words that are not in a text."""
    return [word for word in words if word not in text]
