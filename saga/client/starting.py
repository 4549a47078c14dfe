"""Starting: new sagas written to the log, on our own connection or in the caller's transaction."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from saga.client.ids import uuid7
from saga.core.events import Entry, SagaStarted
from saga.core.machine import decide, replay
from saga.core.rows import place_of
from saga.core.text import Unencodable, clean_text, digest, dumps, refuse_large
from saga.crashpoints import reach
from saga.engine.engine import Engine
from saga.errors import DatabaseNotReady, InputError, KeyBusy, KeyConflict, brief
from saga.language.binding import Given, read_input
from saga.language.codec import encode
from saga.language.definition import PRIORITY, Saga, is_priority
from saga.language.retry import LONGEST
from saga.store.port import Store
from saga.store.values import Busy, Opening
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
        key: only one saga of its name can have this key.
    """

    id: UUID
    saga: Saga
    given: Given
    key: str | None
    tags: Any
    started: SagaStarted

    @property
    def hash(self) -> str:
        """The hash by which a second start under the same key is compared."""
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
    """Check everything that a start is given.

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
        InputError: they cannot be stored.
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


_Owed = tuple[Sequence[Order], Sequence[Opening], Sequence[Opened]]


class Starter:
    """Opens sagas in the log."""

    def __init__(self, engine: Engine, key_timeout: float) -> None:
        self._engine = engine
        self._store = engine.store
        self._key_timeout = key_timeout
        self._registered: set[str] = set()
        self._breaks = 0

    def open(self, orders: Sequence[Order]) -> list[Opened]:
        """Start sagas, independent of each other, and send their first messages.

        Raises:
            KeyConflict: a key belongs to a saga with another input.
            KeyBusy: a key is held by a transaction that is still open.
        """
        self._register(orders)
        found: list[Opened] = []
        for begin in range(0, len(orders), BATCH):
            batch = orders[begin : begin + BATCH]
            openings = [self._opening(order, sent=True) for order in batch]
            opened = self._open_again(batch, openings)
            self._follow_up(batch, openings, opened)
            found += opened
        return found

    def open_each(self, orders: Sequence[Order]) -> list[Opened]:
        """Start sagas as ``open`` does, but those that are given the same key once.

        Raises:
            InputError: they have different inputs.
        """
        first: dict[str, Order] = {}
        for order in orders:
            if order.key is not None and first.setdefault(order.key, order).hash != order.hash:
                raise InputError(f"start_many got key {order.key!r} twice, with different inputs")
        single = [order for order in orders if order.key is None or first[order.key] is order]
        opened = dict(zip((order.id for order in single), self.open(single), strict=True))
        return [opened[order.id if order.key is None else first[order.key].id] for order in orders]

    def _open_again(self, orders: Sequence[Order], openings: Sequence[Opening]) -> list[Opened]:
        """Open a batch, a second time if the first try had no answer, as on a connection that broke: the ids allow that."""
        try:
            return self._open(self._store, orders, openings)
        except DatabaseNotReady as error:
            if error.refused:
                raise
            again = self._open(self._store, orders, openings)
            # A saga under its order's id was written by the first try: only the answer was lost.
            return [Opened(each.id, each.new or each.id == order.id) for order, each in zip(orders, again, strict=True)]

    def open_within(self, connection: Any, orders: Sequence[Order]) -> list[Opened]:
        """Start sagas in the caller's transaction: no commit, no saga. Nothing here waits for the broker.

        Raises:
            InputError: there is no transaction to be part of.
        """
        joined = self._store.joined(connection)
        self._register(orders)
        owed: list[_Owed] = []
        noticed = joined.on_commit(lambda: self._after_commit(owed))
        openings = [self._opening(order, sent=noticed) for order in orders]
        opened = self._open(joined, orders, openings)
        owed.append((orders, openings, opened))
        return opened

    def _after_commit(self, owed: list[_Owed]) -> None:
        """Follow up once on what is committed. This may be the end of a savepoint only, and the start may still be rolled back."""
        if not owed:
            return
        orders, openings, opened = owed[0]
        with contextlib.suppress(DatabaseNotReady):
            if self._store.statuses([found.id for found in opened]):
                owed.clear()
                self._follow_up(orders, openings, opened)

    def _follow_up(self, orders: Sequence[Order], openings: Sequence[Opening], opened: Sequence[Opened]) -> None:
        reach("start.after_open")
        new = [(order, opening) for order, opening, found in zip(orders, openings, opened, strict=True) if found.new]
        self._engine.publish([message for _, opening in new for message in opening.dispatches])
        for order, _ in new:
            emit(SagaOpened(order.saga.name, order.id))

    def _open(self, store: Store, orders: Sequence[Order], openings: Sequence[Opening]) -> list[Opened]:
        try:
            new = store.open(openings, self._key_timeout)
        except Busy:
            raise _busy(orders) from None
        held = [order for order in orders if order.id not in new]
        known = self._known(store, held) if held else {}
        return [Opened(order.id, True) if order.id in new else Opened(known[order.id], False) for order in orders]

    def _opening(self, order: Order, *, sent: bool) -> Opening:
        saga = order.saga
        state = replay(saga, [Entry(1, order.started)])
        rows = [place_of(self._engine.catalog, saga, state, command) for command in decide(saga, state)]
        return Opening(order.id, saga.name, saga.outline.fingerprint, order.key, order.tags, order.hash, order.started, rows,
                       sent)  # fmt: skip

    def _known(self, store: Store, orders: Sequence[Order]) -> dict[UUID, UUID]:
        """The sagas that have the keys of these orders already."""
        found: dict[UUID, UUID] = {}
        for name in {order.saga.name for order in orders}:
            named = [order for order in orders if order.saga.name == name]
            holders = store.holders(name, [order.key for order in named])
            for order, holder in zip(named, holders, strict=True):
                found[order.id] = _same_input(order, *holder) if holder else order.id
        return found

    def _register(self, orders: Sequence[Order]) -> None:
        """Store the definitions; not in a caller's transaction, which may be rolled back.

        Raises:
            DefinitionError: a router of the app fails for one of their tasks.
            DatabaseNotReady: another transaction, still open, stores one of them.
        """
        if self._breaks != (breaks := self._store.breaks()):
            self._breaks = breaks
            self._registered.clear()
        for saga in {order.saga.name: order.saga for order in orders}.values():
            if saga.outline.fingerprint not in self._registered:
                self._engine.catalog.check_routes(saga)
                try:
                    self._store.register(saga.outline, self._key_timeout)
                except Busy:
                    raise _definition_held(saga) from None
                self._registered.add(saga.outline.fingerprint)


def _same_input(order: Order, saga_id: UUID, input_hash: str) -> UUID:
    if input_hash != order.hash:
        raise KeyConflict(
            f"saga {order.saga.name!r}: key {brief(order.key)} belongs to {saga_id}, which was started with another input; "
            f"use a new key for a new operation"
        )
    return saga_id


def _busy(orders: Sequence[Order]) -> KeyBusy:
    keys = ", ".join(brief(order.key) for order in orders[:3] if order.key)
    return KeyBusy(
        f"saga {orders[0].saga.name!r}: another transaction, still open, is starting a saga under key {keys}; try again"
    )


def _definition_held(saga: Saga) -> DatabaseNotReady:
    return DatabaseNotReady(
        f"saga {saga.name!r}: another transaction, still open, is storing its definition ({saga.outline.fingerprint}), so "
        "nothing of it can be started; try again, and if it stays so, end that session: pg_stat_activity shows it "
        "'idle in transaction'"
    )
