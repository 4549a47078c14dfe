"""Inspection: what a worker answers to ``celery inspect``, with the attempts of steps in it.

If the app has registered a command in place of Celery's own, that one is asked, and its answer is completed in the same
way. An answer of another form than Celery's is left as it is. All of this belongs to the workers of one app.
"""

from __future__ import annotations

import os
from collections import ChainMap, Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import partial
from typing import Any

from celery.bootsteps import StartStopStep
from celery.concurrency.prefork import TaskPool
from celery.utils.functional import maybe_list
from celery.worker.consumer.control import Control
from celery.worker.control import Panel

from saga.telemetry.board import Board, Shown, mark_of
from saga.telemetry.wording import REDACTED

_SPARE = 16
"""Processes, or attempts at once, by which a pool may grow beyond what it was started for."""


class Inspection(StartStopStep):  # type: ignore[misc]
    """Hangs up the board before the pool starts, and completes the answers of a worker's mailbox."""

    requires = (Control,)

    def create(self, consumer: Any) -> None:
        """Follow Celery's own step, if the worker can be asked at all."""
        boxes = [step.box for step in consumer.steps if isinstance(step, Control)]
        if not boxes:
            return
        worker = consumer.controller
        room = 2 * (worker.max_concurrency or worker.concurrency) + _SPARE
        board = Board(room, 1) if isinstance(consumer.pool, TaskPool) else Board(1, room)
        board.hang_up(consumer.app)
        for box in boxes:
            box.node.handlers = ChainMap(_commands(board), Panel.data)


def _commands(board: Board) -> dict[str, Callable[..., Any]]:
    return {
        "active": partial(_active, "active", board),
        "dump_active": partial(_active, "dump_active", board),
        "query_task": partial(_query_task, board),
        "stats": partial(_stats, board),
    }


def _active(name: str, board: Board, state: Any, **options: Any) -> Any:
    """What is under way: each attempt in place of the message that brought it."""
    found = Panel.data[name](state, **options)
    if not isinstance(found, list) or not all(isinstance(entry, dict) for entry in found):
        return found
    entries = list(found)
    places = {mark_of(entry.get("id")): place for place, entry in enumerate(found)}
    for shown in board.under_way(_processes(state)):
        place = places.get(shown.carrier)
        if place is None:  # Celery does not know yet, or no more, that the pool works on it
            entries.append(_entry(shown, state))
        else:
            entries[place] = _entry(shown, state, found[place])
    return entries


def _query_task(board: Board, state: Any, ids: Any, **options: Any) -> Any:
    found = Panel.data["query_task"](state, ids, **options)
    wanted = set(maybe_list(ids) or [])
    if not isinstance(found, dict):
        return found
    attempts = (_entry(shown, state) for shown in board.under_way(_processes(state)))
    return found | {entry["id"]: ("active", entry) for entry in attempts if entry["id"] in wanted}


def _stats(board: Board, state: Any, **options: Any) -> Any:
    found = Panel.data["stats"](state, **options)
    if not isinstance(found, dict) or not isinstance(found.get("total"), Mapping):
        return found
    return found | {"total": Counter(found["total"]) + board.counts()}


def _entry(shown: Shown, state: Any, carrier: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """An attempt in the form in which Celery shows a task, with its saga. What its events leave out is left out here."""
    brought = {"hostname": state.hostname, "acknowledged": True, "delivery_info": {}} if carrier is None else carrier
    return {
        **brought, "id": str(shown.task_id), "name": shown.task, "type": shown.task, "args": "()", "kwargs": REDACTED,
        "time_start": shown.began, "worker_pid": shown.pid, "root_id": str(shown.saga_id),
        "parent_id": None if carrier is None else carrier.get("id"), "retries": shown.attempt - 1,
    }  # fmt: skip


def _processes(state: Any) -> Collection[int]:
    """The processes that make attempts of this worker, with dead ones that Celery has not replaced yet."""
    pool = state.consumer.pool
    if not isinstance(pool, TaskPool):
        return {os.getpid()}
    workers: Iterable[Any] = getattr(getattr(pool, "_pool", None), "_pool", None) or ()
    return {worker.pid for worker in list(workers)}
