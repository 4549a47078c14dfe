"""Criteria: what a caller wants to find, checked and turned into what the statement takes."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any
from uuid import UUID

from saga.client.starting import tags_json
from saga.core.state import Status
from saga.core.text import clean_text
from saga.errors import InputError, SagaNotFound, brief
from saga.language.definition import Saga


def criteria(
    saga: Saga | str | None,
    status: Any,
    key: str | None,
    tags: Any,
    since: Any,
    until: Any,
    limit: Any,
    max_payload: int,
) -> dict[str, Any]:
    """What ``search.find_headers`` is to look for.

    Raises:
        InputError: one of them is of the wrong kind; the text names it.
    """
    name = saga.name if isinstance(saga, Saga) else saga
    _check_text("saga", name, "a Saga or the name of one")
    _check_text("key", key, "a text such as 'order-1001'")
    _check_moment("since", since)
    _check_moment("until", until)
    if not isinstance(limit, int) or isinstance(limit, bool) or not 0 <= limit < 2**31:
        raise InputError(f"find(limit={brief(limit)}) expected a whole number, not negative, such as limit=100")
    return {"name": name, "key": key, "tags": tags_json("find", tags, max_payload), "statuses": _statuses(status),
            "since": since, "until": until, "limit": limit}  # fmt: skip


def _statuses(status: Any) -> list[str]:
    words = [status] if isinstance(status, str) else status or ()
    for word in words if isinstance(words, Iterable) else [words]:
        if word not in list(Status):
            raise InputError(f"status={word!r} expected one of {', '.join(Status)}")
    return [str(word) for word in words]


def _check_text(name: str, value: Any, expected: str) -> None:
    if value is not None and (not isinstance(value, str) or clean_text(value, len(value)) != value):
        raise InputError(f"find({name}={brief(value)}) expected {expected}")


def _check_moment(name: str, value: Any) -> None:
    if value is not None and not isinstance(value, datetime):
        raise InputError(
            f"find({name}={brief(value)}) expected a datetime, such as datetime.now(UTC) - timedelta(hours=1)"
        )


def read_id(text: UUID | str) -> UUID:
    """The id of a saga.

    Raises:
        SagaNotFound: it is not an id.
    """
    try:
        return text if isinstance(text, UUID) else UUID(text)
    except (ValueError, TypeError, AttributeError):
        raise SagaNotFound(f"{text!r} is not the id of a saga; expected a UUID, as `saga list` shows them") from None
