"""Due: a time that is counted from an entry of the log, which has its own time only once it is written."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta


@dataclass(frozen=True, slots=True)
class Due:
    """A moment; or, while the entry that it is counted from has no time yet, the seconds from then."""

    moment: datetime | None = None
    seconds: float = 0.0

    @classmethod
    def after(cls, at: datetime | None, seconds: float | None) -> Due | None:
        """So many seconds after an entry that was written then; ``None`` where there are none to count.

        Args:
            at: by the database's clock; ``None`` before it is written.
        """
        if seconds is None:
            return None
        return cls(None, seconds) if at is None else cls(at + timedelta(seconds=seconds))

    @property
    def at_once(self) -> bool:
        """Whether it says to wait for nothing. A moment is one to wait for: only a database knows whether it is past."""
        return self.moment is None and not self.seconds


def moment_of(due: Due | None) -> datetime | None:
    """The moment of what may have none."""
    return None if due is None else due.moment


def is_at_once(due: Due | None) -> bool:
    """Whether there is nothing to wait for."""
    return due is None or due.at_once
