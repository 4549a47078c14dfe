"""Imports point only downwards, the core knows neither the database nor Celery, and nothing is too long to be read."""

from __future__ import annotations

import ast
import subprocess
import sys

import pytest

import saga

from .house import FLOORS, MODULES, imports, ours, room_of

PLACES = {room: (floor, place) for floor, rooms in enumerate(FLOORS) for place, room in enumerate(rooms)}
CORE = sorted(module for module in MODULES if room_of(module) == "core")


@pytest.mark.parametrize("module", sorted(MODULES))
def test_a_module_uses_only_what_stands_below_it_or_to_its_right(module: str):
    room = room_of(module)
    if room == "__init__":
        return
    upwards = {
        name
        for name in ours(module)
        if room_of(name) not in (room, "__init__") and PLACES[room_of(name)] < PLACES[room]
    }
    assert upwards == set()


def test_every_room_has_a_floor_and_there_are_few_of_both():
    rooms = {room_of(module) for module in MODULES} - {"__init__"}
    assert rooms == PLACES.keys()
    assert len(rooms) <= 20
    assert len(FLOORS) <= 10


def test_no_module_imports_itself_by_a_way_round():
    colours: dict[str, str] = {}
    trail: list[str] = []

    def visit(module: str) -> None:
        colours[module] = "open"
        trail.append(module)
        for name in sorted(ours(module)):
            assert colours.get(name) != "open", f"a cycle: {' -> '.join([*trail[trail.index(name) :], name])}"
            if name not in colours:
                visit(name)
        trail.pop()
        colours[module] = "done"

    for module in sorted(MODULES):
        if module not in colours:
            visit(module)


@pytest.mark.parametrize("module", sorted(MODULES))
def test_no_file_and_no_function_is_long(module: str):
    text = MODULES[module].read_text()
    functions = [
        node for node in ast.walk(ast.parse(text)) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    ]
    lines = [((function.end_lineno or 0) - function.lineno + 1, function.name) for function in functions]
    assert len(text.splitlines()) <= 400
    assert [(count, name) for count, name in lines if count > 40] == []


@pytest.mark.parametrize("module", CORE)
def test_the_core_asks_for_no_time_no_chance_and_no_input(module: str):
    assert imports(module).isdisjoint({"time", "random", "os", "sys", "logging", "socket", "threading", "pathlib"})


def test_the_core_alone_loads_neither_pydantic_nor_a_database_nor_celery():
    loaded = "import sys; print(*{name.partition('.')[0] for name in sys.modules})"
    program = "; ".join([*(f"import {module}" for module in CORE), loaded])
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    foreign = {
        "pydantic",
        "sqlalchemy",
        "psycopg",
        "celery",
        "kombu",
        "billiard",
        "alembic",
        "redis",
        "tenacity",
        "click",
    }
    assert foreign.isdisjoint(found.stdout.split())


def test_public_names_come_from_where_type_checkers_are_told():
    tree = ast.parse(MODULES["saga"].read_text())
    (typed,) = (node for node in tree.body if isinstance(node, ast.If))
    told = {alias.name: node.module for node in typed.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert told == saga._HOMES
    assert set(saga.__all__) == told.keys()
    assert all(getattr(saga, name) is not None for name in saga.__all__)
