"""A failure keeps its type, and what its ``Abort`` carries, from the exception to the error that a caller gets."""

from __future__ import annotations

import pickle
from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from pydantic import SecretStr

from saga.core.events import AttemptFailed, CancelRequested
from saga.core.outcome import Report
from saga.errors import Abort, Cause, SagaCompensated, SagaStuck
from saga.worker.report import report

from .helpers import Log, step


class Declined(Abort):
    """A refusal that computes its code."""

    @property
    def code(self) -> Any:
        return {"visa": 51}[str(self)]


class Unequal:
    def __repr__(self) -> str:
        raise KeyError("no name")


def test_an_abort_is_reported_with_what_it_carries():
    error = Abort("declined", code="NSF", details={"limit": Decimal("7.50"), "on": date(2026, 1, 1)})
    assert report(error) == Report("declined", "Abort", "NSF", {"limit": "7.50", "on": "2026-01-01"})
    assert report(Declined("visa")) == Report("visa", "Declined", 51, None)
    assert report(Abort("no")) == Report("no", "Abort", None, None)
    assert report(Abort("no", code=0, details=False))[2:] == (0, False)


def test_any_other_exception_is_reported_by_its_type_alone():
    error = ValueError("no")
    error.code = 51  # type: ignore[attr-defined] # what others mean by it is not known
    assert report(error) == Report("ValueError: no", "ValueError", None, None)


@pytest.mark.parametrize(
    ("details", "kept"),
    [
        (float("nan"), "nan"),
        ("a\x00b", "a\\x00b"),
        ({"key": SecretStr("s3cret")}, "{'key': SecretStr('**********')}"),
        (["x" * 20_000], "['" + "x" * 9_998 + " …"),
        (Unequal(), "<Unequal that cannot be shown: KeyError>"),
        (10**5000, "<int that cannot be shown: ValueError>"),
    ],
    ids=["nan", "nul", "secret", "long", "hostile", "huge"],
)
def test_what_cannot_be_stored_is_kept_as_text_and_the_refusal_stays_one(details: Any, kept: str):
    assert report(Abort("no", details=details)) == Report("no", "Abort", None, kept)


def test_a_code_is_short_and_one_that_fails_is_said_to():
    assert report(Abort("no", code="x" * 300)).code == "x" * 200 + " …"
    assert report(Declined("master")).code == "<KeyError: 'master'>"


def test_an_abort_is_the_same_after_its_way_through_a_pickle():
    again = pickle.loads(pickle.dumps(Abort("declined", code=51, details={"a": 1})))
    assert (str(again), again.code, again.details) == ("declined", 51, {"a": 1})


@pytest.mark.parametrize("kind", [SagaCompensated, SagaStuck])
def test_the_error_a_caller_gets_is_the_same_after_its_way_through_a_pickle(kind: Any):
    error = kind("id-1", "pay: declined", Cause("Abort", "declined", 51, {"a": 1}, "pay"))
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.cause, again.reason, again.saga_id) == (str(error), error.cause, error.reason, "id-1")


def declined(log: Log, name: str, *, undo: bool = False) -> Log:
    outcome = "failed" if undo else "aborted"
    return log.started(name, undo=undo).append(
        AttemptFailed(*log.where(name, undo), outcome=outcome, error="declined", effect=False, error_type="Abort",
                      code=51, details={"a": 1})
    )  # fmt: skip


def test_a_rollback_has_the_failure_it_began_with_as_its_cause():
    log = declined(Log("a", "b").did("a"), "b")
    cause = Cause("Abort", "declined", 51, {"a": 1}, "b")
    assert (log.state.cause, log.step("b").code, log.step("b").error) == (cause, 51, "declined")
    log.undid("a")
    assert log.state.cause == cause
    assert str(cause) == "b: Abort: declined"


def test_a_stuck_undo_is_the_cause_while_it_is_stuck():
    log = declined(declined(Log("a", "b").did("a"), "b"), "a", undo=True)
    assert log.state.cause == Cause("Abort", "declined", 51, {"a": 1}, "a", undo=True)
    log.skip("a", undo=True)
    assert log.state.cause == Cause("Abort", "declined", 51, {"a": 1}, "b")


def test_a_rollback_that_an_operator_asked_for_has_no_cause():
    assert Log("a", "b").did("a").append(CancelRequested("ann")).state.cause is None
    log = Log("a", step("pay", pivot=True)).did("a").started("pay").append(CancelRequested("ann"))
    assert declined_pivot(log).state.cause is None


def declined_pivot(log: Log) -> Log:
    return log.append(AttemptFailed("main", "pay", 1, outcome="aborted", error="declined", effect=False))


@pytest.mark.parametrize(
    ("error_type", "error", "text"),
    [
        ("ValueError", "ValueError: no", "no"),
        ("ValueError", "ValueError", ""),
        ("Error", "Errors everywhere", "Errors everywhere"),
        ("Abort", "declined", "declined"),
        (None, "ValueError: no", "ValueError: no"),
    ],
)
def test_the_text_of_a_cause_leaves_out_the_type_that_stands_beside_it(error_type: str | None, error: str, text: str):
    log = (
        Log("a")
        .started("a")
        .append(AttemptFailed("main", "a", 1, outcome="unknown", error=error, error_type=error_type))
    )
    assert log.state.cause == Cause(error_type, text, step="a")


@pytest.mark.parametrize(("end", "kind"), [("lost", "WorkerLost"), ("timed_out", "StepTimeout")])
def test_an_attempt_that_ended_without_a_word_has_the_type_that_retry_policies_see(end: str, kind: str):
    log = Log("a").started("a").will_retry("a").started("a")
    getattr(log, end)("a")
    assert (log.step("a").error_type, log.step("a").code) == (kind, None)
