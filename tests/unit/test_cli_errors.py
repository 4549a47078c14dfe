"""How the command line ends when something refuses what it asks for."""

from __future__ import annotations

import click
import pytest
from click.testing import CliRunner

from saga.cli.root import Root, saga
from saga.store.values import ValueRefused


def test_what_the_store_does_not_take_ends_a_command_without_a_traceback(monkeypatch: pytest.MonkeyPatch):
    @click.command()
    def broken() -> None:
        raise ValueRefused("a character that has no equivalent in LATIN1")

    monkeypatch.setattr(Root, "get_command", lambda *_: broken)
    ended = CliRunner().invoke(saga, ["check"])
    assert isinstance(ended.exception, SystemExit)
    assert (ended.exit_code, ended.stderr) == (
        1,
        "Error: the database refuses: a character that has no equivalent in LATIN1\n",
    )
