"""Builder: checks what a saga as a whole says, and has the walk build what is in it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from saga.core.address import MARKS
from saga.core.outline import DEADLINE, MAIN
from saga.core.text import clean_text
from saga.errors import DefinitionError, brief
from saga.language.annotation import check_type, fields_of, promised_fields, resolving
from saga.language.job import Job
from saga.language.source import INDEX, INPUT, RESERVED, Wire
from saga.language.visibility import Ground, Here
from saga.language.walk import Built, Construct, Walk


class Builder:
    """Builds a definition.

    Attributes:
        ground: what is the same at every place of the saga.
        walk: what was collected on the way through it.
    """

    def __init__(self, saga: Any, input: Any, *, throws_abort: Any = False, on_failure: Any = "rollback") -> None:
        if not (isinstance(saga, str) and saga and clean_text(saga) == saga):
            raise DefinitionError(
                f"Saga({brief(saga)}, ...): the first argument is the saga's name, a text without NUL"
            )
        self._place = f"saga {saga!r}"
        if not isinstance(throws_abort, bool):
            raise DefinitionError(f"{self._place}: throws_abort={brief(throws_abort)} expected True or False")
        if on_failure not in ("rollback", "ask"):
            raise DefinitionError(f"{self._place}: on_failure={brief(on_failure)} expected 'rollback' or 'ask'")
        self.ground = Ground(saga, input, self._input_fields(input))
        self.walk = Walk(self.ground, throws_abort=throws_abort)

    def build(self, items: Sequence[Any]) -> Built:
        """Build the saga of some items.

        Raises:
            DefinitionError: something in it is wrong.
        """
        if not items:
            raise DefinitionError(f"{self._place}: it is empty; give it at least one Step")
        named = list(self.walk.names_in(items))
        self._check_names(named)
        self.ground.names.update((name, construct.word) for name, construct in named)
        built = self.walk.sequence(items, Here())
        if self.ground.fields is None:
            self._check_elements()
        return built

    def in_order(self, jobs: Mapping[str, Job]) -> dict[str, Job]:
        """Jobs in the order of definition."""
        return {name: jobs[name] for name in self.ground.names if name in jobs}

    def point_of_no_return(self, pivot: str | None) -> str | None:
        """After what the saga cannot be undone as a whole, in words; ``None`` if it can be."""
        if pivot is not None:
            return f"its pivot {pivot!r} is past"
        confirmed = next(iter(self.walk.confirms), None)
        return None if confirmed is None else f"its step {confirmed!r} is confirmed"

    def _input_fields(self, input: Any) -> Mapping[str, Any] | None:
        if input is None:
            return None
        with resolving(f"{self._place}: an annotation of the input"):
            fields = fields_of(input)
        if fields is None:
            raise DefinitionError(
                f"{self._place}: input={brief(input)} expected a pydantic model, a dataclass or a TypedDict"
            )
        for name in fields:
            if name in RESERVED:
                raise DefinitionError(f"{self._place}: input field {name!r} is a reserved word; rename the field")
        check_type(f"{self._place}: the input", input)
        return fields

    def _check_names(self, named: Iterable[tuple[Any, Construct]]) -> None:
        taken: dict[Any, str] = {}
        for name, construct in named:
            if name == "":
                construct.untitled(self.ground.saga)
            where = f"{self._place}, {construct.word} {name!r}"
            _check_name(where, construct.word, name)
            if name in taken:
                same = f"two {taken[name]}s have" if taken[name] == construct.word else f"a {taken[name]} has"
                raise DefinitionError(f"{where}: {same} that name; give one of them another with name=")
            if self.ground.fields is not None and name in self.ground.fields:
                raise DefinitionError(
                    f"{where}: the input has a field of the same name; rename the {construct.word} with name="
                )
            taken[name] = construct.word

    def _check_elements(self) -> None:
        """Whether a field of an input without a type is called as an element, or as its index, is in a body."""
        owners = dict(self.walk.elements)
        if owners:
            owners.setdefault(INDEX, next(iter(owners.values())))
        for name, wire in self._from_input():
            field = wire.source.path[0] if wire.source.path else ""
            if field in owners:
                raise DefinitionError(
                    f"{self._place}, {self.ground.names[name]} {name!r}: it takes the input field {field!r}, which a parameter "
                    f"in the body of ForEach {owners[field]!r} would hide; rename the field, or choose another with item="
                )

    # what is taken from the input

    def input_wires(self) -> tuple[tuple[str, Wire], ...]:
        """What the steps take from the input, each source and type once, with the first that takes it."""
        found: dict[tuple[str, ...], list[tuple[str, Wire]]] = {}
        for name, wire in self._from_input():
            known = found.setdefault(wire.source.path, [])
            if not any(_takes_the_same(wire, other) for _, other in known):
                known.append((name, wire))
        return tuple(taken for wires in found.values() for taken in wires)

    def required_fields(self) -> Mapping[str, str]:
        """Each field that is needed and that the input's type does not promise, with the step or construct that needs it."""
        promised = promised_fields(self.ground.input) if self.ground.input else frozenset()
        found: dict[str, str] = {}
        for name, wire in self._from_input():
            if wire.source.path and not wire.optional and wire.source.path[0] not in promised:
                found.setdefault(wire.source.path[0], name)
        return found

    def _from_input(self) -> Iterator[tuple[str, Wire]]:
        walk = self.walk
        for jobs in (walk.actions, walk.undos, walk.confirms, walk.checks, walk.functions):
            for name, job in self.in_order(jobs).items():
                for wire in job.wires:
                    if _is_input(wire):
                        yield name, wire
        yield from (taken for taken in walk.taken if _is_input(taken.wire))


def _check_name(where: str, word: str, name: Any) -> None:
    if not isinstance(name, str) or clean_text(name) != name:
        raise DefinitionError(f"{where}: its name is no text without NUL; give it another with name=")
    if name in RESERVED or name in (MAIN, DEADLINE):
        raise DefinitionError(f"{where}: its name is a reserved word; give it another with name=")
    if "/" in name or "." in name or not name:
        raise DefinitionError(
            f"{where}: the name of a {word} cannot be empty or hold '/' or '.'; give it another with name="
        )
    if any(mark in name for mark in MARKS):
        raise DefinitionError(
            f"{where}: the name of a {word} cannot hold '[', ']' or '#', which addresses are made with; "
            "give it another with name="
        )


def _is_input(wire: Wire) -> bool:
    return wire.source.origin == "input" or wire.source == INPUT


def _takes_the_same(wire: Wire, other: Wire) -> bool:
    return wire.annotation == other.annotation and wire.optional == other.optional
