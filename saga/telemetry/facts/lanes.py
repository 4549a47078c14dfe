"""Facts about lanes: who takes them, and who could not."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from saga.telemetry.facts.attempts import AttemptName
from saga.telemetry.stream import Fact


@dataclass(frozen=True, slots=True)
class LaneNotClaimed(Fact):
    """A lane that a message offered could not be claimed, for a reason that is its own."""

    saga_id: UUID
    lane: str
    error: Exception


@dataclass(frozen=True, slots=True)
class LanesNotClaimed(Fact):
    """Lanes could not be claimed together, because of one of them; each is then claimed by itself.

    Attributes:
        lanes: how many.
    """

    lanes: int
    error: Exception


@dataclass(frozen=True, slots=True)
class LanesLeft(Fact):
    """Lanes that this worker does not run could not be offered to others; the relay will.

    Attributes:
        lanes: how many.
    """

    lanes: int
    error: Exception


@dataclass(frozen=True, slots=True)
class LanesFreed(Fact):
    """A worker owned lanes that nothing in it ran, and is about to give them back.

    Attributes:
        lanes: how many.
    """

    worker: int
    lanes: int


@dataclass(frozen=True, slots=True)
class LaneDamaged(Fact):
    """A lane whose log cannot be read or written is about to be parked.

    Attributes:
        problem: why, with the saga's name in it.
    """

    saga_id: UUID
    lane: str
    problem: str


@dataclass(frozen=True, slots=True)
class LaneNotGivenBack(Fact):
    """A lane whose log takes no entry could not be parked either."""

    attempt: AttemptName
    error: Exception


# --- the relay --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ChoreDone(Fact):
    """The relay has done something to lanes, and it is committed.

    Attributes:
        chore: what, as a verb: ``time out``.
        lanes: to how many, at least one.
    """

    chore: str
    lanes: int


@dataclass(frozen=True, slots=True)
class ChoreFailed(Fact):
    """The relay could not do something to lanes together, because of one of them; it goes on one by one."""

    chore: str
    error: Exception


@dataclass(frozen=True, slots=True)
class LaneLeftAside(Fact):
    """The relay leaves a lane alone for a moment: somebody may be in the middle of an append to its saga."""

    saga_id: UUID
    lane: str
    chore: str
    error: Exception


@dataclass(frozen=True, slots=True)
class LanePutOff(Fact):
    """The relay is about to park a lane to which it cannot do what is to be done."""

    saga_id: UUID
    lane: str
    problem: str


@dataclass(frozen=True, slots=True)
class SignalPutOff(Fact):
    """The relay cannot take a signal of a caller's transaction into its saga's log, and is about to put it off."""

    saga_id: UUID
    number: int
    error: Exception


@dataclass(frozen=True, slots=True)
class LaneNotPutOff(Fact):
    """The relay could not park such a lane either."""

    saga_id: UUID
    lane: str
    error: Exception
