"""Thread: threads of our own, which belong to no request of the process that starts them."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable
from contextvars import Context
from typing import Any, TypeVar

T = TypeVar("T")


def start_thread(name: str, target: Callable[..., Any], args: Iterable[Any] = ()) -> threading.Thread:
    """Start a daemon thread in an empty context: tracers that hand a context on to threads find none to hand on."""
    thread = threading.Thread(target=target, args=tuple(args), name=name, daemon=True)
    Context().run(thread.start)
    return thread


def answer_within(seconds: float, name: str, question: Callable[[], T]) -> list[T]:
    """What a question is answered with, asked in a thread of its own; nothing if it takes longer, or raises."""
    answers: list[T] = []

    def ask() -> None:
        with contextlib.suppress(Exception):
            answers.append(question())

    start_thread(name, ask).join(seconds)
    return answers[:1]
