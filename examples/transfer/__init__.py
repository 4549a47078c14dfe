"""A transfer: money from an account at one bank to an account at another, each bank with a Postgres of its own.

No transaction spans the two. The debit comes first and can be given back; the credit is the pivot: the transfer is
done when it is done. Run it with `python -m saga.examples.transfer`, which brings its own Postgres and broker.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from decimal import Decimal

import psycopg
from celery import Celery

from saga import Abort, Orchestrator, Saga, Step

TABLES = """
    CREATE TABLE account (owner text PRIMARY KEY, balance numeric(12, 2) NOT NULL CHECK (balance >= 0));
    CREATE TABLE movement (
        key text PRIMARY KEY,  -- of the step that made it: made twice, it is refused
        owner text NOT NULL REFERENCES account,
        amount numeric(12, 2) NOT NULL
    );
"""

app = Celery("transfer")


def bank(name: str) -> psycopg.Connection:
    """A connection to a bank; leaving its `with` block commits."""
    return psycopg.connect(os.environ[f"{name.upper()}_BANK_URL"])


def move(connection: psycopg.Connection, key: str, owner: str, amount: Decimal) -> None:
    """Change a balance, once for each key: the movement and the balance are written together or not at all."""
    with connection.transaction():
        new = connection.execute(
            "INSERT INTO movement VALUES (%s, %s, %s) ON CONFLICT DO NOTHING RETURNING key", (key, owner, amount)
        ).fetchone()
        if new:
            connection.execute("UPDATE account SET balance = balance + %s WHERE owner = %s", (amount, owner))


@app.task
def debit(payer: str, amount: Decimal, idempotency_key: str) -> None:
    with bank("north") as north:
        try:
            move(north, idempotency_key, payer, -amount)
        except psycopg.errors.CheckViolation:
            raise Abort(f"{payer} does not have {amount}") from None


@app.task
def give_back(action_key: str, idempotency_key: str) -> None:
    with bank("north") as north:
        # The debit may have been made, though its worker died before it could say so: what counts is what is in the
        # books under its key. If there is nothing, there is nothing to give back.
        found = north.execute("SELECT owner, -amount FROM movement WHERE key = %s", (action_key,)).fetchone()
        if found:
            move(north, idempotency_key, *found)


@app.task
def credit(payee: str, amount: Decimal, idempotency_key: str) -> None:
    with bank("south") as south:
        try:
            move(south, idempotency_key, payee, amount)
        except psycopg.errors.ForeignKeyViolation:
            raise Abort(f"{payee} has no account") from None


@dataclass
class Order:
    """Who pays whom."""

    payer: str
    payee: str
    amount: Decimal


transfer = Saga(
    "transfer",
    Step(debit, compensate=give_back),
    # A refusal gives the money back. If nobody knows whether the credit was made, nothing is given back: it is tried
    # again, and if that fails, too, the saga is stuck, for a person to settle.
    Step(credit, pivot=True),
    input=Order,
)

orchestrator = Orchestrator(app, sagas=[transfer])
