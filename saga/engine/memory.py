"""Memory: what one process last saw of sagas: states to read on from, and the entries it wrote lately.

The entries show what a database has lost: after a failover to a standby that lagged, a worker may know more than the log.
"""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, TypeVar
from uuid import UUID

from saga.core.events import Entry
from saga.core.state import State

_SAGAS = 1000
_ENTRIES = 32
"""Of each saga, the latest."""

T = TypeVar("T")
_Note = tuple[int, datetime | None, str, str | None, str | None, int | None]


class Memory:
    """States and notes of entries, of the sagas that this process dealt with last. Several threads may use it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._states: OrderedDict[UUID, State] = OrderedDict()
        self._written: OrderedDict[UUID, deque[_Note]] = OrderedDict()

    def recall(self, saga_id: UUID) -> State | None:
        """The state this process last saw, so that only what came later need be read."""
        return self._states.get(saga_id)

    def remember(self, saga_id: UUID, state: State) -> None:
        """Keep a state that may be read on from."""
        with self._lock:
            if state.status.terminal or not state.seq:
                self._states.pop(saga_id, None)
            else:
                _put(self._states, saga_id, state)

    def note(self, saga_id: UUID, entries: Iterable[Entry]) -> None:
        """Keep, in short, entries that this process has written."""
        with self._lock:
            notes = self._written.get(saga_id) or deque(maxlen=_ENTRIES)
            notes.extend((e.seq, e.at, e.kind, e.lane, e.step, e.attempt) for e in entries)
            _put(self._written, saga_id, notes)

    def missing(self, saga_id: UUID, log: Sequence[Entry], *, certain: bool) -> list[dict[str, Any]]:
        """The entries that this process has written and that are not in the log any more.

        Args:
            log: from its first entry on, as it was read.
            certain: the log is known to have lost its end. Otherwise, newer entries may have come since it was read.
        """
        there = {(entry.seq, entry.at) for entry in log}
        end, at = (log[-1].seq, log[-1].at) if log else (0, None)
        return [
            {"seq": seq, "kind": kind, "lane": lane, "step": step, "attempt": attempt}
            for seq, when, kind, lane, step, attempt in tuple(self._written.get(saga_id, ()))
            if (seq, when) not in there and (certain or seq <= end or (when and at and when <= at))
        ]

    def forget(self, saga_id: UUID) -> None:
        """Forget what is known of a saga."""
        with self._lock:
            self._states.pop(saga_id, None)
            self._written.pop(saga_id, None)


def _put(kept: OrderedDict[UUID, T], saga_id: UUID, value: T) -> None:
    kept[saga_id] = value
    kept.move_to_end(saga_id)
    while len(kept) > _SAGAS:
        kept.popitem(last=False)
