"""The relay: finds work that is due, overdue, orphaned or lost on its way, and sends it.

It decides nothing: it appends facts, frees rows and sends messages. The worker that claims a lane next decides. Any
number may run, and one of each realm looks at a time: every transaction of a look takes the lock of its realm's row in
``relay``, so that a relay that hangs keeps no turn. First come lost workers and overdue attempts; then signals of callers'
transactions, and what is due; then what was lost on its way.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from saga.core.rows import Dispatch
from saga.errors import DatabaseNotReady
from saga.store.port import Store
from saga.store.values import NotMyTurn, Ping, Task
from saga.telemetry.facts.upkeep import RelayBack, RelayCutOff, RelayFailed, RelayLooked, WorkersLost
from saga.telemetry.stream import emit

_TWO_LOOKS = 0.45
"""Seconds between two looks that both miss a worker, before it counts as gone."""
_BURY_EVERY = 10.0
_BURIED = 1000
"""Rows of dead workers that are taken out at a time."""
_LONGEST_LOOK = 2.0
"""Seconds after which a look that still finds something ends, for the next to begin with what is gone."""
_ON_TIMES = 0.25
"""Seconds that each round of a look gives to times that a step of the clock made wrong, while there are such."""
_NOBODYS_EVERY = 10
_LOTS = 500
"""How many lots of sent work a look goes through: what is of one queue, one priority, and sent as often."""


class Relay:
    """One process's share in the relay of its realm.

    Args:
        publish: sends messages, without waiting for the broker.
        interval: seconds between two looks.
        batch: how many rows one statement sends.
        grace: seconds after a restart of the database or a reconnect during which no worker is declared lost.
    """

    def __init__(
        self,
        store: Store,
        publish: Callable[[Sequence[Dispatch | Ping]], None],
        *,
        interval: float = 0.5,
        batch: int = 500,
        grace: float = 10.0,
    ) -> None:
        self._store = store
        self._clock = store.clock
        self._chores = store.rounds(publish, batch)
        self._interval = interval
        self._grace = grace
        self._after = dict.fromkeys(self._chores.realms, "")
        self._suspects: dict[int, float] = {}
        self._quiet_until = 0.0
        self._failing = False
        self._next_burial = 0.0
        self._more = False
        self._rounds = 0
        self._age = 0.0

    def run(self, stopping: threading.Event) -> None:
        """Look again and again until told to stop."""
        # On one connection: if it breaks, for any reason, this is noticed, and a grace begins.
        with self._store.hold():
            while True:
                # Who was the relay looks again first; the others stand by in case it does not.
                pause = self._interval if self._tick_safely() else self._interval * 2
                if stopping.wait(0 if self._more else pause):
                    return

    def _tick_safely(self) -> bool:
        """A look after which the relay lives on, even if something is wrong with what it looked at."""
        try:
            return self.tick()
        except Exception as error:
            emit(RelayFailed(error))
            return False

    def tick(self) -> bool:
        """One look; whether it was this process's turn."""
        self._more = False
        began = self._clock.monotonic()
        try:
            mine = self._look()
        except DatabaseNotReady as error:
            self._quiet_until = self._clock.monotonic() + self._grace
            self._suspects.clear()
            if not self._failing:
                emit(RelayCutOff(str(error)))
            self._failing = True
            return False
        if self._failing:
            self._failing = False
            emit(RelayBack())
        emit(RelayLooked(mine, self._clock.monotonic() - began))
        return mine

    def _look(self) -> bool:
        until = self._clock.monotonic() + _LONGEST_LOOK
        try:
            while more := self._round():
                if self._clock.monotonic() > until:
                    break
            self._bury()
        except NotMyTurn:
            self._suspects.clear()
            return self._chores.enrol() and self._look()
        self._more = more
        return True

    def _round(self) -> bool:
        """All chores once; whether there may be more to do."""
        do, batch = self._chores.do, self._chores.batch
        gone = self._gone_workers()
        # One entry ends one attempt of a saga; its other branches take another round.
        ended = do(Task.LOSE, workers=gone) if gone else 0
        wrong, early = self._chores.set_times_right(_ON_TIMES)
        if early:
            return True
        ended += do(Task.TIME_OUT)
        handled = [
            do(Task.WATCH_ON),
            self._chores.take_in(),
            do(Task.SEND_DUE),
            *map(self._find_lost, self._realms_now()),
        ]
        return wrong or ended > 0 or max(handled) >= batch

    def _realms_now(self) -> list[str]:
        """Work without a realm is from before there were realms: it can wait for a moment."""
        self._rounds += 1
        return self._chores.realms if self._rounds % _NOBODYS_EVERY == 1 else [self._store.realm]

    def _bury(self) -> None:
        """Take the rows of dead workers out of the table of workers, now and then."""
        now = self._clock.monotonic()
        if now < self._next_burial or now < self._quiet_until:
            return
        self._next_burial = now + _BURY_EVERY
        if self._age >= self._grace:
            self._chores.bury(_BURIED)

    def _find_lost(self, realm: str) -> int:
        """Send again what was lost, and send the pings that tell what is; a page of the queues at each look."""
        found = self._chores.do(Task.SEND_LOST, realm=realm, after=self._after[realm], lots=_LOTS)
        self._after[realm] = self._chores.ping(realm, self._after[realm], _LOTS)
        return found

    def _gone_workers(self) -> list[int]:
        """Workers that were absent at two looks some time apart, outside any grace."""
        absent, self._age = self._chores.absent()
        now = self._clock.monotonic()
        if not absent or now < self._quiet_until or self._age < self._grace:
            self._suspects.clear()
            return []
        self._suspects = {worker: self._suspects.get(worker, now) for worker in absent}
        gone = [worker for worker, since in self._suspects.items() if now - since >= _TWO_LOOKS]
        if gone:
            emit(WorkersLost(tuple(gone)))
        return gone
