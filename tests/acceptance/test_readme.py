"""The programs of the README and of the pages for beginners, run as a reader would run them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from saga.dev import Stack

pytestmark = pytest.mark.acceptance

ROOT = Path(__file__).parents[2]
PATIENCE = 30


def programs(page: str) -> list[str]:
    """The Python blocks of a page."""
    return re.findall(r"^```python\n(.*?)^```$", (ROOT / page).read_text(), re.MULTILINE | re.DOTALL)


def run(folder: Path, *arguments: str, **env: str) -> str:
    """Run Python in a folder, and return what it printed."""
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, env={**os.environ, **env}, capture_output=True, text=True,
        timeout=3 * PATIENCE, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_first_program_does_what_the_readme_says(stack: Stack, database_url: str, tmp_path: Path) -> None:
    shop, place = programs("README.md")[:2]
    printed = re.findall(r"^```text\n(.*?)^```$", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)[0]
    (tmp_path / "shop.py").write_text(shop)
    (tmp_path / "place.py").write_text(place)
    env = {"SAGA_DATABASE_URL": database_url, "CELERY_BROKER_URL": stack.broker_url}
    worker = stack.worker("shop", cwd=tmp_path, env=env)
    try:
        worker.wait_ready(PATIENCE)
        assert run(tmp_path, "place.py", **env) == printed
        assert "refunded: payment of 50" in worker.output()
    finally:
        worker.stop()


def test_the_tests_of_the_testing_page_pass(tmp_path: Path) -> None:
    conftest, tests = programs("docs/howto/testing.md")[:2]
    (tmp_path / "shop.py").write_text(programs("docs/quickstart.md")[0])
    (tmp_path / "conftest.py").write_text(conftest)
    (tmp_path / "test_shop.py").write_text(tests)
    assert "2 passed" in run(tmp_path, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--rootdir={tmp_path}")
