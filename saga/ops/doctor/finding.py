"""Finding: one thing the doctor has to say."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """How grave it is, the worst first."""

    BAD = "bad"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True, slots=True)
class Finding:
    """Something unsafe (``bad``), risky (``warning``) or without effect in a saga (``note``).

    Attributes:
        what: what was found, naming the setting, task or step.
        remedy: what to do about it.
    """

    level: Level
    what: str
    remedy: str
