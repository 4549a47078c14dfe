"""The soak, run for a moment."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from soak.leftovers import MARK
from soak.plan import KILLS, RESTARTS

pytestmark = [pytest.mark.acceptance, pytest.mark.crash]

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "soak"]


def test_a_short_soak_finds_nothing_wrong(tmp_path: Path) -> None:
    command = [*COMMAND, "--minutes", "0.1", "--seed", "1", "--orphans", "20", "--json"]
    env = {**os.environ, "TMPDIR": str(tmp_path)}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    printed = json.loads(done.stdout)
    assert printed["discrepancies"] == []
    assert printed["sagas"]["completed"] > 0
    assert sum(printed["faults"][kill.name.lower()] for kill in KILLS) > 0
    assert sum(printed["faults"][restart.name.lower()] for restart in RESTARTS) == 1
    assert printed["faults"]["restart_broker"] == 1
    assert printed["orphans"]["resumed"] == printed["orphans"]["completed"] == 20
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_soak_leaves_nothing_behind(tmp_path: Path) -> None:
    env = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen([*COMMAND, "--seed", "1"], cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True) as soak:
        mark = eventually_marked(soak)
        soak.send_signal(signal.SIGINT)
        output, _ = soak.communicate(timeout=100)
    assert soak.returncode == 130, output
    assert "Interrupted" in output
    assert [process for process in psutil.process_iter() if mark_of(process) == mark] == []
    assert list(tmp_path.iterdir()) == []


def eventually_marked(soak: subprocess.Popen[str]) -> str:
    """The mark of what the soak has started, as soon as all of its workers' pools are there."""
    deadline = time.monotonic() + 60
    while len(found := psutil.Process(soak.pid).children(recursive=True)) < 20:
        assert time.monotonic() < deadline, "it does not start"
        assert soak.poll() is None, "it has ended"
        time.sleep(0.01)
    marks = {mark for process in found if (mark := mark_of(process))}
    assert len(marks) == 1
    return marks.pop()


def mark_of(process: psutil.Process) -> str | None:
    try:
        return process.environ().get(MARK)
    except psutil.Error:
        return None


@pytest.mark.parametrize("minutes", ["0", "-1", "nan", "inf", "ten"])
def test_a_soak_lasts_a_positive_number_of_minutes(minutes: str) -> None:
    done = subprocess.run(
        [*COMMAND, "--minutes", minutes], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2
    assert "Invalid value for '--minutes'" in done.stderr
