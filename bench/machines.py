"""Machines: how the rate grows with workers, each a process of its own as on a machine of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from . import app
from .contenders import Sagas
from .figures import ratios, spread
from .rounds import Tell
from .servers import Servers

WORKERS = (1, 2, 4)
WARM_UP = 100


def measure(servers: Servers, rounds: int, runs: int, tell: Tell) -> dict[int, list[float]]:
    """Sagas a second, of each round, by the number of workers; each has one prefork process."""
    sagas = Sagas(app.four_steps, together=True)
    rates: dict[int, list[float]] = {count: [] for count in WORKERS}
    for number in range(1, rounds + 1):
        for count in WORKERS:
            tell(f"machines: round {number} of {rounds}, {count} workers")
            with servers.workers("prefork", 1, count):
                # Each has to be up before the clock starts: many messages, for one that is up takes several.
                for _ in range(3):
                    sagas.run(servers, WARM_UP)
                (seconds,) = sagas.run(servers, runs)
                sagas.settle(servers)
            rates[count].append(runs / seconds)
    return rates


def points(rates: Mapping[int, Sequence[float]]) -> list[dict[str, Any]]:
    """The curve, as JSON: the ratios are to one worker."""
    found = []
    for count, values in rates.items():
        rate, ratio = spread(values), ratios(values, rates[1])
        found.append(
            {
                "workers": count,
                "ratio": {"median": round(ratio.median, 3), "low": round(ratio.low, 3), "high": round(ratio.high, 3)},
                "median": round(rate.median, 1),
                "low": round(rate.low, 1),
                "high": round(rate.high, 1),
            }
        )
    return found


def table(found: Sequence[Mapping[str, Any]]) -> Table:
    """The curve, for people."""
    made = Table(title="Sagas of 4 steps, started with start_many")
    for heading in ("workers", "ratio to one", "", "a second", ""):
        made.add_column(heading, justify="right")
    for point in found:
        ratio = point["ratio"]
        made.add_row(
            str(point["workers"]),
            f"{ratio['median']:.2f}",
            f"{ratio['low']:.2f} to {ratio['high']:.2f}",
            f"{point['median']:,.0f}",
            f"{point['low']:,.0f} to {point['high']:,.0f}",
        )
    return made
