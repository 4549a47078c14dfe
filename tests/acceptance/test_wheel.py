"""The wheel: built, installed into an empty environment, and used from there as the README and the quickstart say."""

from __future__ import annotations

import email
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.acceptance.conftest import eventually

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(600)]

ROOT = Path(__file__).parents[2]
PATIENCE = 120


class Environment:
    """A virtual environment with nothing but the wheel and what it asks for."""

    def __init__(self, folder: Path, wheel: Path) -> None:
        self.bin = folder / "bin"
        self._wheel = wheel
        run(sys.executable, "-m", "venv", str(folder))

    def install(self, extra: str) -> None:
        """Install the wheel with one extra, in the versions that CI has."""
        words = ["install", "-q", "--disable-pip-version-check", "-c", str(ROOT / "constraints/ci.txt")]
        run(str(self.bin / "python"), "-m", "pip", *words, f"{self._wheel}[{extra}]")

    @property
    def variables(self) -> dict[str, str]:
        """Those of a new terminal in which the environment was activated."""
        kept = {name: value for name, value in os.environ.items() if not re.match("SAGA_|CELERY_|PYTHON|PGSAGA_", name)}
        return kept | {"PATH": f"{self.bin}:{os.environ['PATH']}"}

    def run(self, *command: str, cwd: Path, fails: bool = False) -> str:
        """The output of a program of this environment."""
        return run(str(self.bin / command[0]), *command[1:], cwd=cwd, fails=fails, env=self.variables)

    def shell(self, lines: str, cwd: Path, fails: bool = False) -> str:
        """The output of lines that a reader pastes into a terminal."""
        return run("bash", "-c", lines, cwd=cwd, fails=fails, env=self.variables)


class Dev:
    """`saga dev`, in a terminal of its own."""

    def __init__(self, process: subprocess.Popen[str], output: Path) -> None:
        self._process = process
        self._output = output

    def read(self) -> str:
        """What it has printed so far."""
        return self._output.read_text()

    def wait_for(self, text: str) -> None:
        """Wait until it has printed something."""
        eventually(lambda: text in self.read() or self._process.poll() is not None, f"{text!r} of saga dev", PATIENCE)
        assert text in self.read(), self.read()

    @property
    def exports(self) -> str:
        """The two lines to paste."""
        lines = re.findall(r"^export .*\n", self.read(), re.MULTILINE)
        assert len(lines) == 2
        return "".join(lines)


@contextmanager
def saga_dev(environment: Environment, line: str, cwd: Path) -> Iterator[Dev]:
    """Run a line that starts `saga dev`, until the end of the block; then Ctrl-C."""
    output = cwd / "dev.log"
    with output.open("w") as log:
        process = subprocess.Popen(
            ["bash", "-c", f"exec {line}"], cwd=cwd, env=environment.variables, stdin=subprocess.DEVNULL, stdout=log,
            stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
    dev = Dev(process, output)
    try:
        dev.wait_for(" ready.")
        yield dev
    finally:
        process.terminate()
        assert process.wait(PATIENCE) == 0, dev.read()


def blocks(page: str, language: str) -> list[str]:
    """The fenced blocks of a page."""
    return re.findall(rf"^```{language}\n(.*?)^```$", (ROOT / page).read_text(), re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from what is committed, as a release is."""
    folder = tmp_path_factory.mktemp("wheel")
    run("git", "clone", "-q", str(ROOT), str(folder / "source"))
    run(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(folder), str(folder / "source"))
    (built,) = folder.glob("pgsaga-*.whl")
    return built


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory, wheel: Path) -> Environment:
    """The wheel, and psycopg with its libpq."""
    environment = Environment(tmp_path_factory.mktemp("bare") / "env", wheel)
    environment.install("binary")
    return environment


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory, wheel: Path) -> Environment:
    """The wheel with `[embedded]` alone."""
    environment = Environment(tmp_path_factory.mktemp("embedded") / "env", wheel)
    environment.install("embedded")
    return environment


def test_a_wheel_in_an_empty_environment_has_all_it_needs(bare: Environment, tmp_path: Path) -> None:
    assert "0.1.0" in bare.run("saga", "--version", cwd=tmp_path)
    assert "CREATE TABLE saga.log" in bare.run("saga", "db", "sql", cwd=tmp_path)
    program = (
        "import saga.migrations.versions, saga.examples.shop.purchases as p; from importlib.resources import files; "
        "print(files('saga').joinpath('py.typed').is_file(), p.__file__)"
    )
    found = bare.run("python", "-c", program, cwd=tmp_path)
    assert found.startswith("True ")
    assert str(bare.bin.parent) in found
    assert 'pip install "pgsaga[embedded]"' in bare.run("saga", "demo", cwd=tmp_path, fails=True)


def test_nothing_but_code_is_among_the_packages(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    kinds = {Path(name).suffix or Path(name).name for name in names if name.startswith("saga/")}
    assert kinds == {".py", ".typed", ".mako"}
    assert {name.split("/")[0] for name in names if ".dist-info" not in name and ".data" not in name} == {
        "saga",
        "pgsaga.py",
    }


def test_the_package_page_has_absolute_links(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as opened:
        (name,) = (name for name in opened.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = email.message_from_bytes(opened.read(name))
    urls = dict(line.split(", ") for line in metadata.get_all("Project-URL", []))
    assert urls.keys() >= {"Documentation", "Source", "Changelog"}
    links = re.findall(r"\]\(([^)]*)\)", str(metadata.get_payload()))
    assert f"{urls['Documentation']}howto/transactions.html#transactional-steps" in links
    assert f"{urls['Source']}LICENSE" in links
    assert [link for link in links if not link.startswith("https://")] == []


def test_the_first_program_of_the_readme_runs_word_for_word(embedded: Environment, tmp_path: Path) -> None:
    shop, place = blocks("README.md", "python")[:2]
    install, start = blocks("README.md", "console")[0].splitlines()
    assert install == 'pip install "pgsaga[embedded]"'
    (tmp_path / "shop.py").write_text(shop)
    (tmp_path / "place.py").write_text(place)
    with saga_dev(embedded, start, tmp_path) as dev:
        printed = embedded.shell(f"{dev.exports}python place.py\n", tmp_path)
        assert printed == blocks("README.md", "text")[0]
        dev.wait_for("refunded: payment of 50")


def test_the_quickstart_runs_word_for_word(embedded: Environment, tmp_path: Path) -> None:
    shop, place = blocks("docs/quickstart.md", "python")
    install, graph, start, order, undone, read = blocks("docs/quickstart.md", "console")
    assert install.splitlines()[-1] == 'pip install "pgsaga[embedded]"'
    (tmp_path / "shop.py").write_text(shop)
    assert "send_receipt" in embedded.shell(graph, tmp_path)
    with saga_dev(embedded, start.strip(), tmp_path) as dev:
        first = embedded.shell(dev.exports + order, tmp_path)
        assert "2 of A1" in first
        assert embedded.shell(dev.exports + order, tmp_path) == first
        (tmp_path / "place.py").write_text(place)
        assert "'reservation': '2 of A1'" in embedded.shell(f"{dev.exports}python place.py", tmp_path)
        assert "payment: card declined" in embedded.shell(dev.exports + undone, tmp_path, fails=True)
        dev.wait_for("released: 2 of A1")
        found = embedded.shell(f"{dev.exports}saga -A shop list --key order-3 --json", tmp_path)
        (saga_id,) = re.findall(r'"id": "([^"]+)"', found)
        shown = embedded.shell(dev.exports + read.replace(" ID", f" {saga_id}"), tmp_path)
        assert "compensated" in shown


def test_the_demo_runs_from_the_wheel(embedded: Environment, tmp_path: Path) -> None:
    assert embedded.run("saga", "demo", "--orders", "20", cwd=tmp_path)


def run(*command: str, cwd: Path | None = None, fails: bool = False, env: dict[str, str] | None = None) -> str:
    """The output of a command that does (or does not) succeed."""
    done = subprocess.run(
        command, cwd=cwd, env=env, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=4 * PATIENCE,
        check=False,
    )  # fmt: skip
    assert (done.returncode != 0) == fails, done.stdout + done.stderr
    return done.stdout + done.stderr
