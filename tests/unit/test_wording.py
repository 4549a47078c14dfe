"""Log lines are worded in one place, and every fact is told of by somebody."""

from __future__ import annotations

import ast
import logging
from dataclasses import fields
from importlib import import_module
from pathlib import Path
from uuid import UUID

import pytest

from saga.core.ref import AttemptRef, Phase
from saga.telemetry.facts.attempts import AttemptBegan, AttemptEnded, AttemptLeft, AttemptName
from saga.telemetry.facts.lanes import ChoreDone
from saga.telemetry.facts.messages import MessageRefused
from saga.telemetry.facts.sagas import Appended, OutcomeUnknown, SagaOpened
from saga.telemetry.facts.upkeep import RelayBack, RelayFailed, RelayLooked
from saga.telemetry.stream import Fact, emit
from saga.telemetry.wording import LINES

from .house import MODULES, imports, room_of

SILENT = {Appended, AttemptBegan, AttemptEnded, AttemptLeft, ChoreDone, RelayLooked, SagaOpened}
"""What goes on all the time, for others to count."""

FACTS = {
    kind
    for name in MODULES
    if name.startswith("saga.telemetry.facts.")
    for kind in vars(import_module(name)).values()
    if isinstance(kind, type) and issubclass(kind, Fact) and kind.__module__ == name
}
LOGS = {"telemetry", "cli", "dev", "log_context"}
"""Who may log: the wording itself, those who talk to somebody in front of a terminal, and a filter for users' logs."""


def names(path: Path) -> set[str]:
    return {node.id for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Name)}


def test_nobody_else_words_log_lines():
    assert {name for name in MODULES if "logging" in imports(name) and room_of(name) not in LOGS} == set()


def test_every_fact_but_those_that_go_on_all_the_time_has_a_line():
    assert FACTS - set(LINES) == SILENT


def test_every_fact_is_emitted_by_somebody():
    named = {name for module, path in MODULES.items() if room_of(module) != "telemetry" for name in names(path)}
    named |= names(MODULES["saga.telemetry.monitor"]) | names(MODULES["saga.telemetry.watch"])
    assert {kind.__name__ for kind in FACTS} - named == set()


@pytest.mark.parametrize("kind", sorted(FACTS, key=lambda kind: kind.__name__), ids=lambda kind: kind.__name__)
def test_a_fact_says_what_it_means_and_cannot_be_changed(kind: type[Fact]):
    assert kind.__doc__ is not None
    assert not kind.__doc__.startswith(f"{kind.__name__}(")
    assert kind.__dataclass_params__.frozen  # type: ignore[attr-defined]


def test_a_line_has_the_level_and_the_arguments_that_its_fact_gives(caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.INFO, "saga"):
        emit(OutcomeUnknown("shop", UUID(int=7), OSError("cut off\nin the middle")))
        emit(MessageRefused("saga.run", "expected a list"))
        emit(MessageRefused("saga.ping"))
        emit(RelayBack())
    assert [(record.name, record.levelname, record.getMessage()) for record in caplog.records] == [
        ("saga", "WARNING", f"saga shop[{UUID(int=7)}]: what happened is not known to be in the log: cut off"),
        ("saga", "ERROR", "a malformed saga.run message is refused: expected a list"),
        ("saga", "ERROR", "a malformed saga.ping message is refused"),
        ("saga", "INFO", "the relay reaches the database again"),
    ]


def test_a_line_is_where_its_fact_was_emitted(caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.INFO, "saga"):
        emit(RelayBack())
    [record] = caplog.records
    assert (record.pathname, record.funcName) == (__file__, "test_a_line_is_where_its_fact_was_emitted")


def test_a_traceback_comes_with_the_line_of_what_nobody_expected(caplog: pytest.LogCaptureFixture):
    try:
        raise KeyError("unheard of")
    except KeyError as error:
        emit(RelayFailed(error))
    [record] = caplog.records
    assert record.exc_info is not None
    assert record.exc_info[0] is KeyError
    assert "raise KeyError" in caplog.text


def test_a_line_that_nobody_reads_is_not_filled(caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.CRITICAL, "saga"):
        emit(OutcomeUnknown("shop", UUID(int=7), None))  # type: ignore[arg-type]
    assert caplog.records == []


@pytest.mark.parametrize("kind", sorted(LINES, key=lambda kind: kind.__name__), ids=lambda kind: kind.__name__)
def test_every_line_can_be_written(kind: type[Fact], caplog: pytest.LogCaptureFixture):
    name = AttemptName("shop", UUID(int=7), AttemptRef("main", "pay", 2, Phase.COMPENSATION))
    examples = {
        "AttemptName": name,
        "UUID": UUID(int=7),
        "int": 3,
        "float": 1.5,
        "tuple[int, ...]": (1, 2),
        "bool": True,
    }
    errors = {"Exception": OSError("cut off"), "BaseException": KeyboardInterrupt()}
    given = [(examples | errors).get(str(field.type), "words") for field in fields(kind)]  # type: ignore[arg-type]
    with caplog.at_level(logging.DEBUG, "saga"):
        emit(kind(*given))
    [record] = caplog.records
    assert (record.levelno, record.msg) == (LINES[kind].level, LINES[kind].text)
    assert record.getMessage()


def test_a_line_names_an_attempt_as_a_reader_knows_it():
    assert str(AttemptName("shop", UUID(int=7), AttemptRef("main", "pay", 2, Phase.COMPENSATION))) == (
        f"saga shop[{UUID(int=7)}], undo of step pay, attempt 2"
    )
