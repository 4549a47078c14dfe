"""Due: a moment once it is known, seconds until then."""

from __future__ import annotations

from datetime import timedelta

import pytest

from saga.core.due import Due, is_at_once, moment_of

from .helpers import NOON


def test_what_is_counted_from_an_entry_is_a_moment_once_the_entry_has_a_time():
    assert Due.after(NOON, 90) == Due(NOON + timedelta(seconds=90))
    assert Due.after(None, 90) == Due(seconds=90)


def test_nothing_to_count_is_due_at_no_time():
    assert Due.after(NOON, None) is None
    assert Due.after(None, None) is None


@pytest.mark.parametrize("due", [None, Due(), Due(seconds=0)])
def test_no_wait_is_at_once(due: Due | None):
    assert is_at_once(due)
    assert moment_of(due) is None


def test_only_the_database_knows_that_a_moment_is_past():
    assert not is_at_once(Due.after(NOON, 0))
    assert not is_at_once(Due.after(None, 0.1))
