"""A large log: what it does to throughput and to reading, and what sagas leave behind: ``python -m bench.size``."""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click
import psutil
import psycopg
from rich.console import Console
from rich.table import Table

from bench import size_dbos, size_fill, size_finds, size_load, size_wal
from saga import Orchestrator, schema
from saga.dev import Stack, Worker

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results" / "size.json"
SETTINGS: dict[str, str | int] = {"max_wal_size": "4GB", "wal_keep_size": "1GB"}
RUNNING = 300
MEGABYTE = 1 << 20

Results = dict[str, Any]


class Log:
    """A saga log in a database of its own, and a worker for it."""

    def __init__(self, stack: Stack, name: str) -> None:
        from bench.size_app import build

        self.stack = stack
        self.url = stack.postgres.create_database(name)
        self.orchestrator: Orchestrator = build(name, stack.broker_url, self.url)
        schema.upgrade(self.orchestrator.database)
        self.connection = connect(self.url)
        self.worker: Worker = stack.worker(
            "bench.size_app", concurrency=2, cwd=ROOT, arguments=["--loglevel=warning"],
            env={"SAGA_DATABASE_URL": self.url, "SIZE_QUEUE": name},
        )  # fmt: skip
        size_load.run(self.orchestrator, "place_order", 200, "warm")

    def close(self) -> None:
        """End what it has."""
        self.worker.terminate()
        self.worker.stop(10)
        self.connection.close()
        self.orchestrator.close()


@contextmanager
def opened(stack: Stack, name: str) -> Iterator[Log]:
    log = Log(stack, name)
    try:
        yield log
    finally:
        log.close()


def connect(url: str) -> size_load.Connection:
    return psycopg.connect(url.replace("+psycopg", ""), autocommit=True)


@click.command()
@click.option("--sagas", default=1_000_000, show_default=True, help="Finished sagas in the log; a million takes 3 GB.")
@click.option("--rounds", default=7, show_default=True, help="Rounds of the comparison with an empty log.")
@click.option("--runs", default=1000, show_default=True, help="Sagas of a round.")
@click.option("--load", default=100_000, show_default=True, help="Sagas over which memory and tables are watched.")
@click.option(
    "--plain", default=30_000, show_default=True, help="Sagas over which they are, without our settings of tables."
)
@click.option("--json", "as_json", is_flag=True, help="Print the results as JSON.")
def main(sagas: int, rounds: int, runs: int, load: int, plain: int, as_json: bool) -> None:
    """Measure a log of a million sagas: throughput, reading, bytes, memory, and what becomes of the tables."""
    results: Results = {"sagas": sagas}
    with Stack(settings=SETTINGS) as stack:
        os.environ |= {"CELERY_BROKER_URL": stack.broker_url}
        with opened(stack, "empty") as empty:
            keep(results, "bytes", bytes_of_sagas(empty, runs))
            with opened(stack, "full") as full:
                fill(full, sagas)
                keep(results, "finds", finds(full, sagas))
                keep(results, "throughput", throughput(empty, full, rounds, runs))
                keep(results, "load", watch(full, load))
        with opened(stack, "plain") as log:
            forget_settings(log)
            keep(results, "plain", watch(log, plain))
    if as_json:
        print(json.dumps(results, indent=2))
    else:
        report(results)


def keep(results: Results, name: str, found: Any) -> Any:
    """Write down what there is so far: the next part may be interrupted."""
    results[name] = found
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(results, indent=2) + "\n")
    return found


def say(text: str, end: str = "\n") -> None:
    print(text, end=end, file=sys.stderr, flush=True)


# --- the parts --------------------------------------------------------------------------------------------------------


def bytes_of_sagas(log: Log, runs: int) -> Results:
    """What a saga costs in bytes, and a workflow of DBOS next to it."""
    found: Results = {}
    for name in ("place_order", "four_steps"):
        say(f"bytes of {name}")
        run = counted(lambda number, name=name: size_load.run(log.orchestrator, name, runs, f"bytes-{name}-{number}"))  # type: ignore[misc]
        found[name] = cost(size_wal.measure(log.stack, log.connection, "saga", runs, run))
    if find_spec("dbos") is None:
        say("DBOS is not installed: pip install dbos==3.4.0")
        return found
    say("bytes of DBOS")
    url = log.stack.postgres.create_database("dbos")
    peer = size_dbos.Peer(url)
    with connect(url) as connection:
        found["dbos"] = cost(size_wal.measure(log.stack, connection, "dbos", runs, lambda: peer.run(runs)))
    peer.close()
    return found


def counted(work: Callable[[int], object]) -> Callable[[], object]:
    """It with the number of the call."""
    numbers = iter(range(sys.maxsize))
    return lambda: work(next(numbers))


def cost(costs: dict[str, size_wal.Cost]) -> Results:
    return {"total": size_wal.total(costs).row(), "relations": {name: cost.row() for name, cost in costs.items()}}


def fill(log: Log, sagas: int) -> None:
    """Fill the log with sagas that are over, but for a few."""
    patterns = size_fill.run_patterns(log.orchestrator, wait)
    began = time.monotonic()
    for count in size_fill.fill(log.connection, patterns, sagas, min(RUNNING, sagas // 10)):
        say(f"\rfilled {count:,} of {sagas:,}, {time.monotonic() - began:.0f} s", end="")
    say("")


def wait(question: Callable[[], bool]) -> None:
    limit = time.monotonic() + size_load.PATIENCE
    while not question():
        if time.monotonic() > limit:
            raise SystemExit(f"waited {size_load.PATIENCE:g} s in vain")
        time.sleep(0.05)


def finds(log: Log, sagas: int) -> list[Results]:
    """How long it takes to find sagas."""
    say("finding")
    looks = list(size_finds.finds(log.orchestrator, sagas))
    os.environ["SAGA_DATABASE_URL"] = log.url
    return [look.row() for look in (*looks, *size_finds.commands(log.orchestrator, "bench.size_app", sagas))]


def throughput(empty: Log, full: Log, rounds: int, runs: int) -> Results:
    """The same sagas in turn on an empty log and on a full one; the first round is thrown away."""
    found: Results = {"empty": [], "full": []}
    for number in range(rounds + 1):
        for name, log in (("empty", empty), ("full", full)):
            before = processor_seconds(log)
            seconds = size_load.run(log.orchestrator, "place_order", runs, f"round-{number}")
            used = processor_seconds(log) - before
            if number:
                found[name].append({"a_second": runs / seconds, "processor_ms": used / runs * 1000})
        say(f"round {number} of {rounds}")
    for measure in ("a_second", "processor_ms"):
        medians = [statistics.median(row[measure] for row in found[name]) for name in ("full", "empty")]
        found[f"ratio_{measure}"] = medians[0] / medians[1]
    return found


def processor_seconds(log: Log) -> float:
    """What the worker's processes and Postgres's have used so far."""
    postgres = psutil.Process(log.stack.postgres.pid).children()
    times = [process.cpu_times() for process in (*log.worker.children(), *postgres)]
    return sum(time.user + time.system for time in times)


def watch(log: Log, sagas: int) -> list[Results]:
    """Memory and tables while sagas run."""
    samples = []
    for sample in size_load.sustain(log.orchestrator, log.connection, log.worker, sagas, min(10_000, sagas), "load"):
        say(f"ran {sample.sagas:,} of {sagas:,}, {sample.seconds:.0f} s")
        samples.append(sample.row())
    return samples


def forget_settings(log: Log) -> None:
    """Take back what the migrations set for the tables."""
    rows = log.connection.execute(
        "SELECT relname, option_name FROM pg_class, pg_options_to_table(reloptions) WHERE relnamespace = 'saga'::regnamespace AND relkind = 'r'"
    ).fetchall()
    for table, option in rows:
        log.connection.execute(f"ALTER TABLE saga.{table} RESET ({option})".encode())


# --- the report -------------------------------------------------------------------------------------------------------


def report(results: Results) -> None:
    """Print it as tables."""
    console = Console() if sys.stdout.isatty() else Console(width=200)
    parts = (bytes_table, finds_table, throughput_table, memory_table, wear_table)
    for part in parts:
        console.print(part(results))


def table(title: str, *columns: str, rows: Iterable[Iterable[object]]) -> Table:
    found = Table(*columns, title=title)
    for row in rows:
        found.add_row(*(f"{cell:,.1f}" if isinstance(cell, float) else f"{cell}" for cell in row))
    return found


def bytes_table(results: Results) -> Table:
    rows = [
        (run, name, cost["records"], cost["wal"], cost["pages"], cost["disk"])
        for run, found in results["bytes"].items()
        for name, cost in {"total": found["total"], **found["relations"]}.items()
        if cost["wal"] >= 1 or cost["disk"] >= 1
    ]
    return table("for one saga", "what", "relation", "records", "WAL bytes", "whole pages", "disk bytes", rows=rows)


def finds_table(results: Results) -> Table:
    columns = ("median_ms", "worst_ms", "server_ms", "buffers", "nodes")
    rows = [(look["question"], look["found"], *(look[column] for column in columns)) for look in results["finds"]]
    return table(f"in {results['sagas']:,} sagas", "question", "found", *columns, rows=rows)


def throughput_table(results: Results) -> Table:
    found = results["throughput"]
    rows = [
        (measure, *(statistics.median(row[measure] for row in found[name]) for name in ("empty", "full")),
         f"{found[f'ratio_{measure}']:.3f}")
        for measure in ("a_second", "processor_ms")
    ]  # fmt: skip
    return table("throughput", "median", "empty log", "full log", "ratio", rows=rows)


def memory_table(results: Results) -> Table:
    rows = [
        (
            f"{sample['sagas']:,}",
            *(f"{rss / MEGABYTE:.1f} / {uss / MEGABYTE:.1f}" for rss, uss in sample["memory"].values()),
        )
        for sample in results["load"]
    ]
    return table("memory of the pool, MB resident / unshared", "sagas", "first", "second", rows=rows)


def wear_table(results: Results) -> Table:
    rows = [
        (run, f"{sample['sagas']:,}", name, kept["heap"] / MEGABYTE, kept["indexes"] / MEGABYTE, kept["dead"],
         f"{kept['hot'] / max(kept['updates'], 1):.1%}", kept["vacuums"],
         (sample["wal"] - results[run][0]["wal"]) / max(sample["sagas"], 1))
        for run in ("load", "plain")
        for sample in (results[run][0], results[run][len(results[run]) // 2], results[run][-1])
        for name, kept in sample["tables"].items()
    ]  # fmt: skip
    columns = ("sagas", "table", "heap MB", "indexes MB", "dead rows", "in place", "vacuums", "WAL bytes a saga")
    return table("tables", "run", *columns, rows=rows)


if __name__ == "__main__":
    main()
