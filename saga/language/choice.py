"""Choice: goes one of several ways, by an answer that is decided once."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import Enum
from types import MappingProxyType
from typing import Any

from celery.app.task import Task

from saga.core.text import JSON
from saga.errors import DefinitionError, brief, closest
from saga.language.annotation import shown
from saga.language.fit import can_be, possible
from saga.language.fixed import Made
from saga.language.job import Job
from saga.language.retry import Retry
from saga.language.signature import signature_of
from saga.language.visibility import Here, Known
from saga.language.walk import Built, Construct, Walk, as_items, check_items

TIMEOUT = 10.0
"""Seconds that the function of a ``Choice`` may take."""


class Choice(Made, Construct):
    """One of several ways, by an answer that is decided once and kept in the log.

    Args:
        on: where the answer comes from: a path, such as ``"input.plan"`` or ``"step.field"``, or a plain function whose
            parameters are bound by name. The function runs in a worker, for ten seconds at most; it may be called again, but
            only the answer in the log counts.
        cases: answers to sequences, which may be empty; or one sequence, which is gone if the answer is ``True``. Answers are
            texts, numbers, ``True``, ``False`` and members of enums, compared as JSON: ``1`` is neither ``"1"`` nor ``True``.
        otherwise: the sequence for every other answer.
        name: unique in the saga, required unless ``on`` is a function with a name. Later steps take the answer by this name.
    """

    word = "Choice"
    on: str | Callable[..., Any]
    cases: Mapping[Any, Sequence[Construct]] | Sequence[Construct]
    otherwise: Sequence[Construct]
    name: str | None

    def __init__(
        self,
        on: str | Callable[..., Any],
        cases: Mapping[Any, Sequence[Construct]] | Sequence[Construct],
        *,
        otherwise: Sequence[Construct] = (),
        name: str | None = None,
    ) -> None:
        given: Any = as_items(cases)
        if isinstance(cases, Mapping):
            given = MappingProxyType({answer: as_items(way) for answer, way in cases.items()})
        vars(self).update(on=on, cases=given, otherwise=as_items(otherwise), name=name)

    def title(self) -> str | None:
        if self.name is None and inspect.isfunction(self.on) and self.on.__name__.isidentifier():
            return self.on.__name__
        return self.name or ""

    def sequences(self) -> Iterator[Sequence[Any]]:
        ways = self.cases.values() if isinstance(self.cases, Mapping) else [self.cases]
        return (way for way in (*ways, self.otherwise) if isinstance(way, tuple))

    def build(self, walk: Walk, here: Here) -> Built:
        return _Building(self, walk, here).build()


def answer_json(answer: object) -> JSON:
    """An answer as it is stored and compared.

    Raises:
        ValueError: it is no text, no number, neither ``True`` nor ``False``, and not ``None``.
    """
    plain = answer.value if isinstance(answer, Enum) else answer
    if plain is None or isinstance(plain, (bool, int)):
        return plain
    if isinstance(plain, str):
        return str(plain)
    if isinstance(plain, float) and math.isfinite(plain):
        return plain
    raise ValueError(f"an answer is a text, a number, True, False or None, not a {type(answer).__name__}")


class _Building:
    """A ``Choice`` at its place in a saga."""

    def __init__(self, choice: Choice, walk: Walk, here: Here) -> None:
        self.choice = choice
        self.walk = walk
        self.here = here
        self.name = choice.title() or ""
        self.place = walk.place(choice)
        self.doc: dict[str, Any] = {"choice": self.name}

    def build(self) -> Built:
        cases = self._cases()
        kind = self.walk.returns[self.name] = self._asked()
        answers = self._answers(cases, kind)
        gives = {self.name: Known(kind)}
        inside = self.here.knowing(gives)
        ways = [self.walk.sequence(way, inside) for way in cases.values()]
        otherwise = self.walk.sequence(self.choice.otherwise, inside)
        self.doc["cases"] = [[answer, way.doc] for answer, way in zip(answers, ways, strict=True)]
        self.doc["otherwise"] = otherwise.doc
        why = f"it is in a way of Choice {self.name!r}, which may not be taken"
        for way in (*ways, otherwise):
            gives = gives | way.missing(why)
        return Built(self.doc, gives, kind, self._pivot(answers, [*ways, otherwise]))

    def _cases(self) -> Mapping[Any, Sequence[Construct]]:
        """The ways by their answers as they were given."""
        cases, otherwise = self.choice.cases, self.choice.otherwise
        check_items(self.place, "otherwise", otherwise)
        if not isinstance(cases, (Mapping, tuple)):
            raise DefinitionError(
                f"{self.place}: cases={brief(cases)} expected a mapping of answers to lists of steps, "
                f"such as {{'enterprise': [Step(...)]}}, or one list for the answer True"
            )
        if not cases:
            raise DefinitionError(f"{self.place}: it has no cases; give it a sequence for an answer, or drop it")
        if isinstance(cases, tuple):
            return {True: cases}
        for answer, way in cases.items():
            check_items(self.place, f"cases[{brief(answer)}]", way)
        return cases

    def _asked(self) -> Any:
        """Find where the answer comes from; gives its type."""
        on = self.choice.on
        if isinstance(on, str):
            wire = self.walk.scope(self.place, self.here).follow("on", on)
            self.doc["on"] = self.walk.take(self.name, wire, on)
            return wire.annotation
        if not inspect.isfunction(on):
            what = f"the task {on.name}, which is a step's; decide by its result" if isinstance(on, Task) else brief(on)
            raise DefinitionError(
                f"{self.place}: on={what}; expected a path, such as 'input.plan', or a plain function"
            )
        task = f"{on.__module__}.{on.__qualname__}"
        signature = signature_of(self.place, task, on, owner="the function")
        wires = self.walk.scope(self.place, self.here).wire(signature, {})
        self.walk.functions[self.name] = Job(task, wires, Any, Retry.none(), TIMEOUT, None, None, transactional=False,
                                             kind="function", function=on)  # fmt: skip
        self.doc |= {"on": None, "function": task}
        return signature.returns

    def _answers(self, cases: Mapping[Any, Any], kind: Any) -> list[JSON]:
        if isinstance(self.choice.cases, tuple) and not (can_be(kind, True) or can_be(kind, False)):
            raise DefinitionError(
                f"{self.place}: one sequence is for an answer that is True or False, "
                f"but {self._what()} is {shown(kind)}; give a mapping of answers to sequences"
            )
        found: list[JSON] = []
        for answer in cases:
            try:
                plain = answer_json(answer)
            except ValueError:
                plain = None
            if plain is None:
                raise DefinitionError(
                    f"{self.place}: the case {brief(answer)} is no answer that can be compared; "
                    f"expected a text, a number, True, False or a member of an enum"
                )
            if not can_be(kind, plain):
                raise DefinitionError(
                    f"{self.place}: the case {brief(answer)} is none that {self._what()} can give, "
                    f"which is {shown(kind)}{self._meant(plain, kind)}"
                )
            if any(plain == other and type(plain) is type(other) for other in found):
                raise DefinitionError(f"{self.place}: two cases are {plain!r} as JSON; drop one of them")
            found.append(plain)
        return found

    def _what(self) -> str:
        on = self.choice.on
        return f"on={on!r}" if isinstance(on, str) else f"the result of on={on.__qualname__}"

    def _meant(self, answer: JSON, kind: Any) -> str:
        """A hint at the answer that may have been meant."""
        known = possible(kind) or []
        alike = [each for each in known if each == answer or str(each).lower() == str(answer).lower()]
        near = alike[0] if alike else closest(str(answer), [each for each in known if isinstance(each, str)], 0.5)
        return f"; did you mean {near!r}?" if near is not None else "; drop it, or correct the annotation"

    def _pivot(self, answers: Sequence[JSON], ways: Sequence[Built]) -> str | None:
        """The pivot of the first way, if each has one."""
        found = [way.pivot for way in ways]
        if not any(found):
            return None
        words = [f"the case {answer!r}" for answer in answers] + ["otherwise"]
        without = [word for word, pivot in zip(words, found, strict=True) if pivot is None]
        if without:
            first = next(pivot for pivot in found if pivot)
            raise DefinitionError(
                f"{self.place}: {first!r} is a pivot, but {', '.join(without)} has none; "
                f"give each way one, otherwise= included, or none, and move it before or after"
            )
        return found[0]
