"""The publisher shares the app's connections with everybody else in its process."""

from __future__ import annotations

import contextlib
import time
from queue import Empty
from typing import Any
from uuid import uuid4

import pytest
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


def sent(app: Celery, count: int, patience: float = 5.0) -> list[Any]:
    """So many messages from the queue that sagas use."""
    limit, found = time.monotonic() + patience, []
    with app.connection_for_read() as connection, connection.SimpleQueue("sagas", accept=["json", "pickle"]) as waiting:
        while len(found) < count:
            with contextlib.suppress(Empty):
                found.append(waiting.get(timeout=0.1))
                found[-1].ack()
            assert time.monotonic() < limit, f"{len(found)} of {count} messages came"
    return found


def refuse(name: str, *_: Any, **__: Any) -> Any:
    raise KeyError(name)


@pytest.mark.parametrize(
    "routes",
    [refuse, {"*": {"queue": "other", "exchange": "other", "routing_key": "other.key"}}],
    ids=["a router that fails", "a pattern"],
)
def test_the_apps_routes_lead_no_carrier_astray(routes: Any):
    app = Celery("publisher", broker=f"memory://{uuid4().hex}", task_routes=routes, set_as_current=False)
    publisher = Publisher(app, timeout=2.0)
    publisher.publish([Dispatch(uuid4(), "main", "sagas")])
    assert sent(app, 1)[0].delivery_info["routing_key"] == "sagas"


@pytest.mark.parametrize("serializer", ["json", "pickle"])
def test_a_message_is_serialized_as_the_apps_own_are(serializer: str):
    app = Celery("publisher", broker=f"memory://{uuid4().hex}", set_as_current=False)
    app.conf.update(task_serializer=serializer, accept_content=[serializer])
    Publisher(app, timeout=2.0).publish([Dispatch(uuid4(), "main", "sagas")])
    assert (
        sent(app, 1)[0].content_type
        == {"json": "application/json", "pickle": "application/x-python-serialize"}[serializer]
    )
