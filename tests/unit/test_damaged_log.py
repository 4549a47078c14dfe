"""Whatever is done to the stored rows of a log: it is refused by saga and entry, or it does no harm."""

from __future__ import annotations

import re
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saga.core.events import (
    FORMAT,
    KINDS,
    AttemptStarted,
    CancelRequested,
    CompensateRequested,
    Entry,
    Paused,
    RetryRequested,
    SagaStarted,
    StepSkipped,
    data_of,
    kind_of,
)
from saga.core.machine import decide
from saga.core.permission import check
from saga.core.state import State, Status
from saga.engine.draft import Instance
from saga.errors import CorruptLog, NotAllowed
from saga.store.values import entries_of as read

from .helpers import Log
from .simulation import World, sagas, tapes, through_json
from .test_events import EVENTS, row_of

ID = UUID("018f3b1e-0000-7000-8000-000000000001")
NAMES_IT = re.compile(rf"^saga {ID}, entry \d+(: | is missing$)")

values = st.recursive(
    st.none()
    | st.booleans()
    | st.text(max_size=5)
    | st.sampled_from([-1, 0, 1, 1.5, 300, 1e17, 1e300, -1e300, 10**400]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=3,
)
columns = {
    "kind": st.sampled_from([*KINDS, "step_teleported", ""]),
    "lane": st.sampled_from(["main", "main/s1", "deadline", "", "nowhere", None]),
    "step": st.sampled_from(["s0", "s1", "s2", "nothing", "", None]),
    "attempt": st.sampled_from([0, -1, 1, 2, 3, 2**31 - 1, None]),
    "worker": st.sampled_from([0, -1, 1, None]),
    "format": st.sampled_from([FORMAT, FORMAT + 1]),
    "data": values | st.dictionaries(st.sampled_from([name for event in EVENTS for name in data_of(event)]), values),
}
COLUMNS = ["seq", "kind", "lane", "step", "attempt", "data", "worker", "at", "format"]
Rows = list[dict[str, Any]]


def rows_of(entries: list[Entry]) -> Rows:
    """A log as it is stored."""
    return [
        dict(
            zip(COLUMNS, (entry.seq, entry.kind, entry.lane, entry.step, entry.attempt, through_json(entry.data),
                          entry.worker, entry.at, FORMAT), strict=True)
        )
        for entry in entries
    ]  # fmt: skip


def replayed(outline: Any, rows: Rows) -> State:
    """What a saga's stored rows amount to, read as everybody reads them."""
    return Instance(ID, outline.outline, None).replay(read(ID, [tuple(row.values()) for row in rows]))


def is_harmless_or_named(outline: Any, rows: Rows) -> None:
    refusal = ""
    try:
        state = replayed(outline, rows)
    except CorruptLog as error:
        refusal = str(error)
    if refusal:
        assert NAMES_IT.match(refusal), refusal
        assert len(refusal) < 1000
        return
    for command in decide(outline, state):
        str(command)
    assert state.status in Status
    str((state.reason, state.problem, state.results()))
    for request in (CancelRequested(), CompensateRequested(), Paused(), RetryRequested(), StepSkipped(step="s0")):
        try:
            check("x", outline.outline, state, request)
        except NotAllowed:
            continue


def change_a_column(data: st.DataObject, rows: Rows) -> None:
    row = data.draw(st.sampled_from(rows))
    column = data.draw(st.sampled_from(sorted(columns)))
    row[column] = data.draw(columns[column])


def change_a_field(data: st.DataObject, rows: Rows) -> None:
    row = data.draw(st.sampled_from(rows))
    names = [*row["data"], "undo", "colour"] if isinstance(row["data"], dict) else []
    if names:
        row["data"] = row["data"] | {data.draw(st.sampled_from(names)): data.draw(values)}


def drop_a_field(data: st.DataObject, rows: Rows) -> None:
    row = data.draw(st.sampled_from(rows))
    if isinstance(row["data"], dict) and row["data"]:
        del row["data"][data.draw(st.sampled_from(sorted(row["data"])))]


def drop_a_row(data: st.DataObject, rows: Rows) -> None:
    rows.pop(data.draw(st.integers(0, len(rows) - 1)))


def exchange_rows(data: st.DataObject, rows: Rows) -> None:
    one, other = (data.draw(st.integers(0, len(rows) - 1)) for _ in range(2))
    seqs = rows[one]["seq"], rows[other]["seq"]
    rows[one], rows[other] = rows[other], rows[one]
    rows[one]["seq"], rows[other]["seq"] = seqs


def repeat_a_row(data: st.DataObject, rows: Rows) -> None:
    row = data.draw(st.sampled_from(rows))
    rows.append(row | {"data": row["data"], "seq": rows[-1]["seq"] + 1})


def cut(data: st.DataObject, rows: Rows) -> None:
    del rows[data.draw(st.integers(1, len(rows))) :]


DAMAGES = [change_a_column, change_a_field, drop_a_field, drop_a_row, exchange_rows, repeat_a_row, cut]


@given(saga=sagas(), tape=tapes, data=st.data())
def test_a_damaged_log_is_harmless_or_refused_by_saga_and_entry(saga: Any, tape: Any, data: st.DataObject) -> None:
    world = World(saga, tape)
    world.run()
    rows = rows_of(world.entries)
    for _ in range(data.draw(st.integers(1, 3))):
        if rows:
            data.draw(st.sampled_from(DAMAGES))(data, rows)
    is_harmless_or_named(saga, rows)


@given(event=st.sampled_from(EVENTS), data=st.data())
def test_a_damaged_row_of_any_kind_is_harmless_or_refused(event: Any, data: st.DataObject) -> None:
    log = Log("pay", "ship").started("pay")
    row = dict(zip(COLUMNS, row_of(event, seq=3), strict=True))
    data.draw(st.sampled_from([change_a_column, change_a_field, drop_a_field]))(data, [row])
    is_harmless_or_named(log.outline, [*rows_of(log.entries), row])


@pytest.mark.parametrize("missing", [1, 2, 3])
def test_a_missing_entry_is_named(missing: int) -> None:
    log = Log("pay", "ship").did("pay").started("ship")
    rows = [row for row in rows_of(log.entries) if row["seq"] != missing]

    with pytest.raises(CorruptLog, match=rf"^saga {ID}, entry {missing} is missing$"):
        replayed(log.outline, rows)


@pytest.mark.parametrize("seconds", [1e300, -1e300, 10**400, 1e17])
@pytest.mark.parametrize("name", ["deadline", "delay"])
def test_a_time_that_no_calendar_has_is_refused(name: str, seconds: float) -> None:
    log = Log("pay")
    rows = rows_of(log.entries)
    rows[0]["data"] = {name: seconds}

    with pytest.raises(CorruptLog, match=rf"^saga {ID}, entry 1: it does not fit the entries before it: OverflowError"):
        replayed(log.outline, rows)


@pytest.mark.parametrize(
    ("event", "field", "value"),
    [
        (SagaStarted(), "priority", "high"),
        (SagaStarted(), "priority", 10**30),
        (SagaStarted(), "deadline", "soon"),
        (SagaStarted(), "deadline", True),
        (AttemptStarted("main", "pay", 1), "timeout", "soon"),
        (Paused(), "by", {"name": "ann"}),
        (StepSkipped("ann", None, "main", "pay"), "undo_later", "yes"),
    ],
)
def test_a_field_of_the_wrong_type_is_named(event: Any, field: str, value: Any) -> None:
    row = dict(zip(COLUMNS, row_of(event, seq=1), strict=True))
    row["data"] = {field: value}

    with pytest.raises(CorruptLog, match=rf"^saga {ID}, entry 1: damaged {kind_of(event)}: its {field} is "):
        read(ID, [tuple(row.values())])
