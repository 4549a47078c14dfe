"""Guard: the ratios under which `make bench-check` fails. They are ratios within a run, never seconds of a machine."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from .report import saga_ratio
from .rounds import Results, Tell
from .workloads import BY_NAME, SAGA, Workload

FILE = Path(__file__).with_name("floors.json")
ROUNDS, RUNS = 3, 200
AGAIN = 2
"""How often a workload that falls short is measured again: once may be a neighbour's noise, three times is not."""


@dataclass(frozen=True, slots=True)
class Floor:
    """What a ratio of sagas to another contender has to be.

    Attributes:
        base: the other one.
        bound: the least it may be, or the most where less is better.
    """

    workload: str
    base: str
    bound: float
    at_most: bool = False

    def holds(self, ratio: float) -> bool:
        """Whether that ratio is good enough."""
        return ratio <= self.bound if self.at_most else ratio >= self.bound

    def better(self, one: float, other: float) -> float:
        """The better of two ratios."""
        return min(one, other) if self.at_most else max(one, other)

    def verdict(self, ratio: float) -> str:
        """What there is to say of that ratio."""
        limit = f"{'at most' if self.at_most else 'at least'} {self.bound:g}"
        word = "ok" if self.holds(ratio) else "FAILED"
        return f"{word}: {self.workload}: {SAGA} to {self.base} {ratio:.2f}, expected {limit}"


def read_floors(text: str) -> list[Floor]:
    """The floors of a JSON document: workload, the contender compared with, `at_least` or `at_most`.

    Raises:
        ValueError: it is no such document; the text says where.
    """
    return [
        _floor(workload, base, bound) for workload, each in json.loads(text).items() for base, bound in each.items()
    ]


def _floor(workload: str, base: str, bound: Mapping[str, float]) -> Floor:
    place = f"floors.json: {workload}: {base}"
    if workload not in BY_NAME or base not in BY_NAME[workload].contenders:
        raise ValueError(f"{place}: there is no such workload, or no such contender in it")
    if len(bound) != 1 or not bound.keys() <= {"at_least", "at_most"}:
        raise ValueError(f"{place}: expected at_least or at_most, got {', '.join(bound) or 'nothing'}")
    ((kind, value),) = bound.items()
    return Floor(workload, base, float(value), kind == "at_most")


def check(floors: list[Floor], measure: Callable[[Workload, list[str]], Results], tell: Tell) -> bool:
    """Measure what the floors are about, and tell whether they hold.

    Args:
        measure: measures these contenders of a workload.
    """
    held = True
    for name in dict.fromkeys(floor.workload for floor in floors):
        mine = [floor for floor in floors if floor.workload == name]
        best = best_ratios(mine, lambda name=name, mine=mine: measure(BY_NAME[name], contenders(mine)), tell)  # type: ignore[misc]
        for floor in mine:
            tell(floor.verdict(best[floor]))
            held = held and floor.holds(best[floor])
    return held


def contenders(floors: list[Floor]) -> list[str]:
    """Whom to measure."""
    return [SAGA, *(floor.base for floor in floors)]


def best_ratios(floors: list[Floor], measure: Callable[[], Results], tell: Tell) -> dict[Floor, float]:
    """The ratios of one workload: measured again where they fall short, the best of each."""
    best: dict[Floor, float] = {}
    for attempt in range(1 + AGAIN):
        found = measure()
        for floor in floors:
            ratio = saga_ratio(found, floor.base).median
            best[floor] = floor.better(best.get(floor, ratio), ratio)
        if not (short := [*_short(floors, best)]):
            break
        if attempt < AGAIN:
            tell(f"measuring {floors[0].workload} again: {'; '.join(short)}")
    return best


def _short(floors: list[Floor], best: Mapping[Floor, float]) -> Iterator[str]:
    for floor in floors:
        if not floor.holds(best[floor]):
            yield f"to {floor.base} {best[floor]:.2f}, expected {floor.bound:g}"
