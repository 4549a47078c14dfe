"""Clock: the time as it passes."""

from __future__ import annotations

import time


class RealClock:
    """The clock of this process."""

    def monotonic(self) -> float:
        """Seconds, from any beginning."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Wait so long."""
        time.sleep(seconds)


REAL = RealClock()
