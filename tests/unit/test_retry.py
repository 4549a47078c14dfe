"""tenacity decides, attempt by attempt, and nothing sleeps."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tenacity import (
    retry_if_exception_message,
    retry_if_exception_type,
    retry_if_not_exception_type,
    stop_after_attempt,
    stop_after_delay,
    stop_before_delay,
    wait_chain,
    wait_exponential,
    wait_fixed,
    wait_incrementing,
    wait_none,
    wait_random,
)

from saga.errors import DefinitionError, StepTimeout, WorkerLost
from saga.language.retry import Retry

BROKEN = ValueError("it broke")
DAY = 24 * 3600


def attempts_of(retry: Retry, error: BaseException = BROKEN, most: int = 50) -> int:
    """How many attempts there are when each fails in no time."""
    return next((number for number in range(1, most) if retry.next_wait(error, number, 0) is None), most)


def test_by_default_there_are_three_attempts():
    assert attempts_of(Retry()) == 3


@given(st.integers(1, 2))
def test_by_default_waits_are_short_and_jittered(attempt):
    wait = Retry().next_wait(BROKEN, attempt, 0)
    assert wait is not None
    assert 0.2 * 2 ** (attempt - 1) <= wait <= 0.2 * 2 ** (attempt - 1) + 0.2


def test_none_is_one_attempt():
    assert attempts_of(Retry.none()) == 1


def test_persistent_goes_on_for_a_day_with_waits_up_to_ten_minutes():
    retry = Retry.persistent()
    assert 1 <= (retry.next_wait(BROKEN, 1, 0) or 0) <= 2
    assert retry.next_wait(BROKEN, 500, DAY - 1) == 600
    assert retry.next_wait(BROKEN, 2, DAY) is None


def test_forever_never_ends():
    assert Retry.forever().next_wait(BROKEN, 1_000, 400 * DAY) == 600


def test_a_number_of_attempts_and_a_time_can_be_combined():
    either = Retry(stop=stop_after_attempt(5) | stop_after_delay(60), wait=wait_none())
    both = Retry(stop=stop_after_attempt(5) & stop_after_delay(60), wait=wait_none())
    assert either.next_wait(BROKEN, 1, 60) is None
    assert both.next_wait(BROKEN, 1, 60) == 0
    assert both.next_wait(BROKEN, 5, 59) == 0
    assert both.next_wait(BROKEN, 5, 60) is None


def test_waits_can_be_added_and_chained():
    assert Retry(wait=wait_fixed(1) + wait_incrementing(start=1, increment=1)).next_wait(BROKEN, 2, 0) == 3
    chain = Retry(wait=wait_chain(wait_fixed(1), wait_fixed(5)), stop=stop_after_attempt(9))
    assert [chain.next_wait(BROKEN, number, 0) for number in (1, 2, 3)] == [1, 5, 5]
    assert Retry(wait=wait_exponential(max=30), stop=stop_after_attempt(99)).next_wait(BROKEN, 50, 0) == 30


def test_a_stop_may_look_at_the_wait_to_come():
    retry = Retry(stop=stop_before_delay(timedelta(seconds=10)), wait=wait_fixed(6))
    assert retry.next_wait(BROKEN, 1, 3) == 6
    assert retry.next_wait(BROKEN, 1, 5) is None


def test_an_exception_that_the_policy_refuses_ends_the_step_at_once():
    retry = Retry(retry=retry_if_exception_type(ConnectionError))
    assert retry.next_wait(ConnectionResetError(), 1, 0) is not None
    assert retry.next_wait(BROKEN, 1, 0) is None


def test_refusals_can_be_combined():
    retry = Retry(retry=retry_if_not_exception_type(TypeError) & retry_if_exception_message(match="it"))
    assert retry.next_wait(BROKEN, 1, 0) is not None
    assert retry.next_wait(TypeError("it broke"), 1, 0) is None
    assert retry.next_wait(ValueError("other"), 1, 0) is None


def test_what_is_no_plain_exception_is_not_retried_by_default():
    assert Retry().next_wait(KeyboardInterrupt(), 1, 0) is None


@pytest.mark.parametrize("error", [WorkerLost("gone"), StepTimeout("too long")])
def test_a_lost_worker_and_a_timeout_are_retried_whatever_the_policy_says_of_exceptions(error: Exception):
    retry = Retry(retry=retry_if_exception_type(ConnectionError), stop=stop_after_attempt(2), wait=wait_fixed(4))
    assert retry.next_wait(error, 1, 0) == 4
    assert retry.next_wait(error, 2, 0) is None


def _made() -> list[Retry]:
    return [
        Retry(),
        Retry.none(),
        Retry.persistent(),
        Retry.forever(),
        Retry(stop=stop_after_attempt(4)),
        Retry(wait=wait_fixed(1) + wait_random(0, 3)),
        Retry(retry=retry_if_not_exception_type(TypeError) & retry_if_exception_message(match="it")),
        Retry(retry=retry_if_not_exception_type(ValueError) & retry_if_exception_message(match="it")),
    ]


def test_policies_are_equal_when_their_strategies_are_made_alike():
    first, second = _made(), _made()
    for index, retry in enumerate(first):
        assert [other == retry for other in second] == [place == index for place in range(len(second))]
        assert hash(retry) == hash(second[index])
    assert Retry() != "Retry()"


def test_one_policy_serves_many_steps_at_once():
    retry = Retry(stop=stop_after_attempt(2), wait=wait_fixed(1))
    assert [retry.next_wait(BROKEN, number, 0) for number in (1, 2, 1, 2)] == [1, None, 1, None]


def test_a_negative_wait_is_none_at_all():
    assert Retry(wait=wait_fixed(-5)).next_wait(BROKEN, 1, 0) == 0


@pytest.mark.parametrize("seconds", [1e12, float("inf")])
def test_a_wait_is_ten_years_at_most(seconds: float):
    assert Retry(wait=wait_fixed(seconds)).next_wait(BROKEN, 1, 0) == 3650 * DAY


@pytest.mark.parametrize("options", [{"stop": 5}, {"wait": 30}, {"retry": "never"}, {"stop": None}])
def test_what_is_no_strategy_is_refused_with_an_example(options: dict[str, Any]):
    expected = rf"Retry\({next(iter(options))}=\.\.\.\) expected a tenacity strategy"
    with pytest.raises(DefinitionError, match=expected) as caught:
        Retry(**options)
    assert "stop_after_attempt(5)" in str(caught.value)


@given(st.integers(1, 2000), st.floats(0, 1e7))
def test_a_wait_is_never_negative_and_a_policy_never_fails(attempt, elapsed):
    for retry in (Retry(), Retry.none(), Retry.persistent(), Retry.forever(), Retry(wait=wait_random(0, 3))):
        wait = retry.next_wait(BROKEN, attempt, elapsed)
        assert wait is None or 0 <= wait <= 660
