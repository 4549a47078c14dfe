"""The command line, on a real Postgres. Sagas are brought into their states without workers, through ``Attempts``."""

from __future__ import annotations

import importlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import click
import psutil
import psycopg
import pytest
from celery import Celery
from click.testing import CliRunner, Result
from tenacity import stop_after_attempt

from saga import Abort, Handle, Orchestrator, Parallel, Retry, Saga, Step, __version__
from saga.cli import saga as cli
from saga.core.outcome import Failure, Outcome, Success
from saga.dev import Stack
from saga.language import drawing
from saga.ops import audit, doctor
from saga.ops.doctor.finding import Level
from saga.ops.doctor.server import SERVER_CHECKS, Server
from saga.worker.claimer import Claimer
from saga.worker.recorder import Recorder
from tests.conftest import make_database

BIN = Path(sys.executable).parent
NOBODY = "01890a5d-ac96-774b-bcce-b302099a8057"

APP = """\
from celery import Celery
from saga import Orchestrator, Parallel, Retry, Saga, Step

app = Celery("cli_shop")
print("this goes to standard error")

@app.task
def reserve(sku: str) -> str: ...

@app.task
def release(reservation: str | None): ...

@app.task
def charge(sku: str) -> int: ...

@app.task
def refund(payment: int | None): ...

@app.task
def ship() -> bool: ...

once = Retry.none()
order = Saga(
    "order",
    Step(reserve, name="reservation", compensate=release, retry=once, compensate_retry=once),
    Step(charge, name="payment", compensate=refund, retry=once),
    Step(ship, pivot=True, retry=once),
)
hold = Saga("hold", Step(reserve, name="reservation", compensate=release))
again = Saga("again", Step(reserve, name="reservation", compensate=release))
orchestrator = Orchestrator(app, sagas=[order, hold, again])
"""


@pytest.fixture(scope="module")
def shop(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleType]:
    """The module that ``-A`` names, in the current folder, with a database and a broker of its own."""
    folder = tmp_path_factory.mktemp("cli")
    (folder / "cli_shop.py").write_text(APP)
    (folder / "cli_broken.py").write_text("import cli_shop\nimport a_module_that_is_not_there\n")
    (folder / "cli_empty.py").write_text("app = 3\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SAGA_DATABASE_URL", make_database(stack))
        patch.setenv("CELERY_BROKER_URL", stack.broker_url)
        patch.chdir(folder)
        patch.syspath_prepend(folder)
        module = importlib.import_module("cli_shop")
        yield module
        module.orchestrator.close()
        module.app.close()
        del sys.modules["cli_shop"]


@pytest.fixture
def orchestrator(shop: ModuleType) -> Iterator[Orchestrator]:
    """The app's, with a log that is empty again afterwards."""
    yield shop.orchestrator
    with psycopg.connect(_plain(os.environ["SAGA_DATABASE_URL"])) as connection:
        connection.execute("TRUNCATE saga.log, saga.work, saga.instance, saga.probe, saga.relay")


def _plain(url: str) -> str:
    return url.replace("+psycopg", "")


Run = Callable[..., Result]


@pytest.fixture
def run(shop: ModuleType) -> Run:
    """Runs a command line in this process."""

    def run(*words: object, app: str | None = "cli_shop", **options: Any) -> Result:
        named = ["-A", app] if app else []
        return CliRunner().invoke(cli, [*named, *map(str, words)], **options)

    return run


def _start(orchestrator: Orchestrator, *outcomes: Outcome, saga: str = "order", **options: Any) -> Handle:
    """A saga of whose attempts the first ended like this."""
    handle = orchestrator.start(saga, {"sku": "A1"}, **options)
    _go_on(orchestrator, handle, *outcomes)
    return handle


def _go_on(orchestrator: Orchestrator, handle: Handle, *outcomes: Outcome) -> None:
    attempts = Recorder(orchestrator.engine, worker=lambda: 1, inline_wait=1.0)
    for outcome in outcomes:
        run = Claimer(attempts).claim(handle.id, "main")
        assert run is not None
        attempts.record(run, outcome, lambda: False)


DONE, CRASHED, REFUSED = (
    Success("r-1"),
    Failure(RuntimeError("no answer")),
    Failure(Abort("card declined"), effect=False),
)
COMPLETED = (DONE, Success(7), Success(True))
COMPENSATED = (DONE, REFUSED, Success(None))
IN_DOUBT = (DONE, Success(7), CRASHED)
UNDO_STUCK = (DONE, REFUSED, CRASHED)


def _json(result: Result) -> Any:
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


# --- start ------------------------------------------------------------------------------------------------------------


def test_start_prints_the_id_and_a_second_start_under_the_key_the_same(run: Run, orchestrator: Orchestrator) -> None:
    words = ("start", "order", '{"sku": "A1"}', "--key", "o-1", "--tag", "region=eu")

    first, second = run(*words), run(*words)

    assert first.exit_code == 0
    assert first.stdout == second.stdout
    handle = orchestrator.get(first.stdout.strip())
    assert (handle.key, handle.tags) == ("o-1", {"region": "eu"})


def test_start_reads_its_input_from_standard_input(run: Run, orchestrator: Orchestrator) -> None:
    started = _json(run("start", "order", "-", "--json", input='{"sku": "B2"}'))

    assert started == {"id": started["id"], "saga": "order", "status": "running", "reason": None, "results": {}}
    assert orchestrator.get(started["id"]).replay().input == {"sku": "B2"}


def test_start_that_waits_prints_the_results_of_a_completed_saga(run: Run, orchestrator: Orchestrator) -> None:
    _start(orchestrator, *COMPLETED, key="o-1")

    result = run("start", "order", '{"sku": "A1"}', "--key", "o-1", "--wait")

    assert result.exit_code == 0
    assert json.loads(result.stdout.split("\n", 1)[1]) == {"reservation": "r-1", "payment": 7, "ship": True}


@pytest.mark.parametrize(
    ("outcomes", "error"),
    [
        (COMPENSATED, "compensated: payment: card declined"),
        (IN_DOUBT, "stuck: pivot in doubt"),
        ((), "running after 0.05 s"),
    ],
)
def test_start_that_waits_exits_with_1_unless_it_completed(
    run: Run, orchestrator: Orchestrator, outcomes: Sequence[Outcome], error: str
) -> None:
    _start(orchestrator, *outcomes, key="o-1")
    words = ("start", "order", '{"sku": "A1"}', "--key", "o-1", "--wait", "0.05")

    result, as_json = run(*words), run(*words, "--json")

    assert (result.exit_code, as_json.exit_code) == (1, 1)
    assert error in result.stderr
    assert json.loads(as_json.stdout)["status"] in error


@pytest.mark.parametrize(
    ("words", "code", "error"),
    [
        (("start", "order", "{"), 2, "that is not JSON"),
        (("start", "order", "{}"), 1, "has no field 'sku'"),
        (("start", "order", "[1]"), 2, "expected a JSON object"),
        (("start", "order", "{}", "--key", ""), 2, "expected a text of 1 to 500 characters"),
        (("start", "order", "{}", "--key", "x" * 501), 2, "expected a text of 1 to 500 characters"),
        (("start", "ordre", "{}"), 1, "did you mean 'order'?"),
        (("start", "order", "{}", "--wait", "soon"), 2, "expected seconds"),
        (("start", "order", "{}", "--tag", "a=b", "--tag", "c"), 2, "--tag expected"),
        (("show", "not-an-id"), 1, "is not the id of a saga"),
        (("show", NOBODY), 1, "there is no saga"),
        (("list", "--status", "lost"), 2, "'lost' is not one of 'running'"),
        (("list", "--since", "yesterday"), 2, "expected a time such as"),
        (("list", "--after", "x"), 1, "is not the id of a saga"),
        (("graph", "nothing"), 1, "known are: order, hold"),
        (("retry",), 2, "expected the ID of one saga, or a filter"),
        (("retry", NOBODY, "--saga", "order"), 2, "expected the ID of one saga, or a filter"),
        (("frobnicate",), 2, "No such command"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_clear_line_and_an_exit_code(run: Run, words: Sequence[str], code: int, error: str) -> None:
    result = run(*words)

    assert result.exit_code == code
    assert error in result.stderr
    assert "Traceback" not in result.output
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("app", "code", "error"),
    [
        (None, 2, "no Celery app is named"),
        ("cli_nowhere", 2, "No module named 'cli_nowhere'"),
        ("cli_broken", 2, "No module named 'a_module_that_is_not_there' ("),
        ("cli_empty", 2, "expected a Celery app"),
        ("cli_shop:nope", 2, "module cli_shop has no attribute 'nope'"),
        ("cli_nowhere:app", 2, "No module named 'cli_nowhere'"),
    ],
)
def test_an_app_that_cannot_be_loaded_is_named(run: Run, app: str | None, code: int, error: str) -> None:
    result = run("list", app=app, env={"SAGA_APP": None})

    assert (result.exit_code, result.stdout) == (code, "")
    assert error in result.stderr


def test_ctrl_c_ends_it_quietly(run: Run, orchestrator: Orchestrator, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Handle, "wait", interrupt)
    result = run("start", "order", '{"sku": "A1"}', "--wait", "--json")

    assert (result.exit_code, result.stdout) == (130, "")
    assert "Aborted" not in result.stderr


# --- reading ----------------------------------------------------------------------------------------------------------


def test_list_shows_a_page_and_the_way_to_the_next(run: Run, orchestrator: Orchestrator) -> None:
    ids = [str(_start(orchestrator, key=f"o-{number}").id) for number in range(3)]

    first = run("list", "--limit", 2)
    rest = run("list", "--limit", 2, "--after", ids[1])

    assert [line.split()[0] for line in first.stdout.splitlines()[1:]] == [ids[2], ids[1]]
    assert first.stderr.strip() == f"there is more: --after {ids[1]}"
    assert [line.split()[0] for line in rest.stdout.splitlines()[1:]] == [ids[0]]
    assert rest.stderr == ""
    for name in (_beginning(ids[1], ids), "o-1", "order/o-1"):
        assert run("list", "--limit", 2, "--after", name).stdout == rest.stdout


def _beginning(wanted: str, ids: Sequence[str]) -> str:
    """The shortest beginning of an id that no other has."""
    lengths = (end for end in range(8, 37) if sum(other.startswith(wanted[:end]) for other in ids) == 1)
    return wanted[: next(lengths)]


TERMINAL = {"FORCE_COLOR": "1", "COLUMNS": "80"}


def test_list_fits_a_terminal_of_80_columns_and_cuts_what_matters_least(run: Run, orchestrator: Orchestrator) -> None:
    key = "order-" + 30 * "k"
    handles = [_start(orchestrator, *COMPENSATED, key=f"{key}{number}") for number in range(3)]

    lines = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in run("list", env=TERMINAL).stdout.splitlines()]

    assert all(len(line) <= 80 for line in lines)
    assert lines[0].split() == ["id", "status", "saga", "key", "age"]
    ids = [line.split()[0] for line in lines[1::2]]
    assert all(str(handle.id).startswith(short) for handle, short in zip(reversed(handles), ids, strict=True))
    assert all("compensated" in line and "order-k" in line for line in lines[1::2])
    assert all(line.strip().startswith("payment: card declined") for line in lines[2::2])


@pytest.mark.parametrize("command", ["log", "replay"])
def test_a_log_fits_a_terminal_of_80_columns_and_breaks_no_word_of_an_entry(
    run: Run, orchestrator: Orchestrator, command: str
) -> None:
    handle = _start(orchestrator, *COMPENSATED)

    shown = re.sub(r"\x1b\[[0-9;]*m", "", run(command, handle.id, env=TERMINAL).stdout)

    assert all(len(line) <= 80 for line in shown.splitlines())
    for entry in handle.log():
        assert re.search(rf"^{entry.seq} +\d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d +{entry.kind}\b", shown, re.MULTILINE)


def test_what_a_terminal_shows_as_an_id_names_that_saga_and_no_other(run: Run, orchestrator: Orchestrator) -> None:
    handles = [_start(orchestrator, key=f"key-{number}") for number in range(5)]

    ids = [line.split()[0] for line in run("list", env={**TERMINAL, "NO_COLOR": "1"}).stdout.splitlines()[1:]]

    assert all(len(short) < 36 for short in ids)
    for handle, short in zip(reversed(handles), ids, strict=True):
        for words in (["show", short], ["log", short], ["replay", short]):
            assert run(*words).exit_code == 0
        assert f"id      {handle.id}" in re.sub(" +", "      ", run("show", short).stdout)


@pytest.mark.parametrize("name", ["{id}", "ORDER/KEY", "order/key-1", "key-1", "order/key/2", "key/2"])
def test_a_saga_may_be_named_by_its_key(run: Run, orchestrator: Orchestrator, name: str) -> None:
    one, two = _start(orchestrator, key="key-1"), _start(orchestrator, key="key/2")
    wanted = two if name.endswith("2") else one

    result = run("pause", name.format(id=one.id))

    if name == "ORDER/KEY":
        assert (result.exit_code, "nor a key" in result.stderr) == (1, True)
    else:
        assert (result.exit_code, result.stdout) == (0, f"{wanted.id} is paused\n")


def test_a_name_that_several_sagas_have_lists_them_and_does_nothing(run: Run, orchestrator: Orchestrator) -> None:
    one, two = _start(orchestrator, key="same"), _start(orchestrator, saga="hold", key="same")
    shared = str(one.id)[:8]  # the digits of a minute

    for name in ("same", shared):
        result = run("cancel", name)
        assert result.exit_code == 1
        assert f"{one.id} (order/same)" in result.stderr
        assert f"{two.id} (hold/same)" in result.stderr
    assert (one.status, two.status) == ("running", "running")


def test_a_slip_is_met_with_what_may_have_been_meant(run: Run, orchestrator: Orchestrator) -> None:
    assert "Did you mean 'list'?" in run("lst").stderr
    assert "did you mean 'order'?" in run("list", "--saga", "ordr").stderr
    assert run("list").stderr.strip() == "the log has no sagas yet"


def test_start_takes_all_that_the_api_takes(run: Run, orchestrator: Orchestrator) -> None:
    words = ["--delay", "15min", "--deadline", "2h", "--priority", "3", "--tags", '{"shop": 7}']

    started = orchestrator.get(run("start", "order", '{"sku": "A1"}', *words).stdout.strip())

    assert started.tags == {"shop": 7}
    first = started.log()[0].data
    assert (first["delay"], first["deadline"], first["priority"]) == (900.0, 7200.0, 3)


@pytest.mark.parametrize("text", ["inf", "nan", "-1", "2 weeks", "1e9", ""])
def test_a_time_that_is_none_is_refused(run: Run, text: str) -> None:
    assert "expected a time such as 90 (seconds)" in run("start", "order", "{}", "--deadline", text).stderr


def test_list_as_json_has_stable_keys_and_names_parked_work(run: Run, orchestrator: Orchestrator) -> None:
    handle = _start(orchestrator, key="o-1", tags={"region": "eu"})
    with orchestrator.database.link() as link:
        link.run("UPDATE {s}.work SET problem = 'no worker knows it'", {})

    listed = _json(run("list", "--json"))

    assert listed["after"] is None
    [saga] = listed["sagas"]
    assert set(saga) == {"id", "saga", "fingerprint", "key", "status", "reason", "problem", "tags", "started_at",
                         "updated_at", "finished_at"}  # fmt: skip
    assert (saga["id"], saga["problem"], saga["tags"]) == (str(handle.id), "no worker knows it", {"region": "eu"})


def test_list_says_of_a_stuck_saga_what_it_is_stuck_on(run: Run, orchestrator: Orchestrator) -> None:
    handle = _start(orchestrator, *UNDO_STUCK)

    (line,) = run("list", "--status", "stuck").stdout.splitlines()[1:]
    assert "undo of reservation: " in line
    assert "card declined" not in line
    handle.abandon("written off", by="ann")
    (line,) = run("list", "--status", "abandoned").stdout.splitlines()[1:]
    assert "written off; before that: payment: card declined" in line


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--status", "stuck", "--status", "completed"), {"stuck", "completed"}),
        (("--saga", "hold"), {"hold"}),
        (("--key", "hold"), {"hold"}),
        (("--tag", "kind=stuck"), {"stuck"}),
        (("--since", "1h"), {"stuck", "completed", "hold"}),
        (("--until", "2020-01-01"), set()),
    ],
)
def test_list_filters(run: Run, orchestrator: Orchestrator, words: Sequence[str], expected: set[str]) -> None:
    _start(orchestrator, *IN_DOUBT, key="stuck", tags={"kind": "stuck"})
    _start(orchestrator, *COMPLETED, key="completed")
    _start(orchestrator, saga="hold", key="hold")

    assert {saga["key"] for saga in _json(run("list", "--json", *words))["sagas"]} == expected


def test_what_steps_wrote_cannot_drive_the_terminal(run: Run, orchestrator: Orchestrator) -> None:
    _start(orchestrator, DONE, Failure(Abort("\x1b[2J[red]gone"), effect=False))

    assert " [2J[red]gone" in run("list").stdout


HOSTILE = "\x1b]0;owned\x07 \x9b31m \u202eevil\u2066 \x7f ü"


@pytest.mark.parametrize(
    "words",
    [
        ("list",),
        ("show", "k"),
        ("log", "k"),
        ("replay", "k"),
        ("pause", "k"),
        ("show", "k", "--json"),
        ("log", "k", "--json"),
    ],
)
def test_nothing_that_is_printed_can_drive_a_terminal(
    run: Run, orchestrator: Orchestrator, words: Sequence[str]
) -> None:
    _start(orchestrator, Success(HOSTILE), Failure(Abort(HOSTILE), effect=False), key="k", tags={"a": HOSTILE})

    result = run(*words, env=TERMINAL | {"NO_COLOR": "1", "TERM": "dumb"})

    assert [letter for letter in result.output if not letter.isprintable() and letter != "\n"] == []


def test_json_keeps_what_it_escapes(run: Run, orchestrator: Orchestrator) -> None:
    _start(orchestrator, key=HOSTILE)

    [saga] = _json(run("list", "--json"))["sagas"]

    assert saga["key"] == HOSTILE


def test_results_and_errors_of_a_start_that_waits_are_inert(run: Run, orchestrator: Orchestrator) -> None:
    done = _start(orchestrator, Success(HOSTILE), Success(7), Success(True), key="done")
    _start(orchestrator, DONE, Failure(Abort(HOSTILE), effect=False), Success(None), key="undone")

    for key, shown in (("done", "evil"), ("undone", "evil")):
        result = run("start", "order", '{"sku": "A1"}', "--key", key, "--wait")
        assert shown in result.output
        assert [letter for letter in result.output if not letter.isprintable() and letter != "\n"] == []
    assert done.status == "completed"


@pytest.mark.parametrize("text", ['{"sku": NaN}', '{"sku": Infinity}', '{"sku": -Infinity}'])
def test_numbers_that_json_does_not_have_are_refused(run: Run, text: str) -> None:
    result = run("start", "order", text)
    assert (result.exit_code, "is no number that JSON has" in result.stderr) == (2, True)


def test_show_tells_the_steps_and_what_is_next(run: Run, orchestrator: Orchestrator) -> None:
    handle = _start(orchestrator, DONE, REFUSED, key="o-1")

    text, shown = run("show", handle.id).stdout, _json(run("show", handle.id, "--json"))

    assert "payment: card declined" in text
    assert "undo of reservation" in text
    assert "finished" not in text
    assert shown["finished_at"] is None
    assert (shown["status"], shown["key"]) == ("compensating", "o-1")
    nothing = {"error": None, "error_type": None, "code": None, "details": None, "due_at": None}
    assert shown["steps"]["reservation"] == {
        "status": "succeeded", "attempts": 1, "result": "r-1", **nothing,
        "undo": {"status": "pending", "attempts": 0, **nothing},
    }  # fmt: skip
    [lane] = shown["work"]
    assert set(lane) == {"lane", "step", "undo", "attempt", "queue", "due_at", "sent_at", "worker", "problem"}
    assert (lane["step"], lane["undo"], lane["queue"]) == ("reservation", True, "celery")


def test_show_says_what_a_saga_is_stuck_on_beside_why_it_rolls_back(run: Run, orchestrator: Orchestrator) -> None:
    handle = _start(orchestrator, *UNDO_STUCK)

    lines = [" ".join(line.split()) for line in run("show", handle.id).stdout.splitlines()]

    assert "reason payment: card declined" in lines
    assert any(line.startswith("stuck on undo of reservation: ") for line in lines)


def test_a_failure_is_shown_with_its_type_and_what_it_carries(run: Run, orchestrator: Orchestrator) -> None:
    refused = Failure(Abort("declined", code=51, details={"network": "visa"}), effect=False)
    handle = _start(orchestrator, DONE, refused, key="o-2")

    shown, entries = _json(run("show", handle.id, "--json")), _json(run("log", handle.id, "--json"))

    carried = {"error_type": "Abort", "code": 51, "details": {"network": "visa"}}
    assert shown["cause"] == {
        "type": "Abort", "text": "declined", "code": 51, "details": {"network": "visa"}, "step": "payment", "undo": False,
    }  # fmt: skip
    assert shown["steps"]["payment"].items() >= carried.items()
    assert entries[-1]["data"].items() >= carried.items()
    assert 'declined (code 51, details {"network": "visa"})' in run("show", handle.id).stdout
    assert '"error_type": "Abort"' in run("log", handle.id).stdout


def test_log_prints_every_entry(run: Run, orchestrator: Orchestrator) -> None:
    handle = _start(orchestrator, DONE)

    text, entries = run("log", handle.id).stdout, _json(run("log", handle.id, "--json"))

    kinds = ["saga_started", "step_started", "step_succeeded"]
    assert [entry["kind"] for entry in entries] == kinds
    assert [line.split()[3] for line in text.splitlines()[1:]] == kinds
    assert set(entries[0]) == {"seq", "at", "kind", "lane", "step", "attempt", "worker", "data"}


def test_replay_tells_what_each_entry_changed(run: Run, orchestrator: Orchestrator) -> None:
    handle = _start(orchestrator, *UNDO_STUCK)

    text = run("replay", handle.id).stdout

    assert "reservation: pending → running" in text
    assert "undo of reservation is owed; payment: running → aborted; rolling back" in text
    assert "undo of reservation: running → failed" in text


def test_replay_stops_where_it_is_told(run: Run, orchestrator: Orchestrator) -> None:
    handle = _start(orchestrator, *COMPENSATED)

    early, last = (_json(run("replay", handle.id, "--json", *words)) for words in (("--until", 3), ()))

    assert (early["seq"], early["status"]) == (3, "running")
    assert (last["status"], last["reason"]) == ("compensated", "payment: card declined")
    assert set(last) == {"id", "seq", "status", "reason", "cause", "input", "skipped", "undos_owed", "steps"}


# --- repairing --------------------------------------------------------------------------------------------------------


def test_what_an_operator_does_is_logged_with_who_and_why(run: Run, orchestrator: Orchestrator) -> None:
    handle = _start(orchestrator, *IN_DOUBT)

    result = run("retry", handle.id, "--reason", "the carrier is back", "--by", "ann")

    assert (result.exit_code, result.stdout) == (0, f"{handle.id} is running\n")
    assert handle.log()[-1].data == {"by": "ann", "reason": "the carrier is back", "session_user": "saga"}


def test_who_is_the_login_name_unless_said(run: Run, orchestrator: Orchestrator) -> None:
    handle = _start(orchestrator)

    assert run("pause", handle.id, env={"LOGNAME": "bob"}).exit_code == 0

    assert handle.log()[-1].data == {"by": "bob", "session_user": "saga"}


def test_pause_resume_cancel_and_compensate(run: Run, orchestrator: Orchestrator) -> None:
    running, done = _start(orchestrator), _start(orchestrator, DONE, saga="hold")

    said = [run(*words).stdout.split()[-1] for words in
            (("pause", running.id), ("resume", running.id), ("cancel", running.id), ("compensate", done.id))]  # fmt: skip

    assert said == ["paused", "running", "compensated", "compensating"]


def test_skip_settles_a_stuck_step_with_a_result(run: Run, orchestrator: Orchestrator) -> None:
    handle = _start(orchestrator, *IN_DOUBT)

    wrong = run("skip", handle.id, "ship", "--result", '"perhaps"')
    right = run("skip", handle.id, "ship", "--result", "true", "--reason", "seen on its way")

    assert (wrong.exit_code, right.exit_code) == (1, 0)
    assert "does not fit bool: " in wrong.stderr
    assert handle.result(timeout=5)["ship"] is True


def test_a_skip_of_what_is_not_stuck_says_that_and_not_that_a_result_is_missing(
    run: Run, orchestrator: Orchestrator
) -> None:
    handle = _start(orchestrator, *COMPLETED)

    refused = run("skip", handle.id, "ship")

    assert refused.exit_code == 1
    assert "is completed" in refused.stderr
    assert "does not fit" not in refused.stderr


def test_abandon_ends_a_stuck_saga_and_show_lists_what_is_not_undone(run: Run, orchestrator: Orchestrator) -> None:
    handle = _start(orchestrator, *UNDO_STUCK, key="o-9")

    assert run("abandon", handle.id, "--reason", "written off", "--by", "ann").stdout == f"{handle.id} is abandoned\n"

    text, shown = run("show", handle.id).stdout, _json(run("show", handle.id, "--json"))
    assert "not undone  reservation" in text
    assert (shown["status"], shown["undos_owed"], shown["work"]) == ("abandoned", ["reservation"], [])
    assert [saga["id"] for saga in _json(run("list", "--status", "abandoned", "--json"))["sagas"]] == [str(handle.id)]
    again = run("abandon", handle.id)
    assert (again.exit_code, "is abandoned: only a saga that is not finished" in again.stderr) == (1, True)
    waited = run("start", "order", '{"sku": "A1"}', "--key", "o-9", "--wait", "5")
    assert (waited.exit_code, "not undone: reservation" in waited.stderr) == (1, True)
    rebuilt = run("check", "--rebuild")
    assert (rebuilt.exit_code, handle.status) == (0, "abandoned")


def test_what_is_not_allowed_is_refused(run: Run, orchestrator: Orchestrator) -> None:
    handle = _start(orchestrator, *COMPLETED)

    result = run("cancel", handle.id)

    assert result.exit_code == 1
    assert "is completed: only a saga that runs" in result.stderr


def test_a_filter_only_shows_what_it_would_do_until_yes_is_said(run: Run, orchestrator: Orchestrator) -> None:
    stuck = [_start(orchestrator, *IN_DOUBT) for _ in range(2)]
    completed = _start(orchestrator, *COMPLETED)

    shown, done = run("retry", "--saga", "order"), run("retry", "--saga", "order", "--yes")

    assert (shown.exit_code, done.exit_code) == (0, 0)
    assert "retry would be asked of 2 sagas; add --yes" in shown.stderr
    assert done.stdout == "retry: 2 done, 0 not\n"
    assert [handle.status for handle in (*stuck, completed)] == ["running", "running", "completed"]


def test_a_filter_that_nothing_matches_says_so_and_asks_for_nothing(run: Run, orchestrator: Orchestrator) -> None:
    _start(orchestrator, *COMPLETED)

    none, slip = run("retry", "--saga", "order"), run("retry", "--saga", "ordr")

    assert (none.exit_code, none.stdout, none.stderr.strip()) == (0, "", "retry: no saga matches")
    assert "did you mean 'order'?" in slip.stderr


def test_a_filter_names_those_it_could_not_change(run: Run, orchestrator: Orchestrator) -> None:
    stuck, waiting = _start(orchestrator, *IN_DOUBT), _start(orchestrator)

    result = run("retry", "--status", "running", "--status", "stuck", "--yes")

    assert (result.exit_code, result.stdout) == (1, "retry: 1 done, 1 not\n")
    assert f"{waiting.id}: " in result.stderr
    assert stuck.status == "running"


def test_a_filter_retries_also_what_waits_for_a_retry(run: Run, orchestrator: Orchestrator) -> None:
    waiting = _start(orchestrator, Failure(OSError("away"), min_wait=3600), saga="again")
    fresh = _start(orchestrator, saga="again")

    shown, done = run("retry", "--saga", "again"), run("retry", "--saga", "again", "--yes")

    assert str(waiting.id) in shown.stdout
    assert str(fresh.id) not in shown.stdout
    assert (done.exit_code, done.stdout) == (0, "retry: 1 done, 0 not\n")
    assert waiting.log()[-1].kind == "retry_requested"


# --- check ------------------------------------------------------------------------------------------------------------


def _nothing() -> None: ...


def _start_elsewhere(name: str, *steps: str) -> Handle:
    """A saga that was started by other code."""
    app = Celery("elsewhere")
    tasks = [app.task(_nothing, name=f"elsewhere.{step}") for step in steps]
    saga = Saga(name, *(Step(task, name=step, compensate=None) for task, step in zip(tasks, steps, strict=True)))
    other = Orchestrator(app, sagas=[saga])
    handle = other.start(saga)
    other.close()
    app.close()
    return handle


def test_check_passes_when_everything_in_flight_fits(run: Run, orchestrator: Orchestrator) -> None:
    _start(orchestrator, DONE)
    _start(orchestrator, *COMPLETED)

    assert run("check").stdout == "3 definitions are valid; 1 saga in flight fits them\n"
    assert _json(run("check", "--json")) == {
        "definitions": ["order", "hold", "again"],
        "checked": 1,
        "mismatches": [],
        "changed": None,
    }


def test_check_tells_the_exact_difference_once_for_all_sagas_of_a_definition(
    run: Run, orchestrator: Orchestrator
) -> None:
    started = [_start_elsewhere("hold", "reservation", "sending") for _ in range(2)]
    _start_elsewhere("gone", "anything")

    text, found = run("check"), json.loads(run("check", "--json").stdout)

    assert text.exit_code == 1
    assert "2 sagas" in text.stdout
    assert "step 'sending' is gone" in text.stdout
    hold, gone = found["mismatches"]
    assert (hold["name"], hold["count"], hold["example"]) == ("hold", 2, str(started[0].id))
    assert gone["problem"] == "no saga 'gone' is registered any more"


def test_check_finds_a_damaged_log(run: Run, orchestrator: Orchestrator) -> None:
    handle, newer = _start(orchestrator, DONE), _start(orchestrator)
    with orchestrator.database.link() as link:
        link.run("DELETE FROM {s}.log WHERE saga_id = %(id)s AND seq = 2", {"id": handle.id})
        link.run("UPDATE {s}.log SET format = 99 WHERE saga_id = %(id)s", {"id": newer.id})

    result = run("check")

    assert result.exit_code == 1
    assert "its log is damaged: entry 2 is missing" in result.stdout
    assert "its log is damaged: entry 1: format 99 is newer" in result.stdout


def test_rebuild_makes_the_index_say_what_the_logs_say(run: Run, orchestrator: Orchestrator) -> None:
    handles = [_start(orchestrator, *outcomes) for outcomes in ((), COMPLETED, COMPENSATED, IN_DOUBT)]
    handles.append(_start_elsewhere("gone", "anything"))
    before = [(handle.refresh().status, handle.refresh().reason) for handle in handles]
    with orchestrator.database.link() as link:
        link.run("UPDATE {s}.instance SET status = 'paused', reason = 'nobody knows', finished_at = NULL", {})

    result = run("check", "--rebuild")

    assert (result.exit_code, result.stdout) == (0, "5 sagas read, 5 rows changed\n")
    assert [(handle.refresh().status, handle.refresh().reason) for handle in handles] == before
    assert _json(run("check", "--rebuild", "--json"))["changed"] == 0


def test_a_rebuild_never_undoes_what_happens_meanwhile(
    orchestrator: Orchestrator, monkeypatch: pytest.MonkeyPatch
) -> None:
    handle = _start(orchestrator, *IN_DOUBT)
    with orchestrator.database.link() as link:
        link.run("UPDATE {s}.instance SET status = 'running', reason = NULL", {})
    rebuild_header = audit.log.rebuild_header

    def after_a_retry(*args: Any) -> bool:
        monkeypatch.setattr(audit.log, "rebuild_header", rebuild_header)
        handle.retry()
        return rebuild_header(*args)

    monkeypatch.setattr(audit.log, "rebuild_header", after_a_retry)
    list(audit.rebuild(orchestrator.engine))

    assert handle.status == handle.replay().status == "running"


# --- graph ------------------------------------------------------------------------------------------------------------


def test_graph_draws_a_tree(run: Run) -> None:
    assert run("graph", "order").stdout == (
        "order\n"
        "├─ reservation  cli_shop.reserve  ↩ cli_shop.release\n"
        "├─ payment      cli_shop.charge  ↩ cli_shop.refund\n"
        "└─ ship         cli_shop.ship  ◆ pivot: no way back once it succeeded\n"
    )


def test_graph_draws_forks_and_joins(shop: ModuleType) -> None:
    step = Step(shop.ship, compensate=None)
    forked = Saga("forked", Parallel(replace(step, name="a"), [replace(step, name="b"), replace(step, name="c")]))

    assert drawing.text(forked.outline).splitlines()[1:] == [
        "└─┬ in parallel",
        "  ├─ a             cli_shop.ship  nothing to undo",
        "  └─┬ in sequence",
        "    ├─ b           cli_shop.ship  nothing to undo",
        "    └─ c           cli_shop.ship  nothing to undo",
    ]
    drawn = drawing.mermaid(forked.outline)
    assert "[/fork\\]" in drawn
    assert "[\\join/]" in drawn


def test_graph_draws_mermaid_with_dotted_compensations(run: Run) -> None:
    drawn = run("graph", "order", "--format", "mermaid").stdout

    assert drawn.startswith("flowchart TD\n")
    assert 'n2("undo reservation<br/>cli_shop.release")\n    n1 -.-> n2' in drawn
    assert '{{"ship<br/>cli_shop.ship"}}' in drawn


# --- db ---------------------------------------------------------------------------------------------------------------


def test_db_needs_no_app_when_it_has_a_url(run: Run, stack: Stack) -> None:
    url = stack.postgres.create_database("cli_bare")

    before = run("db", "current", "--url", url, app=None)
    upgraded = run("db", "upgrade", app=None, env={"SAGA_DATABASE_URL": url})
    after = _json(run("db", "current", "--json", "--url", url, app=None))

    assert before.exit_code == 1
    assert upgraded.stdout.endswith(f"none -> {after['head']}\n")
    assert after["current"] == after["head"]


def test_db_sql_prints_statements_only(run: Run) -> None:
    assert run("db", "sql", app=None, env={"SAGA_DATABASE_URL": None}).stdout.startswith("BEGIN;")


def test_a_database_that_is_not_upgraded_is_said_to_be(run: Run, stack: Stack) -> None:
    app = Celery("not_upgraded", broker="memory://")
    Orchestrator(app, database_url=stack.postgres.create_database("cli_empty"))

    bad = [finding for finding in doctor.examine(Orchestrator.of(app)) if finding.level is Level.BAD]
    Orchestrator.of(app).close()

    assert [finding.remedy for finding in bad] == ["run `saga db upgrade`"]


@pytest.mark.parametrize("words", [("db", "current"), ("db", "upgrade")])
def test_a_password_is_never_shown(run: Run, words: Sequence[str]) -> None:
    result = run(*words, "--url", "postgresql://ann:hush@127.0.0.1:1/shop", app=None)

    assert result.exit_code == 1
    assert result.stderr.startswith("Error: the ")
    assert "connection failed" in result.stderr
    assert "hush" not in result.output


# --- doctor -----------------------------------------------------------------------------------------------------------


def test_doctor_finds_nothing_bad_in_a_plain_app(run: Run) -> None:
    found = _json(run("doctor", "--json"))

    assert found["healthy"] is True
    assert all(set(finding) == {"level", "what", "remedy"} for finding in found["findings"])


def test_doctor_exits_with_1_when_something_is_bad(run: Run, shop: ModuleType) -> None:
    shop.app.conf.update(task_always_eager=True, accept_content=["pickle"])
    try:
        result = run("doctor")
    finally:
        shop.app.conf.update(task_always_eager=False, accept_content=["json"])

    assert result.exit_code == 1
    assert "task_always_eager is on" in result.stdout
    assert "add 'json' to accept_content" in result.stdout


def test_doctor_repeats_what_was_warned_of_and_exits_with_1_for_it_if_it_is_strict(run: Run) -> None:
    plain, strict = run("doctor"), run("doctor", "--strict")

    assert plain.exit_code == 0
    assert "its task takes no idempotency_key" in " ".join(plain.stdout.split())
    assert strict.exit_code == 1
    assert "--strict counts them" in strict.stdout


def test_doctor_breaks_no_word_on_a_terminal_of_80_columns(run: Run) -> None:
    told = [
        text for finding in _json(run("doctor", "--json"))["findings"] for text in (finding["what"], finding["remedy"])
    ]

    shown = re.sub(r"\x1b\[[0-9;]*m", "", run("doctor", env=TERMINAL).stdout)

    assert {word for text in told for word in text.split()} <= set(shown.split())
    assert all(len(line) <= 80 for line in shown.splitlines())


def _examined(app: Celery, *steps: Step, url: str = "postgresql://127.0.0.1:1/nowhere") -> str:
    orchestrator = Orchestrator(app, sagas=[Saga("examined", *steps)] if steps else [], database_url=url)
    return "\n".join(f"{finding.level} {finding.what}" for finding in doctor.examine(orchestrator))


@pytest.mark.parametrize(
    ("accepted", "named"),
    [
        (["json", "pickle"], ["pickle"]),
        (["json", "yaml"], ["yaml"]),
        (["application/json", "application/x-python-serialize", "application/x-yaml"], ["pickle", "yaml"]),
        (["json", "msgpack"], []),
        (["json"], []),
    ],
)
def test_doctor_warns_of_content_that_can_harm_a_worker(
    accepted: list[str], named: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CELERY_BROKER_URL", raising=False)
    app = Celery("content", broker="memory://", set_as_current=False)
    app.conf.accept_content = accepted

    found = [finding for finding in doctor.examine(Orchestrator(app)) if "accept_content" in finding.what]

    assert [(finding.level, finding.what.split(":")[0]) for finding in found] == [
        (Level.WARNING, f"accept_content allows {name}") for name in named
    ]
    assert all("out of accept_content" in finding.remedy for finding in found)


def test_doctor_names_what_does_not_apply_to_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CELERY_BROKER_URL", raising=False)
    app = Celery("options", broker="memory://")
    app.conf.update(task_create_missing_queues=False, task_soft_time_limit=60)

    @app.task(rate_limit="1/s", time_limit=5, acks_late=True, max_retries=9)
    def limited() -> None: ...

    @Celery("another").task(shared=False)
    def stranger() -> None: ...

    said = _examined(
        app,
        Step(limited, compensate=stranger, queue="slow", retry=Retry(stop=stop_after_attempt(2))),
    )

    assert "note task 'test_cli.limited': rate_limit='1/s' does not apply" in said.replace("tests.integration.", "")
    assert "time_limit=5 does not apply" in said
    assert "acks_late=True does not apply" in said
    assert "max_retries=9" in said
    assert "task_soft_time_limit=60 does not apply to steps" in said
    assert "stranger' is not registered in this app" in said
    assert "queue 'slow' is not in task_queues" in said
    assert "cannot be reached" in said


def test_doctor_says_when_a_priority_has_no_effect(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CELERY_BROKER_URL", raising=False)
    app = Celery("ranked", broker="amqp://guest@127.0.0.1:1//")

    @app.task
    def urgent() -> None: ...

    said = _examined(app, Step(urgent, compensate=None, priority=9))

    assert "note saga 'examined', step 'urgent': priority=9 has no effect" in said
    assert "bad the broker at amqp://guest:**@127.0.0.1:1// cannot be reached" in said


GOOD = {
    "server_version_num": "150000", "server_version": "15.0", "synchronous_commit": "on", "fsync": "on",
    "full_page_writes": "on", "server_encoding": "UTF8", "idle_in_transaction_session_timeout": "60000",
    "autovacuum": "on", "max_connections": "100", "superuser_reserved_connections": "3",
}  # fmt: skip


@pytest.mark.parametrize(
    ("settings", "level", "what"),
    [
        ({}, "note", "97 connections are free"),
        ({"server_version_num": "130011", "server_version": "13.11"}, "bad", "Postgres 13.11 is too old"),
        ({"synchronous_commit": "off"}, "warning", "synchronous_commit is off"),
        ({"fsync": "off"}, "warning", "fsync is off"),
        ({"server_encoding": "LATIN1"}, "bad", "the encoding of the database is LATIN1"),
        ({"idle_in_transaction_session_timeout": "0"}, "note", "idle_in_transaction_session_timeout is off"),
        ({"autovacuum": "off"}, "warning", "autovacuum is off"),
        ({"followers": "0"}, None, "a failover may lose"),
        ({"followers": "2"}, "warning", "2 servers follow this one, and synchronous_standby_names is empty"),
        ({"followers": "2", "synchronous_standby_names": "two"}, None, "a failover may lose"),
        (
            {"followers": "2", "synchronous_standby_names": "two", "synchronous_commit": "local"},
            "warning",
            "and synchronous_commit is local: a failover may lose",
        ),
        ({"max_connections": "10"}, "warning", "too few for a worker with 2 processes"),
    ],
)
def test_doctor_judges_the_server(settings: dict[str, str], level: str | None, what: str) -> None:
    followers = int(settings.get("followers", 0))
    server = Server({**GOOD, **settings}, standby=False, others=0, concurrency=2, followers=followers)
    found = [finding for check in SERVER_CHECKS for finding in check(server)]

    assert [finding.level for finding in found if what in finding.what] == [level] * (level is not None)


# --- as programs ------------------------------------------------------------------------------------------------------


def _program(*words: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [BIN / words[0], *words[1:]], capture_output=True, text=True, env={**os.environ, **env}, check=False
    )


def test_the_console_script_prints_what_was_asked_and_nothing_else(orchestrator: Orchestrator) -> None:
    listed = _program("saga", "list", "--json", SAGA_APP="cli_shop")
    failed = _program("saga", "-A", "cli_shop", "show", NOBODY)

    assert json.loads(listed.stdout) == {"sagas": [], "after": None}
    assert "this goes to standard error" in listed.stderr
    assert (failed.returncode, failed.stdout) == (1, "")
    assert failed.stderr.splitlines()[-1].startswith("Error: there is no saga")
    assert "Traceback" not in failed.stderr


def test_celery_has_the_same_commands(orchestrator: Orchestrator) -> None:
    handle = _start(orchestrator)

    shown = _program("celery", "-A", "cli_shop", "saga", "show", str(handle.id), "--json", SAGA_APP="cli_nowhere")

    assert shown.returncode == 0
    assert json.loads(shown.stdout[shown.stdout.index("{") :])["id"] == str(handle.id)


def test_workers_says_what_to_do_where_there_is_none(run: Run, orchestrator: Orchestrator) -> None:
    assert orchestrator.find() == []
    assert "no worker is alive: start one" in run("workers").stderr


def test_help_fits_a_terminal_of_80_columns_and_cuts_no_sentence(run: Run) -> None:
    groups = [[], ["db"]]
    commands = [[name] for name in cli.list_commands(click.Context(cli))]
    for words in (*groups, *commands):
        lines = run(*words, "--help", env={"COLUMNS": "80"}).stdout.splitlines()
        assert [
            line
            for line in lines
            if len(line) > 80 or (words in groups and line.startswith("  ") and line.endswith("..."))
        ] == []


def test_help_and_version_import_no_embedded_stack() -> None:
    code = (
        "import sys\nfrom click.testing import CliRunner\nfrom saga.cli import saga\n"
        "for word in '--help', '--version': print(CliRunner().invoke(saga, [word]).output)\n"
        "assert not any(name.startswith(('saga.dev', 'saga.examples', 'psutil')) for name in sys.modules)"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout

    assert f"pgsaga, version {__version__}" in shown
    assert "check  Check that today's definitions fit" in shown


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_relay_runs_until_it_is_told_to_stop(orchestrator: Orchestrator, number: int) -> None:
    with subprocess.Popen(
        [BIN / "saga", "-A", "cli_shop", "relay"], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    ) as relay:
        assert relay.stderr is not None
        while "the relay of" not in relay.stderr.readline():
            assert relay.poll() is None
        relay.send_signal(number)
        assert "the relay ends" in relay.stderr.read()

    assert relay.returncode == 0


def test_dev_starts_everything_and_leaves_nothing(shop: ModuleType, tmp_path: Path) -> None:
    words = ["dev", "--folder", str(tmp_path / "dev"), "-A", "cli_shop", "--pool", "solo"]
    with subprocess.Popen([BIN / "saga", *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as dev:
        assert dev.stdout is not None
        printed = ""
        while " ready." not in printed:
            printed += dev.stdout.readline()
            assert dev.poll() is None, printed
        children = psutil.Process(dev.pid).children(recursive=True)
        dev.send_signal(signal.SIGTERM)
        assert dev.stdout.read().endswith("stopping\n")

    assert dev.returncode == 0
    assert re.search(r"export SAGA_DATABASE_URL=postgresql://saga:[\w-]+@127.0.0.1:", printed)
    assert len(children) > 3
    deadline = time.monotonic() + 5
    while (left := [child for child in children if child.is_running()]) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert left == []
