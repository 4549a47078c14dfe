"""Stream: what happens in this process, as facts, for the listeners that have asked for their kind.

Code that does something emits one fact, a small frozen value that is named in the past tense for what has happened, and
knows nobody who listens. The facts are in ``facts``, by what they are about:

    sagas      opened, appended to, found cut short; what became of an append
    attempts   begun, over, ended; came late, overdue; code of the user's that failed beside the task
    lanes      not claimed, left, freed, parked; the chores of the relay
    upkeep     the relay, the upkeep and the liveness of a process; workers that are gone
    messages   sent or not, refused, of others

What is made of them is in one place each: log lines in ``wording``, signals in ``signals``, the events of Celery's
monitoring in ``monitor``, what ``celery inspect`` answers in ``board``, Sentry's events in ``sentry``.

A listener is a function of one fact. It is called at once, in the thread and the context of the code that emits, in the order
of subscription. It informs, it never decides, and waits for nothing: the fact may be emitted while a transaction is open.
States in a fact are to be read during the call only, for they go on. What a listener raises becomes a fact too, and harms
neither who emitted nor the other listeners. A fact without listeners costs a look into a dictionary.

All of it is internal: facts come and go with what they tell of.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar


@dataclass(frozen=True, slots=True)
class Fact:
    """Something that has happened."""


@dataclass(frozen=True, slots=True)
class ListenerFailed(Fact):
    """A listener raised; what it listened to goes on."""

    listener: str
    kind: str
    error: Exception


Heard = TypeVar("Heard", bound=Fact)
Listener = Callable[[Any], None]


class Stream:
    """Facts on their way to those who listen."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._subscriptions: tuple[tuple[type[Fact], Listener], ...] = ()
        self._listeners: dict[type[Fact], tuple[Listener, ...]] = {}

    def subscribe(self, kind: type[Heard], listener: Callable[[Heard], None]) -> Callable[[], None]:
        """Have a function called with each fact of a kind, from now on.

        Args:
            kind: with it come the kinds derived from it; ``Fact`` is all there are.

        Returns:
            what ends that.
        """
        subscription = kind, listener
        with self._lock:
            self._change((*self._subscriptions, subscription))

        def end() -> None:
            with self._lock:
                self._change(tuple(one for one in self._subscriptions if one is not subscription))

        return end

    def emit(self, fact: Fact) -> None:
        """Tell of what has happened."""
        known = self._listeners
        listeners = known.get(type(fact))
        if listeners is None:
            listeners = known[type(fact)] = self._listeners_to(type(fact))
        for listener in listeners:
            try:
                listener(fact)
            except Exception as error:
                self._excuse(listener, fact, error)

    def _change(self, subscriptions: tuple[tuple[type[Fact], Listener], ...]) -> None:
        # In this order, and a new dictionary: who emits meanwhile, without a lock, fills the old one in vain.
        self._subscriptions = subscriptions
        self._listeners = {}

    def _listeners_to(self, kind: type[Fact]) -> tuple[Listener, ...]:
        return tuple(listener for wanted, listener in self._subscriptions if issubclass(kind, wanted))

    def _excuse(self, listener: Listener, fact: Fact, error: Exception) -> None:
        if not isinstance(fact, ListenerFailed):  # who fails at hearing of that is not heard of
            name = getattr(listener, "__qualname__", type(listener).__name__)
            self.emit(ListenerFailed(name, type(fact).__name__, error))


_stream = Stream()
emit = _stream.emit
subscribe = _stream.subscribe
