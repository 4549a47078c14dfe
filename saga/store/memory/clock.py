"""Clock: a time that moves only when it is told to."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

START = datetime(2026, 1, 1, 12, tzinfo=UTC)


class VirtualClock:
    """The time of a store in memory, and of all who use it. A sleep moves it on.

    Args:
        start: the moment it begins with.
    """

    def __init__(self, start: datetime = START) -> None:
        self._lock = threading.Lock()
        self._start = self._now = start

    @property
    def now(self) -> datetime:
        """The moment it is."""
        return self._now

    def monotonic(self) -> float:
        """Seconds since it began."""
        return (self._now - self._start).total_seconds()

    def sleep(self, seconds: float) -> None:
        """Move it on by so many seconds; what is not positive does nothing."""
        if seconds > 0:
            with self._lock:
                self._now += timedelta(seconds=seconds)
