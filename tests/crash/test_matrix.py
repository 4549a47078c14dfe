"""The matrix: every crash point, in a sequence and in a parallel saga, forward and backward, on real worker processes.

Each case checks an external ledger that the steps keep under their idempotency keys: each effect once, each undo once,
none missing. The cases are made from the list of points, so a new point is covered without a new test.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from saga import Handle, NotAllowed, Status
from saga.core.events import AttemptLost, AttemptStarted, AttemptSucceeded
from saga.crashpoints import FOLDER, POINTS, Strike, arm, is_armed, is_paused, release, struck_at
from saga.dev import Stack
from tests.acceptance.conftest import BROKERS, HERE, World, broker_url, eventually
from tests.crash.conftest import KILL_TO_PROGRESS

pytestmark = [pytest.mark.acceptance, pytest.mark.crash]

STEPS = {"matrix_sequence": ["a", "b", "t"], "matrix_parallel": ["a", "b", "c", "t"]}
DIRECTIONS = {"forward": "ok", "backward": "abort no"}
CONNECTED = [point for point in POINTS if point.endswith(".before_commit") or point == "claim.before"]


class CrashWorld(World):
    """A world whose workers can be made to crash."""

    def __init__(self, stack: Stack, url: str, folder: Path, conf: dict[str, Any] | None = None) -> None:
        super().__init__(stack, url, conf)
        self.folder = folder

    def begin(self, saga: str, script: dict[str, Any], key: str, *, in_client: bool) -> Handle:
        """Start a saga, in a process of its own that may crash in doing so; who started it tries again, as callers do."""
        if in_client:
            done = subprocess.run(
                [sys.executable, "-c", _CLIENT, saga, key, repr(script)], cwd=HERE, env=self.client_env()
            )
            assert done.returncode != 0, "the client was to crash"
        return self.orchestrator.start(saga, {"script": script}, key=key)

    def client_env(self) -> dict[str, str]:
        return {"SAGA_DATABASE_URL": self.database_url, "CELERY_BROKER_URL": self.broker_url, "ACCEPTANCE_QUEUE": self.queue,
                FOLDER: str(self.folder), "PATH": "/usr/bin:/bin"}  # fmt: skip


_CLIENT = """
import ast, sys
from acceptance_app import orchestrator
saga, key, script = sys.argv[1:]
orchestrator.start(saga, {"script": ast.literal_eval(script)}, key=key)
orchestrator.close()
"""


@pytest.fixture(scope="module", params=BROKERS)
def crash_world(
    request: pytest.FixtureRequest, stack: Stack, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[CrashWorld]:
    world = CrashWorld(stack, broker_url(stack, request.param), tmp_path_factory.mktemp("points"))
    world.worker(concurrency=2, env={FOLDER: str(world.folder), "SAGA_RELAY_INTERVAL": "0.2"})
    yield world
    world.close()


CASES = [
    (point, saga, direction)
    for point in POINTS
    for saga in STEPS
    for direction in DIRECTIONS
    if direction == "backward" or not point.startswith("undo.")
]


@pytest.mark.parametrize(("point", "saga", "direction"), CASES)
def test_a_process_killed_at_any_point_loses_and_doubles_nothing(
    crash_world: CrashWorld, point: str, saga: str, direction: str, record_property: Callable[[str, object], None]
) -> None:
    handle = check_case(crash_world, point, saga, direction, "kill")
    for seconds in kill_to_progress(handle, struck_at(crash_world.folder, point)):
        record_property(KILL_TO_PROGRESS, seconds)


@pytest.mark.parametrize("point", POINTS)
def test_an_exception_at_any_point_loses_and_doubles_nothing(crash_world: CrashWorld, point: str) -> None:
    check_case(crash_world, point, "matrix_parallel", "backward", "raise")


@pytest.mark.parametrize("point", CONNECTED)
def test_a_connection_dropped_at_any_point_loses_and_doubles_nothing(crash_world: CrashWorld, point: str) -> None:
    check_case(crash_world, point, "matrix_sequence", "backward", "drop")


@pytest.mark.parametrize("point", [point for point in POINTS if not point.startswith("start.")])
def test_a_cancel_at_any_point_wins_or_comes_too_late_and_leaves_nothing_half_done(
    crash_world: CrashWorld, point: str
) -> None:
    world = crash_world
    script = {"a": ["fail", "ok"], "z": DIRECTIONS["backward" if point.startswith("undo.") else "forward"]}
    if point.startswith("settle."):
        arm(world.folder, "run.after_task")
    arm(world.folder, point, "pause")
    provoke(world, point)
    handle = world.start("matrix_parallel", script, key=f"{point} cancel")
    eventually(lambda: is_paused(world.folder, point), f"a process at {point}")
    with ThreadPoolExecutor(1) as pool:
        cancelling = pool.submit(cancel, handle)
        # It may have to wait for an entry that is appended but not committed.
        eventually(lambda: cancelling.done() or world.sql(BLOCKED), "the cancel, or what it waits for")
        release(world.folder, point)
        won = cancelling.result()
    rolled_back = won or point.startswith("undo.")
    assert world.finish(handle) == (Status.COMPENSATED if rolled_back else Status.COMPLETED)
    done, undone = ledger(world, handle)
    assert undone == (done if rolled_back else set())
    check_log(world, handle)


BLOCKED = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"


def cancel(handle: Handle) -> bool:
    """Whether a cancel was accepted."""
    try:
        return handle.cancel("a race")
    except NotAllowed:
        return False


def check_case(world: CrashWorld, point: str, saga: str, direction: str, strike: Strike) -> Handle:
    """Run a saga through a strike, and check what it left."""
    script = {"a": ["fail", "ok"], "z": DIRECTIONS[direction], "undo:b": ["fail", "ok"]}
    if point.startswith("settle."):
        arm(world.folder, "run.after_task")  # something must be lost before it can be settled
    arm(world.folder, point, strike)
    provoke(world, point)
    # A sequence runs inline to its end: the only message of it is its client's.
    in_client = point.startswith("start.") or (point.startswith("publish.") and saga == "matrix_sequence")
    handle = world.begin(saga, script, f"{point} {saga} {direction} {strike}", in_client=in_client)
    assert world.finish(handle) == (Status.COMPLETED if direction == "forward" else Status.COMPENSATED)
    eventually(lambda: not is_armed(world.folder, point), f"the strike at {point}")
    check_ledger(world, handle, STEPS[saga], undone=direction == "backward")
    check_log(world, handle)
    return handle


def provoke(world: World, point: str) -> None:
    """Have happen what leads to a point that no saga leads to: the clock steps back, as it seems from the last look."""
    if point.startswith("clock."):
        world.sql("UPDATE saga.relay SET looked_at = clock_timestamp() + interval '1 h'")


def check_ledger(world: World, handle: Handle, steps: list[str], *, undone: bool) -> None:
    """Each effect is there once, and each undo if there was a rollback; nothing else is."""
    assert ledger(world, handle) == (set(steps), set(steps) if undone else set())
    assert world.sql("SELECT * FROM saga.work WHERE saga_id = %s", handle.id) == []


def ledger(world: World, handle: Handle) -> tuple[set[str], set[str]]:
    """The steps that have had their effect, and those that were undone, each once."""
    pattern = f"{handle.id}/%"
    rows = world.sql(
        "SELECT key FROM ledger WHERE key LIKE %s UNION ALL SELECT key FROM booking WHERE key LIKE %s", pattern, pattern
    )
    keys = [key.split("/")[1:] for (key,) in rows]
    assert len(keys) == len(set(map(tuple, keys)))
    return {key[0] for key in keys if len(key) == 1}, {key[0] for key in keys if len(key) == 2}


def check_log(world: World, handle: Handle) -> None:
    """No step runs again once the log says that it succeeded, and no attempt runs twice."""
    ran = world.sql("SELECT step, undo, attempt FROM effect WHERE saga = %s", str(handle.id))
    assert len(ran) == len(set(ran))
    started, succeeded = set(), {}
    for entry in handle.log():
        event = entry.event
        if isinstance(event, AttemptStarted):
            assert (event.step, event.undo) not in succeeded
            started.add((event.step, event.undo, event.attempt))
        elif isinstance(event, AttemptSucceeded):
            succeeded[event.step, event.undo] = event.attempt
    assert set(ran) <= started


def kill_to_progress(handle: Handle, killed_at: float) -> Iterator[float]:
    """Seconds from a kill to the next attempt of each lane that it left open."""
    entries = [entry for entry in handle.log() if entry.at.timestamp() > killed_at]
    for lost in (entry for entry in entries if isinstance(entry.event, AttemptLost)):
        for entry in entries:
            if entry.seq > lost.seq and entry.lane == lost.lane and isinstance(entry.event, AttemptStarted):
                yield entry.at.timestamp() - killed_at
                break
