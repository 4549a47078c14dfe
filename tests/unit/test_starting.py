"""What a saga is started with is checked before anything is written."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from saga.definition import Saga, Step
from saga.errors import InputError
from saga.starting import order

from .helpers import task_of


@task_of
def reserve(): ...


SAGA = Saga("place_order", Step(reserve, compensate=None))


def started_with(**given: Any) -> Any:
    options: dict[str, Any] = {"input": None, "key": None, "tags": None, "delay": None, "deadline": None}
    return order(SAGA, **(options | given), priority=None, limit=1000).started


@pytest.mark.parametrize("name", ["delay", "deadline"])
@pytest.mark.parametrize(
    ("value", "seconds"),
    [(None, None), (0, 0.0), (1.5, 1.5), (timedelta(minutes=1), 60.0), (3650 * 86400, 315360000.0)],
)
def test_a_delay_and_a_deadline_are_seconds_or_a_timedelta(name: str, value: Any, seconds: float | None):
    assert getattr(started_with(**{name: value}), name) == seconds


@pytest.mark.parametrize("name", ["delay", "deadline"])
@pytest.mark.parametrize(
    "value",
    [-1, timedelta(seconds=-1), True, "soon", float("nan"), float("inf"), 1e12, 10**400, timedelta.max],
    ids=lambda value: str(value)[:12],
)
def test_a_delay_or_a_deadline_that_is_no_time_or_too_far_away_is_refused(name: str, value: Any):
    with pytest.raises(InputError, match=rf"^saga 'place_order': {name}=.* not negative and ten years at most"):
        started_with(**{name: value})


@pytest.mark.parametrize("key", ["", "x" * 501, "a\x00", 5], ids=lambda value: str(value)[:5])
def test_a_key_that_is_no_text_of_fitting_length_is_refused(key: Any):
    with pytest.raises(InputError, match="expected a text of 1 to 500 characters"):
        started_with(key=key)
