"""Rounds: contenders measured in turn, so that what slows the machine down for a while slows down all of them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field

from . import meter
from .contenders import Contender, Dbos, RunFailed, Sagas, Unavailable
from .dbos_peer import PeerFailed
from .figures import percentile
from .meter import Reading
from .servers import Servers
from .workloads import Workload

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
        stored_bytes: by which its tables and indexes have grown for each run.
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
    with ExitStack() as stack:
        stack.enter_context(servers.workers(workload.pool, workload.concurrency))
        for name, contender in list(wanted.items()):
            try:
                contender.check()
                if isinstance(contender, Dbos):
                    threads = workload.concurrency if workload.pool == "threads" else None
                    stack.enter_context(servers.dbos_with(threads))
            except (Unavailable, PeerFailed) as error:
                absent[name] = str(error)
                del wanted[name]
        measured = {name: Measured() for name in wanted}
        sizes: dict[str, int] = {}
        for number in range(rounds + 1):
            tell(f"{workload.name}: " + (f"round {number} of {rounds}" if number else "warming up"))
            if number == 1:
                sizes = stored(wanted, servers)
            for name in in_turn(list(wanted), number):
                try:
                    took(measured[name], workload, wanted[name], servers, number, runs)
                except (RunFailed, PeerFailed) as error:
                    if isinstance(wanted[name], Sagas) or name == "chain":
                        raise RunFailed(f"{workload.name}, {name}: {error}") from None
                    absent[name] = str(error)
                    del wanted[name], measured[name]
        grown = stored(wanted, servers)
        for name, contender in wanted.items():
            measured[name] = with_sizes(measured[name], contender, servers, grown[name] - sizes[name], rounds * runs)
    return Results(workload, runs, measured, absent)


def in_turn(names: list[str], number: int) -> list[str]:
    """The names, from another one on each time."""
    at = number % len(names)
    return names[at:] + names[:at]


def took(
    measured: Measured, workload: Workload, contender: Contender, servers: Servers, number: int, runs: int
) -> None:
    """Measure one contender once, and keep it, if it is not the round that is thrown away."""
    if number == 0:
        contender.run(servers, min(runs, max(WARM_UP, runs // 4)))
        contender.settle(servers)
        return
    before = meter.read(servers)
    seconds = contender.run(servers, runs)
    measured.costs.append(meter.read(servers).since(before, runs))
    contender.settle(servers)
    measured.figures.append(workload.figure(runs, seconds))
    if workload.one_by_one:
        measured.p99.append(1000 * percentile(seconds, 99))


def stored(contenders: Mapping[str, Contender], servers: Servers) -> dict[str, int]:
    """How large the tables of each are."""
    return {
        name: meter.relation_bytes(servers, contender.schema) if contender.schema else 0
        for name, contender in contenders.items()
    }


def with_sizes(measured: Measured, contender: Contender, servers: Servers, grown: int, runs: int) -> Measured:
    """The same with what is kept of a run."""
    entries = None
    if isinstance(contender, Sagas):
        entries = meter.log_bytes(servers, str(contender.schema), contender.saga.name)
    return Measured(measured.figures, measured.p99, measured.costs, entries, grown / runs if contender.schema else None)
