"""Facts: on what machine a run was, with which versions: nothing that names the machine or its folders."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from . import app as bench
from .servers import Servers, processor_count

PACKAGES = ("pgsaga", "celery", "kombu", "psycopg", "sqlalchemy", "dbos", "celery-saga")


def facts(servers: Servers) -> dict[str, Any]:
    """What a figure depends on."""
    (postgres,) = servers.ask("SELECT current_setting('server_version')")
    (fsync, commit) = servers.ask("SELECT current_setting('fsync'), current_setting('synchronous_commit')")
    return {
        "processors": processor_count(),
        "memory_gb": memory(),
        "load_before": round(servers.load, 2),
        "system": platform.system(),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "packages": {name: found for name in PACKAGES if (found := installed(name))},
        "postgres": {"version": postgres.split()[0], "fsync": fsync, "synchronous_commit": commit},
        "broker": broker(servers),
        "embedded": sorted(servers.children.keys() & {"postgres", "broker"}),
    }


def installed(package: str) -> str | None:
    """The version of a package."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def memory() -> float:
    """In GB."""
    return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1)


def broker(servers: Servers) -> str:
    """The broker's name and version."""
    info: Any = servers.store.info("server")
    store = f"Valkey {info['valkey_version']}" if "valkey_version" in info else f"Redis {info['redis_version']}"
    with bench.app.connection_for_write() as connection:
        transport = connection.transport_cls
    return store if transport in ("redis", "rediss", "valkey") else f"{transport}, and {store} for results"
