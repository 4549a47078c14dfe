"""SubSaga: a saga of its own as one step of another."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import typing_extensions

from saga.errors import DefinitionError, brief
from saga.language.annotation import fields_of, needed_fields, record
from saga.language.definition import Saga
from saga.language.fixed import Made
from saga.language.signature import Parameter, Signature
from saga.language.source import INPUT, Value, Wire
from saga.language.visibility import Here, Known
from saga.language.walk import Built, Construct, Taken, Walk


class SubSaga(Made, Construct):
    """A saga of its own as one step: it has an id and a log of its own, and is undone as a whole.

    The fields of its input are bound by name like a step's arguments; of an untyped input, the fields that its steps take.
    Later steps take, under its name, the mapping of its results.

    Args:
        saga: the child.
        name: unique in the saga; the child's name by default.
        bind: where fields get their values, if not by their names: ``{"to": "input.email", "kind": Value("sold")}``.
        pivot: it is the point of no return. A child with a point of no return of its own, a pivot or a step with ``confirm``,
            has to be.
    """

    word = "SubSaga"
    saga: Saga[Any]
    name: str | None
    bind: Mapping[str, str | Value] | None
    pivot: bool

    def __init__(
        self,
        saga: Saga[Any],
        *,
        name: str | None = None,
        bind: Mapping[str, str | Value] | None = None,
        pivot: bool = False,
    ) -> None:
        given = MappingProxyType(dict(bind)) if isinstance(bind, Mapping) else bind
        vars(self).update(saga=saga, name=name, bind=given, pivot=pivot)

    def title(self) -> str | None:
        if self.name is None and isinstance(self.saga, Saga):
            return self.saga.name
        return self.name or ""

    def untitled(self, saga: str) -> None:
        if not isinstance(self.saga, Saga):
            raise DefinitionError(f"saga {saga!r}: SubSaga({brief(self.saga)}) expected a Saga")
        super().untitled(saga)

    def build(self, walk: Walk, here: Here) -> Built:
        name, place = self.title() or "", walk.place(self)
        self._check(place, walk, here)
        signature = Signature(tuple(_fields(self.saga, self.bind or {})), Any, f"the input of saga {self.saga.name!r}")
        wires = walk.scope(place, here).wire(signature, self.bind or {})
        walk.taken += [Taken(name, wire) for wire in wires]
        walk.terms[name] = SubSagaTerms(self.saga, wires)
        walk.children.append(self.saga)
        kind = walk.returns[name] = _result(self.saga)
        doc: dict[str, Any] = {"child": name, "saga": self.saga.name}
        if self.pivot:
            doc["pivot"] = True
        return Built(doc, {name: Known(kind)}, kind, name if self.pivot else None)

    def _check(self, place: str, walk: Walk, here: Here) -> None:
        if not isinstance(self.saga, Saga):
            raise DefinitionError(f"{place}: saga={brief(self.saga)} expected a Saga")
        if not isinstance(self.pivot, bool):
            raise DefinitionError(f"{place}: pivot={brief(self.pivot)} expected True or False")
        if self.bind is not None and not (
            isinstance(self.bind, Mapping) and all(isinstance(key, str) for key in self.bind)
        ):
            raise DefinitionError(
                f"{place}: bind={brief(self.bind)} expected a mapping of fields to sources, such as {{'to': 'input.email'}}"
            )
        inside = [self.saga, *self.saga.children()]
        if walk.ground.saga in (each.name for each in inside):
            raise DefinitionError(
                f"{place}: saga {walk.ground.saga!r} would be inside itself, by that name; rename one of them"
            )
        if self.pivot:
            walk.check_pivot(place, here)
        elif self.saga.point_of_no_return is not None:
            raise DefinitionError(
                f"{place}: the child cannot be undone once {self.saga.point_of_no_return}; "
                f"say pivot=True, where the saga may have its own point of no return"
            )


def _fields(saga: Saga[Any], bind: Iterable[str]) -> list[Parameter]:
    """The fields of a saga's input; of one without a type those that its steps take, and any that is bound if one takes all."""
    fields = fields_of(saga.input) if saga.input is not None else None
    if fields is not None:
        needed = needed_fields(saga.input)
        return [Parameter(name, kind, name not in needed) for name, kind in fields.items()]
    found: dict[str, Parameter] = {}
    for _, wire in saga.input_wires:
        path = wire.source.path
        if wire.source == INPUT:
            found |= {name: found.get(name) or Parameter(name, Any, optional=True) for name in bind}
        elif path[0] not in found:
            kind = wire.annotation if len(path) == 1 else Any
            found[path[0]] = Parameter(path[0], kind, path[0] not in saga.required_fields)
    return list(found.values())


def _result(saga: Saga[Any]) -> Any:
    """The type of a saga's results."""
    fields = {
        name: typing_extensions.NotRequired[known.type] if known.missing else known.type
        for name, known in saga.results.items()
    }
    return record(saga.name, fields)


@dataclass(frozen=True, slots=True)
class SubSagaTerms:
    """What only the definition says of a ``SubSaga``.

    Attributes:
        saga: the child.
        wires: where the fields of its input come from.
    """

    saga: Saga[Any]
    wires: tuple[Wire, ...]
