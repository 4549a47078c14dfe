"""Pace: how long a worker usually has a lane of a saga, learned as it runs them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

_QUICK = 0.05
_WEIGHT = 0.2


class Pace:
    """Moving averages, in seconds, by the saga's name."""

    def __init__(self) -> None:
        self._averages: dict[str, float] = {}

    def is_quick(self, saga: str) -> bool:
        """Whether it is known to take so little that several can wait for each other."""
        return self._averages.get(saga, _QUICK) < _QUICK

    @contextmanager
    def measured(self, saga: str) -> Iterator[None]:
        """Take the time of one run into the average."""
        began = time.monotonic()
        try:
            yield
        finally:
            took = time.monotonic() - began
            known = self._averages.get(saga, took)
            self._averages[saga] = known + _WEIGHT * (took - known)
