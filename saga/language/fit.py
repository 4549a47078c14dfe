"""Fit: whether what one step returns can be what another takes, found from their types when the saga is built.

A value goes from step to step as JSON. So the JSON that one type writes is compared with the JSON that the other reads, as
pydantic describes both. If a type has code of its own for that, nothing is said about it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from functools import lru_cache
from typing import Any

from pydantic import PydanticUserError
from pydantic.json_schema import GenerateJsonSchema

from saga.language.codec import adapter


class Fit(IntEnum):
    """How well a type fits another, the worst last."""

    ALWAYS = 0
    PERHAPS = 1
    NEVER = 2


Schema = Mapping[str, Any]
_DEPTH = 12
_ANYTHING: Schema = {}
_DECIMAL = "decimal"
_MOMENTS = ("date-time", "date", "time", "duration")
_NUMBERS = ("integer", "number")


class _Quietly(GenerateJsonSchema):
    """Describes a type; it tells a ``Decimal`` from texts and numbers, and does not warn of odd defaults."""

    ignored_warning_kinds = {"skipped-choice", "non-serializable-default", "skipped-discriminator"}  # noqa: RUF012

    def decimal_schema(self, schema: Any) -> dict[str, Any]:  # noqa: ARG002 - its limits say nothing of its kind
        written = {"type": "string", "format": _DECIMAL}
        return (
            written if self.mode == "serialization" else {"anyOf": [{**written, "type": "number"}, {"type": "string"}]}
        )


def fit(source: Any, path: Sequence[str], target: Any) -> Fit:
    """How well the value at a path, in values of one type, fits another type."""
    if source is Any or target is Any or (source == target and not path):
        return Fit.ALWAYS
    try:
        return _fit(source, tuple(path), target)
    except TypeError:  # an annotation that cannot be hashed
        return _fit.__wrapped__(source, tuple(path), target)


@lru_cache(maxsize=4096)
def _fit(source: Any, path: tuple[str, ...], target: Any) -> Fit:
    written, read = _written(source), _read(target)
    if written is None or read is None:
        return Fit.ALWAYS
    there = written.at(path)
    return Fit.ALWAYS if there is None else _compare(there, read)


@dataclass(frozen=True, slots=True)
class _Shape:
    """A description of some JSON.

    Attributes:
        definitions: the descriptions to which it refers by name.
        depth: inside how many other descriptions it is; their settings are not known here.
    """

    schema: Schema
    definitions: Mapping[str, Schema] = field(default_factory=dict)
    depth: int = 0

    def inside(self, schema: Any) -> _Shape:
        known = schema if isinstance(schema, Mapping) else _ANYTHING
        return _Shape(known, self.definitions, self.depth + 1)

    def choices(self) -> Iterator[_Shape]:
        """The kinds of JSON that it may be, one by one."""
        schema = self.schema
        if "$ref" in schema:
            yield from _Shape(
                self.definitions.get(schema["$ref"].rpartition("/")[2], _ANYTHING), self.definitions, self.depth
            ).choices()
            return
        several = schema.get("anyOf") or schema.get("oneOf")
        if several:
            for each in several:
                yield from _Shape(each, self.definitions, self.depth).choices()
        else:
            yield self

    def at(self, path: Sequence[str]) -> _Shape | None:
        """The description at a path in it; ``None`` if that is not known."""
        found = self
        for name in path:
            kinds = [kind for kind in found.choices() if kind.schema.get("type") != "null"]
            if len(kinds) != 1 or name not in kinds[0].schema.get("properties", {}):
                return None
            found = _Shape(kinds[0].schema["properties"][name], self.definitions)
        return found


def _written(annotation: Any) -> _Shape | None:
    return _described(annotation, "serialization")


def _read(annotation: Any) -> _Shape | None:
    """From which JSON a type is read; ``None`` if that is not known, also if fields have other names."""
    shape = _described(annotation, "validation")
    if shape is None or shape != _described(annotation, "validation", by_alias=True):
        return None
    return shape


def _described(annotation: Any, mode: Any, *, by_alias: bool = False) -> _Shape | None:
    try:
        known = adapter(annotation)
        if _has_code(known.core_schema):
            return None
        schema = known.json_schema(mode=mode, by_alias=by_alias, schema_generator=_Quietly)
    except (PydanticUserError, RecursionError):
        return None
    return _Shape(schema, schema.get("$defs", {}))


def _has_code(schema: Any) -> bool:
    """Whether a type reads or writes its values by code of its own."""
    ahead, seen = [schema], set[int]()
    while ahead:
        part = ahead.pop()
        if id(part) in seen:
            continue
        seen.add(id(part))
        if isinstance(part, dict):
            kind = part.get("type")
            if isinstance(kind, str) and kind.startswith("function-") and kind != "function-after":
                return True
            ahead += [value for name, value in part.items() if name != "metadata"]
        elif isinstance(part, (list, tuple)):
            ahead += part
    return False


# --- one description with another -------------------------------------------------------------------------------------


def _compare(written: _Shape, read: _Shape) -> Fit:
    """Each kind of JSON that may be written, with the kind that reads it best. ``None`` fits every parameter."""
    if written.depth > _DEPTH:
        return Fit.ALWAYS
    targets = list(read.choices())
    sources = [kind for kind in written.choices() if kind.schema.get("type") != "null"]
    if not sources:
        return Fit.ALWAYS if any(kind.schema.get("type", "null") == "null" for kind in targets) else Fit.PERHAPS
    found = {min(_compare_kinds(source, target) for target in targets) for source in sources}
    return found.pop() if len(found) == 1 else Fit.PERHAPS


def _compare_kinds(written: _Shape, read: _Shape) -> Fit:
    source, target = written.schema, read.schema
    kind, wanted = source.get("type"), target.get("type")
    if kind is None or wanted is None or not isinstance(kind, str) or not isinstance(wanted, str):
        return Fit.ALWAYS
    if kind == wanted == "object":
        return _compare_objects(written, read)
    if kind == wanted == "array":
        return _compare_items(written, read)
    if kind == wanted:
        return _compare_values(source, target)
    if kind == "string" and source.get("format") in (_DECIMAL, "uuid", *_MOMENTS):
        number = source["format"] == _DECIMAL and wanted in _NUMBERS
        return Fit.NEVER if not number else Fit.ALWAYS if wanted == "number" else Fit.PERHAPS
    if kind == "boolean" and target.get("format") == _DECIMAL:
        return Fit.NEVER
    if kind in _NUMBERS and wanted == "string" and (read.depth or target.get("format") in _MOMENTS):
        return Fit.PERHAPS  # a moment in seconds; inside a model, its settings may allow more
    if kind == "object" and "prefixItems" in target:
        return Fit.PERHAPS  # a named tuple is read from names, too
    return _OTHERS.get((kind, wanted), Fit.NEVER)


_OTHERS: Mapping[tuple[str, str], Fit] = {
    ("integer", "number"): Fit.ALWAYS,
    ("boolean", "integer"): Fit.ALWAYS,
    ("boolean", "number"): Fit.ALWAYS,
    ("number", "integer"): Fit.PERHAPS,
    ("integer", "boolean"): Fit.PERHAPS,
    ("number", "boolean"): Fit.PERHAPS,
    ("string", "integer"): Fit.PERHAPS,
    ("string", "number"): Fit.PERHAPS,
    ("string", "boolean"): Fit.PERHAPS,
}
"""What pydantic reads as another kind: always, or for some values. It refuses everything else."""


def _compare_values(source: Schema, target: Schema) -> Fit:
    """Compare two kinds that differ only in the values that they allow."""
    given, allowed = _values(source), _values(target)
    if given is not None and allowed is not None:
        common = [value for value in given if value in allowed]
        return Fit.ALWAYS if len(common) == len(given) else Fit.PERHAPS if common else Fit.NEVER
    one, other = source.get("format"), target.get("format")
    if one and other and one != other and (one, other) != ("date", "date-time"):
        return Fit.PERHAPS
    return Fit.ALWAYS


def _values(schema: Schema) -> list[Any] | None:
    if "const" in schema:
        return [schema["const"]]
    found: list[Any] | None = schema.get("enum")
    return found


def _compare_items(written: _Shape, read: _Shape) -> Fit:
    """Compare two sequences: each has items of one kind, or a number of items, each of its own kind."""
    given, taken = written.schema.get("prefixItems"), read.schema.get("prefixItems")
    if given and taken and len(given) != len(taken):
        return Fit.NEVER
    ones, others = given or [written.schema.get("items")], taken or [read.schema.get("items")]
    if not all(ones) or not all(others):
        return Fit.ALWAYS
    pairs = zip(ones, others, strict=True) if given and taken else itertools.product(ones, others)
    worst = max(_compare(written.inside(one), read.inside(other)) for one, other in pairs)
    if given:
        return worst
    return Fit.PERHAPS if taken else min(worst, Fit.PERHAPS)  # it may be empty, or of another length


def _compare_objects(written: _Shape, read: _Shape) -> Fit:
    """Compare a kind that has fields with a kind that takes these fields, or any fields."""
    given, taken = written.schema.get("properties", {}), read.schema.get("properties", {})
    more, others = written.schema.get("additionalProperties"), read.schema.get("additionalProperties")
    open_ended = more or "properties" not in written.schema
    missing = set(read.schema.get("required", ())) - given.keys()
    if missing and not open_ended:
        return Fit.NEVER
    worst = Fit.PERHAPS if missing else Fit.ALWAYS
    for name, one in given.items():
        found = _compare_field(written.inside(one), read, taken.get(name, others))
        worst = max(worst, found if name in written.schema.get("required", ()) else min(found, Fit.PERHAPS))
    if more and others is not None:
        worst = max(worst, min(_compare_field(written.inside(more), read, others), Fit.PERHAPS))
    return worst


def _compare_field(written: _Shape, read: _Shape, wanted: Any) -> Fit:
    """Compare a field with what is wanted in its place: a description, anything, or no such field."""
    return Fit.NEVER if wanted is False else _compare(written, read.inside(wanted))


# --- what a type may be written as ------------------------------------------------------------------------------------


def can_be(annotation: Any, value: Any) -> bool:
    """Whether a value of that type can be that text, number, truth or ``None`` as JSON. ``True`` if that is not known."""
    kinds = _kinds(annotation)
    return kinds is None or any(_can_be(kind.schema, value) for kind in kinds)


def can_be_list(annotation: Any) -> bool:
    """Whether a value of that type can be a list as JSON. ``True`` if that is not known."""
    kinds = _kinds(annotation)
    return kinds is None or any(kind.schema.get("type", "array") == "array" for kind in kinds)


def can_be_time(annotation: Any) -> bool:
    """Whether a value of that type can be a moment or a duration as JSON. ``True`` if that is not known."""
    kinds = _kinds(annotation)
    texts = [kind.schema for kind in kinds or () if kind.schema.get("type", "string") == "string"]
    return kinds is None or any(text.get("format", "date-time") in ("date-time", "duration") for text in texts)


def possible(annotation: Any) -> list[Any] | None:
    """All that a value of that type can be as JSON, if they are listed: those of a ``Literal``, an enum, ``bool``."""
    found: list[Any] = []
    for kind in _kinds(annotation) or (_Shape(_ANYTHING),):
        values = [True, False] if kind.schema.get("type") == "boolean" else _values(kind.schema)
        if values is None:
            return None
        found += values
    return found


def _kinds(annotation: Any) -> list[_Shape] | None:
    if annotation is Any:
        return None
    written = _written(annotation)
    return None if written is None else list(written.choices())


def _can_be(schema: Schema, value: Any) -> bool:
    listed = _values(schema)
    if listed is not None:
        return any(_is_same(value, each) for each in listed)
    kind = schema.get("type")
    if not isinstance(kind, str):
        return True
    if isinstance(value, bool) or value is None:
        return kind == ("null" if value is None else "boolean")
    if isinstance(value, str):
        return kind == "string"
    return kind == "number" or (kind == "integer" and float(value).is_integer())


def _is_same(one: Any, other: Any) -> bool:
    """Whether two values are the same JSON: ``1`` is not ``True``."""
    return bool(one == other) and isinstance(one, bool) == isinstance(other, bool)
