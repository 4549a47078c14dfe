"""WaitFor: waits for a signal from outside, without a worker."""

from __future__ import annotations

import typing
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from pydantic import ValidationError

from saga.core.address import MARKS, name_of
from saga.core.text import JSON, clean_text
from saga.errors import DefinitionError, brief
from saga.language.annotation import check_type, either, record
from saga.language.codec import adapter, decode, encode
from saga.language.fixed import Made
from saga.language.step import seconds
from saga.language.visibility import Here, Known
from saga.language.walk import NOTHING, Built, Construct, Walk, as_items, check_items


class WaitFor(Made, Construct):
    """A wait until one of some signals is there; a signal that came before is taken at once.

    Later steps take the payload by its name; of several signals, a mapping of ``signal`` and ``payload``.

    Args:
        signals: what it waits for; others send them with ``Handle.signal`` or ``saga signal``.
        name: unique in the saga; that of the signal if there is one only.
        payload: the type of the payload, which is checked when the signal is sent; anything if not said.
        timeout: how long it waits; for as long as the saga may if not said. After that it is refused, so the saga rolls back.
        on_timeout: the sequence, which may be empty, that is gone after the timeout instead. The payload may be missing then.
    """

    word = "WaitFor"
    signals: tuple[str, ...]
    name: str | None
    payload: Any
    timeout: timedelta | None
    on_timeout: Sequence[Construct] | None

    def __init__(
        self,
        *signals: str,
        name: str | None = None,
        payload: Any = None,
        timeout: timedelta | None = None,
        on_timeout: Sequence[Construct] | None = None,
    ) -> None:
        vars(self).update(signals=signals, name=name, payload=payload, timeout=timeout, on_timeout=as_items(on_timeout))

    def title(self) -> str | None:
        if self.name is None and len(self.signals) == 1 and isinstance(self.signals[0], str):
            return self.signals[0]
        return self.name or ""

    def sequences(self) -> Iterator[Sequence[Any]]:
        return iter([self.on_timeout] if isinstance(self.on_timeout, tuple) else [])

    def build(self, walk: Walk, here: Here) -> Built:
        name, place = self.title() or "", walk.place(self)
        self._check(place)
        limit = None if self.timeout is None else seconds(place, "timeout", self.timeout)
        payload = Any if self.payload is None else self.payload
        check_type(f"{place}: its payload", payload)
        walk.terms[name] = WaitForTerms(self.signals, limit, payload)
        kind = walk.returns[name] = self._result(payload)
        doc: dict[str, Any] = {"wait": name, "signals": list(self.signals)}
        if self.on_timeout is None:
            return Built(doc, {name: Known(kind)}, kind)
        walk.ground.hidden[name] = f"it has no payload in the on_timeout of WaitFor {name!r}"
        way = walk.sequence(self.on_timeout, replace(here, barred="inside an on_timeout"))
        del walk.ground.hidden[name]
        doc["on_timeout"] = way.doc
        gives = way.missing(f"it is in the on_timeout of WaitFor {name!r}, which may not be gone")
        gives[name] = Known(kind, f"WaitFor {name!r} has on_timeout=, and then no payload")
        return Built(doc, gives, either(kind, NOTHING))

    def _check(self, place: str) -> None:
        if not self.signals:
            raise DefinitionError(f"{place}: it waits for no signal; name one, such as WaitFor('approval')")
        for signal in self.signals:
            if not isinstance(signal, str) or not signal or clean_text(signal) != signal or set(signal) & set(MARKS):
                raise DefinitionError(
                    f"{place}: the signal {brief(signal)} expected a text that is not empty, without NUL, '[', ']' and '#'"
                )
        if len(set(self.signals)) < len(self.signals):
            raise DefinitionError(f"{place}: it names a signal twice: {', '.join(map(repr, self.signals))}; drop one")
        if self.on_timeout is not None:
            check_items(place, "on_timeout", self.on_timeout)
            if self.timeout is None:
                raise DefinitionError(
                    f"{place}: on_timeout is given, but no timeout; give timeout=, or drop on_timeout="
                )

    def _result(self, payload: Any) -> Any:
        if len(self.signals) == 1:
            return payload
        return record("Signal", {"signal": typing.Literal[self.signals], "payload": payload})


@dataclass(frozen=True, slots=True)
class WaitForTerms:
    """What only the definition says of a ``WaitFor``.

    Attributes:
        signals: the signals' names.
        timeout: seconds; ``None`` for no end.
        payload: the type of the payload; ``Any`` if it has none.
    """

    signals: tuple[str, ...]
    timeout: float | None
    payload: Any

    def fits(self, signal: str, payload: JSON) -> bool:
        """Whether the wait can take the signal of that name or address with that payload, as it is stored."""
        if name_of(signal) not in self.signals:
            return False
        try:
            decode(payload, self.payload)
        except ValidationError:
            return False
        return True

    def read(self, given: Any) -> JSON:
        """A payload as it is stored, with the defaults of its type filled in.

        Raises:
            pydantic.ValidationError: it does not fit.
            Unencodable: it has no JSON form.
        """
        if self.payload is Any:
            return encode(given)
        return encode(adapter(self.payload).validate_python(given, by_alias=True, by_name=True), self.payload)

    def result(self, signal: str, payload: JSON) -> JSON:
        """The result of the wait that takes the signal of that name or address."""
        return payload if len(self.signals) == 1 else {"signal": name_of(signal), "payload": payload}
