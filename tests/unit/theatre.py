"""A theatre: sagas played in one thread, with all of the house but Postgres and a broker.

A start, the engine, workers with claimer, recorder and executor, and a relay do their parts on a store in memory, by its
clock. Messages go into a list, from which the director hands them to workers; when there are none, the time moves on to
when something is due.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from celery import Celery

import saga
from saga import Saga
from saga.client.starting import Starter, order
from saga.config import Settings
from saga.core.events import Entry, Request
from saga.core.machine import replay
from saga.core.rows import Dispatch
from saga.core.state import State
from saga.engine.engine import Engine
from saga.language.catalog import Catalog
from saga.relay import Relay
from saga.store.memory.store import MemoryStore
from saga.store.values import Ping
from saga.worker.attempt import Attempt
from saga.worker.claimer import Claimer
from saga.worker.executor import Executor
from saga.worker.recorder import Recorder

REALM = "theatre"
Part = Callable[[saga.Current], Any]
"""What a task does: it is told which attempt it is, and returns or raises."""


class CountingStore(MemoryStore):
    """A store that counts what it is asked to write.

    Attributes:
        asked: verb to how often.
    """

    def __init__(self, realm: str) -> None:
        super().__init__(realm)
        self.asked: Counter[str] = Counter()

    def open(self, *args: Any) -> Any:
        self.asked["open"] += 1
        return super().open(*args)

    def append(self, *args: Any) -> Any:
        self.asked["append"] += 1
        return super().append(*args)

    def claim(self, *args: Any) -> Any:
        self.asked["claim"] += 1
        return super().claim(*args)

    def request(self, *args: Any) -> Any:
        self.asked["request"] += 1
        return super().request(*args)

    def transaction(self, *args: Any) -> Any:
        self.asked["transaction"] += 1
        return super().transaction(*args)


class Player:
    """A worker process: an engine of its own, and all that claims, runs and records."""

    def __init__(self, theatre: Theatre, number: int) -> None:
        self.number = number
        self.engine = theatre.engine_of_its_own()
        self.recorder = Recorder(self.engine, lambda: number, theatre.settings.inline_wait)
        self.claimer = Claimer(self.recorder)
        self.executor = Executor(theatre.app, self.claimer, theatre.settings, lambda: False)

    def run(self, lanes: Sequence[tuple[UUID, str]]) -> None:
        """Take the lanes of a message as far as they go."""
        self.executor.run(lanes, None)


class Theatre:
    """A stage for sagas.

    Args:
        part: what every task does, unless it is one of ``tasks``.
        settings: of the workers, as ``saga_*`` has them.

    Attributes:
        messages: that nobody has taken yet.
        sent: how many there were.
        pings: that were sent.
    """

    def __init__(self, *sagas: Saga, part: Part = lambda _: None, **settings: Any) -> None:
        self.settings = Settings.load({}, realm=REALM, **settings)
        self.store = CountingStore(REALM)
        self.clock = self.store.tables.clock
        self.catalog = Catalog(lambda _: "celery")
        self.messages: deque[Dispatch] = deque()
        self.sent = 0
        self.pings: list[Ping] = []
        self.app = Celery(REALM, broker="memory://", set_as_current=False)
        for saga_ in sagas:
            self.catalog.add(saga_)
            for job in saga_.jobs():
                self._cast(job.task, part)
        self.engine = self.engine_of_its_own()
        self.starter = Starter(self.engine, 1.0)
        self.relay = Relay(self.store, self.publish, grace=0.0)
        self.players: dict[int, Player] = {}
        self.join(1)

    def _cast(self, task: str, part: Part) -> None:
        if task not in self.app.tasks:

            def play(**_: Any) -> Any:
                attempt = saga.current()
                assert attempt is not None
                return part(attempt)

            self.app.task(name=task, shared=False)(play)

    def engine_of_its_own(self) -> Engine:
        """An engine as another process would have it."""
        return Engine(self.store, self.catalog, self.publish)

    def publish(self, messages: Sequence[Any]) -> None:
        """Keep messages; pings apart."""
        self.pings += [message for message in messages if isinstance(message, Ping)]
        dispatches = [message for message in messages if isinstance(message, Dispatch)]
        self.sent += len(dispatches)
        self.messages.extend(dispatches)

    # --- who is there -----------------------------------------------------------------------------------------------------

    def join(self, number: int) -> Player:
        """Have one more worker."""
        self.players[number] = player = Player(self, number)
        self.store.enrol(number, self.catalog.fingerprints, ["celery"])
        return player

    def kill(self, number: int) -> None:
        """Let a worker be gone, with all that it has in hand."""
        del self.players[number]
        self.store.tables.living.discard(number)

    # --- what happens -----------------------------------------------------------------------------------------------------

    def start(self, saga_: Saga, input: Any = None, **said: Any) -> UUID:
        """Start a saga."""
        options = {"key": None, "tags": None, "delay": None, "deadline": None, "priority": None, **said}
        [opened] = self.starter.open([order(saga_, input or {}, **options, limit=1_000_000)])
        return opened.id

    def ask(self, saga_id: UUID, request: Request) -> None:
        """Be an operator."""
        self.engine.request(saga_id, request)

    def hang(self, number: int = 1) -> Attempt | None:
        """Let a worker claim the lane of the next message, and then do nothing for ever."""
        message = self.messages.popleft()
        return self.players[number].claimer.claim(message.saga_id, message.lane)

    def deliver(self, number: int | None = None) -> None:
        """Hand the next message to a worker, by default to the first one."""
        message = self.messages.popleft()
        player = self.players[min(self.players) if number is None else number]
        player.run([(message.saga_id, message.lane)])

    def look(self) -> None:
        """Let the relay look."""
        self.relay.tick()

    def run(self, limit: int = 2000) -> None:
        """Go on until there is nothing more to do, whatever time that takes."""
        for _ in range(limit):
            if self.messages:
                self.deliver()
            elif (moment := self.next_moment()) is None:
                return
            else:
                self.clock.sleep((moment - self.clock.now).total_seconds() or 0.5)
                self.look()
        raise AssertionError("no end in sight")

    def next_moment(self) -> datetime | None:
        """When the next thing is due, if anything is."""
        rows = [work for rows in self.store.tables.active.values() for work in rows.work.values()]
        return max(self.clock.now, min(work.due_at for work in rows)) if rows else None

    # --- looks ------------------------------------------------------------------------------------------------------------

    def log(self, saga_id: UUID) -> list[Entry]:
        """The entries of a saga."""
        return self.store.entries(saga_id)

    def kinds(self, saga_id: UUID) -> list[str]:
        """Their kinds."""
        return [entry.kind for entry in self.log(saga_id)]

    def status(self, saga_id: UUID) -> str:
        """Its status, as the index has it."""
        return self.store.statuses([saga_id])[saga_id]

    def state(self, saga_id: UUID) -> State:
        """What its log amounts to."""
        return replay(self.engine.instance(saga_id).outline, self.log(saga_id))
