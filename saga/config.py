"""The settings: ``saga_*`` on the Celery app's configuration, ``SAGA_*`` in the environment."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, ImportString, ValidationError
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from saga.errors import DatabaseNotReady, DefinitionError

LookUp: TypeAlias = Callable[[str], Any]
"""Gives the value of a setting by its name, or ``None``."""


class Settings(BaseModel):
    """What can be set, with its default. Durations are seconds, sizes are bytes.

    As with Celery's own ``CELERY_BROKER_URL``, the environment wins over the app's configuration.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    database_url: str | None = Field(default=None, repr=False)
    """Where the log is: any libpq-style URL of a Postgres 14 or newer."""
    direct_url: str | None = Field(default=None, repr=False)
    """A URL that goes around a transaction pooler, for the one connection that holds a session lock."""
    schema_name: str = Field(default="saga", alias="schema", pattern=r"^[a-z_][a-z0-9_]{0,62}$")
    """The Postgres schema of the tables."""
    realm: str | None = Field(default=None, max_length=200)
    """Which apps run the work: only those of the same realm. The Celery app's main name when unset. Empty: any app."""
    queue: str | None = None
    """The queue of steps that have neither ``queue=`` nor a route; Celery's default queue when unset."""
    inline_wait: float = Field(default=1.0, ge=0)
    """The longest retry wait that a worker sleeps through instead of giving the saga back."""
    inline_budget: float = Field(default=10.0, ge=0)
    """How long one message may keep a worker busy with successive steps."""
    batch_below: float | None = Field(default=None, ge=0)
    """Sagas whose attempts take less share claims and commits. 0: none do. Unset: 0.003 to 0.01, by what recording takes."""
    max_payload: int = Field(default=1024 * 1024, gt=0)
    """The largest input, result or tags, as JSON."""
    redact: ImportString[Callable[[str], str]] | None = None
    """A function, or ``module:function``, through which the text and the traceback of an error go before they are logged."""
    relay: bool = True
    """Whether workers run the relay; turn it off only if ``saga relay`` runs."""
    relay_interval: float = Field(default=0.5, gt=0)
    """Time between two looks of the relay."""
    relay_batch: int = Field(default=500, gt=0)
    """How many rows the relay sends at a time."""
    failover_grace: float = Field(default=10.0, ge=0)
    """How long after a database restart or a reconnect no worker is declared lost."""
    publish_timeout: float = Field(default=2.0, gt=0)
    """How long publishing one message may take before it is left to the relay."""
    key_timeout: float = Field(default=5.0, gt=0)
    """How long ``start`` waits for another open transaction that holds the same key, or stores the same definition."""
    kill_grace: float = Field(default=10.0, gt=0)
    """How long after its deadline a step may hold a prefork process before the process ends itself."""
    pool_size: int = Field(default=5, gt=0)
    """Database connections that a process keeps open. While it is busy, it may open as many again, and no more."""
    prepared_statements: bool = True
    """Turn off behind a transaction pooler."""

    @classmethod
    def load(cls, conf: Mapping[str, Any], **given: Any) -> Settings:
        """Read the settings: from what is given in code, the environment, a Celery configuration and what ``fall_back``
        named, in that order.

        Raises:
            DefinitionError: a value is of the wrong kind.
        """
        sources: list[LookUp] = [given.get, _environment, lambda name: conf.get(f"saga_{name}"), *_fallbacks]
        found: dict[str, Any] = {}
        for field, info in cls.model_fields.items():
            name = info.alias or field
            for look_up in sources:
                if (value := look_up(name)) is not None:
                    found[name] = value
                    break
        try:
            return cls(**found)
        except ValidationError as error:
            problem = error.errors(include_input=False, include_url=False)[0]
            raise DefinitionError(f"setting saga_{problem['loc'][0]}: {problem['msg']}") from None


_fallbacks: list[LookUp] = []


def fall_back(look_up: LookUp) -> None:
    """Ask this function for settings that are set nowhere else, by their names without ``saga_``."""
    if look_up not in _fallbacks:
        _fallbacks.append(look_up)


def _environment(name: str) -> str | None:
    return os.environ.get(f"SAGA_{name.upper()}")


def postgres_url(url: str | None) -> URL:
    """The URL of the log as SQLAlchemy wants it, always through psycopg 3.

    Raises:
        DatabaseNotReady: there is none, or it is not one of Postgres.
    """
    if not url:
        raise DatabaseNotReady(f"no database is configured: {_remedy()}")
    try:
        if b"\x00" in url.encode():
            raise ValueError("libpq takes no NUL")
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        raise DatabaseNotReady(
            "saga_database_url is not a URL: expected postgresql://user@host:5432/database"
        ) from None
    if parsed.get_backend_name() not in ("postgresql", "postgres"):
        raise DatabaseNotReady(f"saga_database_url is of {parsed.get_backend_name()}: the saga log needs Postgres")
    if "@" in (parsed.host or ""):
        raise DatabaseNotReady("saga_database_url has two @: in the password, write @ as %40")
    return parsed.set(drivername="postgresql+psycopg")


_OF_DEV = Path(".saga/env")
"""Where `saga dev` writes the addresses of its servers."""


def _remedy() -> str:
    usual = "set app.conf.saga_database_url or SAGA_DATABASE_URL to postgresql://user@host:5432/database"
    try:
        known = _OF_DEV.is_file() and _OF_DEV.stat().st_uid == os.geteuid()  # nobody is to run what others wrote
    except OSError:
        known = False
    return (
        f"{usual}, or run `. {_OF_DEV}` to use that of `saga dev`"
        if known
        else f"{usual}; `saga dev` runs one to try things on"
    )
