"""Conf: the settings of the saga log as a Django project has them: ``SAGA_*`` in its settings, and ``DATABASES``."""

from __future__ import annotations

import re
from typing import Any

from django.conf import settings
from django.db import DEFAULT_DB_ALIAS, connections
from django.utils.connection import ConnectionDoesNotExist
from psycopg.pq import Conninfo
from sqlalchemy.engine import URL

from saga.config import Settings
from saga.errors import DatabaseNotReady

_PLAIN = re.compile(r"[\w.-]+", re.ASCII)
_REMEDY = "name another of DATABASES, or set SAGA_DATABASE = None and SAGA_DATABASE_URL"


def alias() -> str | None:
    """Which of ``DATABASES`` holds the saga log: ``SAGA_DATABASE``; ``None``: none of them does."""
    found: str | None = getattr(settings, "SAGA_DATABASE", DEFAULT_DB_ALIAS)
    return found


def schema() -> str:
    """The schema of the saga log, as far as it can be known before there is a Celery app."""
    given = {"saga_schema": getattr(settings, "SAGA_SCHEMA", None)}
    return Settings.load(given, database_url="").schema_name


def setting(name: str) -> Any:
    """What the project says of a setting of ours; ``None`` for nothing."""
    found = getattr(settings, f"SAGA_{name.upper()}", None)
    return database_url() if found is None and name == "database_url" else found


def log_database() -> Any:
    """Django's connection to the log's database.

    Raises:
        DatabaseNotReady: the project has none of that name, or it is not one of Postgres.
    """
    name = alias()
    try:
        wrapper = connections[name]
    except ConnectionDoesNotExist:
        raise DatabaseNotReady(f"SAGA_DATABASE is {name!r}, which is not in DATABASES; {_REMEDY}") from None
    if wrapper.vendor != "postgresql":
        engine = wrapper.settings_dict["ENGINE"]
        raise DatabaseNotReady(
            f"SAGA_DATABASE is {name!r}, which is of {engine}: the saga log needs Postgres; {_REMEDY}"
        )
    return wrapper


def database_url() -> str | None:
    """The URL of the log's database, as Django would connect to it.

    Raises:
        DatabaseNotReady: it is not one of Postgres.
    """
    return None if alias() is None else _url(log_database().get_connection_params())


def _url(params: dict[str, Any]) -> str:
    """What libpq is given, as a URL. What may not stand in its place in a URL is a parameter of it."""
    known = {option.keyword.decode() for option in Conninfo.get_defaults()} - {"client_encoding"}
    query = {name: str(value) for name, value in params.items() if name in known and value is not None}
    place: dict[str, Any] = {"username": query.pop("user", None), "password": query.pop("password", None)}
    if _PLAIN.fullmatch(query.get("dbname", "")):
        place["database"] = query.pop("dbname")
    host, port = query.get("host", ""), query.get("port", "")
    if _is_address(host) and (port.isdecimal() or not port):
        place["host"] = query.pop("host")
        place["port"] = int(query.pop("port")) if port else None
    elif port and "," not in port:
        query["port"] = ",".join([port] * (host.count(",") + 1))
    return URL.create("postgresql+psycopg", query=query, **place).render_as_string(hide_password=False)


def _is_address(host: str) -> bool:
    """Whether it is one host's name or address, and no folder of a socket."""
    return bool(_PLAIN.fullmatch(host) or re.fullmatch(r"[0-9a-fA-F:.]*:[0-9a-fA-F:.]*", host))
