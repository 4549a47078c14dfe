"""``start``: a new saga, and what comes of it."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import click

from saga.cli.context import Context, pass_context
from saga.cli.output import json_option, print_json, say
from saga.cli.types import duration, json_object, key_text, seconds, tags_of
from saga.cli.waits import warn_of_delay, warn_of_obstacle
from saga.client.diagnosis import PATIENCE
from saga.client.handle import Handle
from saga.core.state import State, Status
from saga.errors import SagaAbandoned, SagaCompensated, SagaStuck

_A_WHILE = PATIENCE + 1
"""Seconds of waiting after which the reason is shown."""


@click.command("start")
@click.argument("saga")
@click.argument("input", metavar="JSON", type=json_object)
@click.option(
    "--key",
    type=key_text,
    metavar="TEXT",
    help="An idempotency key: a second start under it returns the first one's saga.",
)
@click.option(
    "--tag", "--tags", "tags", multiple=True, metavar="K=V", help="To find it by; repeat it, or give a JSON object."
)
@click.option("--delay", type=duration, metavar="TIME", help="Before the first step: 90 (seconds), 15min, 2h, 7d.")
@click.option("--deadline", type=duration, metavar="TIME",
              help="After which it is rolled back, unless it is past its pivot.")  # fmt: skip
@click.option("--priority", type=click.IntRange(0, 255), help="The message priority of steps that name none.")
@click.option("--wait", type=seconds, is_flag=False, flag_value="inf", metavar="[SECONDS]",
              help="Wait for the end, and print the results.")  # fmt: skip
@json_option
@pass_context
def start_command(
    context: Context,
    saga: str,
    input: Any,
    key: str | None,
    tags: Sequence[str],
    delay: float | None,
    deadline: float | None,
    priority: int | None,
    wait: float | None,
    as_json: bool,
) -> None:
    """Start a saga with JSON as its input, and print its id.

    JSON may be - to read it from standard input. With --wait, exits with 1 unless the saga completed.

    \b
        saga -A shop.app start place_order '{"sku": "A1"}' --key order-1001 --wait
    """
    handle = context.orchestrator.start(
        saga, input, key=key, tags=tags_of(tags), delay=delay, deadline=deadline, priority=priority
    )
    if not as_json:
        say(str(handle.id))
    if handle.status is Status.RUNNING:
        warn_of_obstacle(context.orchestrator.database, handle.id)
    if wait is not None:
        _wait(context, handle, wait)
    state = handle.replay()
    if as_json:
        print_json({"id": str(handle.id), "saga": saga, "status": str(state.status), "reason": state.reason,
                    "results": state.results()})  # fmt: skip
        sys.exit(0 if wait is None or state.status is Status.COMPLETED else 1)
    if wait is not None:
        _print_end(handle, state, wait)


def _wait(context: Context, handle: Handle, seconds: float) -> None:
    """Wait for the end; what holds it up is said when it has taken a while, and when the time is over."""
    database = context.orchestrator.database
    first = min(seconds, _A_WHILE)
    with suppress(TimeoutError):  # the state tells
        handle.wait(first)
        return
    warn_of_delay(database, handle.id)
    if seconds <= first:
        return
    with suppress(TimeoutError):
        handle.wait(None if math.isinf(seconds) else seconds - first)
        return
    warn_of_delay(database, handle.id)


def _print_end(handle: Handle, state: State, waited: float) -> None:
    if state.status is Status.COMPENSATED:
        raise SagaCompensated(handle.id, state.reason, state.cause)
    if state.status is Status.STUCK:
        raise SagaStuck(handle.id, state.problem, state.cause)
    if state.status is Status.ABANDONED:
        raise SagaAbandoned(handle.id, state.reason, state.cause, state.undos_owed)
    if state.status is not Status.COMPLETED:
        raise TimeoutError(f"saga {handle.id} is {state.status} after {waited:g} s")
    print_json(state.results())
