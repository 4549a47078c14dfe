"""Clock: the time as it passes."""

from __future__ import annotations

import time


class RealClock:
    """The clock of this process."""

    monotonic = staticmethod(time.monotonic)

    def sleep(self, seconds: float) -> None:
        """Wait so long."""
        time.sleep(seconds)  # looked up each time: gevent puts its own there


REAL = RealClock()
