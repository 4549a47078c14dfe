"""Rounds: the turns of a relay in memory. Nobody else does anything meanwhile, so none of them fails for a lane."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from saga.store.memory import due, signals
from saga.store.memory.tables import Tables, Transaction
from saga.store.values import NotMyTurn, Task
from saga.telemetry.facts.lanes import ChoreDone
from saga.telemetry.stream import emit

_WORDS = {
    Task.SEND_DUE: "be sent",
    Task.SEND_LOST: "be sent again",
    Task.TIME_OUT: "be ended",
    Task.LOSE: "be given back",
    Task.WATCH_ON: "be watched",
}


_STEP = timedelta(seconds=30)
"""After a look has begun: what comes due later waits for the next one, as where a clock may step."""


class MemoryRounds:
    """The relay's turns on the work of one realm, and on what is anybody's.

    Args:
        publish: sends messages, without waiting for the broker.
        batch: to how many lanes it does something at a time.
        asked: a transaction of the store.
    """

    def __init__(
        self, tables: Tables, realm: str, publish: Callable[[Sequence[Any]], None], batch: int,
        asked: Callable[[], AbstractContextManager[Transaction]],
    ) -> None:  # fmt: skip
        self.realms = sorted({"", realm})
        self.batch = batch
        self._tables = tables
        self._realm = realm
        self._publish = publish
        self._asked = asked
        self._seen = datetime.min.replace(tzinfo=UTC)

    @contextmanager
    def _turn(self) -> Iterator[Transaction]:
        with self._asked() as within:
            if self._realm not in self._tables.relays or self._realm in self._tables.relayed_elsewhere:
                raise NotMyTurn
            yield within

    def enrol(self) -> bool:
        """Be known as a relay; whether none of the realm was."""
        with self._asked():
            new = self._realm not in self._tables.relays
            self._tables.relays.add(self._realm)
            return new

    def do(self, task: Task, **which: Any) -> int:
        """Do something to the lanes that it is to be done to, and send their messages; to how many it was done."""
        with self._turn() as within:
            found = due.do(within, task, due.Scope(self.realms, self.batch, self._seen + _STEP), **which)
        if task is not Task.WATCH_ON:
            self._publish(found)
        if found:
            emit(ChoreDone(_WORDS[task], len(found)))
        return len(found)

    def take_in(self) -> int:
        """Take signals of callers' transactions into the logs, and send the messages of lanes that wait; how many they were."""
        with self._turn() as within:
            done, found = signals.take_in(within, self.realms, self.batch)
        self._publish(found)
        if done:
            emit(ChoreDone("be taken in", done))
        return done

    def ping(self, realm: str, after: str, lots: int) -> str:
        """Send the pings that are due; returns after which queue to go on."""
        with self._turn():
            found, after = due.next_pings(self._tables, realm, after, lots)
        self._publish(found)
        return after

    def absent(self) -> tuple[list[int], float]:
        """The workers that hold lanes and show no sign of life, and for how many seconds the store has been up."""
        tables = self._tables
        with self._turn():
            self._seen = tables.now
            rows = [work for saga in tables.active.values() for work in saga.work.values() if work.realm in self.realms]
            holders = {work.worker for work in rows if work.worker is not None}
            return sorted(holders - tables.living), (tables.now - tables.restarted).total_seconds()

    def set_times_right(self, seconds: float) -> tuple[bool, bool]:
        """Nothing: a virtual clock never steps back, so no time is wrong."""
        del seconds
        return False, False

    def bury(self, limit: int) -> None:
        """Take out what is known of workers that are gone."""
        with self._turn():
            for number in sorted(self._tables.members.keys() - self._tables.living)[:limit]:
                del self._tables.members[number]
