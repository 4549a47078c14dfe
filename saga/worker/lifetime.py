"""Lifetime: for how many messages a pool keeps its processes, and what follows for the lanes of one message."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from billiard.compat import mem_rss

_MOMENT = 0.1
_REPLACING = 1.0
"""Seconds without a process, about, while the pool replaces one."""


@dataclass(frozen=True, slots=True)
class Lifetime:
    """When a pool replaces a process.

    Attributes:
        messages: after so many of them; ``None``: never for that.
        memory: after a message that left it with more, in KiB; ``None``: never for that.
    """

    messages: int | None = None
    memory: int | None = None

    @classmethod
    def of(cls, worker: Any) -> Lifetime:
        """That of the processes of a Celery worker."""
        return cls(worker.max_tasks_per_child or None, worker.max_memory_per_child or None)

    def patience(self) -> float:
        """Seconds that a lane may wait for the others of its message.

        That is a moment, for another process may be free. If each process serves few messages, a message of its own costs
        more: its share of the time that it takes to replace the process.
        """
        messages = 1 if self.memory and mem_rss() > self.memory else self.messages
        return max(_MOMENT, _REPLACING / messages) if messages else _MOMENT
