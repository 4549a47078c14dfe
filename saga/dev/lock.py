"""One stack per folder."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from .errors import FolderInUse
from .private import open_private


class FolderLock:
    """Held by the process that uses a folder; the kernel frees it when that process ends, however it ends."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file: int | None = None

    def acquire(self) -> None:
        """Take the lock, or do nothing if this object holds it.

        Raises:
            FolderInUse: somebody else holds it.
        """
        if self._file is not None:
            return
        file = open_private(self._folder / "lock", os.O_RDWR | os.O_CREAT)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(file, 32).decode() or "another"
            os.close(file)
            raise FolderInUse(
                f"{self._folder} is in use by process {holder}: stop that one, or choose another folder"
            ) from None
        os.ftruncate(file, 0)
        os.pwrite(file, str(os.getpid()).encode(), 0)
        self._file = file

    def release(self) -> None:
        """Give it back, if held."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
