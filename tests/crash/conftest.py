"""The matrix's figure: how long it took from each kill to the next attempt. It is told, never tested."""

from __future__ import annotations

import statistics

import pytest

KILL_TO_PROGRESS = "kill to progress"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reports = terminalreporter.getreports("passed")
    seconds = [value for report in reports for name, value in report.user_properties if name == KILL_TO_PROGRESS]
    if len(seconds) > 1:
        terminalreporter.write_line(
            f"from a kill to the next attempt, {len(seconds)} times: p50 {statistics.median(seconds):.2f} s, "
            f"p99 {statistics.quantiles(seconds, n=100)[98]:.2f} s, max {max(seconds):.2f} s"
        )
