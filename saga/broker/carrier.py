"""Carrier: a message of ours as a worker receives it, reduced to its ids.

A message is a hint that anyone with the broker's password can write. Celery lets a message say how it is handled: time
limits, callbacks, chains, chords, when it expires, where to answer. Here all of that is dropped before the message
reaches the pool.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import uuid4

from celery.app.task import Context
from celery.exceptions import InvalidTaskError
from celery.worker.request import Request

from saga.telemetry.monitor import SENDS_EVENTS, sends_events

_LONGEST_ID = 155
"""Characters; as long as Celery's own result backends store."""
_CELERYS = frozenset(name for name in vars(Context) if not name.startswith("_")) | {"group", "meth", "lang"}


class CarrierRequest(Request):  # type: ignore[misc]
    """The request of ``saga.run`` and ``saga.ping``: a task's name, an id, and arguments."""

    def __init__(
        self, message: Any, *, headers: Mapping[str, Any] | None = None, body: Any = None, decoded: bool = False, **options: Any
    ) -> None:  # fmt: skip
        bare = _bare(message.headers if headers is None else headers)
        bare[SENDS_EVENTS] = sends_events(options.get("eventer"))
        args, kwargs = _arguments(body if decoded else message.payload)
        # Celery passes a decoded body on as it is; the encoded one would bring the callbacks along.
        super().__init__(message, headers=bare, body=(args, kwargs, {}), decoded=True, **options)


def _bare(headers: Mapping[str, Any]) -> dict[str, Any]:
    """The headers without those on which Celery acts. Headers of other libraries stay, for their hooks."""
    task_id = headers.get("id")
    kept = {name: value for name, value in headers.items() if name not in _CELERYS}
    known = isinstance(task_id, str) and 0 < len(task_id) <= _LONGEST_ID
    return kept | {
        "id": task_id if known else str(uuid4()),
        "argsrepr": "ids",
        "kwargsrepr": "{}",
        "ignore_result": True,
    }


def _arguments(payload: Any) -> tuple[Any, Any]:
    try:
        args, kwargs, _ = payload
    except (TypeError, ValueError):
        raise InvalidTaskError("expected arguments, named arguments and options") from None
    if not isinstance(args, (list, tuple)) or not isinstance(kwargs, Mapping):
        raise InvalidTaskError("expected a list of arguments and a mapping of named ones")
    return args, kwargs
