"""A folder that only this user can use, and files in it that no other user may read."""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path

from .errors import FolderUnsafe

PASSABLE = 0o711
CLOSED = 0o700


def claim_folder(folder: Path) -> Path:
    """Make a folder, or make sure that it may be used, and return its path without links.

    Others can neither list nor change it. Run by root, they can pass it, since Postgres then runs as another user.

    Raises:
        FolderUnsafe: it is a link, it belongs to another user, or others can write into it.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        folder.mkdir(mode=PASSABLE if os.geteuid() == 0 else CLOSED)
    except FileExistsError:
        _check(folder)
    return folder.resolve()


def _check(folder: Path) -> None:
    found = folder.lstat()  # not of what a link leads to
    if stat.S_ISLNK(found.st_mode):
        problem = "is a link: name the folder that it leads to"
    elif not stat.S_ISDIR(found.st_mode):
        problem = "is no folder: choose another one"
    elif found.st_uid != os.geteuid():
        problem = "belongs to another user: choose another one"
    elif found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        problem = f"can be written by others: run `chmod go-w {folder}`, or choose another one"
    else:
        return
    raise FolderUnsafe(f"{folder} {problem}")


def open_private(file: Path, flags: int) -> int:
    """Open a file that others cannot read, made with mode 0600 where ``flags`` make it; returns its descriptor.

    Raises:
        FolderUnsafe: it is a link, or belongs to another user.
    """
    try:
        opened = os.open(file, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError:
        if file.is_symlink():
            raise FolderUnsafe(f"{file} is a link: remove it") from None
        raise
    if os.fstat(opened).st_uid not in (os.geteuid(), 0):
        os.close(opened)
        raise FolderUnsafe(f"{file} belongs to another user: remove it")
    return opened


def write_private(file: Path, text: str) -> None:
    """Make a file that only this user can read, or replace what is in it."""
    opened = open_private(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.fchmod(opened, 0o600)
    with os.fdopen(opened, "w") as writing:
        writing.write(text)


def read_private(file: Path) -> str:
    """What is in a file of ours; nothing if it is not there."""
    try:
        opened = open_private(file, os.O_RDONLY)
    except FileNotFoundError:
        return ""
    with os.fdopen(opened) as reading:
        return reading.read().strip()


def new_password() -> str:
    """A password that needs no quotes anywhere: letters, digits, ``-`` and ``_``."""
    return secrets.token_urlsafe(24)
