"""Starting: new sagas written to the log, on our own connection or in the caller's transaction."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

import psycopg
from psycopg import errors as pg
from sqlalchemy import event
from sqlalchemy.exc import DBAPIError

from saga.client.ids import uuid7
from saga.core.events import Entry, SagaStarted, data_of
from saga.core.machine import decide, replay
from saga.core.rows import Dispatch
from saga.core.text import Unencodable, clean_text, digest, dumps, refuse_large
from saga.crashpoints import reach
from saga.engine.engine import Engine, Unreachable
from saga.engine.plan import place_of
from saga.errors import DatabaseNotReady, InputError, KeyBusy, KeyConflict, brief
from saga.language.binding import Given, read_input
from saga.language.codec import encode
from saga.language.definition import PRIORITY, Saga, is_priority
from saga.language.retry import LONGEST
from saga.store.postgres import caller, log, search
from saga.store.postgres.database import Link, driver_error
from saga.telemetry.facts.sagas import SagaOpened
from saga.telemetry.stream import emit
from saga.telemetry.trace import captured

BATCH = 200
"""How many sagas one statement starts."""

Duration = float | timedelta | None


@dataclass(frozen=True, slots=True)
class Order:
    """One saga to start.

    Attributes:
        given: its input.
        key: makes it the only one of its name under that key.
    """

    id: UUID
    saga: Saga
    given: Given
    key: str | None
    tags: Any
    started: SagaStarted

    @property
    def hash(self) -> str:
        """What a second start under the same key is compared by."""
        return digest(self.given.original)


@dataclass(frozen=True, slots=True)
class Opened:
    """What became of an order: the id of the new saga, or of the one that has its key."""

    id: UUID
    new: bool


def order(
    saga: Saga,
    input: Any,
    key: str | None,
    tags: Any,
    delay: Duration,
    deadline: Duration,
    priority: int | None,
    limit: int,
) -> Order:
    """Check what a saga is to be started with.

    Raises:
        InputError: the input, the key or the tags are not fit.
    """
    if key is not None and not _is_key(key):
        raise InputError(
            f"saga {saga.name!r}: key={brief(key)} expected a text of 1 to 500 characters, such as 'order-1001'"
        )
    if not is_priority(priority):
        raise InputError(f"saga {saga.name!r}: priority={brief(priority)} expected {PRIORITY}")
    given = read_input(saga, input, limit)
    started = SagaStarted(given.stored, _seconds(saga, "deadline", deadline), _seconds(saga, "delay", delay), priority,
                          list(saga.asks) or None, saga.on_failure == "ask", captured())  # fmt: skip
    return Order(uuid7(), saga, given, key, tags_json(f"saga {saga.name!r}", tags, limit), started)


def _is_key(key: Any) -> bool:
    return isinstance(key, str) and 1 <= len(key) <= 500 and clean_text(key) == key


def tags_json(place: str, tags: Any, limit: int) -> Any:
    """Tags as they are stored.

    Raises:
        InputError: they cannot be.
    """
    if tags is None:
        return None
    try:
        refuse_large(tags, limit)
        encoded = encode(tags)
        dumps(encoded, limit)
    except Unencodable as error:
        raise InputError(f"{place}: the tags cannot be stored: {error}") from None
    return encoded


def _seconds(saga: Saga, name: str, value: Duration) -> float | None:
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    if seconds is None:
        return None
    known = isinstance(seconds, (int, float)) and not isinstance(seconds, bool)
    if not (known and 0 <= seconds <= LONGEST.total_seconds()):
        raise InputError(
            f"saga {saga.name!r}: {name}={brief(value)} expected a timedelta or seconds, not negative and ten years at most"
        )
    return float(seconds)


_Owed = tuple[Sequence[Order], Sequence[Opened], Sequence[Dispatch]]


class Starter:
    """Opens sagas in the log."""

    def __init__(self, engine: Engine, key_timeout: float) -> None:
        self._engine = engine
        self._key_timeout = key_timeout
        self._registered: set[str] = set()
        self._breaks = 0

    def open(self, orders: Sequence[Order]) -> list[Opened]:
        """Start sagas, each on its own right, and send their first messages.

        Raises:
            KeyConflict: a key belongs to a saga with another input.
            KeyBusy: a key is held by a transaction that is still open.
        """
        self._register(orders)
        found: list[Opened] = []
        for begin in range(0, len(orders), BATCH):
            batch = orders[begin : begin + BATCH]
            with _busy_keys(batch):
                try:
                    opened, messages = self._open_batch(self._own_link, batch, sent=True)
                except (psycopg.OperationalError, psycopg.InterfaceError) as error:
                    if isinstance(error, pg.LockNotAvailable):
                        raise
                    # A pooled connection that broke while idle; the ids make a second try harmless.
                    opened, messages = self._open_batch(self._own_link, batch, sent=True)
            self._follow_up(batch, opened, messages)
            found += opened
        return found

    def open_within(self, connection: caller.CallerConnection, orders: Sequence[Order]) -> list[Opened]:
        """Start sagas in the caller's transaction: no commit, no saga. Nothing here waits for the broker.

        Raises:
            InputError: there is no transaction to be part of.
        """
        link = caller.join(connection, self._engine.database.schema)
        self._register(orders)
        session = caller.session_of(connection)

        @contextmanager
        def nested() -> Iterator[Link]:
            with caller.savepoint(link):
                yield link

        with _busy_keys(orders):
            opened, messages = self._open_batch(nested, orders, sent=session is not None)
        if session is not None:
            owed: list[_Owed] = [(orders, opened, messages)]
            event.listen(session, "after_commit", lambda _: self._after_commit(owed))
        return opened

    def _after_commit(self, owed: list[_Owed]) -> None:
        """Follow up, once, on what is committed: this may be a savepoint's end, and the start may be rolled back yet."""
        if not owed:
            return
        orders, opened, messages = owed[0]
        with contextlib.suppress(*Unreachable), self._own_link() as link:
            if search.read_statuses(link, [found.id for found in opened]):
                owed.clear()
                self._follow_up(orders, opened, messages)

    def _follow_up(self, orders: Sequence[Order], opened: Sequence[Opened], messages: Sequence[Dispatch]) -> None:
        reach("start.after_open")
        self._engine.publish(messages)
        for order, found in zip(orders, opened, strict=True):
            if found.new:
                emit(SagaOpened(order.saga.name, found.id))

    @contextmanager
    def _own_link(self) -> Iterator[Link]:
        with self._engine.database.link() as link:
            yield link

    def _open_batch(self, use: Any, orders: Sequence[Order], *, sent: bool) -> tuple[list[Opened], list[Dispatch]]:
        rows = {order.id: self._work(order, sent) for order in orders}
        # In the order of their keys: two batches that share keys would otherwise wait for each other.
        ordered = sorted(orders, key=lambda order: (order.saga.name, order.key or "", str(order.id)))
        with use() as link:
            reach("start.before_open", link.connection)
            new = set(
                log.open_sagas(
                    link,
                    [_row(order, self._engine.database.realm) for order in ordered],
                    [row for order in ordered for row in rows[order.id]],
                    self._key_timeout,
                )
            )
        known: dict[UUID, UUID] = {}
        if held := [order for order in orders if order.id not in new]:
            with use() as link:
                known = self._known(link, held)
        messages = []
        for order in orders:
            if order.id in new:
                messages += [
                    Dispatch(order.id, row["lane"], row["queue"], row["priority"])
                    for row in rows[order.id]
                    if row["sent"]
                ]
        return [
            Opened(order.id, True) if order.id in new else Opened(known[order.id], False) for order in orders
        ], messages

    def _work(self, order: Order, sent: bool) -> list[dict[str, Any]]:
        state = replay(order.saga, [Entry(1, order.started)])
        catalog, fingerprint = self._engine.catalog, order.saga.outline.fingerprint
        places = [place_of(catalog, order.saga, state, command) for command in decide(order.saga, state)]
        return [
            place.row() | {"id": str(order.id), "fingerprint": fingerprint, "sent": place.sent and sent}
            for place in places
        ]

    def _known(self, link: Link, orders: Sequence[Order]) -> dict[UUID, UUID]:
        """The sagas that have the keys of these orders already."""
        found: dict[UUID, UUID] = {}
        for name in {order.saga.name for order in orders}:
            named = [order for order in orders if order.saga.name == name]
            holders = search.read_holders(link, name, [order.key for order in named])
            for order, holder in zip(named, holders, strict=True):
                found[order.id] = _same_input(order, *holder) if holder else order.id
        return found

    def _register(self, orders: Sequence[Order]) -> None:
        """Store the definitions; not in a caller's transaction, which may be rolled back.

        Raises:
            DefinitionError: a router of the app fails for one of their tasks.
            DatabaseNotReady: somebody else's open transaction stores one of them.
        """
        with self._engine.database.link():
            pass  # costs no round trip, and finds out whether the connections broke since the last start
        if self._breaks != self._engine.database.breaks:
            self._breaks = self._engine.database.breaks
            self._registered.clear()
        for saga in {order.saga.name: order.saga for order in orders}.values():
            if saga.outline.fingerprint not in self._registered:
                self._engine.catalog.check_routes(saga)
                with _definition_held(saga), self._engine.database.link() as link:
                    log.register(link, saga.outline, self._key_timeout)
                self._registered.add(saga.outline.fingerprint)


def _row(order: Order, realm: str) -> dict[str, Any]:
    return {"id": str(order.id), "name": order.saga.name, "fingerprint": order.saga.outline.fingerprint, "key": order.key,
            "tags": order.tags, "input_hash": order.hash, "realm": realm, "data": data_of(order.started)}  # fmt: skip


def _same_input(order: Order, saga_id: UUID, input_hash: str) -> UUID:
    if input_hash != order.hash:
        raise KeyConflict(
            f"saga {order.saga.name!r}: key {brief(order.key)} belongs to {saga_id}, which was started with another input; "
            f"use a new key for a new operation"
        )
    return saga_id


@contextmanager
def _busy_keys(orders: Sequence[Order]) -> Iterator[None]:
    try:
        yield
    except (pg.LockNotAvailable, DBAPIError) as error:
        if not isinstance(driver_error(error), pg.LockNotAvailable):
            raise
        keys = ", ".join(brief(order.key) for order in orders[:3] if order.key)
        raise KeyBusy(
            f"saga {orders[0].saga.name!r}: another transaction, still open, is starting a saga under key {keys}; try again"
        ) from None


@contextmanager
def _definition_held(saga: Saga) -> Iterator[None]:
    try:
        yield
    except pg.LockNotAvailable:
        raise DatabaseNotReady(
            f"saga {saga.name!r}: another transaction, still open, is storing its definition ({saga.outline.fingerprint}), so "
            "nothing of it can be started; try again, and if it stays so, end that session: pg_stat_activity shows it "
            "'idle in transaction'"
        ) from None
