"""Pace: how long the attempts of a saga usually take, learned as this process runs them."""

from __future__ import annotations

from collections.abc import Iterator

_BRISK = 0.012
_WEIGHT = 0.2


class Pace:
    """Moving averages, in seconds, by the saga's name.

    Args:
        quick: the average below which a saga is quick.
    """

    def __init__(self, quick: float) -> None:
        self._quick = quick
        self._averages: dict[str, float] = {}

    def note(self, saga: str, seconds: float) -> None:
        """Take the time of one attempt into the average."""
        known = self._averages.get(saga, seconds)
        self._averages[saga] = known + _WEIGHT * (seconds - known)

    def is_brisk(self, saga: str) -> bool:
        """Whether sagas are known to take so little that one can wait for another."""
        return self._averages.get(saga, _BRISK) < _BRISK

    def quick(self) -> Iterator[str]:
        """The sagas whose attempts take so little that one can wait until others, too, are to be recorded."""
        return (saga for saga, average in list(self._averages.items()) if average < self._quick)
