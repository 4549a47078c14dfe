"""Values to JSON and back, by their type annotations.

What a step returns is stored as JSON and given to the next step as the type that either of the two declares: ``Decimal``,
``datetime``, ``UUID``, enums, dataclasses, typed dictionaries and pydantic models come back as they were. Models are
stored by the names of their fields, without computed fields, and read by name or alias. A secret (``SecretStr``) is
refused, because pydantic writes only its mask.
"""

from __future__ import annotations

import json
import sys
import types
import typing
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from functools import lru_cache
from typing import Any, NotRequired, Required

import typing_extensions
from pydantic import RootModel, Secret, SecretBytes, SecretStr, TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError, to_jsonable_python
from typing_extensions import ReadOnly, is_typeddict

from saga.core.text import JSON, Unencodable, canonical, dumps, refuse_large
from saga.errors import ResultError

_QUALIFIERS: tuple[Any, ...] = (NotRequired, ReadOnly, Required)
_PLAIN = (str, int, float, bool)
_MASK = str(SecretStr("secret"))


def encode(value: object, annotation: Any = Any, *, as_given: bool = False) -> JSON:
    """The JSON form of a value: by its declared type if that fits, else by its own type.

    Equal values have one form: a set, which has no order, becomes a sorted list.

    Args:
        as_given: of pydantic models, only the fields that were set.

    Raises:
        Unencodable: it has no JSON form.
    """
    try:
        if value is None:
            return None
        if as_given:
            encoded = adapter(Any).dump_python(
                value, mode="json", by_alias=False, round_trip=True, exclude_unset=True, warnings=False
            )
        elif annotation is Any or annotation is None:
            encoded = to_jsonable_python(value, by_alias=False, round_trip=True)
        else:
            encoded = adapter(annotation).dump_python(
                value, mode="json", by_alias=False, round_trip=True, warnings=False
            )
        if _MASK in repr(encoded) and _holds_secret(adapter(annotation).dump_python(value, warnings=False)):
            raise ValueError("it holds a secret, of which only the mask would be stored; pass a reference to it")
        return _in_order(encoded, value)
    except (PydanticSerializationError, ValueError, TypeError, RecursionError) as error:
        raise Unencodable(f"{type(value).__name__} cannot be stored as JSON: {error}") from None


def _in_order(encoded: JSON, value: Any) -> JSON:
    """The JSON form of a value with its former sets in one order: the order of a set differs from process to process."""
    if not encoded or not isinstance(encoded, (dict, list)):
        return encoded
    if isinstance(value, RootModel):
        return _in_order(encoded, value.root)
    if isinstance(encoded, dict):
        if not isinstance(value, Mapping):
            return {name: _in_order(item, getattr(value, name, None)) for name, item in encoded.items()}
        if len(encoded) != len(value):
            return encoded
        return {
            name: _in_order(item, value.get(name, other))
            for (name, item), other in zip(encoded.items(), value.values(), strict=True)
        }
    if not isinstance(value, (AbstractSet, Sequence)) or len(encoded) != len(value):
        return encoded
    items = [
        _in_order(item, other) if item and isinstance(item, (dict, list)) else item
        for item, other in zip(encoded, value, strict=True)
    ]
    return sorted(items, key=canonical) if isinstance(value, AbstractSet) else items


def _holds_secret(value: object) -> bool:
    if isinstance(value, dict):
        return any(map(_holds_secret, value.values()))
    if isinstance(value, (list, tuple, set, frozenset)):
        return any(map(_holds_secret, value))
    return isinstance(value, (Secret, SecretBytes, SecretStr))


def decode(value: JSON, annotation: Any) -> Any:
    """The value as the annotated type, from its JSON form.

    Raises:
        pydantic.ValidationError: the JSON does not fit.
    """
    if annotation is Any:
        return value
    return adapter(annotation).validate_json(json.dumps(value), by_alias=True, by_name=True)


def result_json(value: object, annotation: Any, limit: int, *, as_declared: bool = True) -> JSON:
    """The JSON form of a step's result.

    Args:
        as_declared: it has to be readable as the type that the task declares.

    Raises:
        ResultError: it cannot be stored, or not be read as that type.
    """
    if value is None:
        return None
    try:
        refuse_large(value, limit)
        encoded = encode(value, annotation)
        text = dumps(encoded, limit)
    except Unencodable as error:
        raise ResultError(f"the result cannot be stored: {error}") from None
    if as_declared and annotation is not Any and not (annotation in _PLAIN and type(value) is annotation):
        _check_declared(value, text, annotation)
    return encoded


def _check_declared(value: object, text: str, annotation: Any) -> None:
    """Whether the next step will be able to read a result as its type."""
    try:
        adapter(annotation).validate_json(text, by_alias=True, by_name=True)
    except ValidationError as error:
        declared = getattr(annotation, "__name__", annotation)
        raise ResultError(
            f"the task returned a {type(value).__name__}, which is not the {declared} that it declares: {problems_of(error)}; "
            f"return that, or declare what it returns"
        ) from None


def problems_of(error: ValidationError) -> str:
    """What does not fit, in words, without the values."""
    return "; ".join(_problem(item) for item in error.errors(include_url=False, include_input=False))


def _problem(item: Any) -> str:
    where = ".".join(map(str, item["loc"]))
    return f"{where}: {item['msg']}" if where else str(item["msg"])


def allows_none(annotation: Any) -> bool:
    """Whether ``None`` is a value of the annotated type."""
    if annotation is Any or annotation is None or annotation is type(None):
        return True
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        return allows_none(typing.get_args(annotation)[0])
    return origin in (typing.Union, types.UnionType) and any(allows_none(part) for part in typing.get_args(annotation))


def typed_dict_fields(annotation: Any) -> dict[str, tuple[Any, bool]]:
    """The keys of a typed dictionary, each with its type and whether it must be there."""
    found = {}
    for name, hint in typing_extensions.get_type_hints(annotation, include_extras=True).items():
        required = name in annotation.__required_keys__
        origin: Any = typing.get_origin(hint)
        while origin in _QUALIFIERS:
            required = origin is Required or (origin is ReadOnly and required)
            (hint,) = typing.get_args(hint)
            origin = typing.get_origin(hint)
        found[name] = (hint, required)
    return found


def _readable(annotation: Any) -> Any:
    """The same type in a form that pydantic can read: before Python 3.12 it needs ``TypedDict`` from ``typing_extensions``."""
    if sys.version_info >= (3, 12) or not is_typeddict(annotation) or type(annotation).__module__ != "typing":
        return annotation
    fields = {
        name: Required[_readable(hint)] if required else NotRequired[_readable(hint)]
        for name, (hint, required) in typed_dict_fields(annotation).items()
    }
    make: Any = typing_extensions.TypedDict
    same = make(annotation.__name__, fields)
    if config := getattr(annotation, "__pydantic_config__", None):
        same.__pydantic_config__ = config
    return same


@lru_cache(maxsize=4096)
def _cached_adapter(annotation: Any) -> TypeAdapter[Any]:
    return TypeAdapter(_readable(annotation))


def adapter(annotation: Any) -> TypeAdapter[Any]:
    """The pydantic adapter of a type, built once.

    Raises:
        pydantic.PydanticSchemaGenerationError: pydantic has no way to read that type.
    """
    try:
        return _cached_adapter(annotation)
    except TypeError:  # an annotation that cannot be hashed
        return TypeAdapter(_readable(annotation))
