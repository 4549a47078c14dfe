"""``manage.py saga``: the command line of pgsaga, for the project's Celery app."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click
from celery import Celery, current_app
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import connections

from saga.cli import saga
from saga.cli.context import AppNotLoaded, load_app

_EXPECTED = "expected the name of a Celery app, such as SAGA_CELERY_APP = 'shop.celery:app'"


class Command(BaseCommand):
    """Everything after ``saga`` is what the ``saga`` command would be given, except Django's own options."""

    help = "Define, run, read and repair sagas; `manage.py saga --help` lists the commands."
    requires_system_checks: Sequence[str] = []

    def run_from_argv(self, argv: list[str]) -> None:
        """Run as from the shell: the exit code is that of the command."""
        try:
            _run(f"{Path(argv[0]).name} {argv[1]}", _without_djangos(argv[2:]))
        finally:
            connections.close_all()

    def add_arguments(self, parser: Any) -> None:
        """All that comes."""
        parser.add_argument("arguments", nargs=argparse.REMAINDER)

    def handle(self, *_: Any, arguments: list[str], **__: Any) -> None:
        """Run from ``call_command("saga", "list", ...)``.

        Raises:
            CommandError: the command ended with another exit code than 0, which is its ``returncode``.
        """
        try:
            _run("saga", arguments)
        except SystemExit as end:
            if end.code:
                raise CommandError(f"saga {' '.join(arguments)} ended with {end.code}", returncode=end.code) from None


class _Project:
    """What stands for ``celery -A``, should the command need an app."""

    @property
    def app(self) -> Celery:
        named = getattr(settings, "SAGA_CELERY_APP", None)
        if named is not None and not isinstance(named, str):
            raise AppNotLoaded(f"SAGA_CELERY_APP is a {type(named).__name__}; {_EXPECTED}")
        name = named or _module_of_project()
        return load_app(name) if name else _current()


def _module_of_project() -> str | None:
    """Where Celery's documentation has the app of a project be: beside its settings."""
    package, dot, _ = (settings.SETTINGS_MODULE or "").partition(".")
    name = f"{package}.celery"
    return name if dot and find_spec(name) is not None else None


def _current() -> Celery:
    """The app that the project has made, wherever that was."""
    if current_app.main == "default":
        raise AppNotLoaded(f"the project has made no Celery app; {_EXPECTED}")
    found: Celery = current_app._get_current_object()
    return found


def _run(name: str, arguments: Sequence[str]) -> None:
    """Run the command line, which ends by ``SystemExit``."""
    project = _Project()
    parent = click.Context(click.Command(""), obj=project)
    parent.params["app"] = project
    saga.main(args=list(arguments), prog_name=name, parent=parent)


def _without_djangos(arguments: Sequence[str]) -> list[str]:
    """Without the options that Django has followed by now, wherever they stand."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--settings")
    parser.add_argument("--pythonpath")
    return parser.parse_known_args(arguments)[1]
