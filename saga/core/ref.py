"""Ref: which attempt is meant."""

from __future__ import annotations

from typing import NamedTuple


class AttemptRef(NamedTuple):
    """One attempt of a step's action, or of its undo. A tuple, since one is made for every entry of every log.

    Attributes:
        attempt: its number, from 1.
    """

    lane: str
    step: str
    attempt: int
    undo: bool = False

    @property
    def next(self) -> AttemptRef:
        """The attempt after it."""
        return AttemptRef(self.lane, self.step, self.attempt + 1, self.undo)
