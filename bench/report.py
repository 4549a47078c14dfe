"""Report: what came of a run, as tables and as a JSON document."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table

from .figures import Spread, ratios, spread
from .meter import Reading
from .rounds import Measured, Results
from .workloads import CHAIN, DBOS, SAGA, TASK

FURTHER = {"single": (TASK, DBOS), "many": (TASK, DBOS)}
"""What sagas are compared with besides the chain."""

# --- the document -----------------------------------------------------------------------------------------------------


def document(date: str, facts: Mapping[str, Any], results: Iterable[Results]) -> dict[str, Any]:
    """All of it, as JSON. It names no machine and no folder."""
    return {"date": date, "facts": dict(facts), "workloads": [workload_document(found) for found in results]}


def workload_document(found: Results) -> dict[str, Any]:
    """One workload."""
    workload = found.workload
    return {
        "name": workload.name,
        "title": workload.title,
        "note": workload.note,
        "unit": workload.unit,
        "less_is_better": workload.one_by_one,
        "steps": workload.steps,
        "runs": found.runs,
        "pool": workload.pool,
        "concurrency": workload.concurrency,
        "ratios": {f"{SAGA}/{base}": _rounded(saga_ratio(found, base)) for base in bases(found)},
        "contenders": {
            name: contender_document(each, chain_ratio(found, name), workload.steps)
            for name, each in found.measured.items()
        },
        "absent": dict(found.absent),
    }


def contender_document(measured: Measured, ratio: Spread | None, steps: int) -> dict[str, Any]:
    """One contender: its figures of each round, and what one of its runs, and a step of it, costs."""
    cost = costs(measured.costs)
    return {
        "ratio_to_chain": _rounded(ratio),
        **_rounded(spread(measured.figures)),
        "figures": [_round(figure) for figure in measured.figures],
        **({"p99": _round(statistics.median(measured.p99))} if measured.p99 else {}),
        "cpu_ms": {part: _round(1000 * seconds) for part, seconds in cost.cpu.items()},
        "postgres": {
            "statements": _round(cost.statements),
            "commits": _round(cost.commits),
            "wal_bytes": round(cost.wal),
            "wal_bytes_a_step": round(cost.wal / steps),
            "log_bytes": _round(measured.log_bytes),
            "stored_bytes": _round(measured.stored_bytes),
        },
    }


def costs(readings: Sequence[Reading]) -> Reading:
    """The median round, for each cost by itself."""
    parts = {part for reading in readings for part in reading.cpu}
    counted = [reading.statements for reading in readings if reading.statements is not None]
    return Reading(
        {part: statistics.median(reading.cpu.get(part, 0.0) for reading in readings) for part in sorted(parts)},
        statistics.median(counted) if counted else None,
        statistics.median(reading.commits for reading in readings),
        statistics.median(reading.wal for reading in readings),
    )


def bases(found: Results) -> list[str]:
    """What sagas are compared with in this workload."""
    wanted = (CHAIN, *FURTHER.get(found.workload.name, ()))
    return [name for name in wanted if name in found.measured and SAGA in found.measured]


def saga_ratio(found: Results, base: str) -> Spread:
    """Sagas to another one."""
    return ratios(found.measured[SAGA].figures, found.measured[base].figures)


def chain_ratio(found: Results, name: str) -> Spread | None:
    """A contender to the chain."""
    if CHAIN not in found.measured:
        return None
    return ratios(found.measured[name].figures, found.measured[CHAIN].figures)


def _round(value: float | None) -> float | None:
    """To four digits that count."""
    return None if value is None else float(f"{value:.4g}")


def _rounded(found: Spread | None) -> dict[str, float | None]:
    return {} if found is None else {name: _round(value) for name, value in asdict(found).items()}


# --- the tables -------------------------------------------------------------------------------------------------------


def show(console: Console, report: Mapping[str, Any]) -> None:
    """Print what a document says: the ratios and rates, then the costs."""
    console.print(rates_table(report["workloads"]))
    for workload in report["workloads"]:
        for base, ratio in workload["ratios"].items():
            if base != f"{SAGA}/{CHAIN}":
                console.print(f"{workload['name']}: {base} {_spread(ratio)}")
        for name, why in workload["absent"].items():
            console.print(f"{workload['name']}: without {name}: {why}")
    console.print(costs_table(report["workloads"]))


def rates_table(workloads: Sequence[Mapping[str, Any]]) -> Table:
    """Ratios first, then rates: the median, and from where to where."""
    table = Table("workload", "contender", title="Next to Celery's chain: median of the rounds, lowest … highest")
    for heading in ("ratio to chain", "", "runs a second", ""):
        table.add_column(heading, justify="right", no_wrap=True)
    for workload in workloads:
        first = True
        for name, found in workload["contenders"].items():
            ratio = found["ratio_to_chain"]
            table.add_row(
                workload["name"] if first else "",
                name,
                f"{ratio['median']:.2f}" if ratio else "",
                _range(ratio) if ratio else "",
                _figure(found, workload),
                _range(found),
            )
            first = False
        table.add_section()
    return table


def costs_table(workloads: Sequence[Mapping[str, Any]]) -> Table:
    """What one run costs."""
    table = Table("workload", "contender", title="What one run costs: ms of a processor, what Postgres did, bytes")
    headings = ("Postgres", "broker", "workers", "client", "statements", "commits", "WAL", "log", "stored")
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    for workload in workloads:
        first = True
        for name, found in workload["contenders"].items():
            cpu, postgres = found["cpu_ms"], found["postgres"]
            workers = cpu.get("workers", 0.0) + cpu.get("dbos", 0.0)
            table.add_row(
                workload["name"] if first else "",
                name,
                *(_cell(cpu.get(part), ".2f") for part in ("postgres", "broker")),
                f"{workers:.2f}",
                f"{cpu['client']:.2f}",
                *(_cell(postgres[column], ".1f") for column in ("statements", "commits")),
                *(_cell(postgres[column], ",.0f") for column in ("wal_bytes", "log_bytes", "stored_bytes")),
            )
            first = False
        table.add_section()
    return table


def _figure(found: Mapping[str, Any], workload: Mapping[str, Any]) -> str:
    if workload["less_is_better"]:
        return f"{found['median']:.1f} ms, p99 {found['p99']:.1f} ms"
    return f"{found['median']:,.0f}"


def _range(found: Mapping[str, float]) -> str:
    digits = ".2f" if found["high"] < 100 else ",.0f"
    return f"{found['low']:{digits}} … {found['high']:{digits}}"


def _spread(found: Mapping[str, float]) -> str:
    return f"{found['median']:.2f} ({_range(found)})"


def _cell(value: float | None, digits: str) -> str:
    return "" if value is None else f"{value:{digits}}"
