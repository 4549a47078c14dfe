"""Fixed: what cannot be changed once it is made, and what such values that hold others have in common."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import FrozenInstanceError
from typing import Any


class Fixed:
    """What cannot be changed once it is made."""

    def __setattr__(self, name: str, value: Any) -> None:
        raise FrozenInstanceError(f"{self!r} cannot be changed: {name!r}; make another one")

    def __delattr__(self, name: str) -> None:
        raise FrozenInstanceError(f"{self!r} cannot be changed: {name!r}; make another one")


class Made(Fixed):
    """A value that keeps what it was made of under the names of the parameters: equal to another that was made alike."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(self._arguments())})"

    def _arguments(self) -> Iterator[str]:
        """What to write to make the same value."""
        for name, parameter in inspect.signature(type(self)).parameters.items():
            value = vars(self)[name]
            if parameter.kind is parameter.VAR_POSITIONAL:
                yield from map(_shown, value)
            elif parameter.kind is not parameter.KEYWORD_ONLY:
                yield _shown(value)
            elif value != parameter.default:
                yield f"{name}={_shown(value)}"

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and vars(other) == vars(self)

    def __hash__(self) -> int:
        return hash((type(self).__name__, *map(_hashable, vars(self).values())))


def _shown(value: Any) -> str:
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{key!r}: {_shown(item)}' for key, item in value.items())}}}"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_shown, value))}]"
    return getattr(value, "__qualname__", None) or repr(value)


def _hashable(value: Any) -> Any:
    if isinstance(value, Mapping):
        return tuple((_hashable(key), _hashable(item)) for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return tuple(map(_hashable, value))
    try:
        hash(value)
    except TypeError:
        return type(value)
    return value
