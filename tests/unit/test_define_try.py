"""Try: what is visible in its rounds and in its ``otherwise``, and what has to be undone in it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from tenacity import retry_if_exception_type, stop_after_attempt, stop_after_delay, wait_fixed

from saga import Choice, Parallel, Retry, Sleep, Step, Try
from saga.language.binding import Values, _bound
from saga.language.try_ import TryTerms

from .definitions import Definition, function_of, lacks, named, refused, step, taking
from .helpers import task_of

TWICE = Retry(stop=stop_after_attempt(2), wait=wait_fixed(5))
PIVOT = Step(task_of(named("go")), pivot=True)


def fast() -> int: ...
def slow() -> str: ...


def undone(name: str, **options: Any) -> Step:
    return Step(task_of(named(name)), compensate=task_of(named("release")), **options)


def test_a_try_is_stored_with_its_ways():
    found = Definition(Try(step(fast), retry=TWICE, otherwise=[step(slow)], name="t"))
    fast_doc, slow_doc = {"step": "fast", "task": "shop.fast"}, {"step": "slow", "task": "shop.slow"}
    assert found.doc == [{"try": "t", "body": [fast_doc], "otherwise": [slow_doc]}]
    assert found.walk.terms == {"t": TryTerms(TWICE)}
    assert Definition(Try(step(fast), retry=TWICE, name="t")).doc == [{"try": "t", "body": [fast_doc]}]
    assert Definition(Try(step(fast), otherwise=[], name="t")).doc == [
        {"try": "t", "body": [fast_doc], "otherwise": []}
    ]


@pytest.mark.parametrize(
    ("options", "kind"),
    [({"retry": TWICE}, int), ({"otherwise": []}, int | None), ({"otherwise": [step(slow)]}, int | str),
     ({"otherwise": [step(fast, name="again")]}, int), ({"otherwise": [Sleep("input.at", name="rest")]}, None)],
)  # fmt: skip
def test_its_result_is_that_of_the_last_item_of_the_way_that_stood(options: dict[str, Any], kind: Any):
    found = Definition(Try(step("first"), step(fast), **options, name="t"))
    assert kind is None or found.types["t"] == kind
    assert "t" not in found.missing


def test_without_otherwise_what_is_inside_is_there_after_it():
    found = Definition(Try(step(fast), retry=TWICE, name="t"), taking("fast: int, t: int"))
    assert found.missing == set()


def test_with_otherwise_what_is_inside_may_be_missing():
    each = Try(step(fast), otherwise=[step(slow)], name="t")
    assert Definition(each, taking("t: int | str, fast: int | None, slow: str = 'x'")).missing == {"fast", "slow"}
    text = refused(each, taking("fast: int"))
    assert lacks(text, ["parameter 'fast'", "may be missing", "inside Try 't'", "otherwise="]) == [], text
    text = refused(each, taking("slow: str"))
    assert lacks(text, ["parameter 'slow'", "in the otherwise= of Try 't'"]) == [], text


def test_otherwise_may_name_the_error_and_nothing_of_what_was_undone():
    found = Definition(Try(step(fast), otherwise=[taking("error: str")], name="t"))
    assert found.sources() == {"error": ("caught", "t", ())}
    job = found.walk.actions["subject"]
    assert _bound(job.task, job.wires, Values({}, {}, {}, errors={"t": "no stock"})) == {"error": "no stock"}
    text = refused(Try(step(fast), otherwise=[taking("fast")], name="t"))
    assert lacks(text, ["step 'subject'", "'fast'", "undone where the otherwise= of Try 't' begins"]) == [], text


def test_the_error_is_that_of_the_innermost_and_of_nothing_outside():
    inner = Try(taking("error", "a"), otherwise=[taking("error", "b")], name="inner")
    found = Definition(Try(step(fast), otherwise=[inner, Choice(function_of("error", "f"), {"x": []})], name="outer"))
    assert found.sources("a") == found.sources("f", "functions") == {"error": ("caught", "outer", ())}
    assert found.sources("b") == {"error": ("caught", "inner", ())}
    text = refused(Try(taking("error"), otherwise=[], name="t"))
    assert lacks(text, ["'error' is for compensations only", "otherwise= of a Try"]) == [], text
    assert "'error' is for compensations" in refused(Try(step(fast), otherwise=[], name="t"), taking("error"))


def test_an_undo_in_otherwise_gets_why_it_is_undone_and_a_text_is_a_text():
    undo = task_of(function_of("error", "undo"))
    found = Definition(Try(step(fast), otherwise=[step("a", compensate=undo)], name="t"))
    assert found.sources("a", "undos") == {"error": ("reserved", "error", ())}
    assert "`error` is a text" in refused(Try(step(fast), otherwise=[taking("error: int")], name="t"))


def test_after_the_pivot_a_try_undoes_what_is_inside_it_and_not_its_otherwise():
    Definition(PIVOT, Try(undone("a"), step("b"), otherwise=[Step(task_of(named("c")))], name="t"))
    text = refused(PIVOT, Try(Step(task_of(named("a"))), otherwise=[], name="t"))
    assert lacks(text, ["step 'a'", "how to undo it", "the Try", "compensate="]) == [], text
    text = refused(PIVOT, Try(undone("a"), otherwise=[undone("b")], name="t"))
    assert lacks(text, ["step 'b'", "after the pivot 'go'", "drop compensate="]) == [], text


def test_the_otherwise_of_a_try_inside_another_is_undone_by_that():
    inner = Try(undone("a"), otherwise=[undone("b")], name="inner")
    Definition(PIVOT, Try(inner, otherwise=[], name="outer"))
    text = refused(PIVOT, Try(undone("c"), otherwise=[inner], name="outer"))
    assert "step 'b'" in text


def test_inside_a_try_three_attempts_are_made_also_after_the_pivot():
    found = Definition(
        PIVOT, Try(undone("a"), otherwise=[Step(task_of(named("b")))], name="t"), Step(task_of(named("c")))
    )
    lasts = {name: job.retry.next_wait(ValueError(), 3, 0) is not None for name, job in found.walk.actions.items()}
    assert lasts == {"go": False, "a": False, "b": False, "c": True}


@pytest.mark.parametrize(
    ("each", "words"),
    [
        (Try(step(fast), otherwise=[]), ["a Try has no name by itself", "name="]),
        (Try(otherwise=[], name="t"), ["Try 't'", "empty"]),
        (Try(step(fast), name="t"), ["Try 't'", "neither retry= nor otherwise="]),
        (Try(step(fast), retry=Retry(stop=stop_after_attempt(1)), name="t"), ["neither retry= nor otherwise="]),
        (Try(step(fast), retry=Retry(retry=retry_if_exception_type(OSError)), name="t"), ["retry strategy", "stop= and wait="]),
        (Try(step(fast), retry=3, name="t"), ["retry=3 expected a Retry"]),  # type: ignore[arg-type]
        (Try(step(fast), otherwise=step(slow), name="t"), ["otherwise=Step", "list of steps"]),  # type: ignore[arg-type]
        (Try(PIVOT, otherwise=[], name="t"), ["step 'go'", "inside a Try"]),
        (Try(step(fast), otherwise=[PIVOT], name="t"), ["step 'go'", "inside a Try"]),
        (Try([step(fast)], otherwise=[], name="t"), ["got a list of 'fast'"]),  # type: ignore[arg-type]
    ],
)  # fmt: skip
def test_a_try_is_refused_with_what_is_wrong(each: Try, words: list[str]):
    text = refused(each)
    assert lacks(text, ["saga 'shop'", *words]) == [], text


def test_rounds_may_be_counted_or_timed():
    Definition(Try(step(fast), retry=Retry(stop=stop_after_delay(timedelta(hours=1))), name="t"))
    Definition(Try(Parallel(step(fast), step(slow)), retry=Retry(), name="t"))
