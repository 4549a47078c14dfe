"""A log of ten thousand entries is shown in a moment; counted in instructions, never in time."""

from __future__ import annotations

from uuid import UUID

import pytest

from saga.cli.history import _moments
from saga.cli.output import print_table
from saga.core.events import AttemptStarted, AttemptSucceeded, Entry, SagaStarted
from saga.engine.draft import Instance

from .effort import effort
from .helpers import NOON
from .test_wide import FEW, MANY, wide

ROWS = [
    (number, "2026-01-01 12:00:00", "succeeded", "reservé\x1b[2J", None, '{"result": "r-1"}') for number in range(2000)
]
COLUMNS = ("seq", "at", "status", "step", "worker", "data")


def test_a_row_of_a_long_table_costs_next_to_nothing(capsys: pytest.CaptureFixture[str]):
    rows = ROWS[:1000]
    assert effort(lambda: print_table(COLUMNS, rows)) / len(rows) < 2000
    assert capsys.readouterr().out.count("\n") == len(rows) + 1


def test_a_long_table_reads_as_a_short_one(capsys: pytest.CaptureFixture[str]):
    print_table(COLUMNS, ROWS[:200])
    short = capsys.readouterr().out.splitlines()
    print_table(COLUMNS, ROWS[:201])
    long = capsys.readouterr().out.splitlines()
    assert [line.rstrip() for line in short] == long[:201]
    assert "\x1b" not in "".join(long)


def test_what_an_entry_changed_is_found_alike_fast_in_a_wide_saga_and_in_a_narrow_one():
    few, many = replaying(FEW), replaying(MANY)
    assert few > 100, "nothing was counted"
    assert many <= few * 1.05


def replaying(branches: int) -> float:
    """The effort for each entry after the first, which concerns them all."""
    saga = wide(branches)
    entries = [Entry(1, SagaStarted({}), NOON)]
    for number in range(20):
        step = f"s{number}"
        lane = saga.outline.steps[step].lane
        for event in (AttemptStarted(lane, step, 1), AttemptSucceeded(lane, step, 1)):
            entries.append(Entry(len(entries) + 1, event, NOON, 1))
    instance = Instance(UUID(int=1), saga.outline, None)
    first, whole = (effort(lambda some=some: list(_moments(instance, some))) for some in (entries[:1], entries))
    return (whole - first) / (len(entries) - 1)
