"""Source: where the value of a parameter, or what a path leads to, comes from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

RESERVED = ("input", "idempotency_key", "action_key", "error", "result", "connection", "session")
"""Names that mean the same in every saga."""

INDEX = "index"
"""The parameter that gets the position of an element, in the body of a ``ForEach``."""


@dataclass(frozen=True, slots=True)
class Value:
    """A constant for a parameter, in ``bind``: ``bind={"kind": Value("sold")}``."""

    value: Any


@dataclass(frozen=True, slots=True)
class Source:
    """Where a value comes from.

    Attributes:
        origin: ``input``, ``step`` (the result of a step or of another construct), ``item`` (an element of a ``ForEach``),
            ``index`` (its position), ``caught`` (why a ``Try`` came to its ``otherwise``), ``constant`` or ``reserved``.
        name: that of the step, the construct or the reserved word.
        path: what to take out of it, field by field.
        value: the constant.
    """

    origin: str
    name: str = ""
    path: tuple[str, ...] = ()
    value: Any = None


INPUT = Source("reserved", "input")
"""The whole input."""
OWN_RESULT = Source("reserved", "result")
"""The result of the action, in its compensation and its confirmation."""


@dataclass(frozen=True, slots=True)
class Wire:
    """One parameter and its source.

    Attributes:
        annotation: the type it wants; ``Any`` if it says none.
        optional: it has a default, and the source may be absent.
        declared: the type with which the source was declared, of the input that of the field; ``Any`` if it has none.
        missing: the source may never come to be; then the parameter gets its default, or ``None`` if it has none.
    """

    parameter: str
    source: Source
    annotation: Any = Any
    optional: bool = False
    declared: Any = Any
    missing: bool = False
