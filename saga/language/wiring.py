"""Wiring: where each parameter of a task gets its value from, settled when the saga is built.

Arguments are bound by name, as pytest binds fixtures: a parameter names an input field, an earlier step or a reserved word.
"""

from __future__ import annotations

import dataclasses
import inspect
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from celery.app.task import Task
from pydantic import BaseModel
from pydantic.errors import PydanticUserError
from typing_extensions import is_typeddict

from saga.errors import DefinitionError, DefinitionWarning, DoubtfulType, brief, did_you_mean
from saga.language.codec import adapter, typed_dict_fields
from saga.language.fit import Fit, fit

RESERVED = ("input", "idempotency_key", "action_key", "error", "result", "connection", "session")
"""Names that mean the same in every saga."""
_COMPENSATION_ONLY = ("error", "result")
_TRANSACTIONAL_ONLY = ("connection", "session")
_TEXTS = ("error", "idempotency_key", "action_key")


@dataclass(frozen=True, slots=True)
class Value:
    """A constant for a parameter, in ``bind``: ``bind={"kind": Value("sold")}``."""

    value: Any


@dataclass(frozen=True, slots=True)
class Source:
    """Where a value comes from.

    Attributes:
        origin: ``input``, ``step``, ``constant`` or ``reserved``.
        name: the step's name or the reserved word.
        path: what to take out of it, field by field.
        value: the constant.
    """

    origin: str
    name: str = ""
    path: tuple[str, ...] = ()
    value: Any = None


INPUT = Source("reserved", "input")
_OWN_RESULT = Source("reserved", "result")


@dataclass(frozen=True, slots=True)
class Wire:
    """One parameter and its source.

    Attributes:
        annotation: the type it wants; ``Any`` if it says none.
        optional: it has a default, and the source may be absent.
    """

    parameter: str
    source: Source
    annotation: Any = Any
    optional: bool = False


@dataclass(frozen=True, slots=True)
class Parameter:
    """A task's parameter as its signature has it."""

    name: str
    annotation: Any
    optional: bool


@dataclass(frozen=True, slots=True)
class Signature:
    """A task's parameters and the type it returns."""

    parameters: tuple[Parameter, ...]
    returns: Any

    def names(self) -> tuple[str, ...]:
        """The names of the parameters."""
        return tuple(parameter.name for parameter in self.parameters)


@dataclass(frozen=True, slots=True)
class Scope:
    """What can be named at one place of a saga.

    Attributes:
        place: the saga and the step, in words, for errors.
        fields: the input's fields and their types; ``None`` if the input has no type.
        steps: the steps whose results are there, and the types they return.
        names: every step of the saga.
        own: the step itself, whose result its compensation gets.
        compensating: it is a compensation.
        transactional: the step runs in the log's transaction.
        input: the type of the input.
        warnings: the list for what may be a mistake.
    """

    place: str
    fields: Mapping[str, Any] | None
    steps: Mapping[str, Any]
    names: frozenset[str] = frozenset()
    own: str | None = None
    compensating: bool = False
    transactional: bool = False
    input: Any = Any
    warnings: list[DefinitionWarning] = field(default_factory=list)

    def wire(self, signature: Signature, bind: Mapping[str, str | Value]) -> tuple[Wire, ...]:
        """Find the source of every parameter.

        Raises:
            DefinitionError: a parameter has none, or ``bind`` does not fit the task.
        """
        for name in bind:
            if name not in signature.names():
                hint = _hint(name, signature.names())
                raise DefinitionError(f"{self.place}: bind names {name!r}, but the task has no such parameter{hint}")
        return tuple(wire for parameter in signature.parameters if (wire := self._wire_one(parameter, bind)))

    def _wire_one(self, parameter: Parameter, bind: Mapping[str, str | Value]) -> Wire | None:
        if parameter.name in bind:
            source: Source | None = self._bound(parameter.name, bind[parameter.name])
        else:
            source = self._named(parameter)
        if source is None:
            return None
        annotation = parameter.annotation
        if annotation is Any and source == _OWN_RESULT:
            annotation = self.steps[self.own or ""]
        wire = Wire(parameter.name, source, annotation, parameter.optional)
        self._check_type(wire)
        self._check_fit(wire)
        return wire

    def _named(self, parameter: Parameter) -> Source | None:
        name = parameter.name
        source = self._reserved(name, parameter.optional) if name in RESERVED else self._lookup(name)
        if source is not None or parameter.optional:
            return source
        if name in self.names:
            raise DefinitionError(
                f"{self.place}: parameter {name!r} names a step that is not over by then "
                f"(it comes later, or in another branch); move one of the two, or give the parameter a default"
            )
        raise DefinitionError(
            f"{self.place}: nothing provides parameter {name!r}{_hint(name, self._candidates())}; "
            f"name an input field or an earlier step, give it a default, or set it with bind={{{name!r}: ...}}"
        )

    def _lookup(self, name: str) -> Source | None:
        if name in self.steps:
            return Source("step", name)
        if self.fields is None:
            return None if name in self.names else Source("input", path=(name,))
        return Source("input", path=(name,)) if name in self.fields else None

    def _reserved(self, name: str, optional: bool) -> Source | None:
        wrong = None
        if name in _COMPENSATION_ONLY and not self.compensating:
            wrong = f"{name!r} is for compensations only"
        elif name in _TRANSACTIONAL_ONLY and not self.transactional:
            wrong = f"{name!r} is for steps with transactional=True only"
        if wrong is None:
            return Source("reserved", name)
        if optional:
            return None
        raise DefinitionError(f"{self.place}: parameter {name!r} cannot be provided: {wrong}")

    def _bound(self, parameter: str, target: str | Value) -> Source:
        if isinstance(target, Value):
            return Source("constant", value=target.value)
        if not isinstance(target, str):
            raise DefinitionError(
                f"{self.place}: bind={{{parameter!r}: {brief(target)}}} expected 'input.field', 'step', 'step.field' or "
                f"Value(constant); for a constant write Value({brief(target)})"
            )
        head, *path = target.split(".")
        if "" in (head, *path):
            raise DefinitionError(
                f"{self.place}: bind={{{parameter!r}: {brief(target)}}} has an empty part; "
                f"expected 'input.field', 'step' or 'step.field', such as 'input.email'"
            )
        if head == "input":
            return self._bound_input(parameter, target, path)
        if head in RESERVED and not path:
            found = self._reserved(head, optional=False)
            assert found is not None
            return found
        if head in self.steps:
            self._check_path(parameter, target, self.steps[head], path)
            return Source("step", head, tuple(path))
        raise DefinitionError(
            f"{self.place}: bind={{{parameter!r}: {brief(target)}}} names no earlier step{_hint(head, self._candidates())}; "
            f"an input field is written 'input.{head}', a constant Value({brief(target)})"
        )

    def _bound_input(self, parameter: str, target: str, path: list[str]) -> Source:
        if not path:
            return Source("reserved", "input")
        if self.fields is not None:
            if path[0] not in self.fields:
                raise DefinitionError(
                    f"{self.place}: bind={{{parameter!r}: {brief(target)}}}: "
                    f"the input has no field {path[0]!r}{_hint(path[0], self.fields)}"
                )
            self._check_path(parameter, target, self.fields[path[0]], path[1:])
        return Source("input", path=tuple(path))

    def _check_path(self, parameter: str, target: str, annotation: Any, path: list[str]) -> None:
        for name in path:
            with resolving(f"{self.place}: bind={{{parameter!r}: {brief(target)}}}: an annotation of {annotation!r}"):
                fields = fields_of(annotation)
            if fields is None:
                return
            if name not in fields:
                raise DefinitionError(
                    f"{self.place}: bind={{{parameter!r}: {brief(target)}}}: "
                    f"{getattr(annotation, '__name__', annotation)} has no field {name!r}{_hint(name, fields)}"
                )
            annotation = fields[name]

    def _check_type(self, wire: Wire) -> None:
        if wire.source.origin == "reserved":
            if wire.source.name in _TRANSACTIONAL_ONLY:
                return
            if wire.source.name in _TEXTS and not _takes_text(wire.annotation):
                raise DefinitionError(
                    f"{self.place}: parameter {wire.parameter!r}: `{wire.source.name}` is a text: annotate it str"
                )
        check_type(f"{self.place}: parameter {wire.parameter!r}", wire.annotation)

    def _check_fit(self, wire: Wire) -> None:
        """Whether what comes from a step or the input can be what the parameter takes."""
        found = self._provided(wire.source)
        if found is None or wire.annotation is Any:
            return
        what, given, path = found
        how = fit(given, path, wire.annotation)
        if how is Fit.ALWAYS:
            return
        place = f"{self.place}: parameter {wire.parameter!r} takes {_shown(wire.annotation)}"
        what += f" is {_shown(_at(given, path))}"
        remedy = f"give both the same annotation, or take another value with bind={{{wire.parameter!r}: ...}}"
        if how is Fit.NEVER:
            raise DefinitionError(f"{place}, but {what}, which never fits; {remedy}")
        self.warnings.append(DoubtfulType(f"{place}, and {what}, which may not fit", remedy))

    def _provided(self, source: Source) -> tuple[str, Any, tuple[str, ...]] | None:
        """Where a value comes from, in words; the type that holds it; and its place in that type."""
        if source.origin == "step":
            words = f"{'.'.join((source.name, *source.path))!r}"
            return f"the result {words}", self.steps[source.name], source.path
        if source == _OWN_RESULT:
            return "the result of its action", self.steps[self.own or ""], ()
        if self.fields is None:
            return None
        if source == INPUT:
            return "the input", self.input, ()
        if source.origin == "input":
            return f"the input's {'.'.join(source.path)!r}", self.input, source.path
        return None

    def _candidates(self) -> list[str]:
        return [*(self.fields or ()), *self.steps, *RESERVED]


def signature_of(place: str, task: Task) -> Signature:
    """Read a task's signature.

    Raises:
        DefinitionError: its arguments cannot be bound by name, or an annotation cannot be resolved.
    """
    run = inspect.unwrap(task.run)
    if inspect.iscoroutinefunction(run) or inspect.isasyncgenfunction(run):
        raise DefinitionError(f"{place}: {task.name} is an async def, which Celery does not run; make it a plain def")
    hints = _hints(place, task)
    parameters = []
    for name, parameter in inspect.signature(task.run).parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.POSITIONAL_ONLY):
            kind = (
                f"*{name}" if parameter.kind is parameter.VAR_POSITIONAL else f"the positional-only parameter {name!r}"
            )
            raise DefinitionError(
                f"{place}: {task.name} takes {kind}, but arguments are bound by name; give it a plain name"
            )
        if parameter.kind is not parameter.VAR_KEYWORD:
            parameters.append(Parameter(name, hints.get(name, Any), parameter.default is not parameter.empty))
    returns = hints.get("return", Any)
    check_type(f"{place}: the result of {task.name}", returns)
    return Signature(tuple(parameters), returns)


def _hints(place: str, task: Task) -> dict[str, Any]:
    try:
        with resolving(f"{place}: an annotation of {task.name}"):
            return typing.get_type_hints(inspect.unwrap(task.run), include_extras=True)
    except TypeError:
        return {}


@contextmanager
def resolving(what: str) -> Iterator[None]:
    """Report an annotation with a name that does not exist, or that is not an expression.

    Raises:
        DefinitionError: it cannot be resolved.
    """
    try:
        yield
    except (NameError, AttributeError, SyntaxError) as error:
        raise DefinitionError(
            f"{what} cannot be resolved ({error}); import that name when the module runs, not only under TYPE_CHECKING"
        ) from None


def check_type(what: str, annotation: Any) -> None:
    """Make sure that values of a type can be stored and read back.

    Raises:
        DefinitionError: pydantic does not know how, or an annotation in that type cannot be resolved.
    """
    if annotation is Any:
        return
    try:
        with resolving(f"{what}: an annotation of its type"):
            adapter(annotation).rebuild()
    except PydanticUserError as error:
        problem = str(error).split("\n", 1)[0]
        raise DefinitionError(f"{what} has a type that cannot be stored as JSON: {problem}") from None


def fields_of(annotation: Any) -> Mapping[str, Any] | None:
    """The fields of a pydantic model, dataclass or typed dictionary, with their types; ``None`` for any other type."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return {name: info.annotation for name, info in annotation.model_fields.items()}
    if dataclasses.is_dataclass(annotation) and isinstance(annotation, type):
        hints = typing.get_type_hints(annotation, include_extras=True)
        return {item.name: hints[item.name] for item in dataclasses.fields(annotation)}
    if is_typeddict(annotation):
        return {name: hint for name, (hint, _) in typed_dict_fields(annotation).items()}
    return None


def promised_fields(annotation: Any) -> frozenset[str]:
    """The fields that every value of such a type has."""
    if is_typeddict(annotation):
        return frozenset(name for name, (_, required) in typed_dict_fields(annotation).items() if required)
    return frozenset(fields_of(annotation) or ())


def _takes_text(annotation: Any) -> bool:
    """Whether a text is a value of the annotated type."""
    annotation = getattr(annotation, "__supertype__", getattr(annotation, "__value__", annotation))
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        return _takes_text(typing.get_args(annotation)[0])
    if origin in (typing.Union, types.UnionType):
        return any(map(_takes_text, typing.get_args(annotation)))
    return annotation in (Any, str, object)


def _at(annotation: Any, path: Sequence[str]) -> Any:
    """The type of a field of a field."""
    for name in path:
        annotation = (fields_of(annotation) or {}).get(name, Any)
    return annotation


def _shown(annotation: Any) -> str:
    """A type as its definition has it."""
    return annotation.__name__ if isinstance(annotation, type) and not typing.get_args(annotation) else str(annotation)


def _hint(name: str, candidates: typing.Iterable[str]) -> str:
    return did_you_mean(name, candidates, likeness=0.5)
