"""`python -m saga.examples.shop`: see `demo`."""

from __future__ import annotations

import sys

import click

from . import demo


@click.command()
@click.option("--orders", type=click.IntRange(min=1), default=1000, show_default=True, help="How many orders.")
@click.option("--seed", type=int, default=1997, show_default=True, help="Decides which cards and couriers fail.")
@click.option("--json", "json_output", is_flag=True, help="Print one JSON document instead.")
def main(orders: int, seed: int, json_output: bool) -> None:
    """Place real orders, kill a worker in their midst, and audit the books."""
    sys.exit(demo.run(orders=orders, seed=seed, json_output=json_output))


main(prog_name="python -m saga.examples.shop")
