"""Purchases: real orders: the CDNOW sample, public data of Peter Fader and Bruce Hardie.

It holds the 6,919 purchases that 2,357 customers of an online CD shop made from January 1997 to June 1998. Columns of
`cdnow_sample.txt`: the customer's id in the master set and in the sample, date (YYYYMMDD), number of CDs, dollars.
Source: https://www.brucehardie.com/datasets/ (CDNOW dataset, 1/10th systematic sample).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from importlib.metadata import files
from pathlib import Path

NAME = "cdnow_sample.txt"


@dataclass(frozen=True)
class Order:
    """What a customer wants: the input of the saga."""

    number: int
    customer: int
    day: date
    cds: int
    dollars: Decimal

    @property
    def key(self) -> str:
        """The key of its saga: an order that is sent twice is placed once."""
        return f"order-{self.number}"


def first(count: int) -> list[Order]:
    """The first purchases in the order of their dates, numbered from 1."""
    rows = sorted((line.split() for line in file().read_text().splitlines()), key=lambda row: row[2])
    return [
        Order(number, int(customer), date.fromisoformat(day), int(cds), Decimal(dollars))
        for number, (_, customer, day, cds, dollars) in enumerate(rows[:count], start=1)
    ]


def file() -> Path:
    """The data: beside this file in a checkout, in the folder ``share`` of an environment where a wheel was installed.

    Raises:
        FileNotFoundError: it was left out of the installation.
    """
    beside = Path(__file__).with_name(NAME)
    if beside.exists():
        return beside
    for entry in files("pgsaga") or ():
        if entry.name == NAME:
            return Path(entry.locate())
    raise FileNotFoundError(f"{NAME}, the demo's data, is not installed: install pgsaga anew with pip")
