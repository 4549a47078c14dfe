"""Becomes a command that cannot outlive the process that wants it.

    python launch.py GUARD SIGNAL USER COMMAND...

GUARD is the file descriptor of the guard's pipe (see `guard`), or `-`; SIGNAL what the guard shall send; USER is
`uid:gid`, or `uid:gid:right` to keep that one capability, or `-` to stay who we are. This file is run by its path, with
the standard library alone, because it has to be quick.

It tells the guard its own process id *before* it becomes the command, so a parent killed at any instant leaves
no child the guard does not know of. A death signal (`prctl`) would be simpler, but it fires when the *thread* that
forked ends, and it does not reach grandchildren.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys

PR_SET_KEEPCAPS = 8
PR_SET_SECUREBITS = 28
PR_SET_NO_NEW_PRIVS = 38
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_RAISE = 2
SECBIT_NO_SETUID_FIXUP = 4
LINUX_CAPABILITY_VERSION_3 = 0x20080522


def launch(guard: str, death: str, user: str, *command: str) -> None:
    """Register with the guard, become `user`, then become `command`. Does not return.

    Raises:
        OSError: the command cannot be run.
    """
    if guard != "-":
        register(int(guard), death)
    if user != "-":
        become(*map(int, user.split(":")))
    # Python ignores these two, and what is ignored stays so in the program that follows.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    os.execv(command[0], command)


def register(guard: int, death: str) -> None:
    """Tell the guard this process's id and the signal that ends it."""
    with contextlib.suppress(BrokenPipeError):  # no guard is no reason not to run
        os.write(guard, f"{os.getpid()} {death}\n".encode())
    os.close(guard)


def become(uid: int, gid: int, right: int | None = None) -> None:
    """Give up being root for `uid`, for good, where the system allows keeping only one right of root's."""
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    if libc and right is not None:
        # Without it, access(2) ignores capabilities, and Postgres checks its own binary with access(2).
        libc.prctl(PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP, 0, 0, 0)
        libc.prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0)
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)
    if libc:
        if right is not None:
            keep(libc, right)
        libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def keep(libc: ctypes.CDLL, right: int) -> None:
    """Keep one capability, also in the program that follows, and give up the others."""
    mask = 1 << right
    header = (ctypes.c_uint32 * 2)(LINUX_CAPABILITY_VERSION_3, 0)
    if libc.capset(header, (ctypes.c_uint32 * 6)(mask, mask, mask, 0, 0, 0)) != 0:
        libc.capset(header, (ctypes.c_uint32 * 6)())  # not ours to keep: keep nothing
    libc.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, right, 0, 0)


if __name__ == "__main__":
    launch(*sys.argv[1:])
