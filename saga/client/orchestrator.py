"""Orchestrator: the front door: a Celery app, its sagas and their log."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from functools import cached_property
from typing import Any
from uuid import UUID

from celery import Celery

from saga.broker.border import Border, Identity
from saga.broker.publisher import Publisher
from saga.broker.routing import Routing
from saga.broker.tasks import WorkerHooks, register_tasks
from saga.client.criteria import criteria, read_id
from saga.client.diagnosis import PATIENCE
from saga.client.discovery import Discovery
from saga.client.handle import Handle
from saga.client.starting import Duration, Order, Starter, order
from saga.client.waiter import Waiter
from saga.config import Settings
from saga.core.state import Status
from saga.engine.engine import Engine
from saga.errors import DefinitionError, InputError, SagaError, UnknownSaga, brief
from saga.language.catalog import Catalog
from saga.language.definition import Input, Saga
from saga.relay import Relay
from saga.store.postgres import pings, search
from saga.store.postgres.caller import CallerConnection
from saga.store.postgres.database import Database
from saga.store.postgres.errors import clear_errors
from saga.store.postgres.store import PostgresStore
from saga.worker.pace import Averages
from saga.worker.process import Shutdown, Worker

_ATTRIBUTE = "saga_orchestrator"


class Orchestrator:
    """Starts sagas and finds them again; in a Celery worker it also runs them.

    Args:
        app: the Celery app; or give it to ``init_app`` later.
        sagas: the definitions to register.
        database_url: where the log is; by default ``app.conf.saga_database_url`` or ``SAGA_DATABASE_URL``.

    Nothing is connected before it is needed.
    """

    def __init__(
        self, app: Celery | None = None, *, sagas: Iterable[Saga] = (), database_url: str | None = None
    ) -> None:
        self._app: Celery | None = None
        self._given = {"database_url": database_url}
        self._catalog = Catalog(Routing(lambda: self.app, lambda: self.settings.queue).queue)
        self._discovery = Discovery(lambda: self._app, self.register)
        self._worker: Worker | None = None
        self._worker_lock = threading.Lock()
        self._shutdown = Shutdown()
        self._averages = Averages()
        self._hooks: WorkerHooks | None = None
        if isinstance(sagas, (str, Saga)) or not isinstance(sagas, Iterable):
            raise DefinitionError(
                f"Orchestrator(sagas={brief(sagas)}) expected a list of sagas, such as sagas=[place_order]"
            )
        for saga in sagas:
            self.register(saga)
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Celery) -> None:
        """Bind to a Celery app, which can have one orchestrator.

        Raises:
            DefinitionError: it is not a Celery app, it has another orchestrator, or this orchestrator has another app.
        """
        if not isinstance(app, Celery):
            raise DefinitionError(f"Orchestrator({brief(app)}) expected a Celery app, such as Celery('shop')")
        other = getattr(app, _ATTRIBUTE, None)
        if other not in (None, self) or self._app not in (None, app):
            raise DefinitionError(f"Celery app {app.main!r} and this orchestrator: one of them is bound already")
        if self._app is app:
            return
        self._app = app
        setattr(app, _ATTRIBUTE, self)
        self._discovery.follow(app)
        register_tasks(app, self._process_worker, self._see_ping, lambda *message: self._border.admits(*message))
        self._hooks = WorkerHooks(app, self._shutdown, self._start_worker, self._stop_worker)

    def register(self, saga: Saga) -> Saga:
        """Make a definition known; returns it. One that has the same name and structure is replaced.

        Raises:
            DefinitionError: another definition of its name is registered.
        """
        self._catalog.add(saga)
        return saga

    def autodiscover_sagas(
        self, packages: Iterable[str] | Callable[[], Iterable[str]] | None = None, related_name: str = "sagas",
        force: bool = False,
    ) -> None:  # fmt: skip
        """Register the sagas of each package's module ``sagas``, as Celery's ``autodiscover_tasks`` does with tasks.

        It happens when the app imports its modules: a worker or the command line as it starts, another process when it
        first starts a saga that it does not know.

        Args:
            packages: names of packages, or a function that returns them; Django's installed apps if not said.
            related_name: the module's name in its package; packages without such a module are passed over.
            force: do it at once.
        """
        self._discovery.discover(packages, related_name, now=force)

    @classmethod
    def of(cls, app: Celery) -> Orchestrator:
        """The orchestrator of a Celery app.

        Raises:
            DefinitionError: it has none.
        """
        found = getattr(app, _ATTRIBUTE, None)
        if not isinstance(found, cls):
            raise DefinitionError(
                f"Celery app {app.main!r} has no Orchestrator; make one: Orchestrator(app, sagas=[...])"
            )
        return found

    @property
    def app(self) -> Celery:
        """The Celery app.

        Raises:
            DefinitionError: there is none yet.
        """
        if self._app is None:
            raise DefinitionError("this Orchestrator has no Celery app yet: give it one, or call init_app(app)")
        return self._app

    @property
    def sagas(self) -> list[Saga]:
        """The registered definitions."""
        return list(self._catalog)

    @cached_property
    def settings(self) -> Settings:
        """The settings, read once when first needed."""
        found = Settings.load(self.app.conf, **self._given)
        return found if found.realm is not None else found.model_copy(update={"realm": self.app.main or ""})

    @cached_property
    def database(self) -> Database:
        """The log's database."""
        return Database(self.settings)

    @cached_property
    def store(self) -> PostgresStore:
        """Where the logs are, as the engine asks for them."""
        return PostgresStore(self.database)

    @cached_property
    def engine(self) -> Engine:
        """What reads and writes progress."""
        return Engine(self.store, self._catalog, self.publisher.publish, self.settings.max_payload)

    @cached_property
    def publisher(self) -> Publisher:
        """What sends messages."""
        return Publisher(self.app, self.settings.publish_timeout, self._identity.stamp)

    @cached_property
    def _identity(self) -> Identity:
        return Identity(self.database)

    @cached_property
    def _border(self) -> Border:
        return Border(self.app, self.database.realm, self._identity.log_id, self.publisher.publish)

    @cached_property
    def _starter(self) -> Starter:
        return Starter(self.engine, self.settings.key_timeout)

    @cached_property
    def _waiter(self) -> Waiter:
        return Waiter(self.store)

    # --- starting -----------------------------------------------------------------------------------------------------

    def start(
        self,
        saga: Saga[Input] | str,
        input: Input | Mapping[str, Any] | None = None,
        *,
        key: str | None = None,
        tags: Any = None,
        delay: Duration = None,
        deadline: Duration = None,
        priority: int | None = None,
        connection: CallerConnection | None = None,
    ) -> Handle:
        """Start a saga; once this returns (or the caller's transaction commits), it runs to an end, even if processes die.

        Args:
            saga: a registered definition, or its name.
            input: what its type says, or a mapping of field names to values.
            key: an idempotency key: a second start of this saga under it returns the first one's handle. Its input must be the
                same, as it was given, before defaults: of a pydantic model the fields that were set, of a dataclass all.
            tags: a mapping or a list, to find it by.
            delay: seconds or a ``timedelta`` before the first step.
            deadline: seconds or a ``timedelta`` after which it is rolled back if it is not past its pivot.
            priority: the message priority of the steps that name none.
            connection: a SQLAlchemy ``Session`` or ``Connection``, a psycopg connection, or Django's: the start becomes
                part of its transaction. A connection in autocommit, outside a transaction, is refused.

        Raises:
            UnknownSaga: no definition of that name is registered, even after the app's modules were imported.
            InputError: the input or another argument does not fit; the text names it.
            KeyConflict: the key belongs to a saga with another input.
            KeyBusy: a transaction that is still open holds the key.
            DatabaseNotReady: the database does not answer or is not upgraded.
        """
        found = self._order(saga, input, key, tags, delay, deadline, priority)
        with clear_errors(self.database):
            if connection is None:
                opened = self._starter.open([found])[0]
            else:
                opened = self._starter.open_within(connection, [found])[0]
        return self._handle(opened.id)

    def start_many(
        self,
        saga: Saga[Input] | str,
        inputs: Iterable[Input | Mapping[str, Any]],
        *,
        keys: Sequence[str | None] | None = None,
    ) -> list[Handle]:
        """Start many sagas of one definition, a few hundred in a statement; the handles come in the order of the inputs.

        Args:
            keys: as many idempotency keys as there are inputs. A key that is given twice starts one saga.

        Raises:
            what ``start`` raises. If an input is at fault, none is started.
        """
        given = list(inputs)
        if keys is not None and len(keys) != len(given):
            raise InputError(f"start_many got {len(given)} inputs and {len(keys)} keys; expected as many of each")
        orders = [
            self._order(saga, input, keys[index] if keys else None, None, None, None, None)
            for index, input in enumerate(given)
        ]
        with clear_errors(self.database):
            opened = self._starter.open_each(orders)
        return [self._handle(one.id) for one in opened]

    def _order(self, saga: Saga | str, input: Any, key: str | None, tags: Any, delay: Duration, deadline: Duration,
               priority: int | None) -> Order:  # fmt: skip
        definition = self._known(saga)
        return order(definition, input, key, tags, delay, deadline, priority, self.settings.max_payload)

    def _known(self, saga: Saga | str) -> Saga:
        """A registered definition. If it is not known, the app's modules are imported first."""
        if not isinstance(saga, (Saga, str)):
            return self._catalog.named(saga)
        with contextlib.suppress(UnknownSaga):
            return self._catalog.named(saga)
        self._discovery.import_modules()
        try:
            return self._catalog.named(saga)
        except UnknownSaga as error:
            raise UnknownSaga(f"{error}. {self._discovery}") from None

    # --- finding ------------------------------------------------------------------------------------------------------

    def get(self, saga_id: UUID | str) -> Handle:
        """A saga by its id.

        Raises:
            SagaNotFound: there is none.
        """
        handle = self._handle(read_id(saga_id))
        handle.refresh()
        return handle

    def find(
        self,
        *,
        saga: Saga | str | None = None,
        status: Status | str | Iterable[str] | None = None,
        key: str | None = None,
        tags: Any = None,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int = 100,
        after: Handle | UUID | str | None = None,
        parked: bool = False,
        parent: Handle | UUID | str | None = None,
    ) -> list[Handle]:
        """Sagas that match all of the criteria, newest first.

        Args:
            status: one or several of ``running``, ``paused``, ``compensating``, ``completed``, ``compensated``, ``stuck``, ``abandoned``.
            tags: a mapping or list that the saga's tags contain.
            since: started then or later; ``until``: started before.
            limit: how many.
            after: the last one of the page before.
            parked: only those with work that no worker can run, or that has waited for longer than it should.
            parent: only the sagas that are parts of that one.

        Raises:
            InputError: one of these is of the wrong kind.
            SagaNotFound: ``after`` or ``parent`` is not the id of a saga.
        """
        asked = criteria(saga, status, key, tags, since, until, limit, self.settings.max_payload)
        last, whole = (
            each.id if isinstance(each, Handle) else None if each is None else read_id(each) for each in (after, parent)
        )
        patience = PATIENCE if parked else None
        with clear_errors(self.database), self.database.link() as link:
            headers = search.find_headers(link, **asked, after=last, parent=whole, parked_after=patience)
        return [Handle(self.engine, self._waiter, header.id, header) for header in headers]

    def _handle(self, saga_id: UUID) -> Handle:
        return Handle(self.engine, self._waiter, saga_id)

    # --- serving ------------------------------------------------------------------------------------------------------

    def relay(self) -> Relay:
        """A relay, to run on its own."""
        settings = self.settings
        return Relay(self.store, self.publisher.publish, interval=settings.relay_interval, batch=settings.relay_batch,
                     grace=settings.failover_grace)  # fmt: skip

    def close(self) -> None:
        """Send what is still to be sent, and close this process's connections."""
        self._stop_worker()
        if "publisher" in self.__dict__:
            self.publisher.flush()
        if "database" in self.__dict__:
            self.database.dispose()

    def _process_worker(self) -> Worker:
        """This process's worker, made when it is first needed: after the fork, if there is one."""
        worker = self._worker
        if worker is not None and worker.pid == os.getpid():
            return worker
        with self._worker_lock:
            worker = self._worker
            if worker is None or worker.pid != os.getpid():
                worker = self._new_worker()
                worker.start()
                self._worker = worker
        return worker

    def _new_worker(self) -> Worker:
        app, hooks = self.app, self._hooks
        assert hooks is not None, "an app has hooks from the time it is bound"
        # One connection for each step that runs at a time, or each message would open another one.
        self.database.keep(hooks.threads)
        return Worker(
            app, self.engine, self.database, self.settings, self.publisher.publish, self._shutdown, averages=self._averages,
            kills_itself=hooks.forks, lifetime=hooks.lifetime, node=hooks.node,
        )  # fmt: skip

    def _start_worker(self) -> None:
        try:
            self._process_worker()
        except SagaError as error:
            self.app.log.get_default_logger("saga").error("this worker cannot run sagas: %s", error)

    def _stop_worker(self) -> None:
        worker, self._worker = self._worker, None
        if worker is not None and worker.pid == os.getpid():
            worker.stop()
            self.publisher.flush()

    def _see_ping(self, queue: str, number: int, realm: str | None = None) -> None:
        with self.database.link() as link:
            pings.see_ping(link, self.database.realm if realm is None else realm, queue, number)
