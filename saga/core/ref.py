"""Ref: which attempt is meant, and of what: a step has an action, and may have an undo, a confirmation and a check."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, NamedTuple
from uuid import UUID


class Phase(StrEnum):
    """What an attempt is one of. Its value is what the kinds of its entries begin with."""

    STEP = "step"
    COMPENSATION = "compensation"
    CONFIRMATION = "confirmation"
    CHECK = "check"

    @property
    def of(self) -> str:
        """What it says before the step's name, in words: nothing for the action, or such as ``undo of``."""
        return _WORDS[self]

    @property
    def data(self) -> dict[str, Any]:
        """How the data of an entry says it, where the kind does not."""
        if self is Phase.STEP:
            return {}
        return {"undo": True} if self is Phase.COMPENSATION else {"phase": str(self)}

    @staticmethod
    def read(data: Mapping[str, Any]) -> tuple[dict[str, Phase], dict[str, Any]]:
        """What the data of an entry says of it, as ``phase``, and the rest of the data.

        Raises:
            ValueError: it says what there is not.
        """
        rest = dict(data)
        undo, said = rest.pop("undo", False), rest.pop("phase", Phase.STEP)
        if type(undo) is not bool:
            raise ValueError("its undo is of the wrong type")
        return {"phase": Phase.COMPENSATION if undo else Phase(said)}, rest


_WORDS = {
    Phase.STEP: "",
    Phase.COMPENSATION: "undo of ",
    Phase.CONFIRMATION: "confirmation of ",
    Phase.CHECK: "check of ",
}


STARTS = {f"{phase}_started": phase for phase in Phase}
"""The kinds of the entries that start an attempt, and of what."""


def way(undo: bool) -> Phase:
    """The phase of a step's undo, or of its action."""
    return Phase.COMPENSATION if undo else Phase.STEP


class AttemptRef(NamedTuple):
    """One attempt of a step. A tuple, since one is made for every entry of every log.

    Attributes:
        attempt: its number, from 1.
    """

    lane: str
    step: str
    attempt: int
    phase: Phase = Phase.STEP

    @property
    def undo(self) -> bool:
        """Whether it is one of the step's undo."""
        return self.phase is Phase.COMPENSATION

    @property
    def next(self) -> AttemptRef:
        """The attempt after it."""
        return AttemptRef(self.lane, self.step, self.attempt + 1, self.phase)


class Parent(NamedTuple):
    """Where in another saga a saga is a part of it.

    Attributes:
        step: the address there.
    """

    saga_id: UUID
    lane: str
    step: str

    @property
    def data(self) -> dict[str, str]:
        """How the first entry of the log says it."""
        return {"saga": str(self.saga_id), "lane": self.lane, "step": self.step}

    @classmethod
    def read(cls, data: Mapping[str, str]) -> Parent:
        """What the first entry of a log says of it.

        Raises:
            KeyError, ValueError: it says something else.
        """
        return cls(UUID(data["saga"]), data["lane"], data["step"])
