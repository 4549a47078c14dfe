"""Memory: whether the pool processes of a worker grow. Of one that is never killed, or there would be nothing to see."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import psutil

from saga.dev import Worker

MB = 1024 * 1024
GROWTH = 0.20
"""Part of what it was before, above which memory is said to grow, if it is also above `GROWTH_MB`."""
GROWTH_MB = 20.0
LONG_ENOUGH = 300.0
"""Seconds of a run that can tell growth from a worker's first minutes."""


@dataclass(frozen=True)
class Sample:
    """What a pool process has in memory, on average over those of one worker.

    Attributes:
        at: seconds from the start of the run.
        mb: resident, in MB.
    """

    at: float
    mb: float


@dataclass(frozen=True)
class Memory:
    """The medians of the first and the last third of a run, in MB; `None` where nothing was sampled."""

    first_mb: float | None
    last_mb: float | None


def sample(worker: Worker, at: float) -> Sample | None:
    """Look at the worker's pool processes now; `None` while there are none."""
    try:
        sizes = [process.memory_info().rss / MB for process in worker.children()]
    except psutil.Error:
        return None
    return Sample(at, statistics.mean(sizes)) if sizes else None


def memory(samples: Sequence[Sample], seconds: float) -> Memory:
    """Sum up the samples of a run of so many seconds."""
    first = [each.mb for each in samples if each.at <= seconds / 3]
    last = [each.mb for each in samples if each.at >= seconds * 2 / 3]
    return Memory(*(statistics.median(part) if part else None for part in (first, last)))


def judge(found: Memory, seconds: float) -> list[str]:
    """What is wrong with the memory, in words; nothing is said of a run that is too short to tell."""
    if found.first_mb is None or found.last_mb is None or seconds < LONG_ENOUGH:
        return []
    growth = found.last_mb - found.first_mb
    if growth <= GROWTH_MB or growth <= GROWTH * found.first_mb:
        return []
    return [f"memory: a pool process grew from {found.first_mb:.0f} MB to {found.last_mb:.0f} MB"]
