"""Membership: tells the other processes what this worker listens to and knows, and takes up what waited for it."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from uuid import UUID

from celery import Celery

from saga.core.rows import Dispatch
from saga.language.catalog import Catalog
from saga.store.postgres import fleet
from saga.store.postgres.database import Database
from saga.store.postgres.errors import UNREACHABLE
from saga.store.postgres.fleet import About
from saga.telemetry.facts.upkeep import EndNotNoted
from saga.telemetry.stream import emit
from saga.worker.liveness import Liveness

_AT_THE_START = 500
_WHILE_IDLE = 100
_LONGEST = 16
"""The most looks that are left out after offered work came back."""


class Membership:
    """One process's row in the table of workers, and the parked work that is for it.

    Args:
        relays: it runs a relay.
        steps: it runs steps.
        node: the name of its Celery worker.
        publish: sends messages, without waiting for the broker.
    """

    def __init__(
        self,
        app: Celery,
        database: Database,
        catalog: Catalog,
        liveness: Liveness,
        publish: Callable[[Sequence[Dispatch]], None],
        *,
        relays: bool,
        steps: bool = True,
        node: str | None = None,
    ) -> None:
        self._app = app
        self._database = database
        self._catalog = catalog
        self._liveness = liveness
        self._publish = publish
        self._relays = relays
        self._steps = steps
        self._node = node
        self._lock = threading.Lock()
        self._left = False
        self._told: tuple[About, int] | None = None
        self._offered: frozenset[tuple[UUID, str]] = frozenset()
        self._pause = self._left_out = 0

    def look(self, *, idle: bool) -> None:
        """Tell what has changed in this process, and offer what is parked for it: much at its start, some while it is idle.

        Raises:
            psycopg.Error, DatabaseNotReady: the database does not answer.
        """
        number = self._liveness.worker()
        about = self._about()
        with self._lock:
            if self._left:
                return
            # The lock once lost and taken again, somebody may have thought this process dead.
            telling = about, self._liveness.sessions
            new = self._told != telling
            if new:
                self._told, self._pause = None, 0
                with self._database.link() as link:
                    fleet.enrol(link, number, about)
                self._told = telling
        if new or idle:
            self._offer(about, _AT_THE_START if new else _WHILE_IDLE)

    def leave(self) -> None:
        """Say that this process ends, if the database can be asked at once; if not, the relay finds out."""
        number = self._liveness.number
        try:
            with self._lock:
                self._left = True
                if number is not None and self._liveness.holds:
                    with self._database.link() as link:
                        fleet.leave(link, number)
        except UNREACHABLE as error:
            emit(EndNotNoted(error))

    def _offer(self, about: About, limit: int) -> None:
        if self._left_out < self._pause:
            self._left_out += 1
            return
        with self._database.link() as link:
            found = fleet.offer_parked(link, about, limit)
        lanes = frozenset((dispatch.saga_id, dispatch.lane) for dispatch in found)
        # What came back went to workers that do not know it: there may be many of them.
        self._pause = min(_LONGEST, 2 * self._pause + 1) if lanes & self._offered else 0
        self._left_out, self._offered = 0, lanes
        self._publish(found)

    def _about(self) -> About:
        return About(
            self._database.realm, self._node, socket.gethostname(), os.getpid(), _version(), self._relays,
            tuple(self._app.amqp.queues.consume_from) if self._steps else (),
            tuple(self._catalog.fingerprints) if self._steps else (),
        )  # fmt: skip


def _version() -> str:
    try:
        return version("pgsaga")
    except PackageNotFoundError:
        return "unknown"
