from __future__ import annotations

import threading
from contextvars import ContextVar

from saga.telemetry.thread import answer_within, start_thread

CONTEXT: ContextVar[str] = ContextVar("context", default="empty")


def test_a_thread_knows_nothing_of_what_its_starter_was_at():
    found: list[str] = []
    CONTEXT.set("a request")
    start_thread("one", lambda: found.append(CONTEXT.get())).join(10)
    assert found == ["empty"]


def test_a_question_is_answered_in_time_or_not_at_all():
    never = threading.Event()
    assert answer_within(10, "one", lambda: 5) == [5]
    assert answer_within(0.01, "one", never.wait) == []
    assert answer_within(10, "one", lambda: 1 // 0) == []
    never.set()
