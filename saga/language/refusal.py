"""Refusal: which exceptions of a task mean that definitely nothing happened. The step says so, not the task."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from celery.utils.serialization import UnpickleableExceptionWrapper

from saga.errors import DefinitionError, brief
from saga.telemetry.facts.attempts import RefusalFailed
from saga.telemetry.stream import emit

AbortOn = type[Exception] | tuple[type[Exception], ...] | Callable[[Exception], Any]
"""What ``abort_on`` takes: an exception class, several, or a predicate of one exception."""

_EXPECTED = (
    "an exception class, a tuple of them, or a function of one exception, such as abort_on=(InsufficientFunds,) "
    "or abort_on=lambda error: error.code == 'declined'"
)


@dataclass(frozen=True, slots=True)
class Refusal:
    """What tells a refusal from a failure whose effect is not known.

    Attributes:
        place: the saga and the step, in words, for the log.
        classes: exceptions that are refusals.
        predicate: a function that is asked about every other exception.
    """

    place: str
    classes: tuple[type[Exception], ...] = ()
    predicate: Callable[[Exception], Any] | None = None

    def __contains__(self, error: object) -> bool:
        if isinstance(error, self.classes):
            return True
        return self.predicate is not None and isinstance(error, Exception) and self._asked(self.predicate, error)

    def _asked(self, predicate: Callable[[Exception], Any], error: Exception) -> bool:
        """What the predicate says. If it fails, it has not said that nothing happened."""
        try:
            return bool(predicate(error))
        except Exception as failure:
            emit(RefusalFailed(self.place, type(error).__name__, failure))
            return False


class Question:
    """A refusal in one attempt. It is asked about an error once, and its answer is kept."""

    def __init__(self, refusal: Refusal) -> None:
        self._refusal = refusal
        self._error: object = None
        self._answer = False

    def __contains__(self, error: object) -> bool:
        if error is not self._error:
            self._error, self._answer = error, error in self._refusal
        return self._answer


_question: ContextVar[Question | None] = ContextVar("saga_refusal", default=None)


@contextmanager
def asking(refusal: Refusal | None) -> Iterator[Question | None]:
    """Let ``Refused`` follow a refusal during an attempt."""
    question = None if refusal is None else Question(refusal)
    token = _question.set(question)
    try:
        yield question
    finally:
        _question.reset(token)


class _WhatIsRefused(type):
    def __instancecheck__(cls, error: object) -> bool:
        question = _question.get()
        return question is not None and _raised(error) in question


def _raised(error: object) -> object:
    """What was raised. If an exception cannot be pickled, Celery shows a copy of a base class while it handles the original."""
    handled = sys.exc_info()[1]
    is_copy = isinstance(error, UnpickleableExceptionWrapper) or isinstance(handled, type(error))
    return handled if handled is not None and is_copy else error


class Refused(Exception, metaclass=_WhatIsRefused):
    """Stands in a task's ``throws`` for the exceptions that the present step's ``abort_on`` names: Celery's log treats them as
    expected, and tools that watch it for errors do not report them.
    """


def refusal_of(place: str, given: Any, *, option: str = "abort_on", anything: bool = False) -> Refusal | None:
    """The refusal that a step's ``abort_on``, or its task's ``throws``, gives; ``None`` if there is nothing.

    Args:
        anything: ``Exception`` itself may be given.

    Raises:
        DefinitionError: it is neither exceptions nor a function, or every failure would be a refusal.
    """
    if isinstance(given, (tuple, type)):
        classes = given if isinstance(given, tuple) else (given,)
        classes = tuple(each for each in classes if each is not Refused)
        _check_classes(place, option, given, classes, anything)
        return Refusal(place, classes) if classes else None
    if not callable(given):
        raise DefinitionError(f"{place}: {option}={brief(given)} expected {_EXPECTED}")
    if inspect.iscoroutinefunction(given):
        raise DefinitionError(f"{place}: {option}={given.__qualname__} is an async def, which is true of everything")
    return Refusal(place, predicate=given)


def _check_classes(place: str, option: str, given: Any, classes: tuple[Any, ...], anything: bool) -> None:
    for each in classes:
        if not (isinstance(each, type) and issubclass(each, BaseException)):
            raise DefinitionError(f"{place}: {option}={brief(given)} expected {_EXPECTED}")
        if not issubclass(each, Exception) or (each is Exception and not anything):
            raise DefinitionError(
                f"{place}: {option} has {each.__name__}, which says of every failure, also of a bug or a lost connection, "
                f"that nothing happened; name the exceptions that mean it"
            )


__all__ = ["AbortOn", "Question", "Refusal", "Refused", "asking", "refusal_of"]
