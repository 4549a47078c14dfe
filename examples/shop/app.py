"""The shop's Celery app and its saga. Run a worker: `celery -A saga.examples.shop.app worker`."""

from __future__ import annotations

import os
from datetime import timedelta

from celery import Celery
from tenacity import stop_after_attempt, wait_random

from saga import Orchestrator, Parallel, Retry, Saga, Step, Value

from .purchases import Order
from .tasks import (
    book_courier,
    cancel_courier,
    charge_card,
    confirm_order,
    refund_card,
    release_stock,
    reserve_stock,
    send_mail,
)

app = Celery("shop", broker="redis://localhost:6379/0")
app.conf.saga_database_url = os.environ.get("SAGA_DATABASE_URL", "postgresql://localhost/shop")
app.conf.broker_connection_retry_on_startup = True

place_order = Saga(
    "place_order",
    Step(reserve_stock, name="reservation", compensate=release_stock),
    Parallel(
        Step(charge_card, name="payment", compensate=refund_card, timeout=timedelta(seconds=20)),
        Step(
            book_courier,
            name="courier",
            compensate=cancel_courier,
            timeout=timedelta(seconds=10),
            # A courier's API fails often and not for long.
            retry=Retry(stop=stop_after_attempt(6), wait=wait_random(0.05, 0.2)),
        ),
    ),
    # The point of no return, in the log's own transaction: an order is confirmed exactly once.
    Step(confirm_order, name="confirmation", pivot=True, transactional=True),
    # After the pivot a step is retried until it holds: the customer gets the receipt, if need be tomorrow.
    Step(send_mail, name="receipt", bind={"to": "input.customer", "template": Value("thank-you")}),
    input=Order,
)

orchestrator = Orchestrator(app, sagas=[place_order])
