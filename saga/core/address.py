"""Address: a step's name with where it runs, of what may run more than once: ``invite_user[3]``, ``reserve[3]#2``."""

from __future__ import annotations

import re
from typing import NamedTuple

MARKS = "[]#"
"""What no name of a step may hold, since it begins what an address has after the name."""

_ADDRESS = re.compile(rf"([^{re.escape(MARKS)}]+)((?:\[(?:0|[1-9][0-9]*)\]|#[1-9][0-9]*)*)")
_PART = re.compile(r"\[([0-9]+)\]|#([0-9]+)")


class Element(NamedTuple):
    """The element of a list, from 0."""

    number: int

    def __str__(self) -> str:
        return f"[{self.number}]"


class Round(NamedTuple):
    """The round of what is tried several times, from 1."""

    number: int

    def __str__(self) -> str:
        return f"#{self.number}"


class Address(NamedTuple):
    """A step, and where it runs.

    Attributes:
        where: the elements and rounds that it runs in, the outermost first; none, for a step that runs once.
    """

    name: str
    where: tuple[Element | Round, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Address:
        """Read an address; first rounds that it leaves out stay so.

        Raises:
            ValueError: it is none, or written in another way than the one that ``str`` gives.
        """
        found = _ADDRESS.fullmatch(text)
        if found is not None:
            parts = _PART.findall(found[2])
            address = cls(found[1], tuple(Element(int(of)) if of else Round(int(round_)) for of, round_ in parts))
            if str(address) == text:
                return address
        raise ValueError(f"no address of a step: {text!r:.100}; such as 'invite_user', 'invite_user[3]' or 'reserve#2'")

    def __str__(self) -> str:
        """As the log has it: first rounds are left out where all of them are first."""
        all_first = all(part.number == 1 for part in self.where if isinstance(part, Round))
        shown = (part for part in self.where if not (all_first and isinstance(part, Round)))
        return self.name + "".join(map(str, shown))


def name_of(address: str) -> str:
    """The name of the step at an address."""
    for place, sign in enumerate(address):
        if sign in "[#":
            return address[:place]
    return address
