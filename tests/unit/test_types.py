"""What a type checker makes of users' code, without stubs for Celery: pyright accepts what is right, and sees mistakes."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]

PROGRAM = """
from dataclasses import dataclass
from datetime import timedelta

import psycopg
import sqlalchemy
from celery import Celery, shared_task
from django.db import connection, connections
from sqlalchemy.orm import Session, scoped_session

from saga import (
    Choice,
    DidNotHappen,
    ForEach,
    Graph,
    Happened,
    NotYet,
    Orchestrator,
    Parallel,
    Retry,
    Saga,
    Sleep,
    Step,
    SubSaga,
    Try,
    WaitFor,
)

app = Celery("shop")


@dataclass
class Order:
    sku: str


@dataclass
class Parcel:
    weight: int


@app.task
def reserve(sku: str) -> str: ...


@app.task(bind=True, autoretry_for=(ConnectionError,))
def release(self, reservation: str | None) -> None: ...


@shared_task
def charge(sku: str) -> str: ...


@shared_task(bind=True)
def refund(self, sku: str) -> None: ...


typed = Saga("typed", Step(reserve, name="reservation", compensate=release), Step(charge, pivot=True), input=Order)
untyped = Saga("untyped", Parallel([Step(charge, compensate=refund)], Step(reserve, compensate=None)))
again: Saga[Order] = typed
orchestrator = Orchestrator(app, sagas=[typed, untyped])
orchestrator.start(typed, Order("A1"), key="1")
orchestrator.start(typed, {"sku": "A1"})
orchestrator.start("typed", Parcel(1))
orchestrator.start(untyped, Parcel(1))
orchestrator.start_many(typed, [Order("A1"), {"sku": "A1"}])


def start(
    session: Session, scoped: scoped_session[Session], core: sqlalchemy.Connection, driver: psycopg.Connection
) -> None:
    for given in (session, scoped, core, driver):
        orchestrator.start(typed, Order("A1"), connection=given)
    orchestrator.start(typed, Order("A1"), connection=connection)
    orchestrator.start(typed, Order("A1"), connection=connections["default"])
    orchestrator.start(typed, Order("A1"), connection="postgresql://host/shop")  # wrong
    orchestrator.start(typed, Order("A1"), connection=sqlalchemy.create_engine("sqlite://"))  # wrong


@app.task
def find(idempotency_key: str) -> Happened | DidNotHappen:
    if not idempotency_key:
        raise NotYet("tomorrow", after=timedelta(days=1))
    return Happened("R1") if idempotency_key > "a" else DidNotHappen()


def decide(sku: str) -> str: ...


hour = timedelta(hours=1)
whole = Saga(
    "whole",
    Graph(Step(reserve, compensate=release), [Sleep(hour, name="rest")], after={"rest": ["reserve"]}),
    Choice(decide, {"a": [Step(charge, compensate=refund)], 5: [], True: [Sleep("input.at", name="more")]}, otherwise=[]),
    Choice("input.sku", [WaitFor("approval", payload=Order, timeout=hour, on_timeout=[])], name="by_sku"),
    ForEach("input.skus", [SubSaga(typed, bind={"sku": "item"})], name="each", item="item", limit=3),
    Try(Step(charge, name="fast", compensate=None), retry=Retry(), otherwise=[Parallel(Sleep(hour, name="x"))], name="try"),
    Step(reserve, name="held", compensate=release, confirm=charge, confirm_bind={"sku": "input.sku"}, check=find, within=hour),
    SubSaga(typed, name="child", pivot=True),
    input=Order,
)
Choice("input.sku", {"a": Step(charge)}, name="c")  # wrong
ForEach("input.skus", Step(charge), name="f")  # wrong
SubSaga(Step(charge))  # wrong
Sleep(60, name="s")  # wrong
NotYet("tomorrow")  # wrong
Graph(Step(charge), after={"a": 5})  # wrong
Try(Step(charge), retry=3, name="t")  # wrong
WaitFor("a", timeout=60)  # wrong

Step(5)  # wrong
other: Saga[Parcel] = typed  # wrong
orchestrator.start(typed, Parcel(1))  # wrong
orchestrator.start_many(typed, [Parcel(1)])  # wrong
"""


def first_program(page: str) -> str:
    """The first Python block of a page."""
    return re.findall(r"^```python\n(.*?)^```$", (ROOT / page).read_text(), re.MULTILINE | re.DOTALL)[0]


PROGRAMS = {
    "program": PROGRAM,
    "readme": first_program("README.md"),
    "quickstart": first_program("docs/quickstart.md"),
}


@pytest.fixture(scope="module")
def mistakes(tmp_path_factory: pytest.TempPathFactory) -> set[tuple[str, int]]:
    """The programs and their lines that pyright has something against."""
    folder = tmp_path_factory.mktemp("types")
    for name, program in PROGRAMS.items():
        (folder / f"{name}.py").write_text(program)
    (folder / "pyrightconfig.json").write_text(json.dumps({"extraPaths": [str(ROOT)], "typeCheckingMode": "standard"}))
    pyright = str(Path(sys.executable).with_name("basedpyright"))
    command = [pyright, "--outputjson", "--pythonpath", sys.executable, "--project", str(folder)]
    done = subprocess.run(command, capture_output=True, check=False)
    found: list[dict[str, Any]] = json.loads(done.stdout)["generalDiagnostics"]
    return {
        (Path(entry["file"]).stem, entry["range"]["start"]["line"]) for entry in found if entry["severity"] == "error"
    }


@pytest.mark.parametrize("name", PROGRAMS)
def test_what_is_right_is_accepted_and_mistakes_are_seen(name: str, mistakes: set[tuple[str, int]]) -> None:
    wrong = {number for number, line in enumerate(PROGRAMS[name].splitlines()) if line.endswith("# wrong")}
    assert {line for program, line in mistakes if program == name} == wrong
