"""What a killed run may have left behind in its folder."""

from __future__ import annotations

from pathlib import Path

import psutil

from . import guard


def end_orphan(pidfile: Path, marker: Path, number: int) -> None:
    """End the process whose id opens `pidfile`, with the signal `number`, if its command line names `marker`; then
    remove the file. For the holder of the folder's lock only: it knows that nobody else wants that process.

    The guard does this within milliseconds of the death of a parent; this is for those too quick for it, and for a
    guard that was killed, too.
    """
    if not pidfile.exists():
        return
    first, *_ = pidfile.read_text().split() or ["0"]
    if first.isdecimal() and psutil.pid_exists(int(first)):
        try:
            process = psutil.Process(int(first))
            if any(str(marker) in argument for argument in process.cmdline()):
                guard.end([(process, number)])
        except psutil.NoSuchProcess:
            pass
        # The id may belong to another program by now, which Postgres would take for a running server.
        pidfile.unlink(missing_ok=True)
