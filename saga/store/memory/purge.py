"""Purge: how finished sagas are taken out; within a transaction."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from uuid import UUID

from saga.store.memory.tables import Tables


def purge(tables: Tables, age: float, after: UUID | None, limit: int) -> tuple[int, UUID | None]:
    """Take out what finished so many seconds ago in the next page of sagas; how many, and where to go on if there may be more."""
    page = sorted(saga_id for saga_id in tables.sagas if after is None or saga_id > after)[:limit]
    gone = 0
    for saga_id in page:
        doomed = list(_doomed(tables, saga_id, age))
        for each in doomed:
            tables.forget(each)
        gone += len(doomed)
    return gone, page[-1] if len(page) == limit else None


def _doomed(tables: Tables, saga_id: UUID, age: float) -> Iterator[UUID]:
    """A saga and its parts, if it is to go with them."""
    header = tables.sagas[saga_id].header if saga_id in tables.sagas else None
    if header is None or header.parent is not None or tables.held(saga_id) or header.finished_at is None:
        return
    tree = list(_tree(tables, saga_id))
    if header.finished_at < tables.now - timedelta(seconds=age) and all(
        tables.sagas[each].header.finished_at for each in tree
    ):
        yield from tree


def _tree(tables: Tables, saga_id: UUID) -> Iterator[UUID]:
    yield saga_id
    for part, rows in tables.sagas.items():
        if rows.header.parent is not None and rows.header.parent.saga_id == saga_id:
            yield from _tree(tables, part)
