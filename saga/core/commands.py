"""What to do: the commands the machine gives, each a frozen dataclass, named in the imperative."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Command:
    """Something to be done next in one lane."""

    lane: str


@dataclass(frozen=True, slots=True)
class RunStep(Command):
    """Make an attempt of a step's action, or of its undo.

    Attributes:
        due: not before; ``None`` is at once, or ``wait`` seconds from now where that is set.
    """

    step: str
    attempt: int
    undo: bool = False
    due: datetime | None = None
    wait: float | None = None


@dataclass(frozen=True, slots=True)
class AskPolicy(Command):
    """Settle an attempt that timed out, was lost or interrupted: ask the retry policy what follows."""

    step: str
    attempt: int
    undo: bool = False


@dataclass(frozen=True, slots=True)
class KeepWatch(Command):
    """Roll the saga back if it has not finished by its own deadline."""

    due: datetime | None = None
    wait: float | None = None


@dataclass(frozen=True, slots=True)
class Wait(Command):
    """Nothing to start: a worker holds the lane, with an attempt open or a short wait before the next."""

    step: str
    attempt: int
    undo: bool = False
