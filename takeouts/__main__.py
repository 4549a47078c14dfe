"""`python -m takeouts`: take each behaviour out of a copy of the code, run its tests there, and tell which still pass."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import click
from rich.console import Console
from rich.progress import Progress

from .takeout import ROOT, Takeout, places, read

FAILED = 1
"""pytest's exit code when tests ran and some failed; others mean that they did not run."""
LIMIT = 200
"""Seconds for one test. A test that hangs has failed, too."""


@dataclass(frozen=True)
class Outcome:
    """What a test did without its behaviour.

    Attributes:
        code: pytest's exit code; it is to be 1.
        seconds: how long that took.
        output: what it printed.
    """

    takeout: Takeout
    test: str
    code: int
    seconds: float
    output: str

    @property
    def proves(self) -> bool:
        """Whether the test noticed."""
        return self.code == FAILED

    @property
    def verdict(self) -> str:
        """What that means, in a word."""
        if self.proves:
            return "[green]fails[/]"
        return "[red]did not run[/]" if self.code else "[red]still passes[/]"


@click.command()
@click.option("-k", "pattern", default="", help="Only those with this in the behaviour or the name of a test.")
@click.option("--jobs", type=click.IntRange(min=1), default=3, show_default=True, help="How many run at a time.")
def main(pattern: str, jobs: int) -> None:
    """Take each behaviour out of a copy of the code, and check that its tests fail."""
    console = Console(highlight=False)
    wanted = [(takeout, test) for takeout in read() for test in takeout.tests if pattern in takeout.behaviour + test]
    if not wanted:
        raise click.BadParameter(f"no takeout has {pattern!r} in it", param_hint="-k")
    with Progress(console=console) as progress, ThreadPoolExecutor(jobs) as pool:
        task = progress.add_task("takeouts", total=len(wanted))
        outcomes = []
        for future in as_completed([pool.submit(run, *pair) for pair in wanted]):
            outcome = future.result()
            outcomes.append(outcome)
            progress.advance(task)
            progress.console.print(f"{outcome.verdict} {outcome.test} ({outcome.seconds:.0f} s) without: {outcome.takeout.behaviour}",
                                   soft_wrap=True)  # fmt: skip
    sys.exit(tell(console, outcomes))


def run(takeout: Takeout, test: str) -> Outcome:
    """Run one test without one behaviour."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="takeout-") as folder:
        root = Path(folder)
        copy(root)
        takeout.apply(root)
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", f"--timeout={LIMIT}",
             f"{places()[test]}::{test}"],
            cwd=root, env={**os.environ, "PYTHONPATH": folder, "TMPDIR": folder}, capture_output=True, text=True,
        )  # fmt: skip
    return Outcome(takeout, test, done.returncode, time.monotonic() - began, done.stdout + done.stderr)


def copy(root: Path) -> None:
    """Copy what git knows of, as it is in the work tree."""
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True)
    for name in listed.stdout.splitlines():
        if (ROOT / name).is_file():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, root / name)


def tell(console: Console, outcomes: Sequence[Outcome]) -> int:
    """Print what is to be known, and return the exit code."""
    unproven = [outcome for outcome in outcomes if not outcome.proves]
    for outcome in unproven:
        console.rule(f"{outcome.test}, without: {outcome.takeout.behaviour}")
        console.print(outcome.output[-4000:], markup=False)
    console.print(
        f"{len(outcomes)} tests run without their behaviour: {len(outcomes) - len(unproven)} fail, as they should"
    )
    return 1 if unproven else 0


main(prog_name="python -m takeouts")
