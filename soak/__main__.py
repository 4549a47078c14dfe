"""`python -m soak`: see `play`."""

from __future__ import annotations

import math
import random
import sys

import click

from . import play

ORPHANS = 10_000
"""Orphans of a long run, unless it is told otherwise."""
LONG = 5.0
"""Minutes."""


def _finite(_: click.Context, __: click.Parameter, value: float) -> float:
    if not math.isfinite(value):
        raise click.BadParameter(f"{value} is not a number of minutes.")
    return value


@click.command()
@click.option(
    "--minutes",
    type=click.FloatRange(min=0, min_open=True),
    default=10.0,
    show_default=True,
    callback=_finite,
    help="How long the chaos lasts.",
)
@click.option("--seed", type=int, help="Decides what strikes when, and which cards and couriers fail. [default: any]")
@click.option(
    "--orphans",
    type=click.IntRange(min=0),
    metavar="N",
    help="Lanes left behind by dead workers for one worker to go on with. "
    f"[default: {ORPHANS} from {LONG:g} minutes on, else 0]",
)
@click.option("--keep", is_flag=True, help="Keep the database and the logs also if nothing is wrong.")
@click.option("--json", "json_output", is_flag=True, help="Print one JSON document instead.")
def main(minutes: float, seed: int | None, orphans: int | None, keep: bool, json_output: bool) -> None:
    """Place orders on four workers while they are killed and servers restart, and audit what comes of it.

    Exits with 1 when something is wrong.
    """
    seed = random.SystemRandom().randrange(1_000_000) if seed is None else seed
    orphans = (ORPHANS if minutes >= LONG else 0) if orphans is None else orphans
    sys.exit(play.run(seconds=minutes * 60, seed=seed, orphans=orphans, keep=keep, json_output=json_output))


main(prog_name="python -m soak")
