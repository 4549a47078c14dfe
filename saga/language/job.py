"""Job: what is run for a step or a decision, with all that its definition says of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from saga.language.refusal import Refusal
from saga.language.retry import Retry
from saga.language.source import Wire


@dataclass(frozen=True, slots=True)
class Job:
    """One task of a step, or the function of a ``Choice``, ready to be run.

    Attributes:
        task: the task's name; of a function its module and its qualified name.
        wires: where its arguments come from.
        returns: the type of its result; of a check, that of the result that it tells.
        timeout: seconds, of one attempt.
        refusal: the exceptions that mean that nothing happened.
        kind: what it is.
        function: the function, if it is one.
        within: seconds that all attempts may take together.
        checked: its step has a check, which is asked where the outcome is not known.
    """

    task: str
    wires: tuple[Wire, ...]
    returns: Any
    retry: Retry
    timeout: float
    queue: str | None
    priority: int | None
    transactional: bool
    refusal: Refusal | None = None
    kind: Literal["task", "function"] = "task"
    function: Callable[..., Any] | None = None
    within: float | None = None
    checked: bool = False
