"""`python -m saga.examples.trip`: two trips, one of which cannot be had."""

from __future__ import annotations

import sys

from saga import Status

from ..stage import stage, tell
from . import book_trip, orchestrator


def main() -> int:
    """Book them, tell what happened, and return the exit code: 1 if it is not what should have happened."""
    with stage() as stack:
        stack.worker(__package__, concurrency=1)
        lisbon = orchestrator.start(book_trip, {"city": "Lisbon"})
        atlantis = orchestrator.start(book_trip, {"city": "Atlantis"}, key="trip-2")
        outcomes = [handle.wait(timeout=30) for handle in (lisbon, atlantis)]
        for title, handle in (("Lisbon", lisbon), ("Atlantis", atlantis)):
            tell(title, handle)
        undone = [name for name, step in atlantis.steps().items() if step.undo]
        orchestrator.close()
    return 0 if outcomes == [Status.COMPLETED, Status.COMPENSATED] and undone == ["hotel"] else 1


if __name__ == "__main__":
    sys.exit(main())
