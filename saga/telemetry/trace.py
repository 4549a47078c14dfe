"""Trace: the distributed trace that a saga was started in: kept as the headers of a request, and restored around its attempts.

OpenTelemetry and Sentry are asked only where the process has loaded them already; nothing here imports them first.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

_LONGEST_VALUE = 2048
_MOST_HEADERS = 16
_BAGGAGE = "baggage"
_NAME = re.compile("traceparent|tracestate|baggage|sentry-trace|b3|uber-trace-id|x-[a-z0-9-]{1,60}", re.IGNORECASE)
"""The headers of W3C, Sentry, B3, Jaeger and X-Ray. A stored one goes into a task's request, so it can be no other."""


def captured() -> dict[str, str] | None:
    """The headers that carry on the caller's trace, such as ``traceparent``; ``None`` where there is none.

    A header too long for the log is left out.
    """
    found: dict[str, str] = {}
    with suppress(Exception):  # no start fails for what watches it
        found |= _of_opentelemetry()
    with suppress(Exception):
        found |= _of_sentry(found.get(_BAGGAGE))
    kept = {name: value for name, value in found.items() if _fits(name, value)}
    return dict(list(kept.items())[:_MOST_HEADERS]) or None


@contextmanager
def restored(trace: Mapping[str, str] | None) -> Iterator[None]:
    """Let what runs within belong to that trace; to none, where there is none: never to that of the message's carrier."""
    otel = sys.modules.get("opentelemetry.context")
    if otel is None:
        yield
        return
    token = otel.attach(_extracted(trace or {}))
    try:
        yield
    finally:
        otel.detach(token)


def headers(trace: Any) -> dict[str, str]:
    """What a stored trace says, for the headers of a task's request, where Celery's instrumentations look."""
    if not isinstance(trace, Mapping):
        return {}
    return {name: value for name, value in trace.items() if _fits(name, value)}


def _fits(name: Any, value: Any) -> bool:
    known = isinstance(name, str) and isinstance(value, str) and 0 < len(value) <= _LONGEST_VALUE
    return known and _NAME.fullmatch(name) is not None and value.isascii() and value.isprintable()


def _of_opentelemetry() -> dict[str, str]:
    if "opentelemetry.context" not in sys.modules:
        return {}
    from opentelemetry import propagate

    found: dict[str, str] = {}
    propagate.inject(found)
    return found


def _extracted(trace: Mapping[str, str]) -> Any:
    from opentelemetry import propagate
    from opentelemetry.context import Context

    try:
        return propagate.extract(trace, context=Context())
    except Exception:  # whatever a propagator makes of a damaged header
        return Context()


def _of_sentry(baggage: str | None) -> dict[str, str]:
    sentry = sys.modules.get("sentry_sdk")
    if sentry is None or not sentry.get_client().is_active():
        return {}
    found = {"sentry-trace": sentry.get_traceparent(), _BAGGAGE: sentry.get_baggage()}
    if baggage and found[_BAGGAGE]:
        found[_BAGGAGE] = f"{baggage},{found[_BAGGAGE]}"
    return {name: value for name, value in found.items() if value}
