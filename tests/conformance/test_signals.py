"""Signals: one of a key, and those of a caller's transaction, which the relay takes into the logs."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import pytest

from saga.core.due import Due
from saga.core.events import FORMAT, KINDS, Event, Paused, entry_from_row
from saga.core.outline import DEADLINE
from saga.store.values import Addition, Refused, Signal

from .stand import FORKED, Stand, changes, place

pytestmark = pytest.mark.skipif("signal_received" not in KINDS, reason="the machine does not know signals yet")
FAR = Due(seconds=1e8)


def received(**data: Any) -> Event:
    """That a signal was received."""
    return entry_from_row(UUID(int=0), (2, "signal_received", None, None, None, data, None, None, FORMAT)).event


def signals(stand: Stand, saga: UUID) -> list[Any]:
    """The data of the signals that a saga has received, without the role."""
    found = [entry.data for entry in stand.store.entries(saga) if entry.kind == "signal_received"]
    return [{name: value for name, value in data.items() if name != "session_user"} for data in found]


# --- keys -------------------------------------------------------------------------------------------------------------


def test_a_signal_whose_key_is_in_the_log_is_not_appended(stand: Stand) -> None:
    saga, other = stand.start(), stand.start()
    signal = received(name="approval", payload=[1], key="k")
    assert stand.append(saga, signal, signal_key="k")
    assert not stand.append(saga, signal, signal_key="k")
    assert stand.append(saga, received(name="approval", key="l"), signal_key="l")
    assert stand.append(other, signal, signal_key="k")
    additions = [Addition(saga, 4, [Paused()], signal_key="k"), Addition(other, 3, [Paused()])]
    assert stand.store.append(additions, 1).keys() == {other}
    assert signals(stand, saga) == [
        {"name": "approval", "payload": [1], "key": "k"},
        {"name": "approval", "key": "l"},
    ]


def test_a_signal_that_is_requested_is_kept_once_for_each_key(stand: Stand) -> None:
    saga = stand.start()
    signal = received(name="approval", payload={"by": None}, key="k")
    assert stand.store.request(Addition(saga, 2, [signal])) is not None
    assert stand.store.request(Addition(saga, 3, [signal])) is None
    unnamed = received(name="approval", by="ann", reason="seen")
    assert stand.store.request(Addition(saga, 3, [unnamed])) is not None
    assert stand.store.request(Addition(saga, 4, [unnamed])) is not None
    assert signals(stand, saga) == [
        {"name": "approval", "payload": {"by": None}, "key": "k"},
        *[{"name": "approval", "by": "ann", "reason": "seen"}] * 2,
    ]


# --- in a caller's transaction ----------------------------------------------------------------------------------------


def test_a_signal_of_a_callers_transaction_is_there_soon_after_its_commit(stand: Stand) -> None:
    saga, relay = stand.start(), stand.relay()
    with stand.connect() as connection:
        joined = stand.store.joined(connection)
        assert joined.post(Signal(saga, "approval[3]", {"ok": True, "why": None}, "k", "ann", "seen"))
        assert not joined.post(Signal(saga, "approval[3]", None, "k"))
        assert relay.rounds.take_in() == 0
        connection.commit()
    assert signals(stand, saga) == []
    assert relay.rounds.take_in() == 1
    assert relay.rounds.take_in() == 0
    [data] = signals(stand, saga)
    assert data == {
        "name": "approval[3]",
        "payload": {"ok": True, "why": None},
        "key": "k",
        "by": "ann",
        "reason": "seen",
    }
    assert stand.store.entries(saga)[-1].data["session_user"]
    assert not stand.store.post(Signal(saga, "approval[3]", None, "k"))


def test_neither_a_saga_nor_who_signals_it_holds_up_the_other(stand: Stand) -> None:
    saga, relay = stand.start(), stand.relay()
    with stand.connect() as connection:
        joined = stand.store.joined(connection)
        assert joined.post(Signal(saga, "approval", 1))
        assert stand.append(saga, Paused())
        assert stand.claim(saga)["main"].won
        assert stand.store.post(Signal(saga, "approval", 2))
        assert relay.rounds.take_in() == 1
        connection.commit()
    assert relay.rounds.take_in() == 1
    assert [data["payload"] for data in signals(stand, saga)] == [2, 1]


def test_a_signal_of_a_transaction_that_is_rolled_back_never_was(stand: Stand) -> None:
    saga, relay = stand.start(), stand.relay()
    with stand.connect() as connection:
        assert stand.store.joined(connection).post(Signal(saga, "approval", None, "k"))
        connection.rollback()
    assert relay.rounds.take_in() == 0
    assert stand.store.post(Signal(saga, "approval", None, "k"))


def test_signals_are_taken_in_in_the_order_they_came(stand: Stand) -> None:
    sagas, relay = [stand.start() for _ in range(3)], stand.relay(batch=7)
    for number in range(4):
        for saga in sagas:
            assert stand.store.post(Signal(saga, "approval", number))
    assert [relay.rounds.take_in() for _ in range(3)] == [7, 5, 0]
    for saga in sagas:
        assert [data.get("payload") for data in signals(stand, saga)] == [0, 1, 2, 3]
        assert [entry.seq for entry in stand.store.entries(saga)] == [1, 2, 3, 4, 5]


def test_of_two_that_are_posted_under_one_key_one_is_taken_in(stand: Stand) -> None:
    saga, relay = stand.start(), stand.relay()
    with stand.connect() as connection:
        assert stand.store.joined(connection).post(Signal(saga, "approval", 1, "k"))
        assert stand.store.post(Signal(saga, "approval", 2, "k"))
        connection.commit()
    assert relay.rounds.take_in() == 2
    assert len(signals(stand, saga)) == 1
    assert relay.rounds.take_in() == 0


def test_a_signal_to_what_is_no_saga_is_refused(stand: Stand) -> None:
    saga = stand.start()
    wrong = [
        Signal(uuid4(), "approval"),
        Signal(saga, ""),
        Signal(saga, "x" * 2001),
        Signal(saga, "approval", None, ""),
    ]
    for signal in wrong:
        with pytest.raises(Refused):
            stand.store.post(signal)
    assert stand.relay().rounds.take_in() == 0


def test_a_relay_takes_in_what_is_of_its_realm(stand: Stand) -> None:
    saga = stand.start()
    assert stand.store.post(Signal(saga, "approval"))
    assert stand.relay(store=stand.beside("another")).rounds.take_in() == 0
    assert stand.relay().rounds.take_in() == 1


# --- the lanes that may wait ------------------------------------------------------------------------------------------


def test_a_signal_makes_the_lanes_due_that_may_wait_for_it(stand: Stand) -> None:
    saga, other, relay = stand.start(FORKED, deadline=1e7), stand.start(), stand.relay()
    waits = [
        place("main/b", "wait[3]#2", None, due=FAR),
        place("main/c", "other#1", None, due=FAR),
    ]
    added = [place("main/x", "step[3]", 2, due=FAR), place("main/y", "wait[4]", None, due=FAR)]
    stand.append(saga, Paused(), changes=changes(moved=waits, added=added))
    stand.append(other, Paused(), changes=changes(moved=[place(step="wait[3]", attempt=None, due=FAR)]))

    def due() -> set[str]:
        return {row.lane for row in stand.rows(saga) if row.due is None}

    assert stand.store.post(Signal(saga, "approval[3]"))
    relay.sent.clear()
    assert relay.rounds.take_in() == 1
    assert relay.lanes == ["main/b"]
    assert due() == {"main/b"}
    assert stand.store.post(Signal(saga, "approval"))
    relay.sent.clear()
    relay.rounds.take_in()
    assert relay.lanes == ["main/c"]
    assert due() == {"main/b", "main/c"}
    assert [row.due for row in stand.rows(saga) if row.lane == DEADLINE] == [pytest.approx(1e7, abs=5)]
    assert stand.row(other).due == pytest.approx(1e8, abs=5)
    [woken] = [row for row in stand.rows(saga) if row.lane == "main/b"]
    assert (woken.dispatches, woken.sent) == (1, pytest.approx(0, abs=5))


def test_a_lane_that_a_worker_has_is_left_to_it(stand: Stand) -> None:
    saga, relay = stand.start(), stand.relay()
    token = stand.claimed(saga)
    assert stand.store.post(Signal(saga, "approval"))
    relay.sent.clear()
    assert relay.rounds.take_in() == 1
    assert (relay.lanes, stand.row(saga).token) == ([], token)
