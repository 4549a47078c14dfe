"""`python -m bench`: the workloads; `--check`: the guard; `python -m bench machines`: more workers."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from saga.dev import StackError

from . import chart, guard, machines, rounds
from .contenders import RunFailed
from .facts import facts
from .report import document, show
from .rounds import Results
from .servers import Servers, ServerUnfit, open_servers
from .workloads import BY_NAME, WORKLOADS, Workload

RESULTS = Path(__file__).with_name("results")
ROUNDS, MACHINE_ROUNDS, MACHINE_RUNS = 5, 3, 1000
QUICK_ROUNDS, QUICK_SHARE = 2, 4
"""Of a quick run: so many rounds, each with so small a part of the runs."""

POSITIVE = click.IntRange(min=1)


@dataclass(frozen=True)
class Given:
    """The options that all commands share."""

    database_url: str | None
    broker_url: str | None
    rounds: int | None
    runs: int | None
    as_json: bool


@click.group(invoke_without_command=True)
@click.option("--database-url", help="A Postgres to use. [default: an embedded one]")
@click.option("--broker-url", help="A broker to use. [default: an embedded one]")
@click.option("--rounds", type=POSITIVE, help=f"Rounds of each workload, after one to warm up. [default: {ROUNDS}]")
@click.option("--runs", type=POSITIVE, help="Runs of each contender in a round. [default: what the workload says]")
@click.option(
    "--workload", "names", multiple=True, type=click.Choice(list(BY_NAME)), help="Only this one; may be repeated."
)
@click.option("--quick", is_flag=True, help=f"{QUICK_ROUNDS} rounds with few runs; the results are not kept.")
@click.option("--check", is_flag=True, help="Only see whether the ratios of floors.json hold; exits with 1 if not.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of tables.")
@click.pass_context
def main(
    context: click.Context,
    database_url: str | None,
    broker_url: str | None,
    rounds: int | None,
    runs: int | None,
    names: Sequence[str],
    quick: bool,
    check: bool,
    as_json: bool,
) -> None:
    """Measure sagas next to Celery's own chains and to their peers, and keep the results in bench/results.

    A database that is given is written to only in the schemas saga_bench, dbos_bench and floor_bench, which are dropped
    before and after.
    """
    given = context.obj = Given(database_url, broker_url, rounds, runs, as_json)
    if context.invoked_subcommand:
        refuse(context, names or quick or check, "--workload, --quick and --check")
        return
    refuse(context, check and (names or quick or as_json), "with --check, --workload, --quick and --json")
    workloads = [BY_NAME[name] for name in dict.fromkeys(names)] or list(WORKLOADS)
    if check:
        run_check(given)
    else:
        run_workloads(given, workloads, quick)


@main.command("machines")
@click.pass_obj
def machines_command(given: Given) -> None:
    """How the rate grows with 1, 2 and 4 workers of one process each."""
    with opened(given) as servers:
        found = machines.points(
            machines.measure(servers, given.rounds or MACHINE_ROUNDS, given.runs or MACHINE_RUNS, tell)
        )
        report = {"date": today(), "facts": facts(servers), "points": found}
    write("bench.json", {**read(), "machines": report})
    (RESULTS / "machines.svg").write_text(chart.scaling(found))
    if given.as_json:
        print(json.dumps(report, indent=2))
    else:
        console().print(machines.table(found))


def run_workloads(given: Given, workloads: Sequence[Workload], quick: bool) -> None:
    """Measure, print, and keep the results of a whole run."""
    number = given.rounds or (QUICK_ROUNDS if quick else ROUNDS)
    with opened(given, counting=True) as servers:
        results = [
            rounds.measure(workload, servers, number, given.runs or runs_of(workload, quick), tell)
            for workload in workloads
        ]
        report = document(today(), facts(servers), results)
    if not quick and len(workloads) == len(WORKLOADS):
        write("bench.json", {**report, **({"machines": kept} if (kept := read().get("machines")) else {})})
        (RESULTS / "bench.svg").write_text(chart.bars(report))
    if given.as_json:
        print(json.dumps(report, indent=2))
    else:
        show(console(), report)


def run_check(given: Given) -> None:
    """The guard."""
    floors = guard.read_floors(guard.FILE.read_text())
    with opened(given, in_memory=True) as servers:

        def measure(workload: Workload, contenders: list[str]) -> Results:
            runs = given.runs or min(guard.RUNS, workload.runs)
            return rounds.measure(workload, servers, given.rounds or guard.ROUNDS, runs, tell, contenders)

        held = guard.check(floors, measure, click.echo)
    if not held:
        sys.exit(1)


def runs_of(workload: Workload, quick: bool) -> int:
    """How many runs a round has."""
    return workload.runs // QUICK_SHARE if quick else workload.runs


@contextmanager
def opened(given: Given, *, counting: bool = False, in_memory: bool = False) -> Iterator[Servers]:
    """The servers; whatever goes wrong with them is said in a line, and however it ends, they are stopped."""
    try:
        with open_servers(given.database_url, given.broker_url, counting=counting, in_memory=in_memory) as servers:
            yield servers
    except KeyboardInterrupt:
        click.echo("\nInterrupted; everything is stopped.", err=True)
        sys.exit(130)
    except (ServerUnfit, StackError, RunFailed) as error:
        raise click.ClickException(str(error)) from None


def refuse(context: click.Context, wrong: object, options: str) -> None:
    """Options that say nothing together are an error."""
    if wrong:
        command = context.invoked_subcommand
        raise click.UsageError(f"{options} do not go with {command!r}" if command else f"{options} have no meaning")


def console() -> Console:
    """Wide enough for the tables where it is no terminal, which knows how wide it is."""
    return Console(width=None if sys.stdout.isatty() else 120, highlight=False)


def tell(text: str) -> None:
    """Say how far it is, where it does not mix with the results."""
    click.echo(text, err=True)


def today() -> str:
    return datetime.now(UTC).date().isoformat()


def read() -> dict[str, Any]:
    """The results that are kept."""
    file = RESULTS / "bench.json"
    return json.loads(file.read_text()) if file.exists() else {}


def write(name: str, report: Any) -> None:
    """Keep results."""
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / name).write_text(json.dumps(report, indent=2) + "\n")


main(prog_name="python -m bench")
