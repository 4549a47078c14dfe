"""Signals: those that are sent in a caller's transaction, which wait until the relay takes them into the logs."""

from __future__ import annotations

import re
from collections.abc import Sequence

from saga.core.outline import DEADLINE
from saga.core.rows import Dispatch
from saga.store.memory.jsonb import stored
from saga.store.memory.log import USER, has_signal
from saga.store.memory.tables import Record, SagaRows, Transaction
from saga.store.values import Signal, ValueRefused

_ROUNDS = re.compile(r"#[0-9]+")
_LONG = 2000


def post(within: Transaction, signal: Signal) -> bool:
    """Keep a signal until it can be taken in; whether none of its key is known.

    Raises:
        ValueRefused: there is no such saga, or it is no signal.
    """
    rows = within.saga(signal.saga_id)
    texts = (signal.name, signal.key or "-", signal.by, signal.reason)
    if (
        rows is None
        or not 1 <= len(signal.name) <= _LONG
        or (signal.key is not None and not 1 <= len(signal.key) <= 500)
    ):
        raise ValueRefused(f"there is no saga {signal.saga_id}, or this is no signal: {signal.name:.200}")
    stored([signal.payload, *texts])
    if signal.key is not None:
        known = any(each.saga_id == signal.saga_id and each.key == signal.key for each in within.signals())
        if known or has_signal(rows, signal.key):
            return False
    within.post(signal)
    return True


def take_in(within: Transaction, realms: Sequence[str], limit: int) -> tuple[int, list[Dispatch]]:
    """Append signals to the logs of their sagas, in order; how many they were, and the messages of lanes that may wait."""
    tables = within.tables
    taken, woken = 0, dict[tuple[object, str], Dispatch]()
    for number, signal in sorted(tables.signals.items()):
        rows = tables.sagas.get(signal.saga_id)
        mine = rows is None or rows.header.realm in realms
        if taken == limit or not mine or tables.held(signal.saga_id, but_by=within):
            continue
        taken += 1
        del tables.signals[number]
        if (rows := within.take(signal.saga_id)) is not None and not (signal.key and has_signal(rows, signal.key)):
            _append(within, rows, signal)
            woken |= {(signal.saga_id, message.lane): message for message in _wake(within, rows, signal)}
    return taken, list(woken.values())


def _append(within: Transaction, rows: SagaRows, signal: Signal) -> None:
    said = {"name": signal.name, "key": signal.key, "by": signal.by, "reason": signal.reason, "session_user": USER,
            "payload": signal.payload}  # fmt: skip
    data = stored({name: value for name, value in said.items() if value is not None})
    rows.log.append(Record(len(rows.log) + 1, "signal_received", None, None, None, data, None, within.tables.now))


def _wake(within: Transaction, rows: SagaRows, signal: Signal) -> list[Dispatch]:
    found = []
    for work in [*rows.work.values()]:
        idle = work.free and work.attempt is None and work.lane != DEADLINE
        if idle and _elements(work.step) == _elements(signal.name):
            rows.change(work.lane, due_at=within.tables.at_once, sent=within.tables.now, dispatches=1)
            found.append(Dispatch(signal.saga_id, work.lane, work.queue, work.priority))
    return found


def _elements(address: str) -> str:
    """The elements in an address. A wait in a round takes the signals of all rounds."""
    place = min((address.find(sign) for sign in "[#" if sign in address), default=len(address))
    return _ROUNDS.sub("", address[place:])
