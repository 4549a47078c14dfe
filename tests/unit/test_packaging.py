"""The package's metadata: bounds of its dependencies, and what is pinned."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from configparser import ConfigParser
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[2]


def declared(*extras: str) -> Iterator[Requirement]:
    """What setup.cfg asks for."""
    config = ConfigParser()
    config.read(ROOT / "setup.cfg")
    texts = [config["options"]["install_requires"], *(config["options.extras_require"][extra] for extra in extras)]
    yield from (Requirement(line) for text in texts for line in text.split("\n") if line)


def pinned(name: str) -> dict[str, str]:
    """Package to version, of a constraints file."""
    lines = re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / "constraints" / name).read_text(), re.MULTILINE)
    return {canonicalize_name(package): version for package, version in lines}


@pytest.mark.parametrize("requirement", [*declared("binary", "django")], ids=str)
def test_a_floor_is_the_version_that_the_lowest_run_has(requirement: Requirement) -> None:
    bounds = {found.operator: found.version for found in requirement.specifier}
    assert bounds.keys() == {">=", "<"}
    assert Version(pinned("lowest.txt")[canonicalize_name(requirement.name)]) == Version(bounds[">="])


def test_everything_that_is_installed_is_pinned() -> None:
    wanted = {canonicalize_name(requirement.name) for requirement in declared("binary", "django", "embedded", "dev")}
    missing = {name: wanted - pinned(name).keys() for name in ("ci.txt", "lowest.txt")}
    assert not any(missing.values()), f"add these to constraints/, or run `make constraints`: {missing}"


@pytest.mark.parametrize("name", ["ci.txt", "lowest.txt"])
def test_what_is_pinned_is_allowed(name: str) -> None:
    versions = pinned(name)
    unfit = [
        str(requirement)
        for requirement in declared("binary", "django", "embedded", "dev")
        if (version := versions.get(canonicalize_name(requirement.name))) and version not in requirement.specifier
    ]
    assert unfit == []


def test_a_missing_libpq_is_named_with_its_remedy() -> None:
    program = "import ctypes.util; ctypes.util.find_library = lambda name: None; from saga import Orchestrator"
    env = os.environ | {"PSYCOPG_IMPL": "python"}
    done = subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert 'ImportError: psycopg finds no libpq: pip install "pgsaga[binary]"' in done.stderr.splitlines()[-1]


INTERRUPTED = """
import os, signal, sys

class Interrupt:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupt())
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in what a script runs in the background
sys.argv = ["saga", "--version"]
from {script} import main
main()
"""


@pytest.mark.parametrize("module", ["saga", "celery", "saga.client.orchestrator", "saga.cli.root"])
def test_a_ctrl_c_while_the_command_line_is_imported_ends_it_without_a_traceback(module: str) -> None:
    config = ConfigParser()
    config.read(ROOT / "setup.cfg")
    (script,) = re.findall(r"^saga = ([\w.]+):main$", config["options.entry_points"]["console_scripts"], re.MULTILINE)
    program = INTERRUPTED.format(module=module, script=script)
    ended = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "", "")
