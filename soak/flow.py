"""Flow: orders, placed one after the other, as many at a time as the workers keep up with."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator
from dataclasses import replace

from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError

from examples.shop import purchases
from examples.shop.purchases import Order
from saga import Orchestrator
from saga.errors import DatabaseNotReady, KeyBusy

SAGA = "place_order"
IN_FLIGHT = 16
"""Orders under way at a time: two for each process, so that none waits long for its turn when most workers are dead."""
REAL = 6919
"""How many purchases there are to replay."""
LOOK_EVERY = 0.05
"""Seconds."""
PATIENCE = 60.0
"""Seconds for which a start is tried again while the database is away."""

UNFINISHED = text("SELECT count(*) FROM saga.instance WHERE status IN ('running', 'paused', 'compensating')")


def order_stream(real: list[Order]) -> Iterator[Order]:
    """The real orders, again and again without end, each time under new numbers and hence new keys."""
    for number, order in enumerate(itertools.cycle(real), start=1):
        yield replace(order, number=number)


class Flow:
    """Places orders until told to stop.

    Attributes:
        placed: the orders whose start was confirmed.
    """

    def __init__(self, orchestrator: Orchestrator, database: Engine) -> None:
        self._orchestrator = orchestrator
        self._database = database
        self._orders = order_stream(purchases.first(REAL))
        self.placed: list[Order] = []

    def run(self, stopping: threading.Event) -> None:
        """Fill up what is under way, again and again."""
        while not stopping.wait(LOOK_EVERY):
            try:
                room = IN_FLIGHT - self._unfinished()
            except DBAPIError:
                continue  # the database is away, and the chaos sees to its return
            if room > 0:
                self._place(list(itertools.islice(self._orders, room)))

    def _unfinished(self) -> int:
        with self._database.connect() as connection:
            return connection.scalar(UNFINISHED) or 0

    def _place(self, batch: list[Order]) -> None:
        """Start sagas until it is confirmed, as a client of the shop would; the keys make a second try harmless."""
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                self._orchestrator.start_many(SAGA, batch, keys=[order.key for order in batch])
            except (DatabaseNotReady, KeyBusy):
                if time.monotonic() > deadline:
                    raise
                time.sleep(LOOK_EVERY)
            else:
                self.placed += batch
                return
