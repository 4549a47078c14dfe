"""Ends the children of a process that has died, however it died.

    python guard.py PARENT

One guard runs beside a process that has children. Its standard input is a pipe whose other end that process holds.
A line `PID SIGNAL` names a child and what ends it; every child writes its own before it becomes its command (see
`launch`). `PID 0` says that this child has ended. End of file, a line `end` or a new parent mean that the process
is gone or done: each child that is left gets its signal, and a few seconds later what remains of its family is
killed.

This file is also run by its path, so it imports nothing of pgsaga.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Iterable

import psutil

GRACE = 5.0
"""Seconds a child may take to end."""

POLL = 0.5
"""Seconds between two looks at whether the parent is there."""

Child = tuple[psutil.Process, int]
"""A child and the signal that ends it."""


def family(pid: int) -> list[psutil.Process]:
    """The process `pid`, its descendants, and what is left of its session: those alive, `pid` itself first."""
    members: dict[int, psutil.Process] = {}
    with contextlib.suppress(psutil.NoSuchProcess):
        leader = psutil.Process(pid)
        members = {process.pid: process for process in (leader, *leader.children(recursive=True))}
    for other in psutil.pids():
        with contextlib.suppress(ProcessLookupError, psutil.NoSuchProcess):
            if os.getsid(other) == pid:
                members.setdefault(other, psutil.Process(other))
    return [process for process in members.values() if is_alive(process)]


def is_alive(process: psutil.Process) -> bool:
    """Whether it still runs. A zombie does not: it only waits to be noticed."""
    return _status(process) not in (None, psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)


def is_running(process: psutil.Process) -> bool:
    """Whether it is alive and not stopped."""
    return is_alive(process) and _status(process) != psutil.STATUS_STOPPED


def send(processes: Iterable[psutil.Process], number: int) -> None:
    """Send a signal to those that still exist."""
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(number)


def wait_gone(processes: Iterable[psutil.Process], timeout: float) -> bool:
    """Wait up to `timeout` seconds until none is alive; returns whether that is so."""
    return _wait_none(is_alive, processes, timeout)


def wait_stopped(processes: Iterable[psutil.Process], timeout: float) -> bool:
    """Wait up to `timeout` seconds until none runs; returns whether that is so."""
    return _wait_none(is_running, processes, timeout)


def _status(process: psutil.Process) -> str | None:
    with contextlib.suppress(psutil.NoSuchProcess):
        if process.is_running():  # False also if its id belongs to another by now
            return process.status()
    return None


def _wait_none(
    condition: Callable[[psutil.Process], bool], processes: Iterable[psutil.Process], timeout: float
) -> bool:
    deadline = time.monotonic() + timeout
    remaining = list(processes)
    while remaining := [process for process in remaining if condition(process)]:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


def kill(pid: int) -> None:
    """Kill the whole family of `pid`, and wait until it is gone."""
    deadline = time.monotonic() + GRACE
    first = family(pid)
    send(first, signal.SIGKILL)  # at once, in the middle of whatever they do
    wait_gone(first, GRACE)
    while time.monotonic() < deadline:
        # A leader that is stopped starts no more children while they are looked for.
        with contextlib.suppress(psutil.NoSuchProcess):
            psutil.Process(pid).suspend()
        members = family(pid)
        send(members, signal.SIGKILL)
        if wait_gone(members, GRACE) and not family(pid):
            return


def end(children: Iterable[Child]) -> None:
    """Send each child its signal, the latest child first; kill what is left of their families after the grace."""
    leaving: list[psutil.Process] = []
    for child, number in reversed([*children]):
        if not child.is_running() and psutil.pid_exists(child.pid):
            continue  # that id belongs to another by now
        if number == signal.SIGKILL:
            kill(child.pid)
            continue
        leaving += family(child.pid)
        send([child], number)
        send([child], signal.SIGCONT)  # a suspended process heeds no other signal
    wait_gone(leaving, GRACE)
    send(leaving, signal.SIGKILL)


def watch(parent: int) -> Iterable[Child]:
    """Read lines until the parent is gone or done; returns the children that are left."""
    children: dict[int, Child] = {}
    pending = b""
    patience = GRACE
    # A parent that is gone need not mean end of file yet: a child that has still to write its line holds the pipe, too,
    # and so does, for as long as it lives, a process that the parent forked.
    while patience > 0:
        if os.getppid() != parent:
            patience -= POLL
        if not select.select([sys.stdin], [], [], POLL)[0]:
            continue
        received = os.read(sys.stdin.fileno(), 65536)
        *lines, pending = (pending + received).split(b"\n")
        for line in lines:
            if line != b"end":
                note(children, *map(int, line.split()))
        if not received or b"end" in lines:
            break
    return children.values()


def note(children: dict[int, Child], pid: int, number: int) -> None:
    """Take down one line."""
    children.pop(pid, None)
    if number:
        with contextlib.suppress(psutil.NoSuchProcess):
            children[pid] = (psutil.Process(pid), number)


if __name__ == "__main__":
    end(watch(int(sys.argv[1])))
