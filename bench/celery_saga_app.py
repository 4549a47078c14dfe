"""The sagas of `app` for celery-saga, on the same workers; its state is in Redis. Imported where it is installed, once
the servers are up."""

from __future__ import annotations

import os
from typing import Any

import celery_saga.executor  # noqa: F401  # its tasks, for the workers
from celery_saga import Saga, StepResponse, saga_step, set_default_backend
from celery_saga.backends import RedisSagaBackend

from .app import STORE, app

KEPT = 600
"""Seconds that Redis keeps the state of a saga."""


@saga_step(no_compensation=True)
@app.task
def peer_noop(**_: Any) -> StepResponse:
    return StepResponse(output={})


@app.task
def peer_undo(compensation_data: Any) -> None:
    """Nothing."""


@saga_step(compensate=peer_undo)
@app.task
def peer_undoable(**_: Any) -> StepResponse:
    return StepResponse(output={}, compensation_data={"done": True})


@saga_step(no_compensation=True)
@app.task
def peer_refuse(**_: Any) -> None:
    StepResponse.permanent_failure("as every time")


def sequence(name: str, *tasks: Any) -> Saga:
    """A saga of these steps."""
    found = Saga(name)
    for task in tasks:
        found.add_step(task)
    return found


four_steps = sequence("four_steps", *[peer_noop] * 4)
twenty_steps = sequence("twenty_steps", *[peer_noop] * 20)
rolled_back = sequence("rolled_back", *[peer_undoable] * 3, peer_refuse)

set_default_backend(RedisSagaBackend(url=os.environ[STORE], ttl=KEPT))
