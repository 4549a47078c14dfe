"""The steps of an order: ordinary Celery tasks, whose arguments the saga binds by name.

Two rules make them fit for a saga. An action may be attempted again, after a crash or a lost answer: it does its work
once for each idempotency key. An undo may be called when nobody knows whether the action did anything: it looks for
what the action's key left behind, and does nothing if there is nothing.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from decimal import Decimal

from celery import Task, shared_task
from sqlalchemy import Connection, insert

from saga import Abort

from . import faults, tables
from .tables import record, take_back


@dataclass(frozen=True)
class Payment:
    """What the bank says of a charge."""

    id: str
    amount: Decimal


@dataclass(frozen=True)
class Shipment:
    """What the courier says of a booking."""

    tracking: str


@shared_task
def reserve_stock(number: int, cds: int, idempotency_key: str) -> None:
    """Take CDs off the shelf."""
    record(tables.stock, idempotency_key, number, -cds)


@shared_task
def release_stock(action_key: str, idempotency_key: str) -> None:
    """Put them back."""
    take_back(tables.stock, action_key, idempotency_key)


@shared_task
def charge_card(number: int, dollars: Decimal, idempotency_key: str) -> Payment:
    """Take the money."""
    if faults.card_declined(number):
        raise Abort("card declined")  # definite: nothing was charged, so there is nothing to retry and nothing to undo
    record(tables.payments, idempotency_key, number, dollars)
    return Payment(idempotency_key, dollars)


@shared_task
def refund_card(payment: Payment | None, action_key: str, idempotency_key: str) -> Decimal | None:
    """Give the money back."""
    # `payment` is None when the worker died before it could tell; the card may be charged all the same. Hence by key.
    take_back(tables.payments, action_key, idempotency_key)
    return payment.amount if payment else None


@shared_task(bind=True)
def book_courier(self: Task, number: int, idempotency_key: str) -> Shipment:
    """Have a parcel fetched."""
    time.sleep(faults.COURIER_TAKES)
    record(tables.shipments, idempotency_key, number, 1)
    if self.request.retries == 0 and faults.answer_lost(number):
        raise ConnectionError("the courier has booked, but its answer was lost")  # the next attempt books nothing more
    return Shipment(f"CD-{number:05}")


@shared_task
def cancel_courier(action_key: str, idempotency_key: str) -> None:
    """Have no parcel fetched."""
    take_back(tables.shipments, action_key, idempotency_key)


@shared_task
def confirm_order(connection: Connection, number: int, customer: int, payment: Payment, courier: Shipment) -> None:
    """Write the order down. The connection is the saga log's: what is written here commits with the log, exactly once."""
    connection.execute(
        insert(tables.orders).values(number=number, customer=customer, paid=payment.amount, tracking=courier.tracking)
    )


@shared_task
def send_mail(to: int, template: str, number: int, idempotency_key: str) -> None:
    """Write to a customer."""
    record(tables.receipts, idempotency_key, number, 1, customer=to, template=template)
