"""Imports point only downwards, and the machine knows neither the database nor Celery."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import saga

ROOT = Path(saga.__file__).parent

LAYERS = [
    "errors config crashpoints thread trace",
    "ids text codec outline wiring retry refusal fit care step builder definition events commands outcome context log_context sentry",
    "state tracks memory decision machine permission binding signals catalog",
    "database caller tables short_ids search log work due pings fleet tally schema plan barriers transaction",
    "diagnosis monitor watch draft engine run redaction report judgement batch attempts claims pace lifetime",
    "step_task carrier performer executor liveness membership chores relay border worker waiter handle starting criteria publisher audit graph",
    "routing discovery tasks orchestrator",
    "doctor testing dev examples telemetry dashboard",
    "cli __init__ __main__",
    "contrib",
]
RANKS = {noun: rank for rank, layer in enumerate(LAYERS) for noun in layer.split()}

MODULES = {
    ".".join(("saga", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__"): path
    for path in ROOT.rglob("*.py")
    if "migrations" not in path.parts
}


def noun_of(module: str) -> str:
    """The file or folder of ``saga`` that a module is in."""
    return [*module.split("."), "__init__"][1]


@cache
def imports(module: str) -> frozenset[str]:
    """Every module that a module imports, at its top or anywhere else; of a package, the submodule where it is one."""
    tree = ast.parse(MODULES[module].read_text(), filename=str(MODULES[module]))
    return frozenset(_imports(module, tree))


def _imports(module: str, tree: ast.Module) -> Iterator[str]:
    package = module if MODULES[module].name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            source = node.module or ""
            if node.level:
                base = package.split(".")[: len(package.split(".")) - node.level + 1]
                source = ".".join([*base, source] if source else base)
            for name in node.names:
                inner = f"{source}.{name.name}"
                yield inner if inner in MODULES else source


def ours(module: str) -> frozenset[str]:
    return frozenset(name for name in imports(module) if name in MODULES)


def reach(module: str) -> set[str]:
    """Every module, ours or not, that is imported on the way."""
    found: set[str] = set()
    ahead = [module]
    while ahead:
        for name in imports(ahead.pop()) - found:
            found.add(name)
            if name in MODULES:
                ahead.append(name)
    return found


@pytest.mark.parametrize("module", sorted(MODULES))
def test_a_module_imports_only_from_its_own_layer_and_those_below(module: str):
    noun = noun_of(module)
    assert noun in RANKS, f"give {noun!r} a place in LAYERS"
    upwards = {name for name in ours(module) if noun_of(name) != noun and RANKS.get(noun_of(name), 0) > RANKS[noun]}
    assert upwards == set()


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


@pytest.mark.parametrize(
    "module", ["saga.machine", "saga.tracks", "saga.decision", "saga.outline", "saga.events", "saga.commands"]
)
def test_the_machine_and_what_it_stands_on_know_neither_database_nor_celery(module: str):
    foreign = {name.split(".")[0] for name in reach(module)}
    assert foreign.isdisjoint({"sqlalchemy", "psycopg", "celery", "kombu", "billiard", "alembic", "redis"})


@pytest.mark.parametrize(
    "module", ["saga.machine", "saga.tracks", "saga.decision", "saga.outline", "saga.events", "saga.commands"]
)
def test_the_machine_asks_for_no_time_no_chance_and_no_input(module: str):
    assert imports(module).isdisjoint({"time", "random", "os", "sys", "logging", "socket", "threading", "pathlib"})


def test_what_is_stated_about_layers_is_about_modules_that_exist():
    known = {noun_of(module) for module in MODULES}
    assert {"machine", "engine", "orchestrator"} <= known
    assert known <= RANKS.keys()
