"""Cause: the failure that a saga was rolled back for, or is stuck on; what is kept of an exception once it is text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol


class Failed(Protocol):
    """What is known of a step that has failed."""

    @property
    def error(self) -> str | None: ...
    @property
    def error_type(self) -> str | None: ...
    @property
    def code(self) -> Any: ...
    @property
    def details(self) -> Any: ...


@dataclass(frozen=True, slots=True)
class Cause:
    """A failure as the log has it, for programs to go by.

    Attributes:
        type: the exception's class, such as ``"Abort"`` or ``"ValueError"``; ``None`` in logs that do not have it.
        text: what the exception said.
        code: what ``Abort`` was given, as JSON; likewise ``details``.
        step: the step that failed.
        undo: it is the undo of that step that failed.
    """

    type: str | None
    text: str
    code: Any = None
    details: Any = None
    step: str = ""
    undo: bool = False

    @classmethod
    def of(cls, step: str, undo: bool, track: Failed) -> Cause:
        """The cause that a step which has failed is."""
        text = track.error or ""
        if track.error_type is not None and text.startswith(track.error_type):
            rest = text.removeprefix(track.error_type)
            text = rest.removeprefix(": ") if not rest or rest.startswith(": ") else text
        return cls(track.error_type, text, track.code, track.details, step, undo)

    def __str__(self) -> str:
        said = ": ".join(part for part in (self.type, self.text) if part)
        return f"{'undo of ' if self.undo else ''}{self.step}: {said}"
