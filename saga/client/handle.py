"""Handle: one saga: to read, to wait for, and to act on as an operator."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import ValidationError

from saga.client.waiter import Waiter
from saga.core.events import (
    Abandoned,
    CancelRequested,
    CompensateRequested,
    Entry,
    Paused,
    Request,
    Resumed,
    RetryRequested,
    StepSkipped,
)
from saga.core.state import State, Status, StepState
from saga.core.text import Unencodable, clean_text, dumps
from saga.engine.draft import Instance
from saga.engine.engine import Engine
from saga.errors import InputError, NotAllowed, SagaAbandoned, SagaCompensated, SagaNotFound, SagaStuck, brief
from saga.language.binding import BindingError
from saga.language.codec import decode, encode, problems_of
from saga.store.values import End, Header, entries_of

_CANCEL_PATIENCE = 30.0


class Handle:
    """A reference to one saga. It is cheap, holds no connection, and always asks the log anew.

    Attributes:
        id: the saga's id.
    """

    def __init__(self, engine: Engine, waiter: Waiter, saga_id: UUID, header: Header | None = None) -> None:
        self.id = saga_id
        self._engine = engine
        self._waiter = waiter
        self._header = header

    def __repr__(self) -> str:
        return f"<Handle {self._header.name + ' ' if self._header else ''}{self.id}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Handle) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)

    # --- reading ------------------------------------------------------------------------------------------------------

    @property
    def status(self) -> Status:
        """Where the saga stands now.

        Raises:
            SagaNotFound: it is not in the log any more.
        """
        return Status(self.refresh().status)

    @property
    def name(self) -> str:
        """The saga's name."""
        return self._loaded().name

    @property
    def key(self) -> str | None:
        """The key it was started with."""
        return self._loaded().key

    @property
    def tags(self) -> Any:
        """The tags it was started with."""
        return self._loaded().tags

    @property
    def started_at(self) -> datetime:
        """When it was started, by the database's clock."""
        return self._loaded().started_at

    @property
    def header(self) -> Header:
        """Its row in the log's index, as it was when first read."""
        return self._loaded()

    def refresh(self) -> Header:
        """Read its row again."""
        header = self._engine.store.header(self.id)
        if header is None:
            raise SagaNotFound(f"there is no saga {self.id} in {self._engine.store.name}")
        self._header = header
        return header

    def log(self) -> list[Entry]:
        """Every entry, oldest first."""
        self._subject()
        return self._entries(None)

    def replay(self, until: int | None = None) -> State:
        """The state that its log gives, up to entry ``until`` if that is given. Results in it are JSON; see ``result()``.

        Raises:
            InputError: ``until`` is not the number of an entry.
        """
        if until is not None and (not isinstance(until, int) or isinstance(until, bool) or not 0 <= until < 2**31):
            raise InputError(
                f"replay(until={brief(until)}) expected the number of an entry, as `saga log {self.id}` shows them"
            )
        return self._subject().replay(self._entries(until))

    def steps(self) -> dict[str, StepState]:
        """Step name to how far it has come. Results in it are JSON; ``result()`` has them as the declared types."""
        return self.replay().steps

    def wait(self, timeout: float | None = None) -> Status:
        """Wait until the saga is finished or stuck, and return its status.

        Args:
            timeout: seconds.

        Raises:
            SagaNotFound: it has not been in the log for seconds.
            TimeoutError: it was neither in time.
        """
        return Status(self._end(timeout, wants_log=False).status)

    def result(self, timeout: float | None = None) -> dict[str, Any]:
        """Wait for the end and return step name to result, as the types the steps declare.

        Raises:
            BindingError: a stored result does not fit the type its step declares today.
            SagaCompensated: it was rolled back.
            SagaStuck: it waits for an operator; it is not finished.
            SagaAbandoned: an operator ended it without undoing more.
            SagaNotFound: it has not been in the log for seconds.
            TimeoutError: it was not finished in ``timeout`` seconds.
        """
        end = self._end(timeout, wants_log=True)
        status = Status(end.status)
        instance = self._engine.instance(self.id, end.fingerprint)
        state = instance.replay(entries_of(self.id, end.rows) or self._entries(None))
        if status is Status.COMPENSATED:
            raise SagaCompensated(self.id, state.reason, state.cause)
        if status is Status.STUCK:
            raise SagaStuck(self.id, state.problem, state.cause)
        if status is Status.ABANDONED:
            raise SagaAbandoned(self.id, state.reason, state.cause, state.undos_owed)
        return _typed(instance, state)

    def _end(self, timeout: float | None, *, wants_log: bool) -> End:
        end = self._waiter.wait(self.id, timeout, wants_log=wants_log)
        if end is None:
            raise TimeoutError(f"saga {self.id} is {self.status} after {timeout:g} s")
        return end

    def _subject(self) -> Instance:
        return self._engine.instance(self.id)

    def _entries(self, until: int | None) -> list[Entry]:
        return self._engine.store.entries(self.id, until=until)

    def _loaded(self) -> Header:
        return self._header or self.refresh()

    # --- acting -------------------------------------------------------------------------------------------------------

    def cancel(self, reason: str | None = None, *, by: str | None = None, timeout: float = _CANCEL_PATIENCE) -> bool:
        """Ask for a rollback; true if the saga will be rolled back.

        While the pivot is under way, its outcome decides: this waits for it, up to ``timeout`` seconds.

        Raises:
            NotAllowed: it is neither running nor paused, and no step of it waits for a person's decision.
            TimeoutError: the pivot's outcome is still open; the request stands.
        """
        state = self._request(CancelRequested(by, reason))
        limit = time.monotonic() + timeout
        while state.cancel_reason is not None and not state.stuck_on:
            if time.monotonic() > limit:
                raise TimeoutError(f"saga {self.id}: its pivot is still under way; the request to cancel stands")
            time.sleep(0.05)
            state = self.replay()
        return state.rolling_back

    def compensate(self, reason: str | None = None, *, by: str | None = None) -> None:
        """Undo a completed saga.

        Raises:
            NotAllowed: it has not completed, or is past its pivot.
        """
        self._request(CompensateRequested(by, reason))

    def pause(self, reason: str | None = None, *, by: str | None = None) -> None:
        """Start nothing new; what runs comes to its end.

        Raises:
            NotAllowed: it is neither running nor compensating.
        """
        self._request(Paused(by, reason))

    def resume(self, reason: str | None = None, *, by: str | None = None) -> None:
        """Go on after a pause, with the due times as they were.

        Raises:
            NotAllowed: it is not paused.
        """
        self._request(Resumed(by, reason))

    def retry(self, reason: str | None = None, *, by: str | None = None) -> None:
        """Try what is stuck or waits for a retry again now, with a fresh budget; the idempotency keys stay.

        Raises:
            NotAllowed: nothing is stuck or waits, or an attempt is open.
        """
        self._request(RetryRequested(by, reason))

    def skip(
        self, step: str, result: Any = None, undo: bool = False, *, reason: str | None = None, by: str | None = None
    ) -> None:
        """Declare a stuck step done by hand: its action with this result, or its undo.

        Args:
            result: what the action would have returned; later steps get it.
            undo: if the saga is rolled back later, undo the action, with ``result`` as its result. If the undo itself is stuck,
                this changes nothing: the undo is declared done.

        Raises:
            NotAllowed: the step is not stuck, or has no undo that could be made later.
            InputError: the result does not fit the type that the action declares.
        """
        instance = self._subject()
        if step not in instance.outline.steps:
            raise NotAllowed(
                f"saga {instance} is {self.status} and has no step {step!r}; it has {', '.join(instance.outline.steps)}"
            )
        stuck_on = self.replay().stuck_on
        is_undo = (step, True) in stuck_on
        is_action = (step, False) in stuck_on  # of what is neither the request itself is refused, whatever its result
        limit = self._engine.max_payload
        stored = _storable(instance, step, result, limit)
        if is_action:
            _check_fit(instance, step, stored)
        lane, undo_later = instance.outline.step(step).lane, undo and not is_undo
        self._request(StepSkipped(by, reason, lane, step, is_undo, stored if is_action else None, undo_later))

    def abandon(self, reason: str | None = None, *, by: str | None = None) -> None:
        """End it without undoing more. What runs comes to its end and changes nothing; the undos still owed stay listed.

        Raises:
            NotAllowed: it is finished.
        """
        self._request(Abandoned(by, reason))

    def _request(self, request: Request) -> State:
        request = replace(request, by=_words(request.by), reason=_words(request.reason))
        return self._engine.request(self.id, request)[1]


def _words(text: object) -> str | None:
    return None if text is None else clean_text(text)


def _typed(instance: Instance, state: State) -> dict[str, Any]:
    results = state.results()
    if instance.saga is None:
        return results
    return {name: _read(instance, name, value) for name, value in results.items()}


def _read(instance: Instance, step: str, value: Any) -> Any:
    returns = _returns(instance, step)
    try:
        return None if value is None else decode(value, returns)
    except ValidationError as error:
        place = f"saga {instance}, step {step!r}: the stored result does not fit {_named(returns)}"
        raise BindingError(f"{place}: {problems_of(error)}") from None


def _returns(instance: Instance, step: str) -> Any:
    return instance.saga.job(step, undo=False).returns if instance.saga else Any


def _named(annotation: Any) -> str:
    return annotation.__name__ if isinstance(annotation, type) else str(annotation)


def _storable(instance: Instance, step: str, result: Any, limit: int) -> Any:
    """The JSON form of a result that an operator gives."""
    try:
        stored = encode(result, _returns(instance, step))
        dumps(stored, limit)
    except Unencodable as error:
        raise _unfit(instance, step, str(error)) from None
    return stored


def _check_fit(instance: Instance, step: str, stored: Any) -> None:
    try:
        decode(stored, _returns(instance, step))
    except ValidationError as error:
        raise _unfit(instance, step, problems_of(error)) from None


def _unfit(instance: Instance, step: str, problem: str) -> InputError:
    returns = _named(_returns(instance, step))
    return InputError(f"saga {instance}, step {step!r}: the result does not fit {returns}: {problem}")
