"""Sleep: waits for a time, or until one, without a worker."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from saga.errors import DefinitionError
from saga.language.annotation import shown
from saga.language.fit import can_be_time
from saga.language.fixed import Made
from saga.language.step import seconds
from saga.language.visibility import Here, Known
from saga.language.walk import Built, Construct, Walk


class Sleep(Made, Construct):
    """A wait that needs no worker. Later steps take, under its name, when it woke.

    Args:
        for_or_until: a ``timedelta``; or a path to a ``timedelta`` or a ``datetime``, such as ``"input.starts_at"``. A time that
            is past is over at once; one without a zone is in UTC.
        name: unique in the saga; required.
    """

    word = "Sleep"
    for_or_until: timedelta | str
    name: str | None

    def __init__(self, for_or_until: timedelta | str, *, name: str | None = None) -> None:
        vars(self).update(for_or_until=for_or_until, name=name)

    def title(self) -> str | None:
        return self.name or ""

    def build(self, walk: Walk, here: Here) -> Built:
        name, place, given = self.title() or "", walk.place(self), self.for_or_until
        doc: dict[str, Any] = {"sleep": name}
        if isinstance(given, str):
            wire = walk.scope(place, here).follow("for_or_until", given)
            if not can_be_time(wire.annotation):
                kind = shown(wire.annotation)
                raise DefinitionError(f"{place}: {given!r} is {kind}, and expected was a timedelta or a datetime")
            doc["until"] = walk.take(name, wire, given)
            walk.terms[name] = SleepTerms(None)
        else:
            walk.terms[name] = SleepTerms(seconds(place, "for_or_until", given))
        walk.returns[name] = datetime
        return Built(doc, {name: Known(datetime)}, datetime)


@dataclass(frozen=True, slots=True)
class SleepTerms:
    """What only the definition says of a ``Sleep``.

    Attributes:
        seconds: how long it is; ``None`` if that is what a path leads to.
    """

    seconds: float | None
