"""The app that is measured, with sagas of many branches: how many, workers find in the environment."""

from __future__ import annotations

import os
from collections.abc import Iterable

from bench.app import app, noop, orchestrator
from saga import Parallel, Saga, Step

BRANCHES = "BENCH_BRANCHES"
"""The environment variable that says of how many branches there is a saga each."""


def register(counts: Iterable[int]) -> dict[int, Saga]:
    """Sagas of so many branches, which do nothing."""
    sagas = {count: Saga(f"wide_{count}", Parallel(*map(_step, range(count)))) for count in counts}
    for saga in sagas.values():
        orchestrator.register(saga)
    return sagas


def _step(number: int) -> Step:
    return Step(noop, name=f"branch_{number}", compensate=None)


# What a worker loads.
register(map(int, os.environ.get(BRANCHES, "").split()))

__all__ = ["app", "register"]
