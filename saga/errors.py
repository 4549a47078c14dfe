"""What pgsaga raises, the exception that a step raises on purpose, and what the log keeps of a failure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from difflib import get_close_matches
from functools import partial
from typing import Any, Protocol


class Failed(Protocol):
    """What is known of a step that has failed."""

    @property
    def error(self) -> str | None: ...
    @property
    def error_type(self) -> str | None: ...
    @property
    def code(self) -> Any: ...
    @property
    def details(self) -> Any: ...


@dataclass(frozen=True, slots=True)
class Cause:
    """A failure as the log has it, for programs to use.

    Attributes:
        type: the exception's class, such as ``"Abort"`` or ``"ValueError"``; ``None`` in logs that do not have it.
        text: what the exception said.
        code: what ``Abort`` was given, as JSON; likewise ``details``.
        step: the step that failed.
        undo: not the step's action failed, but its undo.
    """

    type: str | None
    text: str
    code: Any = None
    details: Any = None
    step: str = ""
    undo: bool = False

    @classmethod
    def of(cls, step: str, undo: bool, track: Failed) -> Cause:
        """The cause that a failed step gives."""
        text = track.error or ""
        if track.error_type is not None and text.startswith(track.error_type):
            rest = text.removeprefix(track.error_type)
            text = rest.removeprefix(": ") if not rest or rest.startswith(": ") else text
        return cls(track.error_type, text, track.code, track.details, step, undo)

    def __str__(self) -> str:
        said = ": ".join(part for part in (self.type, self.text) if part)
        return f"{'undo of ' if self.undo else ''}{self.step}: {said}"


class SagaError(Exception):
    """Base of every error pgsaga raises itself."""


class DefinitionError(SagaError):
    """A saga's definition is wrong: the text names the saga, the step and the remedy."""


class DefinitionWarning(UserWarning):
    """A saga's definition may not do what is wanted.

    Attributes:
        what: what was found, naming the saga and the step.
        remedy: what to do about it.
    """

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(what, remedy)
        self.what = what
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.what}; {self.remedy}"


class CarelessStep(DefinitionWarning):
    """A step cannot tell a repeated attempt from the first, or an undo cannot tell what there is to undo."""


class DoubtfulType(DefinitionWarning):
    """What one step returns may not fit what another takes."""


class InputError(SagaError):
    """The input given to ``start`` does not fit the saga, or cannot be stored as JSON."""


class UnknownSaga(SagaError):
    """No saga of that name is registered with this orchestrator."""


class SagaNotFound(SagaError):
    """The log holds no saga with that id."""


class KeyConflict(SagaError):
    """The key already belongs to a saga that was started with another input."""


class KeyBusy(SagaError):
    """Another transaction, still open, is starting a saga under the same key."""


class NotAllowed(SagaError):
    """The saga's status, which the text names, does not allow that action."""


class DatabaseNotReady(SagaError):
    """The saga log cannot be used: it is not reachable, not upgraded, not configured, or this role lacks a right.

    Attributes:
        refused: nothing was done. Otherwise it may have been done, and the answer was lost.
    """

    refused = False


class CorruptLog(SagaError):
    """A stored log entry is damaged or of an unknown kind or format; the text names saga and seq."""


class SagaCompensated(SagaError):
    """The saga was rolled back: everything that had been done is undone.

    Attributes:
        saga_id: the saga's id.
        reason: why it was rolled back, in the words of the step or the operator.
        cause: the failure it was rolled back for; ``None`` if no step failed: an operator or its deadline asked for it.
    """

    def __init__(self, saga_id: object, reason: str | None, cause: Cause | None = None) -> None:
        super().__init__(f"saga {saga_id} was compensated: {reason or 'no reason recorded'}")
        self.saga_id = saga_id
        self.reason = reason
        self.cause = cause

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.saga_id, self.reason, self.cause)


class SagaStuck(SagaError):
    """The saga cannot go on without an operator; it is not finished.

    Attributes:
        saga_id: the saga's id.
        reason: what it is stuck on.
        cause: the failure it is stuck on; the first if there are several.
    """

    def __init__(self, saga_id: object, reason: str | None, cause: Cause | None = None) -> None:
        remedies = (
            "`saga retry`, `saga skip` or `saga cancel`"
            if any(words in (reason or "") for words in ("in doubt: ", "forward or back: "))
            else ("`saga retry` or `saga skip`")
        )
        super().__init__(
            f"saga {saga_id} is stuck: {reason or 'no reason recorded'}; see `saga show {saga_id}`, then {remedies}"
        )
        self.saga_id = saga_id
        self.reason = reason
        self.cause = cause

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.saga_id, self.reason, self.cause)


class SagaAbandoned(SagaError):
    """An operator ended the saga without undoing more: it is neither completed nor compensated, and never will be.

    Attributes:
        saga_id: the saga's id.
        reason: who abandoned it and why, and why it was not going on.
        cause: the failure it was stuck on or was rolled back for, if there was one.
        undos_owed: the steps that had an effect, or may have had one, and were not undone.
    """

    def __init__(
        self, saga_id: object, reason: str | None, cause: Cause | None = None, undos_owed: tuple[str, ...] = ()
    ) -> None:
        left = f"; not undone: {', '.join(undos_owed)}" if undos_owed else ""
        super().__init__(f"saga {saga_id} was {reason or 'abandoned'}{left}")
        self.saga_id = saga_id
        self.reason = reason
        self.cause = cause
        self.undos_owed = undos_owed

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.saga_id, self.reason, self.cause, self.undos_owed)


class AbandonedStep(SagaError):
    """An action came to a ``barrier`` after its own undo: the saga has given it up, and it has no effect there."""


class BarrierError(SagaError):
    """A ``barrier`` cannot do its work here: the text says what it lacks."""


class ResultError(SagaError):
    """A step's result cannot be stored, though its effect exists."""


class WorkerLost(SagaError):
    """The worker process died while it ran the attempt; retry policies see this as its exception."""


class StepTimeout(SagaError):
    """The attempt was not over at its deadline; retry policies see this as its exception."""


class Abort(Exception):
    """Raised by a step to refuse: *definitely* nothing happened, and trying again is no use.

    The saga rolls back without undoing this step. Do not raise it after a side effect.

    Args:
        code: a value for programs, such as the code of the provider that refused. The log keeps it as JSON, and it is in
            the ``cause`` of ``SagaCompensated``; the details are, too.
        details: more about it. If it has no JSON form, or more than 10,000 bytes of JSON, it is kept as text, cut short.
    """

    code: Any = None
    details: Any = None

    def __init__(self, *words: object, code: Any = None, details: Any = None) -> None:
        super().__init__(*words)
        if code is not None:
            self.code = code
        if details is not None:
            self.details = details


class NotYet(Exception):
    """Raised by a task that is not done and has not failed: a certificate that is not issued yet, a bank that settles tomorrow.

    The task is asked again after that time, with the same key. That costs no attempt, and no time of its ``Retry``.

    Args:
        after: when to ask again, counted from now.
    """

    def __init__(self, *words: object, after: timedelta) -> None:
        if not isinstance(after, timedelta) or after < timedelta(0):
            raise TypeError(
                f"NotYet(after={brief(after)}) expected a timedelta from now on, such as timedelta(minutes=5)"
            )
        super().__init__(*words)
        self.after = after

    def __str__(self) -> str:
        return super().__str__() or f"not yet; to be asked again after {self.after}"

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(type(self), after=self.after), self.args


def first_line(error: BaseException) -> str:
    """The first line of an error's text."""
    return str(error).strip().split("\n")[0]


def closest(word: str, known: Iterable[str], likeness: float = 0.6) -> str | None:
    """The name that may have been meant, if one is similar. At a likeness of 0 every name is similar, at 1 only the same one."""
    return next(iter(get_close_matches(word, list(known), n=1, cutoff=likeness)), None)


def did_you_mean(word: str, known: Iterable[str], likeness: float = 0.6) -> str:
    """A hint at the name that may have been meant, for the end of a sentence; empty if no name is similar."""
    close = closest(word, known, likeness)
    return f"; did you mean {close!r}?" if close else ""


def cut(text: str, limit: int) -> str:
    """A text, cut if it is longer than that."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def counted(number: int, one: str, many: str | None = None) -> str:
    """How many there are of something: ``1 lane``, ``2 lanes``."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def brief(value: object, limit: int = 100) -> str:
    """How a value looks, for the text of an error: one line, cut if it is long, even if its ``__repr__`` fails."""
    try:
        text = " ".join(repr(value).split())
    except Exception as error:
        text = f"<{type(value).__name__} whose repr raises {type(error).__name__}>"
    return cut(text, limit)
