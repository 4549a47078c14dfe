"""What the benchmark computes, decides and draws; none of it needs a stack."""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from rich.console import Console

from bench import chart, guard, machines, wide
from bench.figures import Spread, percentile, ratios, spread
from bench.guard import Floor
from bench.meter import Reading
from bench.report import document, show
from bench.rounds import Measured, Results, in_turn
from bench.workloads import BY_NAME, CHAIN, SAGA, TASK, WORKLOADS

ROOT = Path(__file__).parents[2]


def reading(commits: float = 6.0, **cpu: float) -> Reading:
    return Reading(cpu or {"client": 0.001, "workers": 0.002}, 6.2, commits, 4400.0)


def measured(*figures: float, p99: float | None = None) -> Measured:
    return Measured(list(figures), [p99] * len(figures) if p99 else [], [reading() for _ in figures], 960.0, 2400.0)


def results(workload: str = "single", **figures: list[float]) -> Results:
    names = {"pgsaga": SAGA, "chain": CHAIN, "task": TASK}
    p99 = 9.0 if BY_NAME[workload].one_by_one else None
    found = {names[name]: measured(*values, p99=p99) for name, values in figures.items()}
    return Results(BY_NAME[workload], 300, found, {"DBOS": "DBOS is not installed"})


def report() -> dict[str, Any]:
    found = [
        results(pgsaga=[400.0, 300.0, 500.0], chain=[100.0, 100.0, 200.0], task=[800.0, 800.0, 800.0]),
        results("latency", pgsaga=[3.0, 3.0, 3.0], chain=[6.0, 6.0, 6.0]),
    ]
    return document("2026-01-01", {"processors": 2}, found)


# --- figures ----------------------------------------------------------------------------------------------------------


def test_a_spread_is_the_median_the_lowest_and_the_highest():
    assert spread([3, 1, 2]) == Spread(2, 1, 3)
    assert spread([1, 2]) == Spread(1.5, 1, 2)
    with pytest.raises(ValueError, match="at least one"):
        spread([])


def test_a_ratio_is_taken_within_a_round_so_that_a_slow_round_changes_none():
    assert ratios([400, 40, 400], [200, 20, 200]) == Spread(2, 2, 2)
    with pytest.raises(ValueError, match="zip"):
        ratios([400, 40], [200])


@pytest.mark.parametrize(("percent", "expected"), [(0, 1), (50, 5), (90, 9), (99, 10), (100, 10)])
def test_a_percentile_is_one_of_the_values(percent: float, expected: float):
    assert percentile(list(range(10, 0, -1)), percent) == expected


def test_each_round_begins_with_another_contender_and_leaves_none_out():
    turns = [in_turn(["a", "b", "c"], number) for number in range(4)]
    assert turns == [["a", "b", "c"], ["b", "c", "a"], ["c", "a", "b"], ["a", "b", "c"]]


def test_what_a_run_costs_is_the_difference_of_two_readings():
    before, after = Reading({"client": 1.0}, 10, 5, 100), Reading({"client": 3.0, "dbos": 7.0}, 30, 15, 300)
    assert after.since(before, 10) == Reading({"client": 0.2, "dbos": 0.0}, 2, 1, 20)
    assert after.since(Reading({}, None, 5, 100), 10).statements is None


# --- workloads --------------------------------------------------------------------------------------------------------


def test_every_workload_compares_sagas_with_a_chain():
    for workload in WORKLOADS:
        assert {SAGA, CHAIN} <= workload.contenders.keys()
    assert len(BY_NAME) == len(WORKLOADS)


def test_the_figure_is_a_rate_or_the_median_of_single_runs():
    assert BY_NAME["single"].figure(300, [2.0]) == 150
    assert BY_NAME["latency"].figure(3, [0.003, 0.001, 0.002]) == 2


# --- the guard --------------------------------------------------------------------------------------------------------


def test_the_floors_that_are_kept_can_be_read():
    floors = guard.read_floors(guard.FILE.read_text())
    assert {floor.workload for floor in floors} == {"single", "many", "rollback", "latency"}
    assert all(floor.at_most == BY_NAME[floor.workload].one_by_one for floor in floors)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"nothing": {"chain": {"at_least": 1}}}', "nothing: chain: there is no such workload"),
        ('{"single": {"nobody": {"at_least": 1}}}', "single: nobody: there is no such workload, or no such contender"),
        ('{"single": {"chain": {"least": 1}}}', "expected at_least or at_most, got least"),
        ('{"single": {"chain": {}}}', "got nothing"),
    ],
)
def test_floors_that_mean_nothing_are_refused(text: str, words: str):
    with pytest.raises(ValueError, match=words):
        guard.read_floors(text)


def test_a_floor_names_the_workload_the_ratio_and_the_bound():
    rate, latency = Floor("single", CHAIN, 2.0), Floor("latency", CHAIN, 0.8, at_most=True)
    assert rate.verdict(1.5) == "FAILED: single: pgsaga to chain 1.50, expected at least 2"
    assert rate.verdict(2.5).startswith("ok")
    assert latency.verdict(0.9) == "FAILED: latency: pgsaga to chain 0.90, expected at most 0.8"
    assert latency.verdict(0.5).startswith("ok")


@pytest.mark.parametrize(
    ("rates", "held", "measurements"),
    [([300], True, 1), ([100, 300], True, 2), ([100, 150, 120], False, 3)],
)
def test_what_falls_short_is_measured_again_and_its_best_counts(rates: list[float], held: bool, measurements: int):
    said: list[str] = []
    ahead = iter(rates)
    floors = [Floor("single", CHAIN, 2.0)]
    assert guard.check(floors, lambda _, __: results(pgsaga=[next(ahead)], chain=[100.0]), said.append) is held
    assert list(ahead) == []
    assert sum("again" in line for line in said) == measurements - 1
    assert said[-1] == floors[0].verdict(max(rates) / 100)


def test_the_guard_measures_only_whom_the_floors_are_about():
    wanted = []

    def measure(workload: Any, contenders: list[str]) -> Results:
        wanted.append((workload.name, contenders))
        return results("many", pgsaga=[900.0], chain=[100.0], task=[900.0])

    assert guard.check([Floor("many", CHAIN, 4.0), Floor("many", TASK, 0.8)], measure, str)
    assert wanted == [("many", [SAGA, CHAIN, TASK])]


# --- the report -------------------------------------------------------------------------------------------------------


def test_the_document_has_the_ratios_of_the_rounds_and_what_a_run_costs():
    single, latency = report()["workloads"]
    assert single["ratios"]["pgsaga/chain"] == {"median": 3.0, "low": 2.5, "high": 4.0}
    assert single["ratios"]["pgsaga/one task"]["median"] == 0.5
    assert single["contenders"][SAGA]["cpu_ms"] == {"client": 1.0, "workers": 2.0}
    assert single["contenders"][SAGA]["postgres"]["wal_bytes_a_step"] == 1100
    assert single["absent"] == {"DBOS": "DBOS is not installed"}
    assert latency["contenders"][SAGA]["p99"] == 9.0
    assert latency["less_is_better"]
    assert json.loads(json.dumps(report())) == report()


def test_the_tables_show_ratios_rates_and_who_is_absent():
    console = Console(width=200)
    with console.capture() as shown:
        show(console, report())
    text = shown.get()
    assert "single: without DBOS: DBOS is not installed" in text
    assert "pgsaga/one task 0.50" in text
    row = next(line for line in text.splitlines() if "pgsaga" in line and "3.00" in line)
    assert "400" in row
    assert "3.0 ms, p99 9.0 ms" in text


# --- the charts -------------------------------------------------------------------------------------------------------

CURVE = machines.points({1: [100.0, 100.0], 2: [190.0, 180.0], 4: [300.0, 320.0]})


@pytest.mark.parametrize("picture", [chart.bars(report()), chart.scaling(CURVE)], ids=["bars", "scaling"])
def test_a_chart_is_well_formed_and_for_light_and_dark(picture: str):
    root = ElementTree.fromstring(picture)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert "prefers-color-scheme: dark" in picture
    width, height = float(root.attrib["width"]), float(root.attrib["height"])
    for bar in root.iter("{http://www.w3.org/2000/svg}rect"):
        assert float(bar.get("x", 0)) + float(bar.attrib["width"]) <= width
        assert float(bar.get("y", 0)) + float(bar.attrib["height"]) <= height


def test_the_chart_leaves_out_the_chain_which_is_its_line():
    texts = [
        each.text for each in ElementTree.fromstring(chart.bars(report())).iter("{http://www.w3.org/2000/svg}text")
    ]
    assert texts.count(SAGA) == 2
    assert TASK in texts
    assert CHAIN not in texts
    assert "3.00" in texts


def test_names_of_a_chart_are_escaped():
    found = report()
    found["workloads"][0]["title"] = "a < b & c"
    assert ElementTree.fromstring(chart.bars(found)) is not None


def test_the_curve_of_machines_is_to_one_worker():
    assert [(point["workers"], point["ratio"]["median"]) for point in CURVE] == [(1, 1.0), (2, 1.85), (4, 3.1)]


# --- what is kept -----------------------------------------------------------------------------------------------------


def test_the_peers_that_are_measured_are_pinned():
    text = (ROOT / "setup.cfg").read_text()
    assert "dbos==" in text
    assert "celery-saga==" in text


# --- wide sagas -------------------------------------------------------------------------------------------------------


def test_as_many_branches_are_run_in_sagas_of_each_width():
    shapes = wide.shapes_of([10, 1000], 4000)
    assert {shape.branches * shape.sagas for shape in shapes} == {4000}
    assert [str(shape) for shape in shapes] == ["400 of 10 together", "4 of 1,000 in turn", "4 of 1,000 together"]


def test_a_branch_is_compared_with_one_of_a_narrow_saga_of_the_same_round():
    narrow, together = wide.Shape(10, 400), wide.Shape(1000, 4)
    spent = reading(workers=0.0002, postgres=0.0001)
    counts = dict.fromkeys(wide.KINDS, 100.0)
    costs = {
        shape: wide.Costs(processor, [spent] * 3, [1.0] * 3, [counts] * 3)
        for shape, processor in ((narrow, [1.0, 2.0, 3.0]), (together, [1.1, 2.4, 3.0]))
    }
    told = StringIO()
    Console(width=200, file=told).print(wide.table(costs))
    assert "4 of 1,000 together │  1.10 │ 1.00 to 1.20" in told.getvalue()


def test_nothing_of_the_benchmark_is_shipped():
    assert '"bench"' not in (ROOT / "setup.py").read_text()
