"""Pace: how long the attempts of a saga usually take, learned as this process runs them."""

from __future__ import annotations

from collections.abc import Iterator

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

    def expected(self, saga: str) -> float | None:
        """Seconds that an attempt of this saga usually takes; ``None`` before the first."""
        return self._averages.get(saga)

    def is_quick(self, saga: str) -> bool:
        """Whether attempts take so little that one can wait until others, too, are to be recorded."""
        return self._averages.get(saga, self._quick) < self._quick

    def quick(self) -> Iterator[str]:
        """The sagas that are."""
        return filter(self.is_quick, list(self._averages))
