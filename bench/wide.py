"""Wide: what a branch costs in a saga of many branches, next to one in a saga of few.

    python -m bench.wide --branches 10 1000

The same number of branches is run in sagas of each width, all started together, and the wide ones also one after the
other; in turn, round by round, on one worker of two prefork processes with the embedded Postgres and broker. The figure is
processor time of the workers and of Postgres for one branch: a busy machine disturbs it less than the time that passes.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.table import Table

from examples.stage import environment
from saga import Saga

from . import meter
from . import wide_app as wide
from .contenders import Sagas
from .figures import ratios, spread
from .meter import Reading
from .rounds import in_turn
from .servers import COUNTING, Servers, open_servers

KINDS: Mapping[str, str] = {
    "claims": "%wish AS MATERIALIZED%",
    "appends": "%given AS MATERIALIZED%",
    "read on": "%seq >= coalesce(%",
}
"""Statements by what is in their text. Who reads on was late: its append found its place taken, and is drafted again."""


@dataclass(frozen=True)
class Shape:
    """Some sagas of so many branches each.

    Attributes:
        together: all are started at once; else each when the one before has ended.
    """

    branches: int
    sagas: int
    together: bool = True

    def __str__(self) -> str:
        how = "" if self.sagas == 1 else " together" if self.together else " in turn"
        return f"{self.sagas:,} of {self.branches:,}{how}"

    def run(self, servers: Servers, saga: Saga) -> float:
        """Run them all; the seconds it took."""
        sagas = Sagas(saga, together=True)
        runs = [self.sagas] if self.together else [1] * self.sagas
        seconds = sum(sagas.run(servers, count)[0] for count in runs)
        sagas.settle(servers)
        return seconds


@dataclass
class Costs:
    """What one branch cost, of each round.

    Attributes:
        processor: ms of the workers and of Postgres.
        readings: all that it cost.
        passed: ms of the time that passed.
        statements: of each kind, for a thousand branches.
    """

    processor: list[float] = field(default_factory=list)
    readings: list[Reading] = field(default_factory=list)
    passed: list[float] = field(default_factory=list)
    statements: list[dict[str, float]] = field(default_factory=list)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and tell."""
    given = options(arguments)
    shapes = shapes_of(given.branches, given.total)
    with (
        environment(**{wide.BRANCHES: " ".join(map(str, given.branches))}),
        open_servers(None, None, counting=True) as servers,
    ):
        sagas = wide.register(given.branches)
        with servers.workers("prefork", 2, app="bench.wide_app"):
            costs = measure(servers, shapes, lambda shape: sagas[shape.branches], given.rounds)
    Console(width=None if sys.stdout.isatty() else 140, highlight=False).print(table(costs))
    return 0


def options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """What is asked for."""
    parser = argparse.ArgumentParser(prog="python -m bench.wide", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--branches", type=int, nargs="+", default=[10, 1000], help="widths; compared with the first")
    parser.add_argument("--total", type=int, default=4000, help="branches of one measurement")
    parser.add_argument("--rounds", type=int, default=7)
    return parser.parse_args(arguments)


def shapes_of(widths: Sequence[int], total: int) -> list[Shape]:
    """The same number of branches in sagas of each width; the wider ones also one saga at a time."""
    first, *others = widths
    shapes = [Shape(first, total // first)]
    for width in others:
        shapes += [Shape(width, max(1, total // width), together) for together in (False, True)]
    return shapes


def measure(
    servers: Servers, shapes: Sequence[Shape], saga_of: Callable[[Shape], Saga], rounds: int
) -> dict[Shape, Costs]:
    """Each shape once in each round; what the first round costs is thrown away."""
    found = {shape: Costs() for shape in shapes}
    names = {str(shape): shape for shape in shapes}
    for number in range(rounds + 1):
        for name in in_turn(list(names), number):
            shape = names[name]
            branches = shape.branches * shape.sagas
            counts, before = statements(servers), meter.read(servers)
            seconds = shape.run(servers, saga_of(shape))
            spent = meter.read(servers).since(before, branches)
            if number:
                costs = found[shape]
                costs.processor.append(1000 * (spent.cpu["workers"] + spent.cpu["postgres"]))
                costs.readings.append(spent)
                costs.passed.append(1000 * seconds / branches)
                after = statements(servers)
                costs.statements.append({kind: 1000 * (after[kind] - counts[kind]) / branches for kind in KINDS})
        print(f"round {number} of {rounds}", file=sys.stderr, flush=True)
    return found


def statements(servers: Servers) -> dict[str, float]:
    """How many statements of each kind Postgres has run."""
    chosen = ", ".join(
        f"coalesce(sum(calls) FILTER (WHERE query LIKE %({number})s), 0)" for number in range(len(KINDS))
    )
    row: Any = servers.ask(
        f"SELECT {chosen} FROM {COUNTING}", {str(number): text for number, text in enumerate(KINDS.values())}
    )
    return dict(zip(KINDS, map(float, row), strict=True))


def table(costs: Mapping[Shape, Costs]) -> Table:
    """Medians, for a branch; each ratio is taken within a round."""
    base = next(iter(costs.values()))
    made = Table(title="For one branch: ms of a processor; for a thousand: statements", title_justify="left")
    for heading in ("sagas", "ratio", "", "workers", "Postgres", "both", "wall ms", "all", "commits", *KINDS):
        made.add_column(heading, justify="left" if heading == "sagas" else "right")
    for shape, cost in costs.items():
        ratio = ratios(cost.processor, base.processor)
        numbers = [
            *(middle([1000 * reading.cpu[part] for reading in cost.readings]) for part in ("workers", "postgres")),
            middle(cost.processor),
            middle(cost.passed),
        ]
        counts = [
            middle([1000 * (reading.statements or 0) for reading in cost.readings]),
            middle([1000 * reading.commits for reading in cost.readings]),
            *(middle([found[kind] for found in cost.statements]) for kind in KINDS),
        ]
        made.add_row(
            str(shape),
            f"{ratio.median:.2f}",
            f"{ratio.low:.2f} to {ratio.high:.2f}",
            *(f"{number:.3f}" for number in numbers),
            *(f"{count:.0f}" for count in counts),
        )
    return made


def middle(values: Sequence[float]) -> float:
    return spread(values).median


if __name__ == "__main__":
    sys.exit(main())
