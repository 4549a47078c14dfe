"""A fleet that is dead, misrouted or ignorant does not look healthy: what doctor and the commands that read say of it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery
from click.testing import CliRunner

from saga import Saga
from saga.cli import saga as cli
from saga.cli.context import Context
from saga.core.outcome import Failure, Success
from saga.ops import doctor
from saga.ops.doctor import workers as checks
from tests.integration.conftest import SEQUENCE, Bench, always, step
from tests.integration.test_fleet import enrol, live


class Shell:
    """The command line, on the bench's app."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench

    def __call__(self, *words: object) -> Any:
        return CliRunner().invoke(cli, [*map(str, words)])

    def json(self, *words: object) -> Any:
        return json.loads(self(*words, "--json").stdout)


@pytest.fixture
def shell(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Shell:
    monkeypatch.setattr("saga.cli.root.Context", lambda _: Context(None, bench.orchestrator.app))
    return Shell(bench)


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the Celery workers on the broker say of themselves."""
    nodes: dict[str, Any] = {}
    monkeypatch.setattr(checks, "_nodes", lambda _: nodes)
    return nodes


@pytest.fixture
def worker(bench: Bench) -> Iterator[None]:
    """A living worker that knows all sagas and listens to the default queue."""
    enrol(bench, 7, sagas=tuple(bench.orchestrator.sagas))
    with live(bench, 7):
        yield


def findings(bench: Bench) -> list[str]:
    return [f"{found.level}: {found.what}" for found in doctor.examine(bench.orchestrator)]


def said(bench: Bench, text: str) -> bool:
    return any(text in found for found in findings(bench))


# --- doctor -----------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("broker")
def test_doctor_says_that_no_worker_is_alive_and_that_it_is_bad_while_there_is_work(bench: Bench, shell: Shell) -> None:
    assert said(bench, "warning: no worker is alive")
    assert shell("doctor").exit_code == 0
    bench.start()
    assert said(bench, "bad: no worker is alive")
    assert shell("doctor").exit_code == 1


@pytest.mark.usefixtures("broker", "worker")
def test_doctor_has_nothing_to_say_of_a_fleet_that_works(bench: Bench) -> None:
    bench.start()
    assert not [
        found for found in findings(bench) if "worker" in found.partition(": ")[2] and not found.startswith("note")
    ]


@pytest.mark.usefixtures("broker")
def test_doctor_says_that_no_relay_is_alive(bench: Bench) -> None:
    enrol(bench, 7, sagas=tuple(bench.orchestrator.sagas))
    bench.sql("UPDATE saga.worker SET relays = false")
    bench.start()
    with live(bench, 7):
        assert said(bench, "bad: no relay is alive")


@pytest.mark.usefixtures("broker", "worker")
def test_doctor_says_that_no_relay_has_looked(bench: Bench) -> None:
    bench.start()
    bench.sql("INSERT INTO saga.relay VALUES (%s, now() - interval '5 min') ON CONFLICT (realm) DO UPDATE "
              "SET looked_at = excluded.looked_at", bench.orchestrator.database.realm)  # fmt: skip
    assert said(bench, "a relay is alive, but has not looked for 300 s")


@pytest.mark.usefixtures("broker")
def test_doctor_says_that_no_living_worker_knows_a_saga_that_waits(bench: Bench) -> None:
    enrol(bench, 7, sagas=(Saga("other", step("a")),))
    bench.start()
    bench.sql("UPDATE saga.work SET due_at = now() - interval '1 min'")
    with live(bench, 7):
        assert said(
            bench, "bad: 1 lane of saga 'sequence' waits on queue 'celery', for 60 s: no living worker knows saga"
        )
        assert said(bench, "know none of this app's sagas")


@pytest.mark.usefixtures("broker")
def test_doctor_says_that_nobody_listens_to_a_queue(bench: Bench) -> None:
    enrol(bench, 7, queues=("other",), sagas=tuple(bench.orchestrator.sagas))
    bench.start()
    bench.sql("UPDATE saga.work SET due_at = now() - interval '1 min'")
    with live(bench, 7):
        assert said(bench, "no living worker listens to queue 'celery', on which steps run")
        assert said(bench, "no living worker that knows saga 'sequence' listens to queue 'celery'")


@pytest.mark.usefixtures("worker")
def test_doctor_names_a_worker_that_never_imported_the_sagas(bench: Bench, broker: dict[str, Any]) -> None:
    broker["celery@7"] = frozenset({"celery"}), frozenset({"saga.run", "saga.ping"})
    assert not said(bench, "celery@")
    broker["celery@plain"] = frozenset({"celery"}), frozenset({"shop.mail"})
    broker["celery@elsewhere"] = frozenset({"other"}), frozenset({"shop.mail"})
    (found,) = [each for each in findings(bench) if "celery@" in each]
    assert found.startswith("bad: worker celery@plain listens to queue celery but never imported the sagas")
    assert "Received unregistered task of type 'saga.run'" in found


@pytest.mark.usefixtures("worker")
def test_doctor_names_a_worker_of_another_environment_on_the_broker(bench: Bench, broker: dict[str, Any]) -> None:
    broker["celery@staging"] = frozenset({"celery"}), frozenset({"saga.run", "saga.ping"})
    assert said(bench, "warning: worker celery@staging listens to queue celery, but is not in this log")


@pytest.mark.usefixtures("broker", "worker")
def test_doctor_says_that_another_app_shares_the_schema(bench: Bench) -> None:
    enrol(bench, 8)
    bench.sql("UPDATE saga.worker SET realm = 'billing' WHERE number = 8")
    with live(bench, 8):
        assert said(bench, "note: other apps share this schema: realm 'billing'")


def test_doctor_asks_the_workers_of_a_broker_that_answers_nothing_for_a_bounded_time(bench: Bench) -> None:
    app = Celery("away", broker="redis://127.0.0.1:1/0", set_as_current=False)
    assert checks._nodes(app) == {}
    assert checks._nodes(bench.orchestrator.app) == {}


# --- start, show, list, stats, workers --------------------------------------------------------------------------------


def test_start_says_at_once_that_nobody_is_there_to_go_on(shell: Shell) -> None:
    result = shell("start", "sequence", "{}")
    assert result.exit_code == 0
    assert "it waits: no worker is alive" in result.stderr
    assert len(result.stdout.split()) == 1


@pytest.mark.usefixtures("worker")
def test_start_says_nothing_of_a_fleet_that_works(shell: Shell) -> None:
    assert shell("start", "sequence", "{}").stderr == ""


def test_start_says_what_it_waited_for(shell: Shell) -> None:
    result = shell("start", "sequence", "{}", "--wait", "0.1")
    assert result.exit_code == 1
    assert "waits for 0 s: no worker is alive" in result.stderr


def test_list_show_and_stats_say_what_waits_and_for_what(bench: Bench, shell: Shell) -> None:
    handle = bench.start()
    bench.sql("UPDATE saga.work SET due_at = now() - interval '40 s'")
    why = "waits for 40 s: no worker is alive"
    assert why in shell("list").stdout
    assert why in shell("show", handle.id).stdout
    assert shell.json("show", handle.id)["problem"] == "no worker is alive"
    assert shell.json("list")["sagas"][0]["problem"] == "no worker is alive"
    stats = shell.json("stats")
    assert [(row["saga"], row["lanes"], row["waits_for"]) for row in stats["waiting"]] == [
        ("sequence", 1, "no worker is alive")
    ]
    assert stats["workers"] == {"alive": 0, "dead": 0}
    assert "no worker is alive" in shell("stats").stdout


def test_list_parked_shows_what_waits_for_too_long_and_nothing_else(bench: Bench, shell: Shell) -> None:
    stuck_in_queue, moving, unknown = bench.start(), bench.start(), bench.start()
    bench.start(delay=3600)
    bench.sql("UPDATE saga.work SET due_at = now() - interval '1 min' WHERE saga_id = %s", stuck_in_queue.id)
    bench.claimed(moving)
    bench.sql("UPDATE saga.work SET problem = 'nobody knows it', due_at = now() + interval '1 min' WHERE saga_id = %s",
              unknown.id)  # fmt: skip
    found = {saga["id"] for saga in shell.json("list", "--parked")["sagas"]}
    assert found == {str(stuck_in_queue.id), str(unknown.id)}
    assert {handle.id for handle in bench.orchestrator.find(parked=True)} == {stuck_in_queue.id, unknown.id}
    assert shell.json("stats")["parked"] == 1


def test_stats_count_sagas_by_status(bench: Bench, shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    worker = bench.worker()
    bench.finish(worker, bench.claimed(bench.start(), worker=worker))
    bench.start().pause()
    bench.start()
    bench.start()
    stats = shell.json("stats")
    assert {name: count for name, count in stats["statuses"].items() if count} == {
        "running": 2, "paused": 1, "completed": 1
    }  # fmt: skip
    assert stats["estimated"] is False
    monkeypatch.setattr("saga.store.postgres.tally._FEW", -2)
    assert shell.json("stats")["estimated"] is True


@pytest.mark.usefixtures("worker")
def test_workers_lists_who_lives_and_what_each_runs(bench: Bench, shell: Shell) -> None:
    enrol(bench, 9)
    handle, worker = bench.start(), bench.worker(7)
    run = worker.record(bench.claimed(handle, worker=worker), Success(1), always)
    assert run is not None
    alive, dead = shell.json("workers")
    assert (alive["worker"], alive["alive"], alive["host"], alive["pid"], alive["queues"]) == (
        7, True, "elsewhere", 7, ["celery"]
    )  # fmt: skip
    assert alive["sagas"] == ["forked", "sequence"]
    assert [(each["saga_id"], each["step"]) for each in alive["runs"]] == [(str(handle.id), "b")]
    assert (dead["worker"], dead["alive"], dead["runs"]) == (9, False, [])
    assert "dead" in shell("workers").stdout


@pytest.mark.usefixtures("worker")
def test_workers_shows_realms_and_whole_ids_on_a_terminal_of_80_columns(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, shell: Shell
) -> None:
    bench.sql(
        "UPDATE saga.worker SET realm = 'billing', host = 'worker-7.shop.example', queues = '{mails,invoices,celery}'"
    )
    handles = [bench.start(), bench.start()]
    for handle in handles:
        bench.claimed(handle, worker=bench.worker(7))
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "80")
    shown = re.sub(r"\x1b\[[0-9;]*m", "", shell("workers").stdout)
    assert "billing" in shown
    assert all(str(handle.id) in shown for handle in handles)
    assert all(len(line) <= 80 for line in shown.splitlines())


@pytest.mark.usefixtures("worker")
def test_show_names_the_step_of_a_lane_that_went_on_inline_and_where_it_runs(bench: Bench, shell: Shell) -> None:
    handle, worker = bench.start(), bench.worker(7)
    worker.record(bench.claimed(handle, worker=worker), Success(1), always)
    assert bench.sql("SELECT step FROM saga.work") == [("a",)]
    shown = shell.json("show", handle.id)
    assert [(lane["step"], lane["worker"]) for lane in shown["work"]] == [("b", 7)]
    assert shown["workers"] == [{"worker": 7, "host": "elsewhere", "pid": 7}]
    assert "worker 7 (elsewhere, process 7)" in shell("show", handle.id).stdout


def test_show_keeps_no_error_beside_a_step_that_has_succeeded(bench: Bench, shell: Shell) -> None:
    handle, worker = bench.start(SEQUENCE), bench.worker()
    run = worker.record(bench.claimed(handle, worker=worker), Failure(RuntimeError("no luck")), always)
    assert run is not None
    again = worker.wake(run)
    worker.record(again, Success(1), lambda: False)
    assert "no luck" not in shell("show", handle.id).stdout
    step_a = shell.json("show", handle.id)["steps"]["a"]
    assert (step_a["status"], step_a["attempts"], step_a["error"]) == ("succeeded", 2, None)
