"""Workflows of four steps that do nothing, by DBOS: ``python -m bench.size_dbos URL``.

Each line of its input is a number of workflows to run; it answers with a line when they have ended, and ends with its input.
"""

from __future__ import annotations

import subprocess
import sys
from typing import Any


def main() -> None:
    from dbos import DBOS

    DBOS(config={"name": "size", "system_database_url": sys.argv[1], "log_level": "ERROR"})
    step = DBOS.step()(_nothing)

    @DBOS.workflow()  # type: ignore[untyped-decorator, unused-ignore]
    def four_steps() -> None:
        for _ in range(4):
            step()

    DBOS.launch()
    print("ready", flush=True)
    for line in sys.stdin:
        handles: list[Any] = [DBOS.start_workflow(four_steps) for _ in range(int(line))]
        for handle in handles:
            handle.get_result()
        print("done", flush=True)
    DBOS.destroy()


def _nothing() -> None:
    pass


class Peer:
    """That program, run by another."""

    def __init__(self, url: str) -> None:
        command = [sys.executable, "-m", "bench.size_dbos", url]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._expect("ready")

    def run(self, workflows: int) -> None:
        """Run so many, and wait for them."""
        assert self._process.stdin is not None
        print(workflows, file=self._process.stdin, flush=True)
        self._expect("done")

    def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(30)

    def _expect(self, word: str) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.strip() == word:
                return
        raise SystemExit(f"DBOS ended with code {self._process.wait()}")


if __name__ == "__main__":
    main()
