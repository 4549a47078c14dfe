"""The shop's tables, in the schema `shop` of the database that holds the saga log.

All but `orders` are ledgers: what a step does is a row, what its undo does is another row that takes it back. The key
of a row is the idempotency key of the step that wrote it, so a step that runs twice writes once.
"""

from __future__ import annotations

from decimal import Decimal
from functools import cache
from typing import Any

from celery import current_app
from sqlalchemy import (
    Column,
    Engine,
    ForeignKey,
    Integer,
    MetaData,
    Numeric,
    Table,
    Text,
    create_engine,
    literal,
    select,
)
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.schema import CreateSchema

SCHEMA = "shop"
DELIVERY = "delivery"
"""The key of the row that brings the stock in."""

metadata = MetaData(schema=SCHEMA)


def _ledger(name: str, amount: Any, *more: Column[Any]) -> Table:
    return Table(
        name,
        metadata,
        Column("key", Text, primary_key=True),
        Column("undoes", Text, ForeignKey(f"{SCHEMA}.{name}.key"), unique=True),
        Column("number", Integer, index=True),
        Column("amount", amount, nullable=False),
        *more,
    )


stock = _ledger("stock", Integer)
"""In CDs: what was delivered, less what is reserved."""
payments = _ledger("payments", Numeric(12, 2))
"""In dollars: charges, less refunds."""
shipments = _ledger("shipments", Integer)
"""In parcels."""
receipts = _ledger("receipts", Integer, Column("customer", Integer), Column("template", Text))
"""In mails."""

orders = Table(
    "orders",
    metadata,
    Column("number", Integer, primary_key=True),
    Column("customer", Integer, nullable=False),
    Column("paid", Numeric(12, 2), nullable=False),
    Column("tracking", Text, nullable=False, unique=True),
)


def create(engine: Engine, cds: int) -> None:
    """Make the tables, and put CDs on the shelf."""
    with engine.begin() as connection:
        connection.execute(CreateSchema(SCHEMA, if_not_exists=True))
        metadata.create_all(connection)
        connection.execute(insert(stock).values(key=DELIVERY, amount=cds).on_conflict_do_nothing())


@cache
def worker_engine() -> Engine:
    """The connections of a worker process, made when the first step needs one: after Celery has forked."""
    return create_engine(current_app.conf.saga_database_url)


def record(ledger: Table, key: str, number: int, amount: int | Decimal, **more: Any) -> None:
    """Write a row, once for each key."""
    row = insert(ledger).values(key=key, number=number, amount=amount, **more)
    with worker_engine().begin() as connection:
        connection.execute(row.on_conflict_do_nothing())


def take_back(ledger: Table, action_key: str, undo_key: str) -> None:
    """Write the opposite of the row under `action_key`, once; nothing if there is no such row."""
    opposite = select(literal(undo_key), ledger.c.key, ledger.c.number, -ledger.c.amount).where(
        ledger.c.key == action_key
    )
    row = insert(ledger).from_select(["key", "undoes", "number", "amount"], opposite)
    with worker_engine().begin() as connection:
        connection.execute(row.on_conflict_do_nothing())
