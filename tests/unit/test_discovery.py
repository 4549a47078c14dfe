"""Sagas are found in modules that nobody has imported yet, as Celery finds tasks."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent
from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery

from saga import Orchestrator
from saga.errors import DefinitionError, UnknownSaga

SAGAS = """
    from celery import Celery
    from saga import Saga, Step

    @Celery("{name}", set_as_current=False).task(name="{name}.pay", shared=False)
    def pay(): ...

    {name} = Saga("{name}", Step(pay, compensate=None))
"""


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of packages of which nothing is imported."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in set(sys.modules) - before:
        if Path(getattr(sys.modules[name], "__file__", None) or "/").is_relative_to(tmp_path):
            del sys.modules[name]


def package(folder: Path, name: str, module: str | None = "sagas", text: str = SAGAS) -> str:
    (folder / name).mkdir()
    (folder / name / "__init__.py").touch()
    if module:
        (folder / name / f"{module}.py").write_text(dedent(text.format(name=name)))
    return name


def orchestrator(**conf: Any) -> Orchestrator:
    app = Celery("shop", broker="memory://", set_as_current=False, **conf)
    return Orchestrator(app, database_url="postgresql://nobody@localhost:1/nothing")


def known(orchestrator: Orchestrator) -> list[str]:
    return sorted(saga.name for saga in orchestrator.sagas)


def test_the_sagas_of_packages_are_registered_when_the_app_imports_its_modules(shop: Path):
    front = orchestrator()
    front.autodiscover_sagas([package(shop, "orders"), package(shop, "empty", None), package(shop, "parcels")])
    assert known(front) == []
    front.app.loader.import_default_modules()
    assert known(front) == ["orders", "parcels"]


def test_an_orchestrator_may_be_told_before_it_has_an_app(shop: Path):
    front = Orchestrator()
    front.autodiscover_sagas(lambda: [package(shop, "orders", "processes")], related_name="processes")
    app = Celery("shop", broker="memory://", set_as_current=False)
    front.init_app(app)
    app.loader.import_default_modules()
    assert known(front) == ["orders"]


def test_what_is_forced_happens_at_once(shop: Path):
    front = orchestrator()
    front.autodiscover_sagas([package(shop, "orders")], force=True)
    assert known(front) == ["orders"]


def test_django_says_which_packages_there_are(shop: Path):
    front = orchestrator()
    name = package(shop, "orders")
    front.app._fixups.append(SimpleNamespace(autodiscover_tasks=lambda: [name]))
    front.autodiscover_sagas(force=True)
    assert known(front) == ["orders"]


def test_a_saga_that_nobody_imported_is_found_when_it_is_started(shop: Path):
    front = orchestrator()
    front.autodiscover_sagas([package(shop, "orders")])
    assert front._known("orders").name == "orders"


def test_a_module_of_the_app_may_register_what_it_defines(shop: Path):
    text = SAGAS + "\n    import holder\n    holder.front.register({name})\n"
    holder = type(sys)("holder")
    sys.modules["holder"] = holder
    try:
        holder.front = front = orchestrator(include=[f"{package(shop, 'orders', text=text)}.sagas"])  # type: ignore[attr-defined]
        assert front._known("orders").name == "orders"
    finally:
        del sys.modules["holder"]


def test_an_unknown_saga_is_told_with_the_closest_name_and_what_was_imported(shop: Path):
    front = orchestrator()
    front.autodiscover_sagas([package(shop, "orders")])
    with pytest.raises(UnknownSaga, match=r"no saga 'ordrs' .*did you mean 'orders'\?.*imports .*orders\.sagas"):
        front._known("ordrs")


def test_where_nothing_is_imported_the_text_says_how():
    front = orchestrator()
    with pytest.raises(UnknownSaga, match=r"known are: none.*autodiscover_sagas"):
        front.start("orders")


def test_a_module_that_fails_is_told_and_not_forgotten(shop: Path):
    front = orchestrator()
    front.autodiscover_sagas([package(shop, "orders", text="import no_such_module")])
    for _ in range(2):
        with pytest.raises(UnknownSaga, match=r"cannot all be imported: ModuleNotFoundError: .*no_such_module"):
            front.start("orders")


def test_two_sagas_of_one_name_are_refused(shop: Path):
    front = orchestrator()
    other = 'from saga import Saga, Step\nfrom orders.sagas import pay\ntwice = Saga("orders", Step(pay, name="x", compensate=None))'
    front.autodiscover_sagas([package(shop, "orders"), package(shop, "parcels", text=other)], force=False)
    with pytest.raises(DefinitionError, match="'orders': another definition of that name is registered"):
        front.app.loader.import_default_modules()
