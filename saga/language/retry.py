"""Retry: a step's retry policy, made of tenacity's own strategies.

tenacity decides, the log remembers: a policy is asked once per failed attempt, and its answer is written down.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from inspect import signature
from types import FunctionType, MethodType
from typing import Any

from tenacity import (
    Future,
    RetryCallState,
    Retrying,
    retry_if_exception,
    retry_if_exception_type,
    stop_after_attempt,
    stop_after_delay,
    stop_never,
    wait_exponential_jitter,
    wait_none,
)
from tenacity.retry import RetryBaseT, retry_base
from tenacity.stop import StopBaseT, stop_base
from tenacity.wait import WaitBaseT, wait_base

from saga.errors import DefinitionError, StepTimeout, WorkerLost, brief

LONGEST = timedelta(days=3650)
"""The longest wait, timeout and deadline: Postgres or Python may not know a time further away."""

_MULTIPLIER = "multiplier" if "multiplier" in signature(wait_exponential_jitter).parameters else "initial"
"""tenacity's name for the first wait: ``initial`` before 9.2; later versions warn of that name."""

_QUICK = wait_exponential_jitter(**{_MULTIPLIER: 0.2}, max=60, jitter=0.2)
_SLOW = wait_exponential_jitter(**{_MULTIPLIER: 1}, max=600, jitter=1)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Retry:
    """When a failed attempt is made again. It is a value: equal to another with the same strategies.

    Attributes:
        stop: a tenacity ``stop_*`` strategy; compose with ``|`` and ``&``.
        wait: a tenacity ``wait_*`` strategy, in seconds; compose with ``+``.
        retry: a tenacity ``retry_if_*`` strategy; an exception it refuses ends the step at once. A lost worker and a
            timeout are always worth another attempt while ``stop`` allows one.
    """

    stop: StopBaseT = field(default_factory=lambda: stop_after_attempt(3))
    wait: WaitBaseT = field(default_factory=lambda: _QUICK)
    retry: RetryBaseT = field(default_factory=retry_if_exception_type)

    def __post_init__(self) -> None:
        for name in ("stop", "wait", "retry"):
            if not callable(getattr(self, name)):
                raise DefinitionError(
                    f"Retry({name}=...) expected a tenacity strategy, got {brief(getattr(self, name))}; "
                    f"for example stop=stop_after_attempt(5), wait=wait_exponential(max=30)"
                )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Retry) and _shape(self) == _shape(other)

    def __hash__(self) -> int:
        return hash((type(self.stop), type(self.wait), type(self.retry)))

    @classmethod
    def none(cls) -> Retry:
        """One attempt only."""
        return cls(stop=stop_after_attempt(1), wait=wait_none())

    @classmethod
    def persistent(cls) -> Retry:
        """For 24 hours, with exponential waits from 1 s to 10 min."""
        return cls(stop=stop_after_delay(timedelta(hours=24)), wait=_SLOW)

    @classmethod
    def forever(cls) -> Retry:
        """Without end, with exponential waits from 1 s to 10 min."""
        return cls(stop=stop_never, wait=_SLOW)

    def next_wait(self, error: BaseException, attempt: int, elapsed: float) -> float | None:
        """How long to wait before the next attempt, in seconds (ten years at most), or ``None`` for no further attempt.

        Args:
            error: what ended the attempt.
            attempt: its number within the present budget, from 1.
            elapsed: seconds since the first attempt of that budget started.
        """
        state = _call_state(error, attempt, elapsed)
        lost = isinstance(error, (WorkerLost, StepTimeout))
        if not lost and not self.retry(state):
            return None
        wait = min(max(0.0, float(self.wait(state))), LONGEST.total_seconds())
        state.upcoming_sleep = wait
        if self.stop(state):
            return None
        return wait


def _shape(value: Any, within: tuple[int, ...] = ()) -> Any:
    """What a strategy is made of, to compare it by; tenacity's own compare by identity."""
    if id(value) in within:
        return None
    within = (*within, id(value))
    if isinstance(value, Retry):
        return [_shape(part, within) for part in (value.stop, value.wait, value.retry)]
    if isinstance(value, MethodType):
        return value.__func__, _shape(value.__self__, within)
    if isinstance(value, FunctionType):
        cells = [cell.cell_contents for cell in value.__closure__ or ()]
        return value.__code__, [_shape(part, within) for part in (*cells, *(value.__defaults__ or ()))]
    if isinstance(value, (list, tuple)):
        return [_shape(part, within) for part in value]
    if isinstance(value, (retry_base, stop_base, wait_base)):
        return type(value), {name: _shape(part, within) for name, part in vars(value).items()}
    return value


_NEVER = Retrying(retry=retry_if_exception(lambda _: False))


def _call_state(error: BaseException, attempt: int, elapsed: float) -> RetryCallState:
    state = RetryCallState(_NEVER, None, (), {})
    state.attempt_number = attempt
    state.start_time = 0.0
    state.outcome = Future.construct(attempt, error, has_exception=True)
    state.outcome_timestamp = elapsed
    return state
