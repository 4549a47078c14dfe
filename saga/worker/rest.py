"""Rest: the lanes of a message that are not claimed yet. Two threads may take from it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator

from saga.store.values import Lane


class Rest:
    """Lanes in the order in which they are to be claimed."""

    def __init__(self, lanes: Iterable[Lane] = ()) -> None:
        self._lanes = deque(lanes)

    def __len__(self) -> int:
        return len(self._lanes)

    def __iter__(self) -> Iterator[Lane]:
        return iter(list(self._lanes))

    def first(self) -> Lane | None:
        """Take the next one, if there is one."""
        try:
            return self._lanes.popleft()
        except IndexError:
            return None

    def remove(self, lane: Lane) -> bool:
        """Take that one; whether it was still there."""
        try:
            self._lanes.remove(lane)
        except (ValueError, IndexError):
            return False
        return True

    def extend(self, lanes: Iterable[Lane]) -> None:
        """Add some at the end."""
        self._lanes.extend(lanes)

    def take(self, keep: int = 0) -> list[Lane]:
        """Take all but so many, from the end; returned in their order."""
        taken: list[Lane] = []
        while len(self._lanes) > keep:
            try:
                taken.append(self._lanes.pop())
            except IndexError:
                break
        return taken[::-1]
