"""Plan: what strikes when. It follows from the seed and the length of the run, and from nothing else."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

T = TypeVar("T")


class Fault(StrEnum):
    """What can be done to a stack. The words are those of the report."""

    KILL_PROCESS = "pool process killed"
    KILL_WORKER = "worker killed"
    KILL_ALL = "all killable workers killed at once"
    RESTART_FAST = "Postgres restarted (fast)"
    RESTART_IMMEDIATE = "Postgres restarted (immediate)"
    RESTART_BROKER = "broker restarted, empty"
    DUPLICATE = "message duplicated"
    DROP = "message dropped"
    CANCEL = "saga cancelled"
    SUSPEND = "worker suspended"
    RESUME = "worker resumed"


@dataclass(frozen=True, order=True)
class Strike:
    """A fault and its moment.

    Attributes:
        at: seconds from the start of the run.
        pick: from 0 to 1, exclusive: chooses the victim among those that are there by then.
    """

    at: float
    fault: Fault
    pick: float

    def choose(self, victims: Sequence[T]) -> T | None:
        """The victim; `None` where there is none."""
        return victims[int(self.pick * len(victims))] if victims else None


KILLS = (Fault.KILL_PROCESS, Fault.KILL_WORKER, Fault.KILL_ALL)
KILL_WEIGHTS = (5, 4, 1)
RESTARTS = (Fault.RESTART_FAST, Fault.RESTART_IMMEDIATE)
SUSPENDED = (1.0, 5.0)
"""Seconds, from and to. Well below the shortest timeout of the shop's steps: the effect of an attempt that sleeps past
its timeout may come after its undo, which the shop's tasks do not guard against."""

EVERY = {"kill": 4.0, "postgres": 90.0, "broker": 75.0, "duplicate": 2.0, "drop": 3.0, "cancel": 1.5, "suspend": 20.0}
"""Seconds between two of a kind, on average."""


def plan(seed: int, seconds: float) -> list[Strike]:
    """Every kind of strike, in order, each at least once however short the run is."""
    return sorted(_strikes(random.Random(seed), seconds))


def _strikes(rng: random.Random, seconds: float) -> Iterator[Strike]:
    for at in _moments(rng, "kill", seconds):
        yield Strike(at, rng.choices(KILLS, KILL_WEIGHTS)[0], rng.random())
    for number, at in enumerate(_moments(rng, "postgres", seconds)):
        yield Strike(at, RESTARTS[number % 2], rng.random())
    for kind, fault in (
        ("broker", Fault.RESTART_BROKER),
        ("duplicate", Fault.DUPLICATE),
        ("drop", Fault.DROP),
        ("cancel", Fault.CANCEL),
    ):
        for at in _moments(rng, kind, seconds):
            yield Strike(at, fault, rng.random())
    for at in _moments(rng, "suspend", seconds):
        yield Strike(at, Fault.SUSPEND, rng.random())
        yield Strike(at + rng.uniform(*SUSPENDED), Fault.RESUME, rng.random())


def _moments(rng: random.Random, kind: str, seconds: float) -> list[float]:
    """Moments at random, but one in each stretch of the run, so that no stretch is spared."""
    count = max(1, round(seconds / EVERY[kind]))
    stretch = seconds / count
    return [(number + rng.uniform(0.1, 0.9)) * stretch for number in range(count)]
