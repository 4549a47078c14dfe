"""Logs that the versions before have written are read as they were: whatever is rebuilt, users' sagas go on."""

from __future__ import annotations

from typing import Any

import pytest

from saga.core import events, machine, tracks
from saga.core.events import KINDS, entry_from_row
from saga.core.machine import TRANSITIONS, replay
from saga.core.outline import Outline
from saga.core.state import StepStatus
from saga.engine.draft import Instance
from tests.fixtures.logs import FOLDER, ID, Kept, picture, read, row_of, short

settled = pytest.mark.skipif(
    not (FOLDER / f"format-{events.FORMAT}.json").exists(), reason="the format that is written is not settled yet"
)
logs = pytest.mark.parametrize("log", read(), ids=lambda log: log.name)


@logs
def test_an_old_log_amounts_to_what_it_always_has(log: Kept):
    assert picture(log.outline, replay(log.outline, log.entries)) == log.state


@logs
def test_an_old_log_that_is_read_entry_by_entry_is_each_time_where_it_was(log: Kept):
    state = replay(log.outline, [])
    found = []
    for entry in log.entries:
        state = replay(log.outline, [entry], state)
        found.append(short(log.outline, state))
    assert found == log.shorts
    assert picture(log.outline, state) == log.state


def test_an_old_log_is_as_the_engine_wants_it():
    for log in read():
        Instance(ID, log.outline, None).replay(log.entries)


def test_an_old_entry_that_is_written_again_is_the_same():
    for log in read():
        for row in log.rows:
            assert row_of(entry_from_row(ID, row), row[-1]) == [*row[:7], row[7].isoformat(), row[8]], log.name


def test_an_old_definition_that_is_written_again_is_the_same():
    for log in read():
        assert Outline.from_json(log.outline.to_json()).fingerprint == log.outline.fingerprint, log.name


# --- that nothing is missing ------------------------------------------------------------------------------------------


def test_there_are_logs_of_every_format_before_this_one():
    formats = {int(path.stem.removeprefix("format-")) for path in FOLDER.glob("format-*.json")}
    assert set(range(1, events.FORMAT)) <= formats
    for log in read():
        assert {f"format-{row[-1]}" for row in log.rows} == {log.name.partition(":")[0]}


@settled
def test_every_kind_of_entry_is_in_some_log_and_every_field_of_it():
    kinds = {row[1] for log in read() for row in log.rows}
    assert kinds == set(KINDS)
    said = {(type(entry.event), name) for log in read() for entry in log.entries for name in entry.data}
    missing = {
        (event.__name__, name)
        for event, names in events._DEFAULTS.items()
        for name, _ in names
        if (event, name) not in said
    }
    assert missing == set(), "see CONTRIBUTING, change the tables"


def test_every_row_of_the_table_of_transitions_is_in_some_log(monkeypatch: pytest.MonkeyPatch):
    met: set[tuple[StepStatus, str]] = set()
    monkeypatch.setattr(machine, "TRANSITIONS", _Noting(met))
    monkeypatch.setattr(tracks, "TRANSITIONS", _Noting(met))
    for log in read():
        replay(log.outline, log.entries)
    assert met == TRANSITIONS.keys()


class _Noting(dict[tuple[StepStatus, str], StepStatus]):
    """The table, which notes the rows that are looked up and found."""

    def __init__(self, met: set[tuple[StepStatus, str]]) -> None:
        super().__init__(TRANSITIONS)
        self._met = met

    def __getitem__(self, row: tuple[StepStatus, str]) -> StepStatus:
        self._met.add(row)
        return super().__getitem__(row)

    def get(self, row: tuple[StepStatus, str], default: Any = None) -> Any:
        if row not in self:
            return default
        return self[row]
