"""Rounds: contenders measured in turn, so that what slows the machine down for a while slows down all of them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace

from . import app, meter
from .contenders import Contender, Dbos, RunFailed, Sagas, Unavailable
from .dbos_peer import PeerFailed
from .figures import percentile
from .meter import Reading
from .servers import Servers
from .workloads import CHAIN, SAGA, Workload

WARM_UP = 50
"""Runs of the round that is thrown away, at least; it also waits for the worker to be ready."""

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Measured:
    """What came of one contender.

    Attributes:
        figures: one of each round: runs a second, or the median of a run in ms.
        p99: of each round, in ms, where runs are measured one by one.
        costs: of one run, of each round.
        log_bytes: of the entries of one saga.
        stored_bytes: of its tables and indexes, for each run.
    """

    figures: list[float] = field(default_factory=list)
    p99: list[float] = field(default_factory=list)
    costs: list[Reading] = field(default_factory=list)
    log_bytes: float | None = None
    stored_bytes: float | None = None


@dataclass(frozen=True)
class Results:
    """What came of one workload.

    Attributes:
        runs: of one contender in a round.
        measured: by contender.
        absent: why others took no part.
    """

    workload: Workload
    runs: int
    measured: Mapping[str, Measured]
    absent: Mapping[str, str]


def measure(
    workload: Workload, servers: Servers, rounds: int, runs: int, tell: Tell, only: Collection[str] = ()
) -> Results:
    """Run a workload, round by round; each begins with another contender.

    Args:
        only: the contenders; by default all of them.

    Raises:
        RunFailed: sagas, or what they are compared with, did not end as they should.
    """
    wanted = {name: each for name, each in workload.contenders.items() if not only or name in only}
    absent: dict[str, str] = {}
    for contender in wanted.values():
        meter.empty(servers, contender.tables)
    with ExitStack() as stack:
        stack.enter_context(servers.workers(workload.pool, workload.concurrency))
        for name, contender in list(wanted.items()):
            with _unless_absent(workload.name, name, wanted, absent):
                contender.check()
                if isinstance(contender, Dbos):
                    stack.enter_context(servers.dbos_with(workload.concurrency if workload.pool == "threads" else None))
        measured = {name: Measured() for name in wanted}
        for number in range(rounds + 1):
            tell(f"{workload.name}: " + (f"round {number} of {rounds}" if number else "warming up"))
            for name in in_turn(list(wanted), number):
                with _unless_absent(workload.name, name, wanted, absent):
                    took(measured[name], workload, wanted[name], servers, number, runs)
        done = rounds * runs + warm_up(runs)
        found = {name: with_sizes(measured[name], each, servers, done) for name, each in wanted.items()}
    return Results(workload, runs, found, absent)


@contextmanager
def _unless_absent(workload: str, name: str, wanted: dict[str, Contender], absent: dict[str, str]) -> Iterator[None]:
    """A peer that cannot take part, or go on, is left out from then on; without sagas or the chain there is no result."""
    try:
        yield
    except (Unavailable, PeerFailed, RunFailed) as error:
        if name in (SAGA, CHAIN):
            raise RunFailed(f"{workload}, {name}: {error}") from None
        absent[name] = str(error)
        del wanted[name]


def in_turn(names: list[str], number: int) -> list[str]:
    """The names, from another one on each time."""
    at = number % len(names)
    return names[at:] + names[:at]


def took(
    measured: Measured, workload: Workload, contender: Contender, servers: Servers, number: int, runs: int
) -> None:
    """Measure one contender once, and keep it, if it is not the round that is thrown away."""
    if number == 0:
        contender.run(servers, warm_up(runs))
        contender.settle(servers)
        return
    before = meter.read(servers)
    seconds = contender.run(servers, runs)
    measured.costs.append(meter.read(servers).since(before, runs))
    contender.settle(servers)
    measured.figures.append(workload.figure(runs, seconds))
    if workload.one_by_one:
        measured.p99.append(1000 * percentile(seconds, 99))


def warm_up(runs: int) -> int:
    """How many runs the round has that is thrown away."""
    return min(runs, max(WARM_UP, runs // 4))


def with_sizes(measured: Measured, contender: Contender, servers: Servers, done: int) -> Measured:
    """The same with what is kept of each of so many runs."""
    if not contender.tables:
        return measured
    stored = meter.stored_bytes(servers, contender.tables) / done
    entries = meter.log_bytes(servers, app.SCHEMA) if isinstance(contender, Sagas) else None
    return replace(measured, log_bytes=entries, stored_bytes=stored)
