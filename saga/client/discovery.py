"""Discovery: finds an app's definitions in modules that are not imported yet."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from types import ModuleType
from typing import Any

from celery import Celery, signals
from celery.loaders.base import find_related_module

from saga.errors import UnknownSaga, first_line
from saga.language.definition import Saga

Packages = Iterable[str] | Callable[[], Iterable[str]] | None

_SHOWN = 20


class Discovery:
    """The modules of one app that hold sagas.

    Args:
        app: asked for when first needed.
        register: takes each definition that a module holds.
    """

    def __init__(self, app: Callable[[], Celery | None], register: Callable[[Saga], Any]) -> None:
        self._app = app
        self._register = register
        self._lock = threading.RLock()
        self._importing = False
        self._pending: list[tuple[Packages, str]] = []
        self._imported: dict[str, None] = {}

    def discover(self, packages: Packages, related_name: str, *, now: bool) -> None:
        """Import a module of each package, and register the sagas in it.

        Args:
            packages: names, or a function that returns them; Django's installed apps if there are none.
            now: do it at once. Otherwise it is done when the app imports its default modules, as a worker does at its start.
        """
        if now:
            self._discover(packages, related_name)
            return
        self._pending.append((packages, related_name))

    def follow(self, app: Celery) -> None:
        """Do what was put off, each time the app imports its default modules."""
        signals.import_modules.connect(self._on_import, sender=app, weak=False)

    def import_modules(self) -> None:
        """Import the app's default modules, as its worker does.

        Raises:
            UnknownSaga: one of them cannot be imported.
        """
        app = self._app()
        with self._lock:
            if app is None or self._importing:
                return
            self._importing = True
            try:
                app.loader.import_default_modules()
            except Exception as error:
                raise UnknownSaga(
                    f"the modules of Celery app {app.main!r} cannot all be imported: {type(error).__name__}: "
                    f"{first_line(error)}"
                ) from error
            finally:
                self._importing = False

    def __str__(self) -> str:
        """Which modules were imported, as a sentence."""
        app = self._app()
        names = sorted({*self._imported, *(app.loader.task_modules if app else ())})
        shown = ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
        if shown:
            return f"The app imports {shown}"
        return "The app imports no modules of its own accord: Celery(include=[...]) or autodiscover_sagas([...]) names some"

    def _on_import(self, **_: Any) -> None:
        for packages, related_name in self._pending:
            self._discover(packages, related_name)

    def _discover(self, packages: Packages, related_name: str) -> None:
        for package in (packages() if callable(packages) else packages) or self._installed():
            module = find_related_module(package, related_name)
            if module is not None:
                self._take(module)

    def _take(self, module: ModuleType) -> None:
        self._imported[module.__name__] = None
        for value in list(vars(module).values()):
            if isinstance(value, Saga):
                self._register(value)

    def _installed(self) -> list[str]:
        """The packages that Celery's fixups know: those of Django's installed apps."""
        app = self._app()
        fixups = () if app is None else app._fixups
        return [
            package
            for fixup in fixups
            if hasattr(fixup, "autodiscover_tasks")
            for package in fixup.autodiscover_tasks()
        ]
