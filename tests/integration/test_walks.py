"""How many modules one has to enter to follow what happens: from a start to its first attempt, from a failure to the end of
the rollback, and from an operator's retry.

A module is entered when a function of it runs that does something: not when a value is made or read. The words that all of
the code is written in are not counted, nor what lies behind a door: the store counts as one, as does telemetry.
"""

from __future__ import annotations

import dataclasses
import enum
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import saga
from saga import Abort, Retry, Saga, Status, Step
from saga.core.outcome import Failure, Success
from saga.worker.claimer import Claimer
from tests.integration.conftest import Bench, act, always, open_bench, undo

ROOT = Path(saga.__file__).parent
DOORS = ("store", "telemetry")
WORDS = {
    *(f"core.{name}" for name in ("commands", "due", "events", "outcome", "outline", "ref", "state", "text")),
    *(f"language.{name}" for name in ("codec", "definition", "step")),
}
"""What a log, a definition and JSON are made of: a reader of the page on concepts knows them."""
MOST = 15

WALKED = Saga(
    "walked",
    Step(act, name="a", compensate=undo, retry=Retry.none()),
    Step(act, name="b", compensate=None, retry=Retry.none()),
)
PIVOTED = Saga("pivoted", Step(act, name="a", pivot=True), Step(act, name="b", retry=Retry.none()))


@pytest.fixture
def walked(database_url: str) -> Iterator[Bench]:
    with open_bench("walked", [WALKED, PIVOTED], database_url) as found:
        yield found


@contextmanager
def entered() -> Iterator[set[str]]:
    """The modules that are entered meanwhile."""
    modules: set[str] = set()

    def look(frame: FrameType, event: str, _: Any) -> None:
        if event == "call" and (name := module_entered(frame)) is not None:
            modules.add(name)

    sys.setprofile(look)
    try:
        yield modules
    finally:
        sys.setprofile(None)


def module_entered(frame: FrameType) -> str | None:
    path = Path(frame.f_code.co_filename)
    if not path.is_relative_to(ROOT) or frame.f_code.co_name == "<module>":
        return None
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    owner = getattr(sys.modules.get(f"saga.{name}"), frame.f_code.co_qualname.split(".")[0], None)
    if is_value(owner) or name in WORDS or ("." not in name and name != "relay"):
        return None
    wing = name.split(".")[0]
    return wing if wing in DOORS else name


def is_value(owner: Any) -> bool:
    kinds = (tuple, enum.Enum, Exception)
    return isinstance(owner, type) and (dataclasses.is_dataclass(owner) or issubclass(owner, kinds))


def test_from_a_start_to_its_first_attempt_few_modules_are_entered(walked: Bench) -> None:
    claimer = Claimer(walked.worker())
    walked.start(WALKED)
    with entered() as modules:
        handle = walked.start(WALKED)
        assert claimer.claim(handle.id, "main") is not None
    assert len(modules) <= MOST, sorted(modules)


def test_from_a_failure_to_the_end_of_the_rollback_few_modules_are_entered(walked: Bench) -> None:
    worker = walked.worker()
    handle = walked.start(WALKED)
    run = worker.record(walked.claimed(handle, worker=worker), Success(1), always)
    assert run is not None
    with entered() as modules:
        after = worker.record(run, Failure(Abort("no"), effect=False), always)
        assert after is not None
        worker.record(after, Success(None), always)
    assert handle.status is Status.COMPENSATED
    assert len(modules) <= MOST, sorted(modules)


def test_of_an_operators_retry_few_modules_are_entered(walked: Bench) -> None:
    worker = walked.worker()
    handle = walked.start(PIVOTED)
    run = worker.record(walked.claimed(handle, worker=worker), Success(1), always)
    assert run is not None
    worker.record(run, Failure(ValueError("broken")), always)
    assert handle.status is Status.STUCK
    with entered() as modules:
        handle.retry()
    assert handle.status is Status.RUNNING
    assert len(modules) <= MOST, sorted(modules)
