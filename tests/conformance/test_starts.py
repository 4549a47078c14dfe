"""Sagas are opened of a registered definition, at its first steps, once under a key."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from saga.core.due import Due
from saga.core.outline import DEADLINE
from saga.core.ref import Phase
from saga.core.rows import Place
from saga.errors import InputError
from saga.store.values import Addition, Busy, Opening, Refused, Task, ValueRefused

from .stand import FORKED, LINE, Stand, opening_of, started


@pytest.fixture
def ready(stand: Stand) -> Stand:
    """A store with the definitions in it."""
    stand.store.register(LINE, 1.0)
    stand.store.register(FORKED, 1.0)
    return stand


def test_a_start_writes_the_index_the_first_entry_and_the_first_rows(ready: Stand) -> None:
    opening = opening_of(FORKED, key="k", tags={"a": 1}, deadline=100, priority=3, input={"x": 1}, hash="h")
    assert ready.store.open([opening], 1.0) == {opening.id}
    header = ready.store.header(opening.id)
    assert header is not None
    assert (header.id, header.name, header.fingerprint, header.key, header.status, header.reason, header.tags) == (
        opening.id, "forked", FORKED.fingerprint, "k", "running", None, {"a": 1},
    )  # fmt: skip
    assert (header.finished_at, header.realm) == (None, "conformance")
    assert ready.store.holders("forked", ["k"]) == [(opening.id, "h")]
    [entry] = ready.store.entries(opening.id)
    assert (entry.seq, entry.event, entry.worker) == (1, opening.started, None)
    assert entry.at == header.started_at
    assert header.updated_at - header.started_at < timedelta(seconds=1)
    deadline, left, right = ready.rows(opening.id)
    assert (deadline.lane, deadline.attempt, deadline.step, deadline.sent) == (DEADLINE, None, "", None)
    assert deadline.due == pytest.approx(100, abs=5)
    for row, name in ((left, "b"), (right, "c")):
        assert (row.lane, row.step, row.attempt, row.phase, row.priority) == (f"main/{name}", name, 1, "step", 3)
        assert (row.due, row.dispatches, row.worker, row.watch, row.realm) == (None, 1, None, 0.0, "conformance")


def test_a_start_that_is_not_announced_is_left_to_the_relay(ready: Stand) -> None:
    saga = ready.start(sent=False)
    assert (ready.row(saga).sent, ready.row(saga).dispatches) == (None, 0)


def test_a_definition_is_stored_once_and_comes_back(ready: Stand) -> None:
    ready.store.register(LINE, 1.0)
    found = ready.store.definition(LINE.fingerprint)
    assert found is not None
    assert (found.to_json(), found.fingerprint) == (LINE.to_json(), LINE.fingerprint)


def test_a_key_names_one_saga_of_a_name(ready: Stand) -> None:
    first, again, other, unnamed = (opening_of(LINE, key="k"), opening_of(LINE, key="k", hash="x"),
                                    opening_of(FORKED, key="k"), opening_of(LINE))  # fmt: skip
    assert ready.store.open([first], 1.0) == {first.id}
    assert ready.store.open([again, other, unnamed], 1.0) == {other.id, unnamed.id}
    assert ready.store.header(again.id) is None
    assert ready.store.holders("line", ["k", None, "x", "k"]) == [(first.id, "hash"), None, None, (first.id, "hash")]
    assert ready.rows(again.id) == []


def test_of_two_starts_under_one_key_at_once_one_is_made(ready: Stand) -> None:
    first, second = opening_of(LINE, key="k"), opening_of(LINE, key="k")
    assert ready.store.open([first, second], 1.0) == {min(first.id, second.id)}


def test_a_start_that_comes_again_is_known_by_its_id(ready: Stand) -> None:
    opening = opening_of(LINE)
    assert ready.store.open([opening], 1.0) == {opening.id}
    assert ready.store.open([opening], 1.0) == set()
    assert ready.kinds(opening.id) == ["saga_started"]


WRONG: dict[str, Any] = {
    "an unknown definition": {"fingerprint": "x"},
    "another name": {"name": "forked"},
    "no rows": {"rows": []},
    "another step": {"rows": [Place("main", "b", 1, Phase.STEP, "celery")]},
    "another attempt": {"rows": [Place("main", "a", 2, Phase.STEP, "celery")]},
    "another lane": {"rows": [Place("main/a", "a", 1, Phase.STEP, "celery")]},
    "a deadline without one": {
        "rows": [Place("main", "a", 1, Phase.STEP, "q"), Place(DEADLINE, "", None, Phase.STEP, "q", due=Due(None, 5.0))]
    },
    "a long key": {"key": "k" * 501},
    "an empty key": {"key": ""},
    "a long queue": {"rows": [Place("main", "a", 1, Phase.STEP, "q" * 501)]},
    "a long hash": {"input_hash": "h" * 501},
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_start_that_does_not_fit_its_definition_is_refused(ready: Stand, wrong: str) -> None:
    right = opening_of(LINE)
    opening: Opening = replace(opening_of(LINE), **WRONG[wrong])
    with pytest.raises(ValueRefused):
        ready.store.open([right, opening], 1.0)
    assert ready.store.header(right.id) is None


def test_a_start_without_a_queue_is_refused(ready: Stand) -> None:
    with pytest.raises(Refused):
        ready.store.open([replace(opening_of(LINE), rows=[Place("main", "a", 1, Phase.STEP, None)])], 1.0)


# --- in a caller's transaction ----------------------------------------------------------------------------------------


def test_a_start_in_a_callers_transaction_shows_once_that_commits(ready: Stand) -> None:
    told: list[str] = []
    opening = opening_of(LINE)
    with ready.connect() as connection:
        joined = ready.store.joined(connection)
        assert joined.on_commit(lambda: told.append("committed"))
        assert joined.open([opening], 1.0) == {opening.id}
        assert joined.statuses([opening.id]) == {opening.id: "running"}
        assert ready.store.header(opening.id) is None
        assert ready.relay().do(Task.SEND_DUE) == []
        assert told == []
        connection.commit()
    assert told == ["committed"]
    assert ready.store.statuses([opening.id]) == {opening.id: "running"}
    assert ready.kinds(opening.id) == ["saga_started"]


def test_a_start_in_a_transaction_that_is_rolled_back_never_was(ready: Stand) -> None:
    told: list[str] = []
    opening = opening_of(LINE, key="k")
    with ready.connect() as connection:
        joined = ready.store.joined(connection)
        joined.on_commit(lambda: told.append("committed"))
        joined.open([opening], 1.0)
        connection.rollback()
    assert ready.store.header(opening.id) is None
    assert ready.store.open([opening], 1.0) == {opening.id}
    assert told == []


def test_what_fails_in_a_callers_transaction_leaves_the_rest_of_it(ready: Stand) -> None:
    first, third = opening_of(LINE), opening_of(LINE)
    with ready.connect() as connection:
        joined = ready.store.joined(connection)
        joined.open([first], 1.0)
        with pytest.raises(Exception, match="registered definition"):
            joined.open([replace(opening_of(LINE), fingerprint="x")], 1.0)
        joined.open([third], 1.0)
        connection.commit()
    assert ready.store.statuses([first.id, third.id]) == {first.id: "running", third.id: "running"}


def test_a_key_that_an_open_transaction_holds_is_busy(ready: Stand) -> None:
    with ready.connect() as connection, ready.connect() as other:
        ready.store.joined(connection).open([opening_of(LINE, key="k")], 1.0)
        with pytest.raises(Busy):
            ready.store.open([opening_of(LINE, key="k")], 0.05)
        joined = ready.store.joined(other)
        with pytest.raises(Busy):
            joined.open([opening_of(LINE, key="k")], 0.05)
        mine = opening_of(LINE, key="another")
        assert joined.open([mine], 0.05) == {mine.id}
        other.commit()
        connection.rollback()
    assert ready.store.holders("line", ["k", "another"]) == [None, (mine.id, "hash")]


def test_a_definition_that_an_open_transaction_stores_is_busy(stand: Stand) -> None:
    with stand.connect() as connection:
        stand.store.joined(connection).register(LINE, 1.0)
        assert stand.store.definition(LINE.fingerprint) is None
        with pytest.raises(Busy):
            stand.store.register(LINE, 0.05)
        connection.commit()
    assert stand.store.definition(LINE.fingerprint) is not None


def test_a_key_whose_transaction_commits_is_found_after_the_wait(ready: Stand) -> None:
    first, second = opening_of(LINE, key="k"), opening_of(LINE, key="k")
    with ready.connect() as connection, ThreadPoolExecutor(1) as pool:
        ready.store.joined(connection).open([first], 1.0)
        waiting = pool.submit(ready.store.open, [second], 30.0)
        connection.commit()
        assert waiting.result(30) == set()
    assert ready.store.holders("line", ["k"]) == [(first.id, "hash")]


@pytest.mark.parametrize("wrong", [None, 1, object(), "connection"])
def test_what_is_no_transaction_cannot_be_joined(ready: Stand, wrong: Any) -> None:
    with pytest.raises(InputError, match="connection="):
        ready.store.joined(wrong)


# --- in a step's transaction ------------------------------------------------------------------------------------------


def test_what_a_steps_transaction_appends_shows_once_it_commits(ready: Stand) -> None:
    saga = ready.start()
    with ready.store.transaction(10.0) as within:
        with within.shared():
            pass
        joined = within.settled()
        assert joined.append([Addition(saga, 2, [started()])], 1).keys() == {saga}
        assert len(joined.entries(saga)) == 2
        assert ready.kinds(saga) == ["saga_started"]
        within.commit()
        within.committed()
    assert not within.ended
    assert ready.kinds(saga) == ["saga_started", "step_started"]


@pytest.mark.parametrize("error", [None, RuntimeError("no")])
def test_what_a_steps_transaction_appends_is_lost_where_it_does_not_commit(
    ready: Stand, error: Exception | None
) -> None:
    saga = ready.start()

    def use() -> None:
        with ready.store.transaction(10.0) as within:
            within.settled().append([Addition(saga, 2, [started()])], 1)
            if error:
                raise error

    if error:
        with pytest.raises(RuntimeError):
            use()
    else:
        use()
    assert ready.kinds(saga) == ["saga_started"]
    assert ready.append(saga, started())


def test_a_lost_place_does_not_end_the_transaction_it_was_lost_in(ready: Stand) -> None:
    saga = ready.start()
    ready.append(saga, started())
    with ready.store.transaction(10.0) as within:
        joined = within.settled()
        assert joined.append([Addition(saga, 2, [started()])], 1) == {}
        assert joined.append([Addition(saga, 3, [started()])], 1).keys() == {saga}
        within.commit()
    assert len(ready.kinds(saga)) == 3


@pytest.mark.parametrize("commits", [True, False])
def test_two_at_one_place_one_waits_for_the_other(ready: Stand, commits: bool) -> None:
    saga = ready.start()
    with ThreadPoolExecutor(1) as pool:
        with ready.store.transaction(10.0) as within:
            within.settled().append([Addition(saga, 2, [started()])], 1)
            waiting = pool.submit(ready.store.append, [Addition(saga, 2, [started()])], 2)
            if commits:
                within.commit()
        assert waiting.result(30).keys() == (set() if commits else {saga})
    [_, entry] = ready.store.entries(saga)
    assert entry.worker == (1 if commits else 2)
