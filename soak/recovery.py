"""Recovery: how long it takes from the kill of a process to the next attempt of what it was doing."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

TARGET_P50 = 1.5
TARGET_MAX = 3.0
"""Seconds, for kills outside a grace."""


@dataclass(frozen=True)
class Kill:
    """A SIGKILL.

    Attributes:
        at: the moment before it, by the database's clock.
        workers: the worker numbers of the processes it hit.
    """

    at: datetime
    workers: frozenset[int]


@dataclass(frozen=True)
class Span:
    """A stretch of time, by the database's clock."""

    began: datetime
    ended: datetime


@dataclass(frozen=True)
class Loss:
    """An attempt that ended with its worker, and the next one in its lane.

    Attributes:
        worker: the number of the worker that had the attempt.
        resumed: when the next attempt of the lane started; `None` if there was none, as when the saga was rolled back
            and nothing in the lane was to be undone.
        waited: seconds to wait before the next attempt that the step's retry policy asked for.
    """

    saga: str
    lane: str
    step: str
    worker: int
    at: datetime
    resumed: datetime | None
    waited: float


@dataclass(frozen=True)
class Late:
    """A lost attempt that was taken up again later than it should have been, and the seconds from the kill."""

    loss: Loss
    seconds: float


@dataclass(frozen=True)
class Figures:
    """Seconds, over a number of attempts; `None` where there were none."""

    count: int
    p50: float | None
    p99: float | None
    max: float | None


@dataclass(frozen=True)
class Recovery:
    """From the kill to the next attempt.

    Attributes:
        prompt: the kills that are none of the three below: the figures with a target.
        in_grace: kills in a failover grace, in which nobody is declared lost by design, or too closely before one.
        hindered: of all other kills those that came together with a restart of the broker, with which the messages are
            gone, or while a worker stood still, which may have had the relay's turn.
        after_wait: of all other kills those where the step's retry policy asked for a wait.
        without_next: lost attempts after which nothing was left to do in their lane.
        deserted: lost attempts of workers that ended by themselves.
        unexplained: lost attempts of workers that neither were killed nor ended.
        late: those of the prompt ones that took longer than the target, the slowest first.
    """

    prompt: Figures
    in_grace: Figures
    hindered: Figures
    after_wait: Figures
    without_next: int
    deserted: int
    unexplained: list[Loss]
    late: list[Late]

    @property
    def problems(self) -> list[str]:
        """What is wrong, in words."""
        return [
            f"saga {loss.saga}, lane {loss.lane}: worker {loss.worker} was declared lost, but nobody had killed it"
            for loss in self.unexplained
        ]


def recovery(
    losses: Iterable[Loss],
    kills: Sequence[Kill],
    *,
    graces: Sequence[Span] = (),
    hindrances: Sequence[Span] = (),
    ended: Collection[int] = (),
) -> Recovery:
    """Attribute each lost attempt to the kill of its worker, and measure.

    Args:
        graces: when nobody could be declared lost.
        hindrances: when the broker was away, or a worker stood still.
        ended: the numbers of workers that ended by themselves.
    """
    killed = {worker: kill.at for kill in kills for worker in kill.workers}
    prompt: list[tuple[float, Loss]] = []
    in_grace: list[float] = []
    hindered: list[float] = []
    after_wait: list[float] = []
    unexplained: list[Loss] = []
    without_next = deserted = 0
    for loss in losses:
        at = killed.get(loss.worker)
        if at is None and loss.worker in ended:
            deserted += 1
        elif at is None:
            unexplained.append(loss)
        elif loss.resumed is None:
            without_next += 1
        else:
            seconds = (loss.resumed - at).total_seconds()
            if is_hit(at, graces):
                in_grace.append(seconds)
            elif is_hit(at, hindrances):
                hindered.append(seconds)
            elif loss.waited:
                after_wait.append(seconds)
            else:
                prompt.append((seconds, loss))
    return Recovery(
        figures([seconds for seconds, _ in prompt]),
        figures(in_grace),
        figures(hindered),
        figures(after_wait),
        without_next,
        deserted,
        unexplained,
        [Late(loss, seconds) for seconds, loss in sorted(prompt, key=lambda each: -each[0]) if seconds > TARGET_MAX],
    )


def is_hit(killed: datetime, spans: Iterable[Span]) -> bool:
    """Whether one of these touches the time in which the attempts should have been taken up again.

    What comes after that does not excuse what was late by then.
    """
    limit = killed + timedelta(seconds=TARGET_MAX)
    return any(span.began < limit and killed < span.ended for span in spans)


def figures(seconds: Sequence[float]) -> Figures:
    """The figures of these values."""
    if not seconds:
        return Figures(0, None, None, None)
    ordered = sorted(seconds)
    return Figures(len(ordered), percentile(ordered, 50), percentile(ordered, 99), ordered[-1])


def percentile(ordered: Sequence[float], percent: float) -> float:
    """The smallest value that is not less than so many percent of all; the values come in order, at least one."""
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]
