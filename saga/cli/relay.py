"""``relay``: the relay on its own."""

from __future__ import annotations

import logging
import signal
import threading

import click

from saga import schema
from saga.cli.context import Context, pass_context
from saga.client.orchestrator import Orchestrator
from saga.telemetry.thread import start_thread
from saga.worker.liveness import Liveness
from saga.worker.membership import Membership

_TELL_EVERY = 5.0


@click.command("relay")
@pass_context
def relay_command(context: Context) -> None:
    """Run the relay on its own, until SIGINT or SIGTERM.

    Every worker runs one, so this is needed only if workers are told not to (saga_relay = False), or if at times no worker
    is up.
    """
    orchestrator = context.orchestrator
    schema.check(orchestrator.database)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    stopping = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopping.set())
    logging.getLogger("saga").info("the relay of %s runs", orchestrator.database.name)
    membership, liveness = _membership(orchestrator)
    start_thread("saga-upkeep", _take_part, (membership, stopping))
    orchestrator.relay().run(stopping)
    membership.leave()
    liveness.stop()
    logging.getLogger("saga").info("the relay ends")


def _membership(orchestrator: Orchestrator) -> tuple[Membership, Liveness]:
    """What shows the others that a relay lives here."""
    liveness = Liveness(orchestrator.database, orchestrator.settings)
    membership = Membership(
        orchestrator.app, orchestrator.database, orchestrator.engine.catalog, liveness,
        orchestrator.publisher.publish, relays=True, steps=False,
    )  # fmt: skip
    return membership, liveness


def _take_part(membership: Membership, stopping: threading.Event) -> None:
    while True:
        try:
            membership.look(idle=False)
        except Exception as error:
            logging.getLogger("saga").debug("the others cannot be told of this relay yet: %s", error)
        if stopping.wait(_TELL_EVERY):
            return
