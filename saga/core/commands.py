"""What to do: the commands the machine gives, each a frozen dataclass, named in the imperative."""

from __future__ import annotations

from dataclasses import dataclass

from saga.core.due import Due
from saga.core.outline import DEADLINE
from saga.core.ref import AttemptRef


@dataclass(frozen=True, slots=True)
class Command:
    """Something to be done next in one lane."""

    @property
    def lane(self) -> str:
        """The lane."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class AttemptCommand(Command):
    """Something to be done about an attempt of a step's action, or of its undo."""

    ref: AttemptRef

    @property
    def lane(self) -> str:
        """The lane of the step."""
        return self.ref.lane


@dataclass(frozen=True, slots=True)
class RunStep(AttemptCommand):
    """Make an attempt.

    Attributes:
        due: not before; ``None`` is at once.
    """

    due: Due | None = None


@dataclass(frozen=True, slots=True)
class AskPolicy(AttemptCommand):
    """Settle an attempt that timed out, was lost or interrupted: ask the retry policy what follows."""


@dataclass(frozen=True, slots=True)
class KeepWatch(Command):
    """Roll the saga back if it has not finished by its own deadline."""

    due: Due

    @property
    def lane(self) -> str:
        """The lane of the deadline, which runs no step."""
        return DEADLINE


@dataclass(frozen=True, slots=True)
class Wait(AttemptCommand):
    """Nothing to start: a worker holds the lane, with an attempt open or a short wait before the next."""
