"""The publisher shares the app's connections with everybody else in its process."""

from __future__ import annotations

import time
from uuid import uuid4

from celery import Celery
from kombu.exceptions import LimitExceeded

from saga.publisher import Publisher
from saga.work import Dispatch


def test_a_publisher_with_nothing_to_send_holds_no_connection():
    app = Celery("publisher", broker=f"memory://{uuid4().hex}", broker_pool_limit=1, set_as_current=False)
    publisher = Publisher(app, timeout=2.0)
    publisher.publish([Dispatch(uuid4(), "main", "celery")])
    publisher.flush()
    limit = time.monotonic() + 5
    while True:
        try:
            with app.producer_pool.acquire(block=False):
                return
        except LimitExceeded:
            assert time.monotonic() < limit, "the publisher keeps the only connection"
            time.sleep(0.01)
