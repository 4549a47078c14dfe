"""How long it takes to find sagas in a large log, and what Postgres reads for it."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from click.testing import CliRunner

from saga import Orchestrator
from saga.cli import saga as cli
from saga.store.postgres.database import Link, Row

LIMIT_MS = 20.0
_LOOKS = 15


@dataclass(frozen=True, slots=True)
class Look:
    """One question and its cost.

    Attributes:
        found: sagas in the answer.
        median_ms, worst_ms: as the caller sees it, Python included.
        buffers: pages of Postgres's that it touched.
        nodes: how Postgres scanned.
    """

    question: str
    found: int
    median_ms: float
    worst_ms: float
    server_ms: float = 0.0
    buffers: int = 0
    nodes: str = ""

    def row(self) -> dict[str, Any]:
        """It as JSON."""
        return asdict(self)


def finds(orchestrator: Orchestrator, sagas: int) -> Iterator[Look]:
    """Everything one may ask of ``find``."""
    for question, given in questions(orchestrator, sagas).items():
        yield _look(orchestrator, question, given)


def questions(orchestrator: Orchestrator, sagas: int) -> dict[str, dict[str, Any]]:
    """Question to the arguments of ``find``."""
    now = datetime.now(UTC)
    day = timedelta(days=1)
    halfway = orchestrator.find(key=f"order-{sagas // 2}")[0]
    compensated = orchestrator.find(status="compensated", limit=500)[-1]
    many, few, none = {"country": "de"}, {"customer": 31337 * 2 % 50000}, {"customer": -1}
    return {
        "newest": {},
        "newest 1000": {"limit": 1000},
        "after half": {"after": halfway},
        **{f"status {status}": {"status": status} for status in _STATUSES},
        "status stuck or compensated": {"status": ["stuck", "compensated"]},
        "status running or stuck": {"status": ["running", "stuck"]},
        "status any but completed": {"status": [status for status in _STATUSES if status != "completed"]},
        "status compensated, page 6": {"status": "compensated", "after": compensated},
        "status stuck, after half": {"status": "stuck", "after": halfway},
        "status completed, after half": {"status": "completed", "after": halfway},
        "name": {"saga": "place_order"},
        "rare name": {"saga": "close_account"},
        "unknown name": {"saga": "unknown"},
        "name, stuck": {"saga": "place_order", "status": "stuck"},
        "name, completed": {"saga": "place_order", "status": "completed"},
        "rare name, stuck": {"saga": "close_account", "status": "stuck"},
        "rare name, compensated": {"saga": "close_account", "status": "compensated"},
        "rare name, running": {"saga": "close_account", "status": "running"},
        "name without, compensated": {"saga": "four_steps", "status": "compensated"},
        "name, paused: none": {"saga": "place_order", "status": "paused"},
        "key": {"key": f"order-{sagas // 3}"},
        "key and name": {"key": f"order-{sagas // 3}", "saga": "place_order"},
        "unknown key": {"key": "unknown"},
        "tag of many": {"tags": many},
        "tag of some": {"tags": {"country": "pl"}},
        "tag of few": {"tags": few},
        "tag of none": {"tags": none},
        "tag of many, after half": {"tags": many, "after": halfway},
        "tag of few, after half": {"tags": few, "after": halfway},
        "tag of many, rare name": {"tags": many, "saga": "close_account"},
        "tag of many, stuck": {"tags": many, "status": "stuck"},
        "tag of few, stuck": {"tags": few, "status": "stuck"},
        "tag of few, compensated": {"tags": few, "status": "compensated"},
        "tag of few, name": {"tags": few, "saga": "place_order"},
        "tag of few, since a day": {"tags": few, "since": now - day},
        "tag of many, until a day after the first": {"tags": many, "until": now - 29 * day},
        "since an hour": {"since": now - day / 24},
        "since a week": {"since": now - 7 * day},
        "since tomorrow": {"since": now + day},
        "until a day after the first": {"until": now - 29 * day},
        "until before all": {"until": now - 40 * day},
        "an hour 20 days ago": {"since": now - 20 * day, "until": now - 20 * day + day / 24},
        "an hour 20 days ago, rare name": {
            "since": now - 20 * day, "until": now - 20 * day + day / 24, "saga": "close_account"},
        "since an hour, stuck": {"since": now - day / 24, "status": "stuck"},
        "since a week, name, compensated": {
            "since": now - 7 * day, "saga": "sign_up", "status": "compensated"},
        "until a day after the first, stuck": {"until": now - 29 * day, "status": "stuck"},
        "since 20 days, after half": {"since": now - 20 * day, "after": halfway},
    }  # fmt: skip


_STATUSES = ("running", "paused", "compensating", "completed", "compensated", "stuck", "abandoned")


def _look(orchestrator: Orchestrator, question: str, given: dict[str, Any]) -> Look:
    ask = partial(orchestrator.find, **given)
    found, times = _timed(lambda: len(ask()))
    with _explained() as plans:
        ask()
    server = sum(plan["Execution Time"] + plan["Planning Time"] for plan in plans)
    buffers = sum(_pages(plan["Plan"]) + _pages(plan.get("Planning", {})) for plan in plans)
    nodes = ", ".join(dict.fromkeys(node for plan in plans for node in _scans(plan["Plan"])))
    return Look(question, found, statistics.median(times), max(times), server, buffers, nodes)


def _timed(ask: Callable[[], int]) -> tuple[int, list[float]]:
    """The answer, and the milliseconds of each of a few looks after a first one."""
    found, times = ask(), []
    for _ in range(_LOOKS):
        began = time.perf_counter()
        ask()
        times.append((time.perf_counter() - began) * 1000)
    return found, times


@contextmanager
def _explained() -> Iterator[list[dict[str, Any]]]:
    """The plans of all that is asked meanwhile, each run once more to have its figures."""
    plans: list[dict[str, Any]] = []

    def spy(method: Callable[..., list[Row]]) -> Callable[..., list[Row]]:
        def run(link: Link, statement: str, params: Any) -> list[Row]:
            if "FROM {s}.instance" in statement:
                plans.append(method(link, f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}", params)[0][0][0])
            return method(link, statement, params)

        return run

    methods = {name: getattr(Link, name) for name in ("run", "run_planned") if hasattr(Link, name)}
    for name, method in methods.items():
        setattr(Link, name, spy(method))
    try:
        yield plans
    finally:
        for name, method in methods.items():
            setattr(Link, name, method)


def _pages(node: dict[str, Any]) -> int:
    return int(node.get("Shared Hit Blocks", 0)) + int(node.get("Shared Read Blocks", 0))


def _scans(node: dict[str, Any]) -> Iterator[str]:
    if "Scan" in node["Node Type"] and ("Index Name" in node or "Relation Name" in node):
        yield f"{node['Node Type']} {node.get('Index Name') or node['Relation Name']}"
    for child in node.get("Plans", ()):
        yield from _scans(child)


def commands(orchestrator: Orchestrator, app: str, sagas: int) -> Iterator[Look]:
    """The commands ``list`` and ``show``, as they run once Python has started."""
    halfway = orchestrator.find(key=f"order-{sagas // 2}")[0].id
    for words in (("list",), ("list", "--status", "stuck"), ("list", "--since", "1h"), ("show", str(halfway))):
        yield _command(app, words)


def _command(app: str, words: tuple[str, ...]) -> Look:
    def run() -> int:
        done = CliRunner().invoke(cli, ["-A", app, *words, "--json"], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return len(json.loads(done.stdout).get("sagas", [1]))

    found, times = _timed(run)
    return Look(f"saga {words[0]} {' '.join(words[1:])}"[:40].strip(), found, statistics.median(times), max(times))
