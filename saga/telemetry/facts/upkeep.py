"""Facts about what runs beside the attempts: the relay, the upkeep and the liveness of a process."""

from __future__ import annotations

from dataclasses import dataclass

from saga.telemetry.stream import Fact


@dataclass(frozen=True, slots=True)
class RelayLooked(Fact):
    """The relay has looked for work.

    Attributes:
        mine: this process was the relay; else another one is.
        seconds: how long it took.
    """

    mine: bool
    seconds: float


@dataclass(frozen=True, slots=True)
class RelayFailed(Fact):
    """A look of the relay raised; it looks again."""

    error: Exception


@dataclass(frozen=True, slots=True)
class RelayCutOff(Fact):
    """The relay reaches the database no more; told once, until it does again.

    Attributes:
        why: in words for an operator.
    """

    why: str


@dataclass(frozen=True, slots=True)
class RelayBack(Fact):
    """The relay reaches the database again."""


@dataclass(frozen=True, slots=True)
class WorkersLost(Fact):
    """The relay takes workers for gone, and is about to give back what they had.

    Attributes:
        workers: their numbers.
    """

    workers: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ClockStepped(Fact):
    """The relay has noticed that the database's clock has stepped, and is about to set times right.

    Attributes:
        back: by how many seconds it stepped back; ``None``: forth again, or no relay has looked for long.
    """

    back: int | None


@dataclass(frozen=True, slots=True)
class TimesNotSet(Fact):
    """The relay could not set times right after a step of the database's clock.

    Attributes:
        final: it does not try again; they come as late as the clock stepped back.
    """

    error: Exception
    final: bool


@dataclass(frozen=True, slots=True)
class UpkeepCutOff(Fact):
    """The upkeep of a worker process cannot reach the database; it looks again."""

    error: Exception


@dataclass(frozen=True, slots=True)
class UpkeepFailed(Fact):
    """Part of the upkeep of a worker process raised; it looks again."""

    error: Exception


@dataclass(frozen=True, slots=True)
class ReliefFailed(Fact):
    """What relieves those who wait for a long attempt raised; it looks again."""

    error: Exception


@dataclass(frozen=True, slots=True)
class NumberTaken(Fact):
    """The lock of a worker's new number is somebody else's; it takes the next number."""

    number: int


@dataclass(frozen=True, slots=True)
class LockRegained(Fact):
    """A worker holds the lock that shows it alive again."""

    worker: int


@dataclass(frozen=True, slots=True)
class LockMissed(Fact):
    """A worker has lost that lock and could not take it yet; it tries again."""

    worker: int
    error: Exception


@dataclass(frozen=True, slots=True)
class EndNotNoted(Fact):
    """A process ends, and could not say so in the table of workers; the relay finds out."""

    error: Exception
