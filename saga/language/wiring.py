"""Wiring: where each parameter of a task gets its value from, settled when the saga is built.

Arguments are bound by name, as pytest binds fixtures: a parameter names an input field, an earlier step or a reserved word.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

from saga.errors import DefinitionError, DoubtfulType, brief, did_you_mean
from saga.language.annotation import at, check_type, fields_of, plain, promised_fields, resolving, shown, takes_text
from saga.language.codec import allows_none
from saga.language.fit import Fit, fit
from saga.language.signature import Parameter, Signature
from saga.language.source import INPUT, OWN_RESULT, RESERVED, Source, Value, Wire
from saga.language.visibility import Found, Ground, Here

_TRANSACTIONAL_ONLY = ("connection", "session")
_KEYS = ("idempotency_key", "action_key")
_WORDS = frozenset(RESERVED) - {"input"}
_TEXTS = ("error", *_KEYS)


class Role(Enum):
    """What takes the arguments."""

    ACTION = "action"
    COMPENSATION = "compensation"
    CONFIRMATION = "confirmation"
    CHECK = "check"
    OTHER = "other"
    """The function of a ``Choice``, or the input of a child."""


_PHASES = (Role.ACTION, Role.COMPENSATION, Role.CONFIRMATION, Role.CHECK)
_AFTERWARDS = (Role.COMPENSATION, Role.CONFIRMATION)


@dataclass(frozen=True, slots=True)
class Scope:
    """What takes arguments, or follows paths, at one place of a saga.

    Attributes:
        place: the saga and the step or construct, in words, for errors.
        own: the type of the step's own result, for what comes after its action.
        transactional: it runs in the log's transaction.
    """

    place: str
    ground: Ground
    here: Here
    role: Role = Role.ACTION
    own: Any = Any
    transactional: bool = False

    def wire(self, signature: Signature, bind: Mapping[str, str | Value]) -> tuple[Wire, ...]:
        """Find the source of every parameter.

        Raises:
            DefinitionError: a parameter has none, or ``bind`` does not fit the task.
        """
        for name in bind:
            if name not in signature.names():
                hint = _hint(name, signature.names())
                raise DefinitionError(
                    f"{self.place}: bind names {name!r}, but {signature.owner} has no such parameter{hint}"
                )
        return tuple(wire for parameter in signature.parameters if (wire := self._wire_one(parameter, bind)))

    def follow(self, option: str, path: Any) -> Wire:
        """Find where a path leads: what a parameter could name, and then fields. The annotation of the wire is the type there.

        Args:
            option: the option with which it was given.

        Raises:
            DefinitionError: it leads nowhere, or to what may be missing.
        """
        said = f"{option}={brief(path)}"
        head, fields = self._parts(said, path, "'input.field', 'step' or 'step.field'")
        found = None if head in _WORDS else self._found(said, head, fields)
        if found is None:
            raise DefinitionError(
                f"{self.place}: {said} names nothing that is there by then{self._why_not(head)}"
                f"{_hint(head, self._candidates())}; an input field is written 'input.{head}'"
            )
        if found.missing:
            raise DefinitionError(
                f"{self.place}: {said} names a result that may be missing: {found.missing}; move this to where it is "
                f"certainly there, or ask a function or a step whose parameter {head!r} takes None"
            )
        return Wire(option, found.source, at(found.type, _rest(found.source)), declared=found.type)

    # what a name stands for

    def _wire_one(self, parameter: Parameter, bind: Mapping[str, str | Value]) -> Wire | None:
        if parameter.name in bind:
            found: Found | None = self._bound(parameter.name, bind[parameter.name])
        else:
            found = self._named(parameter)
        if found is None:
            return None
        if found.missing and not parameter.optional and not allows_none(parameter.annotation):
            raise DefinitionError(
                f"{self.place}: parameter {parameter.name!r} names a result that may be missing: {found.missing}; "
                f"let it take None, or give it a default"
            )
        annotation = parameter.annotation
        if annotation is Any and found.source == OWN_RESULT:
            annotation = self.own
        wire = Wire(parameter.name, found.source, annotation, parameter.optional, found.type, bool(found.missing))
        self._check_type(wire)
        self._check_fit(wire)
        return wire

    def _named(self, parameter: Parameter) -> Found | None:
        name = parameter.name
        found = self._reserved(name, parameter.optional) if name in RESERVED else self.here.find(self.ground, name)
        if found is not None or parameter.optional:
            return found
        if name in self.ground.hidden:
            raise DefinitionError(f"{self.place}: parameter {name!r} cannot be provided{self._why_not(name)}")
        if name in self.ground.names:
            raise DefinitionError(
                f"{self.place}: parameter {name!r} names a {self.ground.names[name]} that is not over by then "
                f"(it comes later, or in another branch); move one of the two, or give the parameter a default"
            )
        raise DefinitionError(
            f"{self.place}: nothing provides parameter {name!r}{_hint(name, self._candidates())}; "
            f"name an input field or an earlier step, give it a default, or set it with bind={{{name!r}: ...}}"
        )

    def _why_not(self, name: str) -> str:
        why = self.ground.hidden.get(name)
        return f": {why}" if why else ""

    def _reserved(self, name: str, optional: bool) -> Found | None:
        if name == "error" and self.here.caught is not None and self.role not in _AFTERWARDS:
            return Found(Source("caught", self.here.caught), str)
        wrong = None
        if name == "error" and self.role is not Role.COMPENSATION:
            wrong = f"{name!r} is for compensations only, and for what stands in the otherwise= of a Try"
        elif name == "result" and self.role not in _AFTERWARDS:
            wrong = f"{name!r} is for compensations only, and for confirm="
        elif name in _KEYS and self.role not in _PHASES:
            wrong = f"{name!r} is for the tasks of steps only"
        elif name in _TRANSACTIONAL_ONLY and not self.transactional:
            wrong = f"{name!r} is for steps with transactional=True only"
        if wrong is None:
            kind = {"input": self.ground.input or Any, "result": self.own}.get(name, Any)
            return Found(Source("reserved", name), kind)
        if optional:
            return None
        raise DefinitionError(f"{self.place}: parameter {name!r} cannot be provided: {wrong}")

    def _bound(self, parameter: str, target: str | Value) -> Found:
        if isinstance(target, Value):
            return Found(Source("constant", value=target.value), Any)
        said = f"bind={{{parameter!r}: {brief(target)}}}"
        if not isinstance(target, str):
            raise DefinitionError(
                f"{self.place}: {said} expected 'input.field', 'step', 'step.field' or "
                f"Value(constant); for a constant write Value({brief(target)})"
            )
        head, path = self._parts(said, target, "'input.field', 'step' or 'step.field'")
        found = self._found(said, head, path)
        if found is None or (found.source.origin == "input" and head != "input"):
            raise DefinitionError(
                f"{self.place}: {said} names no earlier step{self._why_not(head)}{_hint(head, self._candidates())}; "
                f"an input field is written 'input.{head}', a constant Value({brief(target)})"
            )
        return found

    def _parts(self, said: str, target: Any, expected: str) -> tuple[str, list[str]]:
        if not isinstance(target, str):
            raise DefinitionError(f"{self.place}: {said} expected a path: {expected}, such as 'input.email'")
        head, *path = target.split(".")
        if "" in (head, *path):
            raise DefinitionError(f"{self.place}: {said} has an empty part; expected {expected}, such as 'input.email'")
        return head, path

    def _found(self, said: str, head: str, path: list[str]) -> Found | None:
        """Where a head with fields leads."""
        if head == "input":
            return self._in_input(said, path)
        if head in RESERVED:
            return None if path else self._reserved(head, optional=False)
        found = self.here.find(self.ground, head)
        if found is None or not path:
            return found
        self._check_path(said, at(found.type, found.source.path[1:]), path)
        missing = found.missing
        if self.ground.names.get(head) == "SubSaga" and path[0] not in promised_fields(found.type):
            missing = missing or f"SubSaga {head!r} may end without a result {path[0]!r}"
        return Found(replace(found.source, path=(*found.source.path, *path)), found.type, missing)

    def _in_input(self, said: str, path: list[str]) -> Found:
        ground = self.ground
        if not path:
            return Found(INPUT, ground.input or Any)
        if ground.fields is not None:
            if path[0] not in ground.fields:
                raise DefinitionError(
                    f"{self.place}: {said}: the input has no field {path[0]!r}{_hint(path[0], ground.fields)}"
                )
            self._check_path(said, ground.fields[path[0]], path[1:])
        return Found(Source("input", path=tuple(path)), (ground.fields or {}).get(path[0], Any))

    # the checks

    def _check_path(self, said: str, annotation: Any, path: list[str]) -> None:
        for name in path:
            with resolving(f"{self.place}: {said}: an annotation of {annotation!r}"):
                fields = fields_of(plain(annotation))
            if fields is None:
                return
            if name not in fields:
                raise DefinitionError(
                    f"{self.place}: {said}: {shown(plain(annotation))} has no field {name!r}{_hint(name, fields)}"
                )
            annotation = fields[name]

    def _check_type(self, wire: Wire) -> None:
        name = wire.source.name
        if wire.source.origin == "reserved" and name in _TRANSACTIONAL_ONLY:
            return
        word = "error" if wire.source.origin == "caught" else name if wire.source.origin == "reserved" else ""
        if word in _TEXTS and not takes_text(wire.annotation):
            raise DefinitionError(f"{self.place}: parameter {wire.parameter!r}: `{word}` is a text: annotate it str")
        check_type(f"{self.place}: parameter {wire.parameter!r}", wire.annotation)

    def _check_fit(self, wire: Wire) -> None:
        """Whether what comes from a step or the input can be what the parameter takes."""
        found = self._provided(wire)
        if found is None or wire.annotation is Any:
            return
        what, given, path = found
        how = fit(given, path, wire.annotation)
        if how is Fit.ALWAYS:
            return
        place = f"{self.place}: parameter {wire.parameter!r} takes {shown(wire.annotation)}"
        what += f" is {shown(at(given, path))}"
        remedy = f"give both the same annotation, or take another value with bind={{{wire.parameter!r}: ...}}"
        if how is Fit.NEVER:
            raise DefinitionError(f"{place}, but {what}, which never fits; {remedy}")
        self.ground.warnings.append(DoubtfulType(f"{place}, and {what}, which may not fit", remedy))

    def _provided(self, wire: Wire) -> tuple[str, Any, tuple[str, ...]] | None:
        """Where a value comes from, in words; the type that holds it; and its place in that type."""
        source = wire.source
        if source.origin == "step":
            return f"the result {'.'.join((source.name, *source.path))!r}", wire.declared, source.path
        if source == OWN_RESULT:
            return "the result of its action", self.own, ()
        if source.origin == "item":
            words = ".".join(("the element", *source.path))
            return f"{words} of ForEach {source.name!r}", wire.declared, source.path
        if source.origin == "index":
            return f"the index in ForEach {source.name!r}", int, ()
        if self.ground.fields is None:
            return None
        if source == INPUT:
            return "the input", self.ground.input, ()
        if source.origin == "input":
            return f"the input's {'.'.join(source.path)!r}", self.ground.input, source.path
        return None

    def _candidates(self) -> list[str]:
        return [*self.here.candidates(self.ground), *RESERVED]


def _rest(source: Source) -> tuple[str, ...]:
    """The fields below what a source was declared as."""
    return source.path[1:] if source.origin == "input" else source.path


def _hint(name: str, candidates: Iterable[str]) -> str:
    return did_you_mean(name, candidates, likeness=0.5)


__all__ = ["RESERVED", "Role", "Scope", "Source", "Value", "Wire", "fields_of"]
