"""Binding: a saga's input checked and stored, and a job's arguments read back by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from saga.core.text import JSON, Unencodable, canonical, dumps, refuse_large
from saga.errors import InputError, SagaError
from saga.language.codec import adapter, allows_none, decode, encode, problems_of
from saga.language.definition import Saga
from saga.language.job import Job
from saga.language.source import INPUT, OWN_RESULT, Wire


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
        results: names to results as they are seen from the job's place, as JSON; what never came to be, or whose outcome is
            unknown, is not in it.
        reserved: reserved words to values that are ready to pass.
        items: each ``ForEach`` around the job to its element, as JSON; likewise ``indexes``, from 0.
        errors: each ``Try`` in whose ``otherwise`` the job is to why it came to that.
    """

    input: JSON
    results: Mapping[str, JSON]
    reserved: Mapping[str, Any]
    items: Mapping[str, JSON] = field(default_factory=dict)
    indexes: Mapping[str, int] = field(default_factory=dict)
    errors: Mapping[str, str | None] = field(default_factory=dict)


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
    for name, taker in saga.required_fields.items():
        if name not in stored:
            raise InputError(f"{place}: the input has no field {name!r}, which {saga.what(taker)} needs")
    if saga.input is None:
        _check_untyped(saga, stored)
    return Given(stored, original)


def _check_untyped(saga: Saga, stored: dict[str, JSON]) -> None:
    """Check an input that has no type: its fields have to fit the parameters that take them."""
    place = f"saga {saga.name!r}"
    for name in stored:
        if name in saga.names:
            raise InputError(
                f"{place}: the input has a field of the same name as {saga.what(name)}; rename one of them"
            )
    for taker, wire in saga.input_wires:
        path = wire.source.path
        if path and path[0] not in stored:
            continue
        words = ".".join(path) or "input"
        where = f"{place}: the input does not fit: {words!r}, which {saga.what(taker)} takes"
        try:
            _value(wire, Values(stored, {}, {}))
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


def arguments(saga: Saga, job: Job, values: Values) -> dict[str, Any]:  # noqa: ARG001 - whose job it is
    """The keyword arguments of one attempt.

    Raises:
        BindingError: a stored value does not fit its parameter; the text never shows the value.
    """
    return _bound(job.task, job.wires, values)


def child_input(saga: Saga, name: str, values: Values, limit: int) -> Given:
    """The input of the child that a ``SubSaga`` starts.

    Args:
        name: the name or address of the ``SubSaga``.
        limit: the largest input, in bytes of JSON.

    Raises:
        BindingError: a stored value does not fit its field; the text never shows the value.
        InputError: the input does not fit the child, or cannot be stored.
    """
    terms = saga.terms(name)
    return read_input(terms.saga, _bound(f"the input of saga {terms.saga.name!r}", terms.wires, values), limit)


def _bound(owner: str, wires: Sequence[Wire], values: Values) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for wire in wires:
        try:
            found[wire.parameter] = _value(wire, values)
        except _Absent:
            if not wire.optional:
                raise BindingError(f"parameter {wire.parameter!r} of {owner}: there is no value for it") from None
        except ValidationError as error:
            raise BindingError(
                f"parameter {wire.parameter!r} of {owner}: the stored value does not fit: {problems_of(error)}"
            ) from None
    return found


class _Absent(LookupError):
    pass


def _value(wire: Wire, values: Values) -> Any:
    source = wire.source
    match source.origin:
        case "step":
            return _result(wire, values.results)
        case "reserved":
            return _reserved(wire, values)
        case "item":
            return _typed(wire, values.items[source.name], source.path)
        case "index":
            return values.indexes[source.name]
        case "caught":
            return values.errors.get(source.name)
        case "constant":
            return source.value
    name, *path = source.path
    if not isinstance(values.input, dict) or name not in values.input:
        raise _Absent(name)
    return _typed(wire, values.input[name], tuple(path))


def _result(wire: Wire, results: Mapping[str, JSON]) -> Any:
    source = wire.source
    try:
        if source.name in results:
            return _typed(wire, results[source.name], source.path)
    except _Absent:
        if not wire.missing:
            raise
    if wire.missing and wire.optional:
        raise _Absent(source.name)
    return None


def _reserved(wire: Wire, values: Values) -> Any:
    if wire.source == INPUT:
        return _typed(wire, values.input, ())
    value = values.reserved[wire.source.name]
    if wire.source == OWN_RESULT:
        return None if value is None else decode(value, wire.annotation)
    return value


def _typed(wire: Wire, value: JSON, path: tuple[str, ...]) -> Any:
    """A stored value as the type of the parameter, or, if that has none, as the type with which it was declared."""
    if wire.annotation is Any:
        return _walk(decode(value, wire.declared), path) if path else decode(value, wire.declared)
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
