"""Measures sagas against chains, in interleaved rounds on one embedded stack: ratios first, then rates."""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import psycopg
from rich.console import Console
from rich.table import Table

from saga import schema
from saga.dev import Stack

ROOT = Path(__file__).parent
RESULTS = ROOT / "results"
PATIENCE = 120.0


@click.command()
@click.option(
    "--rounds", default=5, show_default=True, help="Rounds of each workload; one more is run first and thrown away."
)
@click.option("--runs", default=500, show_default=True, help="Sagas, or chains, of a round.")
def main(rounds: int, runs: int) -> None:
    """Four no-op steps as a saga and as a chain: one worker, two prefork children, fsync on, client on the same machine."""
    with Stack() as stack:
        os.environ |= {"SAGA_DATABASE_URL": stack.database_url, "CELERY_BROKER_URL": stack.broker_url}
        from benchmarks import noop_app

        schema.upgrade(noop_app.orchestrator.database)
        # Quieter than a worker that is waited for: the first round, which is thrown away, waits for it instead.
        stack.worker("benchmarks.noop_app", concurrency=2, cwd=ROOT.parent, arguments=["--loglevel=warning"])
        workloads = {
            "chain": lambda: run_chains(noop_app, runs),
            "start": lambda: run_sagas(stack, lambda: start_each(noop_app, runs)),
            "start_many": lambda: run_sagas(stack, lambda: start_together(noop_app, runs)),
        }
        rates = measure(workloads, rounds, runs)
        noop_app.orchestrator.close()
    report(rates)


def measure(workloads: dict[str, Callable[[], None]], rounds: int, runs: int) -> dict[str, list[float]]:
    """Runs a second of each workload, round by round; the first round warms up."""
    rates: dict[str, list[float]] = {name: [] for name in workloads}
    for number in range(rounds + 1):
        for name, workload in workloads.items():
            began = time.perf_counter()
            workload()
            if number:
                rates[name].append(runs / (time.perf_counter() - began))
        print(f"round {number} of {rounds}", file=sys.stderr)
    return rates


def run_chains(app: Any, runs: int) -> None:
    app.counter.delete(app.DONE)
    for _ in range(runs):
        app.four_tasks.apply_async()
    wait_for(lambda: int(app.counter.get(app.DONE) or 0) >= runs)


def run_sagas(stack: Stack, start: Callable[[], None]) -> None:
    start()
    with psycopg.connect(stack.database_url.replace("+psycopg", ""), autocommit=True) as connection:
        query = "SELECT EXISTS (SELECT FROM saga.instance WHERE status <> 'completed')"
        wait_for(lambda: connection.execute(query).fetchone() == (False,))


def start_each(app: Any, runs: int) -> None:
    for _ in range(runs):
        app.orchestrator.start(app.four_steps, {})


def start_together(app: Any, runs: int) -> None:
    app.orchestrator.start_many(app.four_steps, [{}] * runs)


def wait_for(question: Callable[[], bool]) -> None:
    limit = time.monotonic() + PATIENCE
    while not question():
        if time.monotonic() > limit:
            raise SystemExit(f"the workload was not done after {PATIENCE:g} s")
        time.sleep(0.01)


def report(rates: dict[str, list[float]]) -> None:
    """Print the table and keep it as JSON."""
    base = statistics.median(rates["chain"])
    table = Table("four no-op steps", "ratio to the chain", "a second", "lowest", "highest")
    for name, values in rates.items():
        median = statistics.median(values)
        table.add_row(name, f"{median / base:.2f}", f"{median:.0f}", f"{min(values):.0f}", f"{max(values):.0f}")
    Console().print(table)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "noop.json").write_text(json.dumps({"a_second": rates}, indent=2) + "\n")


if __name__ == "__main__":
    main()
