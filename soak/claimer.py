"""Claimant: claims lanes as a worker process does, with a number and a liveness lock of its own, and then hangs.

    python -m soak.claimer PART PARTS

It takes every lane of the orphans whose place in their order is PART, modulo PARTS. Killed, it leaves them behind.
"""

from __future__ import annotations

import sys
from pathlib import Path
from threading import Event

from saga.dev.child import Child
from saga.worker.claimer import Claimer
from saga.worker.liveness import Liveness
from saga.worker.recorder import Recorder

from .noop_app import QUEUE, orchestrator

DONE = "all claimed"

FREE = """
    SELECT saga_id, lane FROM (
        SELECT saga_id, lane, row_number() OVER (ORDER BY saga_id) AS place FROM {s}.work WHERE queue = %(queue)s
    ) AS placed
    WHERE place %% %(parts)s = %(part)s
"""


class Claimant(Child):
    """A claimer as a child process, ready when it has claimed its part."""

    name = "the claimer"

    def __init__(self, part: int, parts: int, *, log: Path, cwd: Path) -> None:
        super().__init__(log, cwd=cwd, env={"PYTHONUNBUFFERED": "1"})
        self._part = part
        self._parts = parts

    def command(self) -> list[str]:
        return [sys.executable, "-m", "soak.claimer", str(self._part), str(self._parts)]

    def is_ready(self) -> bool:
        return DONE in self.output()


def claim(part: int, parts: int) -> None:
    """Claim one part of the lanes."""
    liveness = Liveness(orchestrator.database, orchestrator.settings)
    attempts = Recorder(orchestrator.engine, liveness.worker, orchestrator.settings.inline_wait)
    with orchestrator.database.link() as link:
        lanes = link.run(FREE, {"queue": QUEUE, "part": part, "parts": parts})
    for saga_id, lane in lanes:
        Claimer(attempts).claim(saga_id, lane)
    print(DONE)


if __name__ == "__main__":
    claim(*map(int, sys.argv[1:]))
    Event().wait()
