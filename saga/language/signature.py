"""Signature: the parameters of a task or a function, which are bound by name, and what it returns."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from celery import canvas
from celery.app.task import Task

from saga.errors import DefinitionError, brief
from saga.language.annotation import check_type, resolving


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter as the signature has it.

    Attributes:
        optional: it has a default.
    """

    name: str
    annotation: Any
    optional: bool


@dataclass(frozen=True, slots=True)
class Signature:
    """The parameters and the type of the result.

    Attributes:
        owner: what has them, in words.
    """

    parameters: tuple[Parameter, ...]
    returns: Any
    owner: str = "the task"

    def names(self) -> tuple[str, ...]:
        """The names of the parameters."""
        return tuple(parameter.name for parameter in self.parameters)


def task_of(place: str, role: str, task: Any, *, stored: bool = True) -> Signature:
    """Read the signature of what was given as a task.

    Args:
        role: the option with which it was given.
        stored: its result is stored as the type that it declares.

    Raises:
        DefinitionError: it is no Celery task, or its signature cannot be used.
    """
    if isinstance(task, canvas.Signature):
        raise DefinitionError(
            f"{place}: {role}={brief(task)} is a signature, not a Celery task; give the task itself, without .s()"
        )
    if not isinstance(task, Task):
        what = getattr(task, "__qualname__", brief(task))
        raise DefinitionError(
            f"{place}: {role}={what} is not a Celery task; decorate it with @app.task or @shared_task"
        )
    return signature_of(place, task.name, task.run, advice=", which Celery does not run", stored=stored)


def signature_of(
    place: str, name: str, run: Callable[..., Any], *, advice: str = "", owner: str = "the task", stored: bool = True
) -> Signature:
    """Read the signature of a task's function, or of any other.

    Raises:
        DefinitionError: its arguments cannot be bound by name, or an annotation cannot be resolved.
    """
    plain = inspect.unwrap(run)
    if inspect.iscoroutinefunction(plain) or inspect.isasyncgenfunction(plain):
        raise DefinitionError(f"{place}: {name} is an async def{advice}; make it a plain def")
    hints = _hints(f"{place}: an annotation of {name}", plain)
    parameters = []
    for each, parameter in inspect.signature(run).parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.POSITIONAL_ONLY):
            kind = (
                f"*{each}" if parameter.kind is parameter.VAR_POSITIONAL else f"the positional-only parameter {each!r}"
            )
            raise DefinitionError(
                f"{place}: {name} takes {kind}, but arguments are bound by name; give it a plain name"
            )
        if parameter.kind is not parameter.VAR_KEYWORD:
            parameters.append(Parameter(each, hints.get(each, Any), parameter.default is not parameter.empty))
    returns = hints.get("return", Any)
    if stored:
        check_type(f"{place}: the result of {name}", returns)
    return Signature(tuple(parameters), returns, owner)


def _hints(what: str, function: Callable[..., Any]) -> dict[str, Any]:
    try:
        with resolving(what):
            return typing.get_type_hints(function, include_extras=True)
    except TypeError:
        return {}
