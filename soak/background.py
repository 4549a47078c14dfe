"""Background: something that goes on beside the main thread until it is told to stop."""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable


class Background:
    """A thread that is told to stop through an event.

    Args:
        name: what it is called in a problem.
        work: takes the event that tells it to stop.
    """

    def __init__(self, name: str, work: Callable[[threading.Event], None]) -> None:
        self._name = name
        self._work = work
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._error: str | None = None

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    @property
    def is_broken(self) -> bool:
        """Whether it broke off with an error."""
        return self._error is not None

    def stop(self, patience: float) -> list[str]:
        """Tell it to stop, and wait up to `patience` seconds; returns what went wrong with it, in words."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join(patience)
        if self._thread.is_alive():
            return [f"{self._name} did not stop within {patience:g} s"]
        return [f"{self._name} broke off: {self._error}"] if self._error else []

    def _run(self) -> None:
        try:
            self._work(self._stopping)
        except Exception:
            self._error = traceback.format_exc().strip()
