"""A server in a folder: what Postgres and the broker have in common."""

from __future__ import annotations

from pathlib import Path

from .child import Child
from .lock import FolderLock
from .orphan import end_orphan
from .port import keep_port
from .private import claim_folder, read_private
from .user import server_user


class Server(Child):
    """A program on 127.0.0.1 that has a folder to itself, with its log, its data, its port and its password."""

    def __init__(self, folder: Path, program: Path, *, log: str, pidfile: str) -> None:
        self.folder = folder.absolute()
        super().__init__(self.folder / log, cwd=self.folder)
        self.data = self.folder / "data"
        self._program = program
        self._pidfile = self.data / pidfile
        self._secret = self.folder / "password"
        self._lock = FolderLock(self.folder)
        self._port: int | None = None

    @property
    def port(self) -> int:
        """Its TCP port.

        Raises:
            RuntimeError: it was never started.
        """
        if self._port is None:
            raise RuntimeError(f"{self.name} has no port before it is started")
        return self._port

    @property
    def password(self) -> str:
        """What it asks of clients. Empty before it is started."""
        return read_private(self._secret)

    def _move_in(self) -> bool:
        """Take the folder, and a port at the first time; whether it is the first time.

        Raises:
            FolderInUse: another process runs a server in this folder.
            FolderUnsafe: the folder is not this user's alone.
        """
        claim_folder(self.folder)
        self._lock.acquire()
        self.user = server_user(self._program, self.folder)
        if self._port is not None:
            return False
        end_orphan(self._pidfile, self.data, self.death)
        self._port = keep_port(self.folder / "port")
        return True
