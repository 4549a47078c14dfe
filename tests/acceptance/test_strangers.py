"""Workers of others on the queues of sagas: the doctor asks those that really run, and names them."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from saga.dev import Stack
from saga.ops import doctor
from tests.acceptance.conftest import PATIENCE, World, acceptance_app

pytestmark = pytest.mark.acceptance

PLAIN = """\
from celery import Celery

app = Celery("plain")

@app.task
def mail() -> None: ...
"""


def told(world: World, wanted: Callable[[str], bool]) -> list[str]:
    """What the doctor has to say of Celery workers, once that is so: on a busy machine an answer may come too late."""
    limit = time.monotonic() + PATIENCE
    while True:
        found = [f"{each.level}: {each.what}" for each in doctor.examine(world.orchestrator)]
        if any(map(wanted, found)):
            return found
        assert time.monotonic() < limit, "\n".join(found)


def test_a_living_worker_of_another_environment_on_the_same_queue_is_named(stack: Stack) -> None:
    ours, staging = World(stack, stack.broker_url), World(stack, stack.broker_url)
    staging.queue = ours.queue
    try:
        own, foreign = (world.worker(pool="solo") for world in (ours, staging))
        found = told(ours, lambda what: f"worker {foreign.hostname} " in what)
        expected = f"warning: worker {foreign.hostname} listens to queue {ours.queue}, but is not in this log"
        assert [what for what in found if foreign.hostname in what] == [
            f"{expected}: another environment shares the broker"
        ]
        assert not any(own.hostname in what for what in found)
    finally:
        ours.close()
        staging.close()


def test_a_living_worker_of_another_app_on_the_same_schema_is_told_of(stack: Stack) -> None:
    shop = World(stack, stack.broker_url, {"saga_realm": "shop"})
    bank = World(stack, stack.broker_url, {"saga_realm": "bank"})
    bank.database_url = shop.database_url
    bank.orchestrator.close()
    bank.orchestrator = acceptance_app.build(bank.broker_url, shop.database_url, bank.queue, bank.conf)
    try:
        bank.worker(pool="solo")
        found = told(shop, lambda what: "other apps share this schema: realm 'bank'; this one is 'shop'" in what)
        assert any("no worker is alive, though some of other apps are" in what for what in found)
    finally:
        shop.close()
        bank.close()


def test_a_living_worker_that_never_imported_the_sagas_is_named(stack: Stack, tmp_path: Path) -> None:
    (tmp_path / "plain_app.py").write_text(PLAIN)
    world = World(stack, stack.broker_url)
    try:
        plain = stack.worker("plain_app", cwd=tmp_path, pool="solo", queues=[world.queue],
                             env={"CELERY_BROKER_URL": world.broker_url})  # fmt: skip
        world.workers.append(plain)
        plain.wait_ready(PATIENCE)
        expected = f"bad: worker {plain.hostname} listens to queue {world.queue} but never imported the sagas"
        assert any(what.startswith(expected) for what in told(world, lambda what: f"worker {plain.hostname} " in what))
    finally:
        world.close()
