"""Annotation: what the type of an input, a result or a parameter says of its values."""

from __future__ import annotations

import collections.abc
import dataclasses
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import typing_extensions
from pydantic import BaseModel
from pydantic.errors import PydanticUserError
from typing_extensions import is_typeddict

from saga.errors import DefinitionError
from saga.language.codec import adapter, typed_dict_fields

_LISTS = (list, set, frozenset, collections.abc.Sequence, collections.abc.Iterable, collections.abc.Collection,
          collections.abc.Set, collections.abc.MutableSequence)  # fmt: skip


@contextmanager
def resolving(what: str) -> Iterator[None]:
    """Report an annotation with a name that does not exist, or that is not an expression.

    Raises:
        DefinitionError: it cannot be resolved.
    """
    try:
        yield
    except (NameError, AttributeError, SyntaxError) as error:
        raise DefinitionError(
            f"{what} cannot be resolved ({error}); import that name when the module runs, not only under TYPE_CHECKING"
        ) from None


def check_type(what: str, annotation: Any) -> None:
    """Make sure that values of a type can be stored and read back.

    Raises:
        DefinitionError: pydantic does not know how, or an annotation in that type cannot be resolved.
    """
    if annotation is Any:
        return
    try:
        with resolving(f"{what}: an annotation of its type"):
            adapter(annotation).rebuild()
    except PydanticUserError as error:
        problem = str(error).split("\n", 1)[0]
        raise DefinitionError(f"{what} has a type that cannot be stored as JSON: {problem}") from None


def fields_of(annotation: Any) -> Mapping[str, Any] | None:
    """The fields of a pydantic model, dataclass or typed dictionary, with their types; ``None`` for any other type."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return {name: info.annotation for name, info in annotation.model_fields.items()}
    if dataclasses.is_dataclass(annotation) and isinstance(annotation, type):
        hints = typing.get_type_hints(annotation, include_extras=True)
        return {item.name: hints[item.name] for item in dataclasses.fields(annotation)}
    if is_typeddict(annotation):
        return {name: hint for name, (hint, _) in typed_dict_fields(annotation).items()}
    return None


def promised_fields(annotation: Any) -> frozenset[str]:
    """The fields that every value of such a type has."""
    if is_typeddict(annotation):
        return frozenset(name for name, (_, required) in typed_dict_fields(annotation).items() if required)
    return frozenset(fields_of(annotation) or ())


def needed_fields(annotation: Any) -> frozenset[str]:
    """The fields that have to be given to make a value of such a type."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return frozenset(name for name, info in annotation.model_fields.items() if info.is_required())
    if dataclasses.is_dataclass(annotation):
        return frozenset(
            item.name
            for item in dataclasses.fields(annotation)
            if item.init and item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING
        )
    return promised_fields(annotation)


def at(annotation: Any, path: Sequence[str]) -> Any:
    """The type of a field of a field; ``Any`` if that is not known."""
    for name in path:
        annotation = (fields_of(plain(annotation)) or {}).get(name, Any)
    return annotation


def plain(annotation: Any) -> Any:
    """A type without ``None`` and without what ``Annotated`` adds, if one type is left."""
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        return plain(typing.get_args(annotation)[0])
    if origin in (typing.Union, types.UnionType):
        kinds = [kind for kind in typing.get_args(annotation) if kind is not type(None)]
        return plain(kinds[0]) if len(kinds) == 1 else annotation
    return annotation


def element_of(annotation: Any) -> Any:
    """The type of the elements of a list; ``Any`` if that is not known."""
    annotation = plain(annotation)
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in _LISTS and len(arguments) == 1:
        return arguments[0]
    if origin is tuple and len(arguments) == 2 and arguments[1] is Ellipsis:
        return arguments[0]
    return Any


def either(one: Any, other: Any) -> Any:
    """The type of what is of one of two types."""
    if one is Any or other is Any:
        return Any
    try:
        return one if one == other else typing.Union[one, other]  # noqa: UP007 - annotations need not know the operator
    except TypeError:  # an annotation that cannot be hashed
        return Any


def record(name: str, fields: Mapping[str, Any]) -> Any:
    """The type of a mapping with such keys; those that are ``NotRequired`` may be missing."""
    make: Any = typing_extensions.TypedDict
    return make(name, dict(fields))


def takes_text(annotation: Any) -> bool:
    """Whether a text is a value of the annotated type."""
    annotation = getattr(annotation, "__supertype__", getattr(annotation, "__value__", annotation))
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        return takes_text(typing.get_args(annotation)[0])
    if origin in (typing.Union, types.UnionType):
        return any(map(takes_text, typing.get_args(annotation)))
    return annotation in (Any, str, object)


def shown(annotation: Any) -> str:
    """A type as its definition has it."""
    return annotation.__name__ if isinstance(annotation, type) and not typing.get_args(annotation) else str(annotation)
