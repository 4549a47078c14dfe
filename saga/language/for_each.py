"""ForEach: the same sequence once for each element of a list."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from saga.errors import DefinitionError, brief
from saga.language.annotation import element_of, shown
from saga.language.fit import can_be_list
from saga.language.fixed import Made
from saga.language.source import INDEX, RESERVED
from saga.language.visibility import Element, Here, Known
from saga.language.walk import Built, Construct, Walk, as_items, check_items


class ForEach(Made, Construct):
    """The body once for each element of a list, begun in the list's order, side by side.

    In the body ``item`` and ``index`` are parameters: the element, and its position from 0, of the innermost ``ForEach``. Steps
    of the body see each other's results of the same element. Later steps take, under its name, the list of the results of the
    body's last item.

    Args:
        over: a path to the list, such as ``"input.users"``.
        body: the sequence for each element.
        name: unique in the saga; required.
        item: the name of the parameter that gets the element.
        limit: how many elements are under way at a time, those that wait counted; all at once if not said.
    """

    word = "ForEach"
    over: str
    body: Sequence[Construct]
    name: str | None
    item: str
    limit: int | None

    def __init__(
        self,
        over: str,
        body: Sequence[Construct],
        *,
        name: str | None = None,
        item: str = "item",
        limit: int | None = None,
    ) -> None:
        vars(self).update(over=over, body=as_items(body), name=name, item=item, limit=limit)

    def title(self) -> str | None:
        return self.name or ""

    def sequences(self) -> Iterator[Sequence[Any]]:
        return iter([self.body] if isinstance(self.body, tuple) else [])

    def build(self, walk: Walk, here: Here) -> Built:
        name, place = self.title() or "", walk.place(self)
        self._check(place, walk, here)
        wire = walk.scope(place, here).follow("over", self.over)
        if not can_be_list(wire.annotation):
            raise DefinitionError(
                f"{place}: over={self.over!r} is {shown(wire.annotation)}, which is no list; name a list, or correct the annotation"
            )
        walk.terms[name] = ForEachTerms(self.limit)
        walk.elements[self.item] = name
        element = Element(name, element_of(wire.annotation))
        inside = replace(
            here, elements={**here.elements, self.item: element}, innermost=name, barred="inside a ForEach"
        )
        body = walk.sequence(self.body, inside)
        for each, _ in walk.names_in(self.body):
            walk.ground.hidden[each] = (
                f"it is in the body of ForEach {name!r} and has a result for each element; outside, take the list {name!r}"
            )
        kind = walk.returns[name] = list[body.returns]  # type: ignore[name-defined]
        doc = {"for_each": name, "over": walk.take(name, wire, self.over), "item": self.item, "body": body.doc}
        return Built(doc, {name: Known(kind)}, kind)

    def _check(self, place: str, walk: Walk, here: Here) -> None:
        check_items(place, "body", self.body)
        if not self.body:
            raise DefinitionError(f"{place}: its body is empty; give it at least one Step")
        if self.limit is not None and (
            isinstance(self.limit, bool) or not isinstance(self.limit, int) or self.limit < 1
        ):
            raise DefinitionError(f"{place}: limit={brief(self.limit)} expected a whole number of 1 or more, or None")
        if not isinstance(self.item, str) or not self.item.isidentifier() or self.item in (*RESERVED, INDEX):
            raise DefinitionError(
                f"{place}: item={brief(self.item)} expected the name of a parameter that is no reserved word, such as item='user'"
            )
        for word, remedy in ((self.item, "choose another with item="), (INDEX, "rename that")):
            hidden = _hidden_by(word, walk, here)
            if hidden:
                raise DefinitionError(f"{place}: in its body the parameter {word!r} would hide {hidden}; {remedy}")


def _hidden_by(word: str, walk: Walk, here: Here) -> str:
    """What has the name of a parameter already, in words."""
    ground = walk.ground
    if word in ground.names:
        return f"the {ground.names[word]} of that name"
    if word in (ground.fields or ()):
        return "the input field of that name"
    if word in here.elements:
        return f"the element of ForEach {here.elements[word].for_each!r}"
    return ""


@dataclass(frozen=True, slots=True)
class ForEachTerms:
    """What only the definition says of a ``ForEach``.

    Attributes:
        limit: how many elements may be under way at a time; ``None`` for all.
    """

    limit: int | None
