"""A saga log that somebody damaged by hand: every reader says where, and every worker goes on with the rest."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from celery import Celery
from click.testing import CliRunner, Result

from saga import Handle, Orchestrator, Saga, Status, Step
from saga.cli import saga as cli
from saga.cli.context import Context
from saga.core.outcome import Success
from saga.errors import CorruptLog, SagaError
from saga.worker.claimer import Claimer
from saga.worker.recorder import Recorder
from tests.integration.conftest import FORKED, Bench, act, never, step, undo

DAMAGES = {
    "an unknown kind": ("UPDATE saga.log SET kind = 'step_teleported' WHERE seq = 3", "entry 3: unknown kind"),
    "a newer format": ("UPDATE saga.log SET format = 99 WHERE seq = 2", "entry 2: format 99 is newer"),
    "data that is a list": ("UPDATE saga.log SET data = '[]' WHERE seq = 2", "entry 2: damaged step_started"),
    "an extra field": ('UPDATE saga.log SET data = \'{"colour": 1}\' WHERE seq = 3', "entry 3: damaged step_succeeded"),
    "a wrong type": ('UPDATE saga.log SET data = \'{"timeout": "soon"}\' WHERE seq = 2', "entry 2: damaged step_started"),
    "no step": ("UPDATE saga.log SET step = NULL WHERE seq = 3", "entry 3: damaged step_succeeded: it has no step"),
    "a time out of range": ('UPDATE saga.log SET data = \'{"timeout": 1e300}\' WHERE seq = 2', "entry 2: it does not fit"),
    "a gap": ("DELETE FROM saga.log WHERE seq = 2", "entry 2 is missing"),
    "no first entry": ("DELETE FROM saga.log WHERE seq = 1", "entry 1 is missing"),
    "no entry at all": ("DELETE FROM saga.log", "entry 1 is missing"),
    "too many digits": ("UPDATE saga.log SET data = '{\"result\": 1e5000}' WHERE seq = 3", "cannot be read: ValueError"),
    "too deep": (
        "UPDATE saga.log SET data = (repeat('[', 2000) || repeat(']', 2000))::jsonb WHERE seq = 3",
        "cannot be read: RecursionError",
    ),
}  # fmt: skip
damages = pytest.mark.parametrize(("damage", "text"), DAMAGES.values(), ids=list(DAMAGES))

Run = Callable[..., Result]


@pytest.fixture
def run(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command line for the bench's app."""
    monkeypatch.setattr("saga.cli.root.Context", lambda _: Context(None, bench.orchestrator.app))

    def run(*words: object) -> Result:
        return CliRunner().invoke(cli, [str(word) for word in words])

    return run


def halfway(bench: Bench) -> Handle:
    """A saga of whose steps the first is done."""
    handle = bench.start(FORKED)
    worker = bench.worker(1)
    worker.record(bench.claimed(handle, worker=worker), Success("done"), never)
    return handle


@damages
def test_whoever_reads_a_damaged_log_is_told_saga_and_entry(bench: Bench, damage: str, text: str) -> None:
    handle = halfway(bench)
    bench.sql(damage)
    reads: list[Callable[[], object]] = [handle.replay, handle.steps, handle.pause, handle.cancel]
    for read in reads:
        with pytest.raises(CorruptLog, match=text) as caught:
            read()
        assert str(handle.id) in str(caught.value)


@damages
def test_every_command_says_so_in_one_line(bench: Bench, run: Run, damage: str, text: str) -> None:
    handle = halfway(bench)
    bench.sql(damage)
    for words in (("show", handle.id), ("replay", handle.id), ("replay", handle.id, "--json"), ("pause", handle.id)):
        result = run(*words)
        assert result.exit_code == 1
        assert isinstance(result.exception, SystemExit)
        assert result.stderr.startswith("Error: saga ")
        assert text in result.stderr
    assert isinstance(run("log", handle.id).exception, SystemExit | None)
    for checked in (run("check"), run("check", "--rebuild")):
        assert checked.exit_code == 1
        assert text in checked.stdout
    assert run("list").exit_code == 0


@damages
def test_a_worker_parks_it_and_goes_on_with_the_rest(bench: Bench, damage: str, text: str) -> None:
    handle = halfway(bench)
    bench.sql(damage)
    healthy = bench.start()
    worker = bench.worker(2)

    assert Claimer(worker).claim(handle.id, "main/b") is None
    bench.finish(worker, Claimer(worker).claim(healthy.id, "main"))

    lanes = dict(bench.sql("SELECT lane, problem FROM saga.work WHERE saga_id = %s", handle.id))
    assert (text if bench.sql("SELECT seq FROM saga.log WHERE saga_id = %s", handle.id) else "takes no entry") in lanes[
        "main/b"
    ]
    assert bench.sql("SELECT * FROM saga.work WHERE worker IS NOT NULL") == []
    assert healthy.status == Status.COMPLETED
    assert worker.running == {}


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE saga.work SET attempt = 7 WHERE lane = 'main/b'",
        "UPDATE saga.work SET step = 'nothing' WHERE lane = 'main/b'",
        "UPDATE saga.work SET undo = true WHERE lane = 'main/b'",
        "UPDATE saga.work SET step = 'a', attempt = 1 WHERE lane = 'main/b'",
    ],
)
def test_a_damaged_row_of_work_runs_no_step_that_the_log_has_no_room_for(bench: Bench, damage: str) -> None:
    handle = halfway(bench)
    bench.sql(damage)
    worker = bench.worker(2)

    assert Claimer(worker).claim(handle.id, "main/b") is None

    assert worker.running == {}
    assert bench.sql("SELECT * FROM saga.work WHERE worker IS NOT NULL") == []
    [(problem,)] = bench.sql("SELECT problem FROM saga.work WHERE lane = 'main/b'")
    assert problem == f"saga {handle.id}, entry 4: it starts an attempt that its log leaves no room for"
    assert handle.steps()["b"].attempts == 0


# --- definitions ------------------------------------------------------------------------------------------------------

DOCS = ["{}", "[]", "null", '"text"', '{"saga": "forked"}', '{"saga": "forked", "steps": []}', '{"saga": 1, "steps": 2}',
        '{"saga": "forked", "steps": [{"parallel": [[]]}]}', '{"saga": "forked", "steps": [{"step": {}, "task": 1}]}']  # fmt: skip


def stranger(bench: Bench) -> Orchestrator:
    """An orchestrator of another process of the same app, which does not have the definitions."""
    return Orchestrator(Celery("integration", broker="memory://", set_as_current=False), database_url=bench.url)


@pytest.mark.parametrize("doc", DOCS)
def test_a_damaged_definition_is_named(bench: Bench, run: Run, doc: str) -> None:
    handle = halfway(bench)
    bench.sql("UPDATE saga.definition SET doc = %s", doc)
    other = stranger(bench)
    text = f"definition {FORKED.outline.fingerprint} is damaged"

    for read in (other.get(handle.id).replay, other.get(handle.id).log):
        with pytest.raises(CorruptLog, match=rf"^saga {handle.id}: its {text}"):
            read()
    assert handle.replay().seq == 3  # who has the definition needs no other
    checked = run("check")
    assert checked.exit_code == 1
    assert text in checked.stdout
    other.close()


def test_a_worker_parks_a_saga_whose_definition_is_damaged(bench: Bench) -> None:
    known = Saga("elsewhere", step("a"))
    other = stranger(bench)
    for task in (act, undo):
        other.app.task(task.run, name=task.name, shared=False)
    other.register(known)
    handle = other.start(known, {})
    bench.sql("UPDATE saga.definition SET doc = '{}'")

    assert Claimer(bench.worker()).claim(handle.id, "main") is None

    [(problem,)] = bench.sql("SELECT problem FROM saga.work")
    assert "is damaged" in problem
    other.close()


def test_a_stored_result_of_another_type_is_an_error_of_ours_that_does_not_show_it(database_url: str) -> None:
    app = Celery("typed", broker="memory://", set_as_current=False)

    @app.task(shared=False)
    def count() -> int: ...

    orchestrator = Orchestrator(app, sagas=[Saga("typed", Step(count, compensate=None))], database_url=database_url)
    handle = orchestrator.start("typed", {})
    worker = Recorder(orchestrator.engine, lambda: 1, inline_wait=1.0)
    run = Claimer(worker).claim(handle.id, "main")
    assert run is not None
    worker.record(run, Success("4111-1111"), never)

    with pytest.raises(SagaError, match=r"step 'count': the stored result does not fit int") as caught:
        handle.result(5)
    assert "4111" not in str(caught.value)
    orchestrator.close()
