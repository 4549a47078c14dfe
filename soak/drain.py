"""Drain: the wait until every saga is finished, or waits for an operator."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError

PATIENCE = 90.0
"""Seconds without a new entry in any log after which nothing more is expected."""
LIMIT = 900.0
"""Seconds after which it ends, whatever still happens: sagas that go round in circles are no progress."""
LOOK_EVERY = 0.25
"""Seconds."""

LEFT = text("""
    SELECT (SELECT count(*) FROM saga.instance WHERE status IN ('running', 'paused', 'compensating')),
           (SELECT count(*) FROM saga.work),
           (SELECT max(log.at) FROM saga.log JOIN saga.work USING (saga_id))
""")


class Left(NamedTuple):
    """What is left to do, and when something last happened to it."""

    sagas: int
    lanes: int
    at: datetime | None


def drain(database: Engine, keep_up: Callable[[], None], show: Callable[[int], None]) -> list[str]:
    """Wait until nothing is left to do, or nothing happens any more; returns what is wrong, in words.

    Args:
        keep_up: sees to it at each look that the workers run.
        show: takes how many sagas are left, at each look.
    """
    began = changed = time.monotonic()
    seen = Left(-1, -1, None)
    while True:
        keep_up()
        left = _look(database) or seen
        if left.sagas == left.lanes == 0:
            return []
        show(left.sagas)
        if left != seen:
            seen, changed = left, time.monotonic()
        rest = f"{left.sagas} sagas and {left.lanes} lanes of work are left"
        if time.monotonic() > changed + PATIENCE:
            return [f"{rest}, and nothing has happened for {PATIENCE:g} s"]
        if time.monotonic() > began + LIMIT:
            return [f"{rest} after {LIMIT:g} s"]
        time.sleep(LOOK_EVERY)


def _look(database: Engine) -> Left | None:
    try:
        with database.connect() as connection:
            return Left(*connection.execute(LEFT).one())
    except DBAPIError:
        return None
