"""A transfer: money from an account at one bank to an account at another, each bank with a Postgres of its own.

No transaction spans the two. The debit comes first and can be given back; the credit is the pivot: the transfer is
done when it is done. A barrier at each bank sees to it that each comes once, however often a step is called, and that
no debit comes after it was given up. Run it with `python -m saga.examples.transfer`, which brings its own Postgres and
broker.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from decimal import Decimal
from functools import cache

from celery import Celery
from sqlalchemy import Column, Connection, Engine, MetaData, Numeric, Table, Text, create_engine

import saga
from saga import Abort, Orchestrator, Saga, Step

metadata = MetaData()
account = Table(
    "account",
    metadata,
    Column("owner", Text, primary_key=True),
    Column("balance", Numeric(12, 2), nullable=False),
)

app = Celery("transfer")


@cache
def bank(name: str) -> Engine:
    """The database of a bank. It has the table that `saga db barrier --url URL` makes."""
    return create_engine(os.environ[f"{name.upper()}_BANK_URL"])


def pay(connection: Connection, owner: str, amount: Decimal) -> None:
    """Change a balance."""
    enough = account.c.balance + amount >= 0
    change = account.update().where(account.c.owner == owner, enough).values(balance=account.c.balance + amount)
    if connection.execute(change).rowcount == 0:
        raise Abort(f"{owner} does not have {-amount}" if amount < 0 else f"{owner} has no account")


@app.task
def debit(payer: str, amount: Decimal) -> None:
    with bank("north").begin() as connection, saga.barrier(connection) as first:
        if first:
            pay(connection, payer, -amount)


@app.task
def give_back(payer: str, amount: Decimal) -> None:
    # The debit may have been made, though its worker died before it could say so, or it may not: the barrier knows.
    with bank("north").begin() as connection, saga.barrier(connection) as first:
        if first:
            pay(connection, payer, amount)


@app.task
def credit(payee: str, amount: Decimal) -> None:
    with bank("south").begin() as connection, saga.barrier(connection) as first:
        if first:
            pay(connection, payee, amount)


@dataclass
class Order:
    """Who pays whom."""

    payer: str
    payee: str
    amount: Decimal


transfer = Saga(
    "transfer",
    # The tasks take neither key nor result: the barrier reads the key from `saga.current()`, so this is careful enough.
    Step(debit, compensate=give_back, careless=True),
    # A refusal gives the money back. If nobody knows whether the credit was made, nothing is given back: it is tried
    # again, and if that fails, too, the saga is stuck, for a person to settle.
    Step(credit, pivot=True),
    input=Order,
)

orchestrator = Orchestrator(app, sagas=[transfer])
