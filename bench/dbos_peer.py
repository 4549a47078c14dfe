"""The process of DBOS, and how to talk to it."""

from __future__ import annotations

import json
import select
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

SCHEMA = "dbos_bench"
TABLES = tuple(
    f"{SCHEMA}.{table}" for table in ("workflow_status", "workflow_input", "workflow_output", "operation_outputs")
)
ROOT = Path(__file__).parents[1]
PATIENCE = 120.0
"""Seconds."""


class PeerFailed(Exception):
    """The process ended, or did not answer; the text says which."""


class DbosPeer:
    """DBOS with its own defaults, in one process that starts and runs the workflows."""

    def __init__(self, popen: subprocess.Popen[str], log: Path) -> None:
        self._popen = popen
        self._log = log

    def run(self, workflow: str, runs: int) -> float:
        """Seconds from the first start to the last end.

        Raises:
            PeerFailed: there is no answer.
        """
        assert self._popen.stdin is not None
        try:
            self._popen.stdin.write(json.dumps({"workflow": workflow, "runs": runs}) + "\n")
            self._popen.stdin.flush()
        except BrokenPipeError:
            raise PeerFailed(f"DBOS ended: {self._last_words()}") from None
        return float(self.read())

    def read(self) -> Any:
        """Its next answer.

        Raises:
            PeerFailed: there is none.
        """
        assert self._popen.stdout is not None
        if not select.select([self._popen.stdout], [], [], PATIENCE)[0]:
            raise PeerFailed(f"DBOS did not answer within {PATIENCE:g} s: {self._last_words()}")
        line = self._popen.stdout.readline()
        if not line:
            raise PeerFailed(f"DBOS ended: {self._last_words()}")
        return json.loads(line)

    def processes(self) -> list[psutil.Process]:
        """The process, while it runs."""
        return [psutil.Process(self._popen.pid)] if self._popen.poll() is None else []

    def _last_words(self) -> str:
        lines = self._log.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it says nothing"


@contextmanager
def dbos_peer(database_url: str, folder: Path, threads: int | None) -> Iterator[DbosPeer]:
    """DBOS, ready, with so many threads, or with as many as it takes by itself.

    Raises:
        PeerFailed: it does not start.
    """
    log = folder / "dbos.log"
    command = [sys.executable, "-m", "bench.dbos_app", database_url, SCHEMA, *([str(threads)] if threads else [])]
    with (
        log.open("w") as errors,
        # A session of its own, so that a terminal's Ctrl-C does not reach it; it ends with its input.
        subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            cwd=ROOT,
            start_new_session=True,
        ) as popen,
    ):
        try:
            peer = DbosPeer(popen, log)
            peer.read()
            yield peer
        finally:
            popen.kill()
