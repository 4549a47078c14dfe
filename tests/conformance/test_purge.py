"""A purge takes out finished sagas with all there is of them, and with their parts."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

import pytest

from saga.core.events import Paused
from saga.core.ref import Parent
from saga.errors import CorruptLog
from saga.store.values import NewStatus, Signal

from .stand import COMPLETED, FORKED, LINE, Stand, opening_of

DAY = 86400.0


def finish(stand: Stand, saga: UUID, status: NewStatus = COMPLETED) -> None:
    assert stand.append(saga, Paused(), status=status)


def part_of(stand: Stand, saga: UUID) -> UUID:
    """A part of a saga, begun with an entry of it."""
    stand.store.register(FORKED, 1.0)
    opening = opening_of(FORKED, parent=Parent(saga, "main", "a"))
    assert stand.append(saga, Paused(), openings=[opening])
    return opening.id


def there(stand: Stand, *sagas: UUID) -> list[bool]:
    return [stand.store.header(saga) is not None for saga in sagas]


def test_what_finished_long_ago_is_taken_out_with_all_there_is_of_it(stand: Stand) -> None:
    old, new, running = stand.start(key="k"), stand.start(), stand.start()
    stand.store.post(Signal(old, "late"))
    finish(stand, old)
    stand.pass_time(2 * DAY)
    finish(stand, new)
    assert stand.store.purge(DAY, None, 100) == (1, None)
    assert there(stand, old, new, running) == [False, True, True]
    with pytest.raises(CorruptLog):
        stand.store.entries(old)
    assert stand.rows(old) == []
    assert stand.store.holders("line", ["k"]) == [None]
    assert stand.relay().rounds.take_in() == 0
    assert stand.store.purge(DAY, None, 100) == (0, None)
    stand.start(key="k")


def test_a_part_goes_with_its_parent_and_never_before_it(stand: Stand) -> None:
    saga = stand.start()
    part = part_of(stand, saga)
    inner = part_of(stand, part)
    finish(stand, inner)
    finish(stand, part)
    stand.pass_time(2 * DAY)
    assert stand.store.purge(DAY, None, 100) == (0, None)
    assert there(stand, saga, part, inner) == [True, True, True]
    finish(stand, saga)
    stand.pass_time(2 * DAY)
    assert stand.store.purge(DAY, None, 100) == (3, None)
    assert there(stand, saga, part, inner) == [False, False, False]


def test_a_saga_with_a_part_that_is_unfinished_stays(stand: Stand) -> None:
    saga = stand.start()
    part = part_of(stand, saga)
    other = part_of(stand, saga)
    finish(stand, saga)
    finish(stand, other)
    stand.pass_time(2 * DAY)
    assert stand.store.purge(DAY, None, 100) == (0, None)
    finish(stand, part, replace(COMPLETED, status="abandoned"))
    assert stand.store.purge(DAY, None, 100) == (3, None)


def test_a_purge_goes_on_page_by_page(stand: Stand) -> None:
    stand.store.register(LINE, 1.0)
    sagas = sorted(stand.start() for _ in range(5))
    for saga in sagas[1:]:
        finish(stand, saga)
    stand.pass_time(2 * DAY)
    assert stand.store.purge(DAY, None, 2) == (1, sagas[1])
    assert stand.store.purge(DAY, sagas[1], 2) == (2, sagas[3])
    assert stand.store.purge(DAY, sagas[3], 2) == (1, None)
    assert there(stand, *sagas) == [True, False, False, False, False]


def test_a_saga_that_somebody_takes_up_again_stays(stand: Stand) -> None:
    saga = stand.start()
    finish(stand, saga)
    stand.pass_time(2 * DAY)
    finish(stand, saga, NewStatus("compensating", "returned", False))
    assert stand.store.purge(DAY, None, 100) == (0, None)
    assert there(stand, saga) == [True]
