"""What the soak plans, attributes and judges; none of it needs a stack."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from uuid import UUID

import pytest

from examples.shop.audit import Books, Movement, check
from examples.shop.purchases import Order
from saga.context import Current, reset_current, set_current
from soak import trace
from soak.audit import check_trace, without_stuck
from soak.flow import order_stream
from soak.memory import Memory, Sample, judge, memory
from soak.plan import EVERY, KILLS, RESTARTS, SUSPENDED, Fault, Strike, plan
from soak.recovery import Figures, Kill, Loss, Span, figures, is_hit, percentile, recovery
from soak.trace import Attempt, Ran

START = datetime(2026, 1, 1, tzinfo=UTC)


def after(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


# --- orders -----------------------------------------------------------------------------------------------------------

REAL = [Order(number, 7, date(1997, 1, 1), 2, Decimal("20.00")) for number in (1, 2, 3)]


def test_real_orders_that_run_out_come_again_under_new_numbers():
    orders = list(islice(order_stream(REAL), 8))
    assert [order.number for order in orders] == list(range(1, 9))
    assert len({order.key for order in orders}) == 8
    assert orders[3] == replace(REAL[0], number=4)


# --- the plan ---------------------------------------------------------------------------------------------------------


def test_the_plan_follows_from_the_seed():
    assert plan(7, 600) == plan(7, 600)
    assert plan(7, 600) != plan(8, 600)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("seconds", [3, 12, 60, 600])
def test_every_kind_of_strike_comes_at_least_once_and_in_order(seed: int, seconds: float):
    strikes = plan(seed, seconds)
    assert strikes == sorted(strikes, key=lambda strike: strike.at)
    assert all(0 < strike.at < seconds for strike in strikes if strike.fault is not Fault.RESUME)
    found = {strike.fault for strike in strikes}
    assert found & set(KILLS)
    assert found & set(RESTARTS)
    assert found >= set(Fault) - set(KILLS) - set(RESTARTS)


def test_ten_minutes_restart_each_server_five_times_and_kill_every_four_seconds():
    times = Counter(strike.fault for strike in plan(1, 600))
    assert times[Fault.RESTART_FAST] >= 3
    assert times[Fault.RESTART_IMMEDIATE] >= 3
    assert times[Fault.RESTART_BROKER] >= 5
    assert sum(times[kill] for kill in KILLS) == 600 / EVERY["kill"]
    assert all(times[kill] for kill in KILLS)


def test_whoever_is_suspended_is_resumed_well_before_a_step_times_out():
    strikes = plan(3, 600)
    resumed = [strike.at for strike in strikes if strike.fault is Fault.RESUME]
    for strike in strikes:
        if strike.fault is Fault.SUSPEND:
            assert any(SUSPENDED[0] <= at - strike.at <= SUSPENDED[1] for at in resumed)


@pytest.mark.parametrize(("pick", "victim"), [(0.0, "a"), (0.34, "b"), (0.999, "c")])
def test_a_strike_chooses_among_those_that_are_there(pick: float, victim: str):
    assert Strike(0, Fault.KILL_WORKER, pick).choose(["a", "b", "c"]) == victim
    assert Strike(0, Fault.KILL_WORKER, pick).choose([]) is None


# --- recovery ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("percent", "value"), [(0, 1), (50, 2), (51, 3), (75, 3), (99, 4), (100, 4)])
def test_a_percentile_is_one_of_the_values(percent: float, value: float):
    assert percentile([1, 2, 3, 4], percent) == value


def test_figures_of_nothing_are_none():
    assert figures([]) == Figures(0, None, None, None)
    assert figures([3, 1, 2]) == Figures(3, 2, 3, 3)


def lost(worker: int, at: float, resumed: float | None, waited: float = 0.0) -> Loss:
    return Loss(f"saga-{worker}", "main", "a", worker, after(at), None if resumed is None else after(resumed), waited)


def test_a_lost_attempt_is_measured_from_the_kill_of_its_worker():
    kills = [Kill(after(10), frozenset({1, 2})), Kill(after(20), frozenset({3}))]
    found = recovery([lost(1, 11, 11.5), lost(2, 11, 12.5), lost(3, 21, 24)], kills)
    assert found.prompt == Figures(3, 2.5, 4.0, 4.0)
    assert [(each.loss.worker, each.seconds) for each in found.late] == [(3, 4.0)]


def test_what_a_grace_or_a_hindrance_or_a_retry_policy_delays_is_measured_apart():
    kills = [Kill(after(worker), frozenset({worker})) for worker in (1, 2)]
    kills += [Kill(after(60), frozenset({60}))]
    kills += [Kill(after(90), frozenset({90}))]
    losses = [lost(1, 2, 3), lost(2, 3, 7, waited=4), lost(60, 70, 71), lost(90, 91, 95)]
    spans = {"graces": [Span(after(61), after(70))], "hindrances": [Span(after(69), after(91))]}
    found = recovery(losses, kills, **spans)
    maxima = [each.max for each in (found.prompt, found.after_wait, found.in_grace, found.hindered)]
    assert maxima == [2, 5, 11, 5]


def test_a_lost_attempt_that_nobody_killed_is_explained_only_by_a_worker_that_ended():
    losses = [lost(4, 1, 2), lost(5, 1, 2), lost(6, 1, None)]
    found = recovery(losses, [Kill(after(0), frozenset({6}))], ended={5})
    assert [loss.worker for loss in found.unexplained] == [4]
    assert found.deserted == 1
    assert found.without_next == 1


@pytest.mark.parametrize(("killed", "inside"), [(9, True), (6.5, False), (25, True), (31, False)])
def test_a_span_excuses_the_kills_that_it_touches_and_none_long_before(killed: float, inside: bool):
    assert is_hit(after(killed), [Span(after(10), after(30))]) is inside


# --- memory -----------------------------------------------------------------------------------------------------------


def test_memory_compares_the_first_third_with_the_last():
    samples = [Sample(at, 100 + at) for at in range(0, 301, 10)]
    assert memory(samples, 300) == Memory(150, 350)
    assert memory([], 300) == Memory(None, None)


@pytest.mark.parametrize(
    ("first", "last", "seconds", "wrong"),
    [
        (100, 150, 600, True),
        (100, 150, 60, False),  # too short to tell
        (50, 65, 600, False),  # 30 %, but 15 MB
        (500, 530, 600, False),  # 30 MB, but 6 %
        (150, 100, 600, False),
        (None, 100, 600, False),
    ],
)
def test_memory_is_wrong_only_where_it_clearly_grows(first: float | None, last: float, seconds: float, wrong: bool):
    assert bool(judge(Memory(first, last), seconds)) is wrong


# --- the audit --------------------------------------------------------------------------------------------------------


def test_orders_that_wait_for_an_operator_are_left_out_of_the_books():
    books = Books(
        orders=REAL,
        statuses={1: "completed", 2: "stuck", 3: "compensated"},
        succeeded=frozenset({(1, "reservation"), (2, "reservation")}),
        work=0,
        ledgers={
            "stock": [Movement(1, -2), Movement(2, -2)],
            "payments": [Movement(1, Decimal(20)), Movement(2, Decimal(20))],
            "shipments": [Movement(1, 1)],
            "receipts": [Movement(1, 1)],
        },
        delivered=10,
        confirmed=[1, 2],
    )
    assert check(books) != []
    assert check(without_stuck(books)) == []


def test_the_trace_contradicts_a_log_that_tells_of_fewer_runs():
    once, twice, unknown = (Attempt("saga", step, False, 1) for step in ("once", "twice", "unknown"))
    found = list(check_trace([once, twice, unknown, twice], {once, twice}))
    assert found == [f"{twice}: it ran 2 times", f"{unknown}: it ran, but the log does not know of it"]


def test_a_task_notes_the_attempt_that_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(trace.FILE, str(tmp_path / "trace"))
    monkeypatch.setattr(trace.os, "getppid", lambda: 42)
    trace._file.cache_clear()
    saga = UUID(int=1)
    trace.note()
    token = set_current(Current(saga, "place_order", "payment", 3, "key", "key", True))
    try:
        trace.note(sender=SimpleNamespace())
    finally:
        reset_current(token)
        trace._file.cache_clear()
    assert trace.read(tmp_path / "trace") == [Ran(Attempt(str(saga), "payment", True, 3), 42)]
    assert trace.read(tmp_path / "nothing") == []
