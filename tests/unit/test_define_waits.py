"""Sleep and WaitFor: how long, for what, and what is visible after them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

import pytest

from saga import Choice, Sleep, Step, WaitFor
from saga.language.sleep import SleepTerms
from saga.language.wait_for import WaitForTerms

from .definitions import Definition, lacks, named, refused, step, taking
from .helpers import task_of


class Opaque:
    """Nothing pydantic knows how to store."""


HOUR = timedelta(hours=1)


@dataclass
class Approval:
    by: str
    level: int = 1


@dataclass
class Plan:
    at: datetime
    gap: timedelta
    day: date
    count: int
    text: str
    maybe: datetime | None = None


# --- Sleep ------------------------------------------------------------------------------------------------------------


def test_a_sleep_for_a_time_stores_its_name_only():
    found = Definition(Sleep(timedelta(days=7), name="trial"), taking("trial"))
    assert found.doc[0] == {"sleep": "trial"}
    assert found.walk.terms["trial"] == SleepTerms(604_800.0)
    assert found.types["trial"] is datetime


@pytest.mark.parametrize("path", ["input.at", "input.gap", "input.maybe", "input.text", "at"])
def test_a_sleep_may_be_until_what_a_path_leads_to(path: str):
    found = Definition(Sleep(path, name="rest"), input=Plan)
    assert found.doc[0] == {"sleep": "rest", "until": f"input.{path.removeprefix('input.')}"}
    assert found.walk.terms["rest"] == SleepTerms(None)


@pytest.mark.parametrize(
    ("sleep", "words"),
    [
        (Sleep(HOUR), ["a Sleep has no name by itself", "name="]),
        (Sleep(timedelta(0), name="s"), ["Sleep 's'", "for_or_until=", "positive timedelta"]),
        (Sleep(-HOUR, name="s"), ["Sleep 's'", "positive timedelta"]),
        (Sleep(timedelta(days=36500), name="s"), ["ten years at most"]),
        (Sleep(60, name="s"), ["for_or_until=60"]),  # type: ignore[arg-type]
        (Sleep("input.count", name="s"), ["'input.count' is int", "timedelta or a datetime"]),
        (Sleep("input.day", name="s"), ["'input.day' is date"]),
        (Sleep("input.att", name="s"), ["no field 'att'", "did you mean 'at'?"]),
        (Sleep("nothing.at", name="s"), ["for_or_until='nothing.at'", "names nothing that is there"]),
    ],
)
def test_a_sleep_is_refused_with_what_is_wrong(sleep: Sleep, words: list[str]):
    text = refused(sleep, input=Plan)
    assert lacks(text, ["saga 'shop'", *words]) == [], text


# --- WaitFor ----------------------------------------------------------------------------------------------------------


def test_a_wait_is_named_after_its_signal_and_gives_the_payload():
    found = Definition(
        WaitFor("approval", payload=Approval, timeout=HOUR), taking("approval: str", bind={"approval": "approval.by"})
    )
    assert found.doc[0] == {"wait": "approval", "signals": ["approval"]}
    assert found.walk.terms["approval"] == WaitForTerms(("approval",), 3600.0, Approval)
    assert found.types["approval"] is Approval
    assert found.missing == set()


def test_without_a_type_and_a_timeout_it_takes_anything_at_any_time():
    found = Definition(WaitFor("approval", name="answer"))
    assert found.walk.terms["answer"] == WaitForTerms(("approval",), None, Any)
    assert found.types == {"answer": Any}


def test_several_signals_give_a_mapping_of_signal_and_payload():
    wait = WaitFor("yes", "no", name="answer", payload=Approval)
    found = Definition(wait, Choice("answer.signal", {"yes": [], "no": []}, name="c"),
                       taking("who: str", bind={"who": "answer.payload.by"}))  # fmt: skip
    assert found.doc[0] == {"wait": "answer", "signals": ["yes", "no"]}
    assert "did you mean 'yes'?" in refused(wait, Choice("answer.signal", {"yess": []}, name="c"))
    assert "did you mean 'payload'?" in refused(wait, Choice("answer.pay", {"x": []}, name="c"))
    assert "Approval has no field 'bye'" in refused(wait, Choice("answer.payload.bye", {"x": []}, name="c"))


def test_after_a_timeout_with_a_way_of_its_own_the_payload_may_be_missing():
    wait = WaitFor("approval", payload=Approval, timeout=HOUR, on_timeout=[step("remind")])
    found = Definition(wait, taking("approval: dict | None, remind=None"))
    assert found.doc[0] == {
        "wait": "approval",
        "signals": ["approval"],
        "on_timeout": [{"step": "remind", "task": "shop.remind"}],
    }
    assert {"approval", "remind"} <= found.missing
    text = refused(wait, taking("approval: dict"))
    assert lacks(text, ["parameter 'approval'", "may be missing", "WaitFor 'approval' has on_timeout="]) == [], text
    assert "it is in the on_timeout of WaitFor 'approval'" in refused(wait, taking("remind: str"))


def test_an_empty_way_is_stored_as_given():
    assert Definition(WaitFor("approval", timeout=HOUR, on_timeout=[])).doc[0]["on_timeout"] == []


def test_there_is_no_payload_in_the_way_of_the_timeout():
    text = refused(WaitFor("approval", timeout=HOUR, on_timeout=[taking("approval")]))
    assert lacks(text, ["step 'subject'", "'approval'", "no payload in the on_timeout"]) == [], text


@pytest.mark.parametrize(
    ("wait", "words"),
    [
        (WaitFor(name="w"), ["WaitFor 'w'", "no signal"]),
        (WaitFor(), ["a WaitFor has no name by itself", "name="]),
        (WaitFor("yes", "no"), ["a WaitFor has no name by itself", "name="]),
        (WaitFor("yes", "yes", name="w"), ["a signal twice"]),
        (WaitFor("", name="w"), ["the signal ''"]),
        (WaitFor("a[1]", name="w"), ["the signal 'a[1]'"]),
        (WaitFor(5, name="w"), ["the signal 5"]),  # type: ignore[arg-type]
        (WaitFor("order.paid"), ["'order.paid'", "'.'", "name="]),
        (WaitFor("a", on_timeout=[]), ["on_timeout", "no timeout", "timeout="]),
        (WaitFor("a", timeout=HOUR, on_timeout=step("x")), ["on_timeout=Step", "list of steps"]),  # type: ignore[arg-type]
        (WaitFor("a", timeout=timedelta(0)), ["timeout=", "positive"]),
        (WaitFor("a", timeout=60), ["timeout=60"]),  # type: ignore[arg-type]
        (WaitFor("a", payload=Opaque), ["its payload", "stored as JSON"]),
        (
            WaitFor("a", timeout=HOUR, on_timeout=[Step(task_of(named("go")), pivot=True)]),
            ["step 'go'", "inside an on_timeout"],
        ),
    ],
)
def test_a_wait_is_refused_with_what_is_wrong(wait: WaitFor, words: list[str]):
    text = refused(wait)
    assert lacks(text, ["saga 'shop'", *words]) == [], text


def test_two_waits_may_wait_for_one_signal_under_two_names():
    Definition(WaitFor("approval"), WaitFor("approval", name="again"))
    assert "two WaitFors have that name" in refused(WaitFor("approval"), WaitFor("approval"))


def test_a_payload_is_read_as_its_type():
    terms = WaitForTerms(("approval",), None, Approval)
    assert terms.read({"by": "ann"}) == terms.read(Approval("ann")) == {"by": "ann", "level": 1}
    assert terms.fits("approval", {"by": "ann"})
    assert terms.fits("approval[3]", {"by": "ann"})
    assert not terms.fits("approval", {"by": 5})
    assert not terms.fits("approval", None)
    assert not terms.fits("refusal", {"by": "ann"})
    assert WaitForTerms(("a",), None, Any).fits("a", None)


def test_the_result_is_the_payload_or_a_mapping():
    assert WaitForTerms(("a",), None, Any).result("a", 5) == 5
    assert WaitForTerms(("a", "b"), None, Any).result("b[3]", 5) == {"signal": "b", "payload": 5}
