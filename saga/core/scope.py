"""Scope: a part of a saga that goes forward or back as one. The outermost is the saga itself."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from saga.errors import Cause

OUTERMOST = ""
"""The name of the scope that is the whole saga."""


class Direction(StrEnum):
    """Which way a scope goes."""

    FORWARD = "forward"
    BACKWARD = "backward"


_BACKWARD = Direction.BACKWARD


class Scope(NamedTuple):
    """Where a scope stands. A tuple, since its counts change with most entries of every log.

    Attributes:
        reason: why it is rolled back.
        cause: the failure for which it is, if there was one.
        open: how many actions have an attempt that runs or is undecided; of the scopes inside it, too, as with all counts.
        left: how many actions are ahead: not settled, on a way that was not given up.
        owed: how many undos are not settled.
    """

    direction: Direction = Direction.FORWARD
    reason: str | None = None
    cause: Cause | None = None
    open: int = 0
    left: int = 0
    owed: int = 0

    @property
    def backward(self) -> bool:
        """Whether it is rolled back."""
        return self.direction is _BACKWARD

    @property
    def awaits_actions(self) -> bool:
        """Whether it is rolled back, and no undo may start yet."""
        return self.direction is _BACKWARD and self.open > 0

    @property
    def over(self) -> bool:
        """Whether nothing is left to be done in the way it goes."""
        return not (self.open or self.owed) if self.direction is _BACKWARD else not self.left

    def counted(self, opened: int, left: int, owed: int) -> Scope:
        """With so many more open, left and owed."""
        direction, reason, cause, was_open, was_left, was_owed = self
        return Scope(direction, reason, cause, was_open + opened, was_left + left, was_owed + owed)

    def turned_back(self, reason: str, cause: Cause | None) -> Scope:
        """From now on rolled back."""
        return self._replace(direction=Direction.BACKWARD, reason=reason, cause=cause)
