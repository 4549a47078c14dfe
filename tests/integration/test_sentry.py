"""Sentry is told of a failure once the log has it for good, and of nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import sentry_sdk
from sentry_sdk.integrations.celery import CeleryIntegration
from sentry_sdk.transport import Transport
from tenacity import stop_after_attempt, wait_none

from saga import Abort, Handle, Retry, Saga, Status, Step
from saga.worker.claimer import Claimer
from saga.worker.executor import Executor
from tests.integration.conftest import Bench, never

TWICE = Retry(stop=stop_after_attempt(2), wait=wait_none())


class Kept(Transport):
    """Sends nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[Any] = []

    def capture_envelope(self, envelope: Any) -> None:
        event = envelope.get_event() or envelope.get_transaction_event()
        if event is not None:
            self.events.append(event)


@pytest.fixture(scope="module")
def sentry() -> Iterator[Kept]:
    transport = Kept()
    sentry_sdk.init(
        dsn="https://key@sentry.invalid/1", transport=transport, integrations=[CeleryIntegration()],
        auto_enabling_integrations=False, traces_sample_rate=1.0,
    )  # fmt: skip
    yield transport
    sentry_sdk.get_client().close(timeout=0)
    sentry_sdk.get_global_scope().set_client(None)


@pytest.fixture
def events(sentry: Kept) -> list[Any]:
    sentry.events.clear()
    return sentry.events


class Shop:
    """A saga whose steps raise what they are told to, and a worker."""

    def __init__(self, bench: Bench) -> None:
        app = bench.orchestrator.app
        self.raises: dict[str, list[BaseException]] = {}

        def task(name: str, **options: Any) -> Any:
            def run() -> None:
                sentry_sdk.add_breadcrumb(message=f"in {name}")
                if left := self.raises.get(name):
                    raise left.pop(0)

            return app.task(run, name=f"shop.{name}", shared=False, **options)

        pay = task("pay", autoretry_for=(ConnectionError,), retry_kwargs={"countdown": 0})
        options = {"retry": TWICE, "compensate_retry": TWICE}
        saga = Saga(
            "watched",
            Step(task("reserve"), name="reserve", compensate=task("release"), **options),
            Step(pay, name="pay", compensate=task("refund"), abort_on=(KeyError,), **options),
        )
        self.bench = bench
        self.saga = bench.orchestrator.register(saga)
        self.executor = Executor(app, Claimer(bench.worker()), bench.orchestrator.settings, never)

    def run(self, **raises: list[BaseException]) -> Handle:
        self.raises = raises
        handle = self.bench.start(self.saga)
        for _ in range(20):
            for (lane,) in self.bench.sql(
                "SELECT lane FROM saga.work WHERE saga_id = %s AND worker IS NULL", handle.id
            ):
                self.executor.run([(handle.id, lane)], None)
        return handle


@pytest.fixture
def shop(bench: Bench, sentry: Kept) -> Shop:
    return Shop(bench)


def told(events: list[Any]) -> list[tuple[Any, ...]]:
    """Of each event of an error: step, attempt, and the last exception's type."""
    errors = [event for event in events if event.get("type") != "transaction"]
    return [
        (event["tags"]["saga.step"], event["tags"]["saga.attempt"], event["exception"]["values"][-1]["type"])
        for event in errors
    ]


def test_an_attempt_that_is_tried_again_is_no_event(shop: Shop, events: list[Any]) -> None:
    assert shop.run(pay=[RuntimeError("once")]).status == Status.COMPLETED
    assert told(events) == []


def test_a_final_failure_is_one_event(shop: Shop, events: list[Any]) -> None:
    handle = shop.run(pay=[RuntimeError("once"), RuntimeError("twice")])
    assert handle.status == Status.COMPENSATED
    assert told(events) == [("pay", "2", "RuntimeError")]
    [event] = [event for event in events if event.get("type") != "transaction"]
    assert event["exception"]["values"][-1]["value"] == "twice"
    assert event["tags"]["saga.id"] == str(handle.id)
    assert [crumb["message"] for crumb in event["breadcrumbs"]["values"]] == ["in pay"]
    assert event["extra"]["celery-job"]["task_name"] == "shop.pay"


@pytest.mark.parametrize("error", [Abort("declined"), KeyError("declined")], ids=["abort", "abort_on"])
def test_a_refusal_is_no_event(shop: Shop, events: list[Any], error: BaseException) -> None:
    assert shop.run(pay=[error]).status == Status.COMPENSATED
    assert told(events) == []


def test_an_undo_that_fails_for_good_is_one_event(shop: Shop, events: list[Any]) -> None:
    handle = shop.run(pay=[Abort("declined")], release=[OSError("away"), OSError("still away")])
    assert handle.status == Status.STUCK
    assert told(events) == [("reserve", "2", "OSError")]


def test_a_task_that_retries_itself_is_one_event_in_the_end(shop: Shop, events: list[Any]) -> None:
    shop.run(pay=[ConnectionError("once"), ConnectionError("twice")])
    assert told(events) == [("pay", "2", "ConnectionError")]


def test_a_step_belongs_to_the_trace_of_its_start(shop: Shop, events: list[Any]) -> None:
    with sentry_sdk.start_transaction(name="request") as request:
        handle = shop.bench.start(shop.saga)
    shop.executor.run([(handle.id, "main")], None)
    steps = [event for event in events if event.get("transaction", "").startswith("shop.")]
    assert {event["contexts"]["trace"]["trace_id"] for event in steps} == {request.trace_id}
    assert len(steps) == 2
