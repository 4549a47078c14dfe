"""Pace: how long the attempts of a saga usually take, learned by all processes of a pool together.

A process of a pool may live for a few messages only. If it knew nothing at its start, it would send on all but one of the
lanes of each message, and every lane would take a process of its own.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterable, Iterator
from hashlib import blake2b

_WEIGHT = 0.2
_SLOTS = 1024
_SLOT = 2
"""Of eight bytes: whose average it is, and the average."""


class Averages:
    """Numbers by name, in memory that is shared with every process forked later.

    Nothing is locked: if two processes write at once, one of the numbers is lost.
    """

    def __init__(self) -> None:
        memory = memoryview(mmap.mmap(-1, _SLOTS * _SLOT * 8))
        self._owners, self._numbers = memory.cast("Q"), memory.cast("d")
        self._places: dict[str, tuple[int, int]] = {}

    def get(self, name: str) -> float | None:
        """The number of that name, if there is one."""
        mark, place = self._find(name)
        return self._numbers[place + 1] if self._owners[place] == mark else None

    def put(self, name: str, number: float) -> None:
        """Set it. If there is no more room, it takes the place of another name's number."""
        mark, place = self._find(name)
        self._numbers[place + 1] = number
        self._owners[place] = mark

    def _find(self, name: str) -> tuple[int, int]:
        """The mark of a name, and the place that it has, or is to have."""
        found = self._places.get(name)
        if found is None or self._owners[found[1]] not in (0, found[0]):
            mark = _mark(name)
            found = self._places[name] = mark, self._search(mark)
        return found

    def _search(self, mark: int) -> int:
        first = mark % _SLOTS
        places = [(first + tries) % _SLOTS * _SLOT for tries in range(_SLOTS)]
        return next((place for place in places if self._owners[place] in (0, mark)), places[0])


def _mark(name: str) -> int:
    return int.from_bytes(blake2b(name.encode(errors="surrogatepass"), digest_size=8).digest(), "little") or 1


_RECORDING = ""
"""Stands for a saga's name: the time it takes to record how attempts have ended, for any number of them."""
_WORTH, _LEAST, _MOST = 2.0, 0.003, 0.01
"""An attempt is quick if it takes less than twice as long as recording its end. Many that share one recording are then done
in two thirds of the time, or less. Below the least value they lose nothing; above the greatest they would wait for long."""


class Pace:
    """Moving averages, in seconds, by the saga's name.

    Args:
        quick: the average below which a saga is quick; by default it follows the time that recording takes.
        averages: those that are known; by default none.
        names: of the sagas to look among for quick ones; others are added when they are noted.
    """

    def __init__(self, quick: float | None, averages: Averages | None = None, names: Iterable[str] = ()) -> None:
        self._quick = quick
        self._averages = Averages() if averages is None else averages
        self._names = dict.fromkeys(names)

    def note(self, saga: str, seconds: float) -> None:
        """Take the time of one attempt into the average."""
        self._take_in(saga, seconds)
        self._names[saga] = None

    def note_recording(self, seconds: float) -> None:
        """Take the time of one append into the average."""
        self._take_in(_RECORDING, seconds)

    def _take_in(self, name: str, seconds: float) -> None:
        known = self._averages.get(name)
        self._averages.put(name, seconds if known is None else known + _WEIGHT * (seconds - known))

    def expected(self, saga: str) -> float | None:
        """Seconds that an attempt of this saga usually takes; ``None`` before the first."""
        return self._averages.get(saga)

    def is_quick(self, saga: str) -> bool:
        """Whether attempts are so quick that one can wait until others are to be recorded, too."""
        known = self._averages.get(saga)
        return known is not None and known < self.limit

    @property
    def limit(self) -> float:
        """The average below which a saga is quick."""
        if self._quick is not None:
            return self._quick
        return min(_MOST, max(_LEAST, _WORTH * (self._averages.get(_RECORDING) or 0.0)))

    def quick(self) -> Iterator[str]:
        """The sagas that are."""
        return filter(self.is_quick, list(self._names))
