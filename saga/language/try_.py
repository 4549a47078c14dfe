"""Try: a scope with a rollback of its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tenacity import stop_after_attempt

from saga.errors import DefinitionError, brief
from saga.language.annotation import either
from saga.language.fixed import Made
from saga.language.retry import Retry
from saga.language.visibility import Here, Known
from saga.language.walk import Built, Construct, Walk, as_items, check_items

_ONCE = Retry.none()


class Try(Made, Construct):
    """A scope with a rollback of its own: a savepoint, an alternative, or an optional step.

    If something in it fails for good, what the scope did is undone, in reverse. Then it is tried again, as often and after such
    waits as ``retry`` says; then ``otherwise`` goes on in its place; without that the failure goes up. Later steps take, under
    its name, the result of the last item of the way that stood; ``None`` of an empty one.

    Args:
        items: the sequence.
        retry: how often it is tried again, and when: ``stop`` and ``wait`` count rounds.
        otherwise: the sequence, which may be empty, that goes on in its place. Its parameters may name ``error``, why it came
            to that. A failure in it goes up.
        name: unique in the saga; required.
    """

    word = "Try"
    items: tuple[Construct, ...]
    retry: Retry
    otherwise: Sequence[Construct] | None
    name: str | None

    def __init__(
        self,
        *items: Construct,
        retry: Retry = _ONCE,
        otherwise: Sequence[Construct] | None = None,
        name: str | None = None,
    ) -> None:
        vars(self).update(items=items, retry=retry, otherwise=as_items(otherwise), name=name)

    def title(self) -> str | None:
        return self.name or ""

    def sequences(self) -> Iterator[Sequence[Any]]:
        yield self.items
        if isinstance(self.otherwise, tuple):
            yield self.otherwise

    def build(self, walk: Walk, here: Here) -> Built:
        name, place = self.title() or "", walk.place(self)
        self._check(place)
        walk.terms[name] = TryTerms(self.retry)
        inside = replace(here, barred="inside a Try", tried=True)
        body = walk.sequence(self.items, replace(inside, undone=True))
        doc: dict[str, Any] = {"try": name, "body": body.doc}
        if self.otherwise is None:
            walk.returns[name] = body.returns
            return Built(doc, {**body.gives, name: Known(body.returns)}, body.returns)
        otherwise = self._otherwise(walk, replace(inside, caught=name), name)
        doc["otherwise"] = otherwise.doc
        kind = walk.returns[name] = either(body.returns, otherwise.returns)
        gives = {
            **body.missing(f"it is inside Try {name!r}, whose otherwise= may stand in its place"),
            **otherwise.missing(f"it is in the otherwise= of Try {name!r}, which may not be gone"),
            name: Known(kind),
        }
        return Built(doc, gives, kind)

    def _otherwise(self, walk: Walk, here: Here, name: str) -> Built:
        names = {each for item in self.items for each, _ in walk.names_in(item)} - walk.ground.hidden.keys()
        walk.ground.hidden.update(dict.fromkeys(names, f"it is undone where the otherwise= of Try {name!r} begins"))
        built = walk.sequence(self.otherwise or (), here)
        for each in names:
            del walk.ground.hidden[each]
        return built

    def _check(self, place: str) -> None:
        if not self.items:
            raise DefinitionError(f"{place}: it is empty; give it at least one Step, or drop it")
        if not isinstance(self.retry, Retry):
            raise DefinitionError(
                f"{place}: retry={brief(self.retry)} expected a Retry, such as Retry(stop=stop_after_attempt(2))"
            )
        if Retry(stop=self.retry.stop, wait=self.retry.wait) != self.retry:
            raise DefinitionError(
                f"{place}: retry= has a retry strategy, but all failures are alike to a Try; give it stop= and wait= only"
            )
        if self.otherwise is not None:
            check_items(place, "otherwise", self.otherwise)
        elif isinstance(self.retry.stop, stop_after_attempt) and self.retry.stop.max_attempt_number <= 1:
            raise DefinitionError(
                f"{place}: it has neither retry= nor otherwise=, so it changes nothing; "
                f"give it retry=Retry(...), or otherwise=[...], which may be empty"
            )


@dataclass(frozen=True, slots=True)
class TryTerms:
    """What only the definition says of a ``Try``.

    Attributes:
        retry: how often it is tried again, and after which waits.
    """

    retry: Retry
