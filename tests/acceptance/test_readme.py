"""The programs of the README and of the pages for beginners, run as a reader would run them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from saga.dev import Stack
from tests.conftest import make_database

pytestmark = pytest.mark.acceptance

ROOT = Path(__file__).parents[2]
PATIENCE = 30
ORDER = {"sku": "A1", "quantity": 2, "card": "4242", "email": "ann@example.org"}
ASYNC = f"""
import asyncio
import os

from sqlalchemy.ext.asyncio import create_async_engine


async def main():
    engine = create_async_engine(os.environ["SAGA_DATABASE_URL"])
    async with AsyncSession(engine) as session:
        await place(session, {ORDER!r}, 8)
    await engine.dispose()


asyncio.run(main())
"""
DJANGO = """
import os

import django
from django.conf import settings
from sqlalchemy import make_url

url = make_url(os.environ["SAGA_DATABASE_URL"])
default = {"ENGINE": "django.db.backends.postgresql", "NAME": url.database, "USER": url.username}
default |= {"PASSWORD": url.password or "", "HOST": url.host, "PORT": url.port}
settings.configure(DATABASES={"default": default})
django.setup()
"""
"""The settings of a reader's Django project."""


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


@dataclass(frozen=True)
class Shop:
    """The shop of the quickstart, with its worker."""

    folder: Path
    env: dict[str, str]

    def run(self, program: str) -> str:
        """What a program prints that a reader pastes into a file beside ``shop.py``."""
        (self.folder / "program.py").write_text(program)
        return run(self.folder, "program.py", **self.env)

    @property
    def sagas(self) -> set[str]:
        """The ids of the sagas there are."""
        program = "from shop import orchestrator\nprint(*(handle.id for handle in orchestrator.find()))"
        return set(self.run(program).split())


@pytest.fixture(scope="module")
def shop(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    folder = tmp_path_factory.mktemp("shop")
    (folder / "shop.py").write_text(programs("docs/quickstart.md")[0])
    env = {"SAGA_DATABASE_URL": make_database(stack), "CELERY_BROKER_URL": stack.broker_url}
    worker = stack.worker("shop", cwd=folder, env=env)
    worker.wait_ready(PATIENCE)
    yield Shop(folder, env)
    worker.stop()


def snippets(*, needs: str) -> list[Any]:
    """The programs of the how-to pages and the quickstart that import something which is not installed with pgsaga; those
    of a Django project are run in one, see test_django."""
    pages = [
        "docs/quickstart.md",
        *(str(page.relative_to(ROOT)) for page in sorted((ROOT / "docs/howto").glob("*.md"))),
    ]
    return [
        pytest.param(program, id=f"{page}-{number}")
        for page in pages
        if page != "docs/howto/django.md"
        for number, program in enumerate(programs(page), 1)
        if re.search(rf"^from {needs}\b", program, re.MULTILINE)
    ]


@pytest.mark.parametrize("program", snippets(needs="shop"))
def test_a_program_that_uses_the_shop_runs_as_it_is_pasted(shop: Shop, program: str) -> None:
    starts, before = "orchestrator.start(" in program, shop.sagas
    if "django" in program:
        program = f"{DJANGO}\n{program}\nplace({ORDER!r}, 7)\n"
    if "AsyncSession" in program:
        program = f"{program}\n{ASYNC}"
    shop.run(program.replace("postgresql+psycopg://user@host:5432/shop", shop.env["SAGA_DATABASE_URL"]))
    assert len(shop.sagas - before) == starts


def test_the_tests_of_the_testing_page_pass(tmp_path: Path) -> None:
    conftest, tests = programs("docs/howto/testing.md")[:2]
    (tmp_path / "shop.py").write_text(programs("docs/quickstart.md")[0])
    (tmp_path / "conftest.py").write_text(conftest)
    (tmp_path / "test_shop.py").write_text(tests)
    assert "2 passed" in run(tmp_path, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--rootdir={tmp_path}")
