"""Naming: how an operator names one saga: its id, a beginning of it that no other has, its key, or ``saga/key``."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import UUID

from saga.client.handle import Handle
from saga.client.orchestrator import Orchestrator
from saga.errors import SagaNotFound
from saga.store.postgres import short_ids
from saga.store.postgres.errors import clear_errors

_SHOWN = 5
_SHORTEST = 4
"""A shorter beginning is more likely a slip than an id."""


def find_saga(orchestrator: Orchestrator, text: str) -> Handle:
    """The saga that is meant.

    Raises:
        SagaNotFound: there is none, or there are several; the text names some.
    """
    if len(text) == len(str(UUID(int=0))) and short_ids.range_of(text):
        return orchestrator.get(text)
    found = list(_by_beginning(orchestrator, text)) or list(_by_key(orchestrator, text))
    if len(found) == 1:
        return found[0]
    if found:
        raise SagaNotFound(f"{text!r} may be any of {_listed(found)}; give more of it")
    raise SagaNotFound(
        f"{text!r} is not the id of a saga in {orchestrator.database.name}, nor the beginning of one, nor a key; "
        f"`saga list` shows them"
    )


def _by_beginning(orchestrator: Orchestrator, text: str) -> Iterator[Handle]:
    between = short_ids.range_of(text) if len(text) >= _SHORTEST else None
    if between is not None:
        database = orchestrator.database
        with clear_errors(database), database.link() as link:
            ids = short_ids.read_ids(link, *between, _SHOWN + 1)
        yield from (orchestrator.get(saga_id) for saga_id in ids)


def _by_key(orchestrator: Orchestrator, text: str) -> Iterator[Handle]:
    for slash in (index for index, letter in enumerate(text) if letter == "/"):  # a name or a key may have one, too
        yield from orchestrator.find(saga=text[:slash], key=text[slash + 1 :])
    yield from orchestrator.find(key=text, limit=_SHOWN + 1)


def _listed(found: list[Handle]) -> str:
    names = [f"{handle.id} ({handle.name}{f'/{handle.key}' if handle.key else ''})" for handle in found[:_SHOWN]]
    return ", ".join(names) + (" and more" if len(found) > _SHOWN else "")
