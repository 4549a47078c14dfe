"""Apps that share a schema, environments that share a broker: nobody takes, delays or loses another's work."""

from __future__ import annotations

import psycopg
import pytest

from saga import Handle, Status
from saga.dev import Stack
from tests.acceptance.conftest import World, acceptance_app

pytestmark = pytest.mark.acceptance

SAGAS = 20


def start(world: World, *, sent: bool) -> Handle:
    """Start a saga; one that is not sent, being part of a caller's transaction, is for the relay to find."""
    if sent:
        return world.start("sequence")
    with psycopg.connect(world.database_url.replace("+psycopg", "")) as connection:
        return world.start("sequence", connection=connection)


def together(first: World, second: World, *, sent: bool = True) -> None:
    """Start sagas in both, in turns, and wait for all of them."""
    handles = [(world, start(world, sent=sent)) for _ in range(SAGAS) for world in (first, second)]
    for world, handle in handles:
        assert world.finish(handle) == Status.COMPLETED, world


def close(*worlds: World) -> None:
    for world in worlds:
        world.close()


def test_two_environments_on_one_broker_run_their_own(stack: Stack) -> None:
    production, staging = World(stack, stack.broker_url), World(stack, stack.broker_url)
    staging.queue = production.queue
    staging.orchestrator.close()
    staging.orchestrator = acceptance_app.build(stack.broker_url, staging.database_url, production.queue, {})
    try:
        workers = [world.worker(pool="solo") for world in (production, staging)]
        together(production, staging)
        assert "of another saga log" in "".join(worker.output() for worker in workers)
        for world in (production, staging):
            assert world.sql("SELECT count(*) FROM saga.instance WHERE status = 'completed'") == [(SAGAS,)]
    finally:
        close(production, staging)


def test_two_apps_on_one_schema_with_a_broker_each_run_their_own(stack: Stack) -> None:
    shop = World(stack, stack.broker_url, {"saga_realm": "shop"})
    bank = World(stack, stack.broker_url.rpartition("/")[0] + "/1", {"saga_realm": "bank"})
    bank.database_url = shop.database_url
    bank.orchestrator.close()
    bank.orchestrator = acceptance_app.build(bank.broker_url, shop.database_url, bank.queue, bank.conf)
    try:
        for world in (shop, bank):
            world.worker(pool="solo")
        together(shop, bank)
        together(shop, bank, sent=False)
        workers = {
            realm: {row[0] for row in shop.sql(
                "SELECT DISTINCT worker FROM saga.log JOIN saga.instance ON id = saga_id WHERE realm = %s AND worker IS NOT NULL",
                realm)} for realm in ("shop", "bank")}  # fmt: skip
        assert all(workers.values())
        assert not workers["shop"] & workers["bank"]
    finally:
        close(shop, bank)
