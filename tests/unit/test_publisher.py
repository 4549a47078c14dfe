"""The publisher shares the app's connections with everybody else in its process."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from queue import Empty
from typing import Any
from uuid import uuid4

import pytest
from celery import Celery
from kombu.exceptions import LimitExceeded, OperationalError

from saga.broker.publisher import Complaints, Publisher, Rhythm, is_reserved
from saga.core.rows import Dispatch


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


@pytest.mark.parametrize(("gap", "fast"), [(0.0005, True), (0.005, True), (0.009, False), (1.0, False)])
def test_messages_are_fast_by_when_they_come_and_not_by_how_long_the_broker_takes(gap: float, fast: bool):
    rhythm = Rhythm()
    for number in range(5):
        rhythm.note(number * gap)
    assert rhythm.is_fast(4 * gap) is fast


def test_the_first_messages_after_a_pause_wait_for_nobody():
    rhythm = Rhythm()
    assert not rhythm.is_fast(0.0)
    rhythm.note(0.0, 200)
    assert rhythm.is_fast(0.001), "what shared a message has come, too"
    rhythm.note(5.0)
    assert not rhythm.is_fast(5.0)


def test_starts_in_a_row_share_messages_though_each_is_taken_at_once(monkeypatch: pytest.MonkeyPatch):
    sizes: list[int] = []
    app = Celery("publisher", broker=f"memory://{uuid4().hex}", set_as_current=False)
    publisher = Publisher(app, timeout=60.0)
    taken = threading.Event()

    def take(_: Any, batch: list[Dispatch]) -> None:
        sizes.append(len(batch))
        taken.set()

    monkeypatch.setattr(publisher, "_send_lanes", take)
    monkeypatch.setattr(Rhythm, "is_fast", lambda self, _: len(self._came) == 3)
    for number in range(60):
        taken.clear()
        publisher.publish([Dispatch(uuid4(), "main", "sagas")])
        if number < 2:
            assert taken.wait(10), "the first ones go out one by one"
    publisher.flush(10)
    assert sizes[:2] == [1, 1]
    assert sum(sizes) == 60
    assert len(sizes) < 10


@pytest.mark.parametrize(
    "name", ["amq.gen", "_kombu.binding.celery", "unacked", "unacked_index", "é" * 200, "a\x16b", "a\u202eb"]
)
def test_nothing_is_sent_to_a_name_that_brokers_keep_for_themselves(name: str, caplog: pytest.LogCaptureFixture):
    assert is_reserved(name)
    app = Celery("publisher", broker=f"memory://{uuid4().hex}", set_as_current=False)
    with caplog.at_level(logging.ERROR, "saga"):
        Publisher(app, timeout=2.0).publish([Dispatch(uuid4(), "main", name), Dispatch(uuid4(), "main", "sagas")])
        sent(app, 1)
    assert "no name of a queue" in caplog.text
    assert name not in app.amqp.queues


def test_an_ordinary_name_is_sent_to():
    assert not any(map(is_reserved, ["celery", "orders.high", "Bestellungen für heute", "q" * 255, "amqp"]))


@pytest.mark.parametrize(
    "cause", [KeyError("gone"), RuntimeError("WRONGTYPE Operation against a key holding the wrong kind of value")]
)
def test_a_queue_that_cannot_be_sent_to_holds_up_no_other(cause: Exception, monkeypatch: pytest.MonkeyPatch):
    app = Celery("publisher", broker=f"memory://{uuid4().hex}", set_as_current=False)
    publisher = Publisher(app, timeout=60.0)
    took: list[str] = []

    def take(_: Any, batch: list[Dispatch]) -> None:
        if batch[0].queue == "bad":
            raise OperationalError(str(cause)) from cause
        took.append(batch[0].queue)

    monkeypatch.setattr(publisher, "_send_lanes", take)
    monkeypatch.setattr(Rhythm, "is_fast", lambda *_: True)
    publisher.publish([Dispatch(uuid4(), "main", "bad"), Dispatch(uuid4(), "main", "good")])
    publisher.flush(10)
    assert took == ["good"]
    assert not publisher._failing


def test_messages_that_the_broker_refuses_are_told_of_in_one_line_for_all_that_are_alike(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    publisher = Publisher(Celery("publisher", broker="memory://", set_as_current=False), timeout=60.0)

    def refuse_all(_: Any, batch: list[Dispatch]) -> None:
        raise RuntimeError(f"access to {batch[0].queue} refused\nin vhost /")

    monkeypatch.setattr(publisher, "_send_lanes", refuse_all)
    with caplog.at_level(logging.DEBUG, "saga"):
        for queue in ("one", "one", "two", "one"):
            publisher._send_in_time(None, [(time.monotonic() + 60, Dispatch(uuid4(), "main", queue))])
    warned = [record for record in caplog.records if record.levelno > logging.DEBUG]
    assert [(record.levelname, record.getMessage(), record.exc_info) for record in warned] == [
        (
            "WARNING",
            f"a message could not be sent; the relay sends it again: RuntimeError: access to {queue} refused",
            None,
        )
        for queue in ("one", "two")
    ]
    assert sum(bool(record.exc_info) for record in caplog.records) == 4


def test_a_complaint_comes_again_after_a_while_with_the_count_of_what_was_left_out():
    complaints = Complaints()
    assert [complaints.note("no", now) for now in (0.0, 1.0, 29.0)] == [0, None, None]
    assert complaints.note("other", 29.0) == 0
    assert [complaints.note("no", now) for now in (30.0, 31.0, 60.0, 100.0)] == [2, None, 1, 0]


def test_complaints_without_end_take_no_memory_without_end():
    complaints = Complaints()
    assert all(complaints.note(f"no {number}", 0.0) == 0 for number in range(1000))
    assert len(complaints._said) == 100
