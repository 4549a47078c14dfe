"""Of a message of ours, a worker hears the ids and nothing else."""

from __future__ import annotations

import json
import logging
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from celery import Celery
from celery.app.trace import trace_task_ret
from celery.exceptions import InvalidTaskError
from celery.utils.imports import symbol_by_name
from celery.worker.request import create_request_cls

from saga.broker.publisher import MOST_LANES, RUN
from saga.broker.tasks import register_tasks

ID = "018f3b1e-0000-7000-8000-000000000001"
CALLBACK = {"task": "shop.steal", "args": [], "kwargs": {}, "options": {}}
EMBED = {"callbacks": [CALLBACK], "errbacks": [CALLBACK], "chain": [CALLBACK], "chord": CALLBACK}
HEADERS = {
    "timelimit": [1, 0.5], "eta": "2100-01-01T00:00:00", "expires": "2000-01-01T00:00:00", "group": "g", "retries": 7,
    "root_id": "r", "parent_id": "p", "shadow": "shop.pay", "replaced_task_nesting": 5, "stamped_headers": ["a"],
    "stamps": {"a": 1}, "ignore_result": False, "is_eager": True, "called_directly": True, "argsrepr": "x" * 10_000, **EMBED,
}  # fmt: skip


class Pool:
    def __init__(self) -> None:
        self.given: Any = None

    def apply_async(self, _: Any, args: Any, **options: Any) -> None:
        self.given = args, options


class Side:
    """A worker's side of one message, and what its carrier hands on."""

    def __init__(self) -> None:
        self.lanes: list[Any] = []
        self.app = Celery("carriers", broker="memory://", backend="cache+memory://", set_as_current=False)
        executor = SimpleNamespace(run=lambda lanes, _: self.lanes.extend(lanes))
        register_tasks(self.app, lambda: SimpleNamespace(executor=executor), lambda *_: None)  # type: ignore[arg-type, return-value]
        self.app.finalize()
        self.task = self.app.tasks[RUN]

    def request(self, headers: dict[str, Any], payload: Any) -> Any:
        message = SimpleNamespace(
            headers={"task": RUN, **headers}, payload=payload, body=json.dumps(payload), content_type="application/json",
            content_encoding="utf-8", delivery_info={}, properties={},
        )  # fmt: skip
        pool = Pool()
        kind = create_request_cls(symbol_by_name(self.task.Request), self.task, pool, "here", None, app=self.app)
        request = kind(message, app=self.app, task=self.task, hostname="here")
        request.execute_using_pool(pool)
        return request, *pool.given


def test_nothing_of_what_a_message_says_of_its_own_handling_is_heard():
    side = Side()
    request, args, options = side.request({"id": "m1", **HEADERS}, [[[[ID, "main"]]], {}, EMBED])
    assert options["timeout"] == side.task.time_limit
    assert options["soft_timeout"] == side.task.soft_time_limit
    assert (request.eta, request.expires, request.name, request.ignore_result) == (None, None, RUN, True)
    assert (request.root_id, request.parent_id, request.chord, request.errbacks) == (None, None, None, None)
    assert len(request.argsrepr) < 100
    _, _, heard, (_, _, embed), _, _ = args
    assert embed == {}
    assert heard.keys().isdisjoint(HEADERS.keys() - {"argsrepr", "ignore_result"})


def test_its_ids_are_heard_and_nothing_is_called_or_stored(monkeypatch: pytest.MonkeyPatch):
    side = Side()
    sent: list[Any] = []
    monkeypatch.setattr(side.app, "send_task", lambda *args, **_: sent.append(args))
    _, (name, task_id, request, *rest), _ = side.request({"id": "m1", **HEADERS}, [[[[ID, "main"]]], {}, EMBED])
    failed, _, _ = trace_task_ret(name, task_id, request, *rest, app=side.app)
    assert not failed
    assert [lane for _, lane in side.lanes] == ["main"]
    assert sent == []
    assert side.app.backend.get_state("m1") == "PENDING"


def test_headers_of_others_stay_for_their_hooks():
    _, (_, _, heard, *_), _ = Side().request({"id": "m1", "tenant": "t1"}, [[[]], {}, {}])
    assert heard["tenant"] == "t1"


@pytest.mark.parametrize("task_id", [{}, [], None, "", "x" * 10_000, 5])
def test_an_id_that_is_none_is_replaced(task_id: Any):
    request, _, _ = Side().request({"id": task_id}, [[[]], {}, {}])
    assert isinstance(request.id, str)
    assert 0 < len(request.id) < 200


@pytest.mark.parametrize("payload", [5, [], [1, 2], [None, {}, {}], [[], [], {}], [{}, {}, {}]])
def test_a_body_that_is_none_is_refused_as_celery_refuses_it(payload: Any):
    with pytest.raises(InvalidTaskError):
        Side().request({"id": "m1"}, payload)


def test_a_message_of_more_lanes_than_we_ever_send_is_refused(caplog: pytest.LogCaptureFixture):
    side = Side()
    for count in (MOST_LANES, MOST_LANES + 1):
        _, (name, task_id, request, *rest), _ = side.request(
            {"id": "m1"}, [[[[str(uuid4()), "main"] for _ in range(count)]], {}, {}]
        )
        trace_task_ret(name, task_id, request, *rest, app=side.app)
    assert len(side.lanes) == MOST_LANES
    assert "at most 16 lanes" in caplog.text


def test_a_carrier_inside_another_task_is_refused(caplog: pytest.LogCaptureFixture):
    side = Side()
    with caplog.at_level(logging.ERROR, "saga"):
        side.task([[ID, "main"]])
    assert side.lanes == []
    assert "called by another task" in caplog.text
