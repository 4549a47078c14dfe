"""Finds the programs that the packages of the `embedded` extra carry."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from .errors import MissingExtra


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
