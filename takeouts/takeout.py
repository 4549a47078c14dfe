"""A takeout: the change that removes one behaviour, and the tests that have to fail for it."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Edit:
    """A change of one file.

    Attributes:
        file: where, from the root of the repository.
        find: the text that is there, once.
        put: what stands there instead.
    """

    file: str
    find: str
    put: str

    def apply(self, root: Path) -> None:
        """Make it in a copy of the repository.

        Raises:
            ValueError: the text is not there, or not once.
        """
        path = root / self.file
        text = path.read_text()
        if text.count(self.find) != 1:
            raise ValueError(f"{self.file} has it {text.count(self.find)} times: {self.find!r}")
        path.write_text(text.replace(self.find, self.put))


@dataclass(frozen=True)
class Takeout:
    """A behaviour taken out.

    Attributes:
        behaviour: what is lost, in words.
        edits: what takes it out; several, where one part of the code stands in for another.
        tests: the names of the tests that have to fail.
    """

    behaviour: str
    edits: tuple[Edit, ...]
    tests: tuple[str, ...]

    def apply(self, root: Path) -> None:
        """Take it out of a copy of the repository."""
        for edit in self.edits:
            edit.apply(root)


def read() -> list[Takeout]:
    """Those of `takeouts.toml`."""
    document = tomllib.loads((ROOT / "takeouts/takeouts.toml").read_text())
    return [_takeout(entry) for entry in document["takeout"]]


def _takeout(entry: dict[str, Any]) -> Takeout:
    edits = entry.get("edits") or [{name: entry[name] for name in ("file", "find", "put")}]
    return Takeout(entry["behaviour"], tuple(Edit(**edit) for edit in edits), tuple(entry["tests"]))


@cache
def places() -> dict[str, str]:
    """The name of every test, and the file it is in, from the root of the repository."""
    return {
        name: str(path.relative_to(ROOT))
        for path in sorted((ROOT / "tests").rglob("test_*.py"))
        for name in re.findall(r"^def (test_\w+)", path.read_text(), re.MULTILINE)
    }
