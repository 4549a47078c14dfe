"""Thread: threads that live as long as their process, and so belong to no request of it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from contextvars import Context
from typing import Any


def start_thread(name: str, target: Callable[..., Any], args: Iterable[Any] = ()) -> threading.Thread:
    """Start a daemon thread in an empty context: tracers that hand a context on to threads find none to hand on."""
    thread = threading.Thread(target=target, args=tuple(args), name=name, daemon=True)
    Context().run(thread.start)
    return thread
