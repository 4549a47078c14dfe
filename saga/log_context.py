"""Log context: to which saga, step and attempt a log line belongs."""

from __future__ import annotations

import logging
from typing import Any

from saga.context import current


class SagaFilter(logging.Filter):
    """Gives each record ``saga_id``, ``saga``, ``step`` and ``attempt``, for a formatter to show. It drops none.

    Args:
        outside: their value outside a saga's step.
    """

    def __init__(self, outside: Any = "-") -> None:
        super().__init__()
        self._outside = outside

    def filter(self, record: logging.LogRecord) -> bool:
        """Name the attempt that the calling code runs in."""
        attempt = current()
        for name in ("saga_id", "saga", "step", "attempt"):
            if name not in record.__dict__:
                value = self._outside if attempt is None else getattr(attempt, name)
                record.__dict__[name] = str(value) if name == "saga_id" and attempt is not None else value
        return True
