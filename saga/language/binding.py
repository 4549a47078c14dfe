"""Binding: a saga's input checked and stored, and a job's arguments read back by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from saga.core.text import JSON, Unencodable, canonical, dumps, refuse_large
from saga.errors import InputError, SagaError
from saga.language.codec import adapter, allows_none, decode, encode, problems_of
from saga.language.definition import Job, Saga
from saga.language.wiring import Wire, fields_of


class BindingError(SagaError):
    """A stored value does not fit the parameter or the result that it is read as."""


@dataclass(frozen=True, slots=True)
class Given:
    """A saga's input as it was given and as it is stored.

    Attributes:
        stored: JSON, with the defaults of its type filled in.
        original: JSON as it was given, to compare starts under one key; of pydantic models, the fields that were set.
    """

    stored: JSON
    original: JSON


@dataclass(frozen=True, slots=True)
class Values:
    """What a job's arguments are taken from.

    Attributes:
        input: the saga's input, as JSON.
        results: step name to result, as JSON; a step whose outcome is unknown is not in it.
        reserved: reserved words to values that are ready to pass.
    """

    input: JSON
    results: Mapping[str, JSON]
    reserved: Mapping[str, Any]


def read_input(saga: Saga, given: Any, limit: int) -> Given:
    """Check the input that a saga is started with.

    Raises:
        InputError: a field is missing or of the wrong type, or the input cannot be stored; the text names the field.
    """
    place = f"saga {saga.name!r}"
    try:
        refuse_large(given, limit)
        original = encode({} if given is None else given, as_given=True)
        canonical(original)
        stored = _validated(saga, given)
        dumps(stored, limit)
    except (Unencodable, ValueError) as error:
        raise InputError(f"{place}: the input cannot be stored: {error}") from None
    if not isinstance(stored, dict):
        raise InputError(f"{place}: expected a mapping of field names to values as input, got {type(given).__name__}")
    for field, step in saga.required_fields.items():
        if field not in stored:
            raise InputError(f"{place}: the input has no field {field!r}, which step {step!r} needs")
    if saga.input is None:
        _check_untyped(saga, stored)
    return Given(stored, original)


def _check_untyped(saga: Saga, stored: dict[str, JSON]) -> None:
    """Check an input that has no type: its fields have to fit the parameters that take them."""
    place = f"saga {saga.name!r}"
    for field in stored:
        if field in saga.outline.steps:
            raise InputError(f"{place}: the input has a field of the same name as step {field!r}; rename one of them")
    for step, wire in saga.input_wires:
        field = wire.source.path[0] if wire.source.path else "input"
        if wire.source.path and field not in stored:
            continue
        where = f"{place}: the input does not fit: {'.'.join(wire.source.path) or 'input'!r}, which step {step!r} takes"
        try:
            _value(saga, wire, Values(stored, {}, {}))
        except ValidationError as error:
            raise InputError(f"{where}: {problems_of(error)}") from None
        except _Absent as error:
            if not wire.optional:
                raise InputError(f"{where}: there is no {str(error)!r} in it") from None


def _validated(saga: Saga, given: Any) -> JSON:
    if saga.input is None:
        return encode({} if given is None else given)
    try:
        value = adapter(saga.input).validate_python({} if given is None else given, by_alias=True, by_name=True)
    except ValidationError as error:
        place = f"saga {saga.name!r}: the input does not fit {saga.input.__name__}"
        raise InputError(f"{place}: {problems_of(error)}") from None
    return encode(value, saga.input)


def arguments(saga: Saga, job: Job, values: Values) -> dict[str, Any]:
    """The keyword arguments of one attempt.

    Raises:
        BindingError: a stored value does not fit its parameter; the text never shows the value.
    """
    found: dict[str, Any] = {}
    for wire in job.wires:
        try:
            found[wire.parameter] = _value(saga, wire, values)
        except _Absent:
            if not wire.optional:
                raise BindingError(f"parameter {wire.parameter!r} of {job.task}: there is no value for it") from None
        except ValidationError as error:
            raise BindingError(
                f"parameter {wire.parameter!r} of {job.task}: the stored value does not fit: {problems_of(error)}"
            ) from None
    return found


class _Absent(LookupError):
    pass


def _value(saga: Saga, wire: Wire, values: Values) -> Any:
    source = wire.source
    if source.origin == "constant":
        return source.value
    if source.origin == "reserved":
        return _reserved(saga, wire, values)
    if source.origin == "step":
        if source.name not in values.results:
            return None
        return _typed(wire, values.results[source.name], saga.actions[source.name].returns, source.path)
    field, *path = source.path
    if not isinstance(values.input, dict) or field not in values.input:
        raise _Absent(field)
    declared = (fields_of(saga.input) or {}).get(field, Any)
    return _typed(wire, values.input[field], declared, tuple(path))


def _reserved(saga: Saga, wire: Wire, values: Values) -> Any:
    if wire.source.name == "input":
        return _typed(wire, values.input, saga.input or Any, ())
    value = values.reserved[wire.source.name]
    if wire.source.name == "result":
        return None if value is None else decode(value, wire.annotation)
    return value


def _typed(wire: Wire, value: JSON, declared: Any, path: tuple[str, ...]) -> Any:
    """A stored value as the type of the parameter, or, if that has none, as the type with which it was declared."""
    if wire.annotation is Any:
        return _walk(decode(value, declared), path) if path else decode(value, declared)
    found = _walk(value, path)
    if found is None and not allows_none(wire.annotation):
        return None
    return decode(found, wire.annotation)


def _walk(value: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        if value is None:
            return None
        try:
            value = value[name] if isinstance(value, Mapping) else getattr(value, name)
        except (KeyError, AttributeError):
            raise _Absent(name) from None
    return value
