"""Evidence: what a check says of an attempt whose outcome nobody knows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from saga.errors import ResultError, brief
from saga.language.codec import result_json


@dataclass(frozen=True, slots=True)
class Happened:
    """The attempt had its effect: the step has succeeded.

    Attributes:
        result: what the action would have returned.
    """

    result: Any = None


@dataclass(frozen=True, slots=True)
class DidNotHappen:
    """The attempt had no effect, and can have none any more. A check that is not sure of the second raises ``NotYet``."""


def read_evidence(answer: object, returns: Any, limit: int) -> Happened | DidNotHappen:
    """What a check returned, with its result as JSON.

    Args:
        returns: what the action declares that it returns.
        limit: the largest result, in bytes of JSON.

    Raises:
        ResultError: it is neither, or the result cannot be stored, or not be read as that type.
    """
    if isinstance(answer, Happened):
        return Happened(result_json(answer.result, returns, limit))
    if isinstance(answer, DidNotHappen):
        return answer
    hint = "; write DidNotHappen()" if answer is DidNotHappen else ""
    raise ResultError(f"a check returns Happened(result) or DidNotHappen(), but it returned {brief(answer)}{hint}")
