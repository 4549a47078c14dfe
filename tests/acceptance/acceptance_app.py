"""The app that the acceptance tests run: steps that do as their saga's input says, and write down that they did.

The input's ``script`` maps a step, or ``undo:`` and a step, to what its attempts do in turn; the last word stays.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import json
import os
import signal
import sys
import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import sqlalchemy
from celery import Celery, shared_task
from sqlalchemy.orm import Session
from tenacity import stop_after_attempt, wait_fixed, wait_none

import saga
from saga import Abort, Orchestrator, Parallel, Retry, Saga, Step, Value

QUICK = Retry(stop=stop_after_attempt(3), wait=wait_fixed(0.05))
ONCE = Retry.none()
SHORT = timedelta(seconds=1)

TABLES = """
    CREATE TABLE IF NOT EXISTS effect (id serial PRIMARY KEY, saga text, step text, undo boolean, attempt int, key text,
                                       seen text, at timestamptz DEFAULT clock_timestamp());
    CREATE TABLE IF NOT EXISTS ledger (key text PRIMARY KEY);
    CREATE TABLE IF NOT EXISTS booking (key text);
    CREATE TABLE IF NOT EXISTS gate (name text PRIMARY KEY);
    CREATE TABLE IF NOT EXISTS account (owner text PRIMARY KEY, amount int CHECK (amount >= 0));
"""


def plain_url() -> str:
    return os.environ["SAGA_DATABASE_URL"].replace("+psycopg", "")


def note(seen: Any = None) -> saga.Current:
    """Write down that this attempt runs."""
    current = saga.current()
    assert current is not None
    with psycopg.connect(plain_url(), autocommit=True) as connection:
        connection.execute(
            "INSERT INTO effect (saga, step, undo, attempt, key, seen) VALUES (%s, %s, %s, %s, %s, %s)",
            (
                str(current.saga_id),
                current.step,
                current.compensating,
                current.attempt,
                current.idempotency_key,
                repr(seen),
            ),
        )
    return current


def enter(key: str) -> None:
    """Have an effect, once for each idempotency key."""
    with psycopg.connect(plain_url(), autocommit=True) as connection:
        connection.execute("INSERT INTO ledger VALUES (%s) ON CONFLICT DO NOTHING", (key,))


def await_gate(name: str) -> None:
    """Wait until the test opens a gate."""
    while True:
        with contextlib.suppress(psycopg.OperationalError), psycopg.connect(plain_url(), autocommit=True) as connection:
            while not connection.execute("SELECT FROM gate WHERE name = %s", (name,)).fetchall():
                time.sleep(0.01)
            return
        time.sleep(0.05)


def play(script: dict[str, Any], seen: Any = None) -> Any:
    """Write down that this attempt runs, and do what the script says of it."""
    return act_out(script, note(seen))


def act_out(script: dict[str, Any], current: saga.Current) -> Any:
    """Do what the script says of this attempt."""
    words = script.get(f"undo:{current.step}" if current.compensating else current.step, "ok")
    words = words if isinstance(words, list) else [words]
    word, _, detail = words[min(current.attempt, len(words)) - 1].partition(" ")
    if word == "fail":
        raise RuntimeError(detail or "it failed")
    if word == "abort":
        raise Abort(detail or "refused", code=51, details={"limit": Decimal("7.50")})
    if word == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if word == "exit":
        sys.exit(3)
    if word == "fork":
        fork_and_die(detail)
    if word == "hold":
        ctypes.PyDLL(None).sleep(int(detail))  # PyDLL keeps the interpreter lock during the call
    if word == "burst":
        return bursting()
    if word == "wait":
        await_gate(detail)
    return f"{current.step}-{current.attempt}"


def fork_and_die(gate: str) -> None:
    """Leave a child behind, which holds whatever this process had open, until a gate opens."""
    if os.fork() == 0:
        await_gate(gate)
        os._exit(0)
    os.kill(os.getpid(), signal.SIGKILL)


def bursting() -> Any:
    """A result that fails while it is stored."""
    yield 1
    raise KeyError("half way")


def transfer_once(script: dict[str, Any]) -> Any:
    """Have an effect behind a barrier, after what the script says, as a slow action does."""
    current = note()
    result = act_out(script, current)
    engine = sqlalchemy.create_engine(os.environ["SAGA_DATABASE_URL"])
    try:
        with engine.begin() as connection, saga.barrier(connection) as first:
            if first:
                connection.execute(
                    sqlalchemy.text("INSERT INTO ledger VALUES (:key)"), {"key": current.idempotency_key}
                )
    finally:
        engine.dispose()
    return result


class Odd:
    """Nothing that JSON knows."""


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")

    def __reduce__(self) -> Any:
        raise TypeError("cannot be pickled")


@shared_task(name="acceptance.shared")
def shared(script: dict[str, Any]) -> Any:
    return play(script)


def file_away(folder: str, gated: str) -> None:
    """Have an effect that needs no database: a file for each attempt. One that runs twice fails."""
    current = saga.current()
    assert current is not None
    key = current.idempotency_key.replace("/", ".")
    with (Path(folder) / f"{key}.{current.attempt}").open("x"):
        pass
    while current.step == gated and not (Path(folder) / "open").exists():
        time.sleep(0.01)


def build(broker_url: str, database_url: str, queue: str, conf: dict[str, Any] | None = None) -> Orchestrator:
    """The app with its tasks and sagas.

    Args:
        conf: further configuration of Celery.
    """
    app = Celery("acceptance", broker=broker_url)
    app.conf.update(
        saga_database_url=database_url,
        task_default_queue=queue,
        broker_connection_retry_on_startup=True,
        saga_failover_grace=float(os.environ.get("GRACE", "0")),
        task_routes={"acceptance.routed": {"queue": f"{queue}.routed"}},
    )
    app.conf.update(conf or {})
    task = functools.partial(app.task, shared=False)

    @task(name="acceptance.act")
    def act(script: dict[str, Any]) -> Any:
        return play(script)

    @task(name="acceptance.undo")
    def undo(script: dict[str, Any], action_key: str, result: Any, error: str) -> Any:
        return play(script, (action_key, result, error))

    @task(name="acceptance.routed")
    def routed(script: dict[str, Any]) -> Any:
        return play(script)

    @task(name="acceptance.retrying", bind=True)
    def retrying(self: Any, script: dict[str, Any]) -> Any:
        try:
            return play(script)
        except RuntimeError as error:
            raise self.retry(exc=error, countdown=0.1) from error

    @task(name="acceptance.autoretrying", autoretry_for=(RuntimeError,), retry_kwargs={"countdown": 0})
    def autoretrying(script: dict[str, Any]) -> Any:
        return play(script)

    @task(name="acceptance.price")
    def price(amount: Decimal) -> Decimal:
        return amount * 2

    @task(name="acceptance.mail")
    def mail(to: str, kind: str, total: Decimal) -> list[str]:
        return [to, kind, f"{type(total).__name__} {total}"]

    @task(name="acceptance.odd")
    def odd() -> Any:
        return Odd()

    @task(name="acceptance.unspeakable")
    def unspeakable() -> Any:
        raise Unspeakable

    @task(name="acceptance.deposit")
    def deposit(owner: str, amount: int, script: dict[str, Any], connection: Any) -> int:
        found = connection.execute(
            sqlalchemy.text(
                "INSERT INTO account VALUES (:owner, :amount) ON CONFLICT (owner) DO UPDATE "
                "SET amount = account.amount + :amount RETURNING amount"
            ),
            {"owner": owner, "amount": amount},
        ).scalar_one()
        play(script)
        return int(found)

    @task(name="acceptance.withdraw")
    def withdraw(owner: str, amount: int, session: Session) -> None:
        session.execute(
            sqlalchemy.text("UPDATE account SET amount = amount - :amount WHERE owner = :owner"),
            {"owner": owner, "amount": amount},
        )
        session.commit()

    @task(name="acceptance.ledger")
    def ledger(script: dict[str, Any], idempotency_key: str) -> Any:
        enter(idempotency_key)
        return play(script)

    @task(name="acceptance.unledger")
    def unledger(script: dict[str, Any], idempotency_key: str) -> Any:
        enter(idempotency_key)
        return play(script)

    @task(name="acceptance.book")
    def book(script: dict[str, Any], idempotency_key: str, connection: Any) -> Any:
        connection.execute(sqlalchemy.text("INSERT INTO booking VALUES (:key)"), {"key": idempotency_key})
        return play(script)

    @task(name="acceptance.unbook")
    def unbook(script: dict[str, Any], idempotency_key: str, connection: Any) -> Any:
        connection.execute(sqlalchemy.text("INSERT INTO booking VALUES (:key)"), {"key": idempotency_key})
        return play(script)

    @task(name="acceptance.transfer")
    def transfer(script: dict[str, Any]) -> Any:
        return transfer_once(script)

    @task(name="acceptance.untransfer")
    def untransfer(script: dict[str, Any]) -> Any:
        return transfer_once(script)

    @task(name="acceptance.file")
    def file(folder: str, gated: str) -> None:
        file_away(folder, gated)

    @task(name="acceptance.unfile")
    def unfile(folder: str, gated: str) -> None:
        file_away(folder, gated)

    @task(name="acceptance.impatient")
    def impatient(script: dict[str, Any], connection: Any) -> Any:
        connection.commit()
        return play(script)

    def step(name: str, task: Any = act, **options: Any) -> Step:
        options.setdefault("compensate", undo)
        options.setdefault("retry", QUICK)
        options.setdefault("compensate_retry", QUICK)
        options.setdefault("timeout", timedelta(seconds=20))
        return Step(task, name=name, **options)

    def booked(name: str) -> Step:
        return step(name, book, compensate=unbook, transactional=True)

    def forward(name: str, **options: Any) -> Step:
        return Step(act, name=name, timeout=timedelta(seconds=20), **{"retry": QUICK, **options})

    more = [step("d")] if "ACCEPTANCE_NEW" in os.environ else []
    patient = Retry(stop=stop_after_attempt(2), wait=wait_fixed(3600))
    at_once = Retry(stop=stop_after_attempt(4), wait=wait_none())
    sagas = [
        Saga("sequence", step("a"), step("b"), step("c"), *more),
        Saga("parallel", step("a"), Parallel(step("b"), [step("c"), step("d")]), step("e")),
        Saga("pivoted", step("a"), forward("p", pivot=True), forward("z")),
        Saga("slow", step("a"), step("b", timeout=SHORT, retry=ONCE), step("c")),
        Saga("slow_twice", step("a"), step("b", timeout=SHORT, retry=Retry(stop=stop_after_attempt(2), wait=wait_none()))),
        Saga("patient", step("a"), step("b", retry=patient)),
        Saga("celery_retry", step("a", retrying), step("b", autoretrying), step("c", shared)),
        Saga("routed", step("a"), step("b", routed), step("c")),
        Saga("sturdy", step("a", retry=at_once, compensate_retry=at_once), step("b", retry=ONCE)),
        Saga("odd", step("a"), Step(odd, compensate=undo, retry=QUICK)),
        Saga("unspeakable", Step(unspeakable, compensate=None, retry=ONCE)),
        Saga("typed",
             Step(price, compensate=None),
             Step(mail, compensate=None, bind={"to": "input.email", "kind": Value("sold"), "total": "price"})),
        Saga("matrix_sequence",
             step("a", ledger, compensate=unledger), booked("t"), step("b", ledger, compensate=unledger),
             step("z", compensate=None)),
        Saga("matrix_parallel",
             step("a", ledger, compensate=unledger),
             Parallel(step("b", ledger, compensate=unledger), [booked("t"), step("c", ledger, compensate=unledger)]),
             step("z", compensate=None)),
        Saga("guarded",
             step("a"), step("b", transfer, compensate=untransfer, timeout=SHORT, retry=ONCE), step("c")),
        Saga("filed", *(step(name, file, compensate=unfile, timeout=timedelta(minutes=5)) for name in "abc")),
        Saga("bare", Step(act, name="b", compensate=undo, retry=ONCE)),
        Saga("waits", step("a"), step("b", retry=Retry(stop=stop_after_attempt(2), wait=wait_fixed(1.5)))),
        Saga("impatient", step("impatient", impatient, transactional=True)),
        Saga("bank",
             Step(deposit, transactional=True, compensate=withdraw, retry=QUICK, compensate_retry=QUICK),
             step("b", retry=ONCE)),
    ]  # fmt: skip
    return Orchestrator(app, sagas=sagas)


if "ACCEPTANCE_CLOCK" in os.environ:
    import time_machine

    now = datetime.now(UTC) + timedelta(minutes=float(os.environ["ACCEPTANCE_CLOCK"]))
    time_machine.travel(now, tick=True).start()

if "ACCEPTANCE_QUEUE" in os.environ:
    orchestrator = build(
        os.environ["CELERY_BROKER_URL"],
        os.environ["SAGA_DATABASE_URL"],
        os.environ["ACCEPTANCE_QUEUE"],
        json.loads(os.environ.get("ACCEPTANCE_CONF", "{}")),
    )
    app = orchestrator.app
