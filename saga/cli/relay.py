"""``relay``: the relay on its own."""

from __future__ import annotations

import logging
import signal
import threading

import click

from saga import schema
from saga.cli.context import Context, pass_context


@click.command("relay")
@pass_context
def relay_command(context: Context) -> None:
    """Run the relay on its own, until SIGINT or SIGTERM.

    Workers run one each, so this is needed only where they are told not to (saga_relay = False), or to have one where
    no worker may be up.
    """
    orchestrator = context.orchestrator
    schema.check(orchestrator.database)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    stopping = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopping.set())
    logging.getLogger("saga").info("the relay of %s runs", orchestrator.database.name)
    orchestrator.relay().run(stopping)
    logging.getLogger("saga").info("the relay ends")
