"""Context: what all commands share: the Celery app, its orchestrator, and the database, each found when first needed."""

from __future__ import annotations

import contextlib
import sys
import traceback
from functools import cached_property
from pathlib import Path

import click
from celery import Celery
from celery.app.utils import find_app

from saga.client.orchestrator import Orchestrator
from saga.config import Settings
from saga.errors import SagaError, brief
from saga.store.postgres.database import Database


class AppNotLoaded(SagaError):
    """Bad usage: the module that ``-A`` names cannot be imported, or holds no Celery app."""


class Context:
    """The app that a command is for.

    Args:
        app_name: what ``-A`` says.
        app: the app itself, where Celery's own command line has loaded it.
    """

    def __init__(self, app_name: str | None = None, app: Celery | None = None) -> None:
        self.app_name = app_name
        self._app = app
        self._databases: list[Database] = []

    @property
    def has_app(self) -> bool:
        """Whether an app was named."""
        return self._app is not None or self.app_name is not None

    @cached_property
    def app(self) -> Celery:
        """The Celery app, with all its tasks imported.

        Raises:
            click.UsageError: none was named.
            AppNotLoaded: it cannot be loaded.
        """
        if self._app is None and self.app_name is None:
            raise click.UsageError("no Celery app is named: saga -A MODULE ..., or SAGA_APP in the environment")
        return load_app(self.app_name, self._app)

    @cached_property
    def orchestrator(self) -> Orchestrator:
        """The app's orchestrator."""
        return Orchestrator.of(self.app)

    def database(self, url: str | None = None) -> Database:
        """The database of that URL, else of the app, else of ``SAGA_DATABASE_URL``."""
        if url is None and self.has_app:
            return self.orchestrator.database
        conf = self.app.conf if self.has_app else {}
        database = Database(Settings.load(conf, database_url=url))
        self._databases.append(database)
        return database

    def close(self) -> None:
        """Send what is still to be sent, and close the connections."""
        for database in self._databases:
            database.dispose()
        if "orchestrator" in self.__dict__:
            self.orchestrator.close()


pass_context = click.make_pass_decorator(Context)


def load_app(name: str | None, app: Celery | None = None) -> Celery:
    """Find an app as Celery does, and import its tasks' modules as a worker does.

    What these modules print goes to standard error: standard output is for what was asked.

    Raises:
        AppNotLoaded: that fails; the text names the error.
    """
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            found = find_app(name) if app is None else app
            if isinstance(found, Celery):
                found.loader.import_default_modules()
    except SagaError:
        raise
    except Exception as error:
        found_not = _not_in_module(name) or f"{type(error).__name__}: {error}{_place(error)}"
        raise AppNotLoaded(f"the Celery app {name or app} cannot be loaded: {found_not}") from None
    if not isinstance(found, Celery):
        raise AppNotLoaded(f"-A {name} names {brief(found)}; expected a Celery app, as in -A shop.tasks:app")
    return found


def _not_in_module(name: str | None) -> str | None:
    """Whether the module is there and only the attribute is not: Celery then speaks of a module of both names."""
    module, colon, attribute = (name or "").partition(":")
    found = sys.modules.get(module)
    if found is None or not colon or hasattr(found, attribute):
        return None
    apps = [key for key, value in vars(found).items() if isinstance(value, Celery)]
    return f"module {module} has no attribute {attribute!r}" + (f"; did you mean {module}:{apps[0]}?" if apps else "")


_MACHINERY = ("/celery/", "/kombu/", "/importlib/", "/saga/cli/")


def _place(error: Exception) -> str:
    """Where in the user's own modules it happened."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if not frame.filename.startswith("<") and not any(part in frame.filename for part in _MACHINERY):
            return f" ({frame.filename}, line {frame.lineno})"
    return ""
