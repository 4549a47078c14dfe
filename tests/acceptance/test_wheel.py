"""The wheel: built, installed into an empty environment, and used from there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.acceptance
@pytest.mark.timeout(600)
def test_a_wheel_in_an_empty_environment_has_all_it_needs(tmp_path: Path) -> None:
    source = tmp_path / "source"
    subprocess.run(["git", "clone", "-q", str(ROOT), str(source)], check=True)
    run(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(tmp_path), str(source))
    (wheel,) = tmp_path.glob("pgsaga-*.whl")
    run(sys.executable, "-m", "venv", str(tmp_path / "env"))
    python = str(tmp_path / "env" / "bin" / "python")
    run(python, "-m", "pip", "install", "-q", "--disable-pip-version-check", str(wheel))
    saga = str(tmp_path / "env" / "bin" / "saga")
    assert "0.1.0" in run(saga, "--version", cwd=tmp_path)
    assert "CREATE TABLE saga.log" in run(saga, "db", "sql", cwd=tmp_path)
    imports = (
        "import saga.migrations.versions, saga.examples.shop.purchases as p; from importlib.resources import files; "
    )
    found = run(python, "-c", imports + "print(files('saga').joinpath('py.typed').is_file(), p.__file__)", cwd=tmp_path)
    assert found.startswith("True ")
    assert str(tmp_path / "env") in found
    assert 'pip install "pgsaga[embedded]"' in run(saga, "demo", cwd=tmp_path, fails=True)


def run(*command: str, cwd: Path | None = None, fails: bool = False) -> str:
    """The output of a command that does (or does not) succeed."""
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert (done.returncode != 0) == fails, done.stdout + done.stderr
    return done.stdout + done.stderr
