"""Real workers that have no more rights than the documentation grants them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from saga import Orchestrator, Status
from saga.dev import Stack
from tests.acceptance.conftest import HERE, PATIENCE, acceptance_app
from tests.roles import OpenPostgres

pytestmark = pytest.mark.acceptance

QUEUE = "acceptance-roles"


@pytest.fixture
def postgres(server_folder: Path) -> Iterator[OpenPostgres]:
    server = OpenPostgres(server_folder / "postgres", {"fsync": "off"})
    server.start()
    server.set_up_roles()
    with psycopg.connect(server.url_as("postgres"), autocommit=True) as connection:
        connection.execute(acceptance_app.TABLES.encode())
        connection.execute("GRANT ALL ON ALL TABLES IN SCHEMA public TO saga_worker, saga_client")
        connection.execute("GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO saga_worker, saga_client")
    yield server
    server.stop(mode="immediate")


@pytest.fixture
def client(stack: Stack, postgres: OpenPostgres) -> Iterator[Orchestrator]:
    found: Orchestrator = acceptance_app.build(stack.broker_url, postgres.url_as("saga_client"), QUEUE)
    yield found
    found.close()


def test_a_worker_with_the_rights_of_its_role_runs_every_kind_of_saga(
    stack: Stack, postgres: OpenPostgres, client: Orchestrator
) -> None:
    worker = stack.worker(
        "acceptance_app", cwd=HERE, queues=[QUEUE], concurrency=2,
        env={"SAGA_DATABASE_URL": postgres.url_as("saga_worker"), "ACCEPTANCE_QUEUE": QUEUE, "SAGA_KILL_GRACE": "1"},
    )  # fmt: skip
    worker.wait_ready(PATIENCE)
    expected: list[tuple[str, dict[str, Any], Status]] = [
        ("sequence", {}, Status.COMPLETED),
        ("parallel", {}, Status.COMPLETED),
        ("sequence", {"b": ["die", "ok"]}, Status.COMPLETED),
        ("sequence", {"c": "abort no"}, Status.COMPENSATED),
        ("slow", {"b": "wait never"}, Status.COMPENSATED),
        ("bank", {}, Status.COMPLETED),
        ("bank", {"b": "abort no"}, Status.COMPENSATED),
    ]

    account: dict[str, Any] = {"owner": "ann", "amount": 5}
    handles = [
        client.start(saga, {"script": script} | (account if saga == "bank" else {})) for saga, script, _ in expected
    ]

    assert [handle.wait(PATIENCE) for handle in handles] == [status for _, _, status in expected]
    assert "permission denied" not in worker.output()
    worker.kill()
