"""Port: what the rest of the house asks of a store, whichever it is.

The contract, which ``tests/conformance`` holds both stores to:

- ``append`` is all or nothing for each saga. It takes an entry at the next place only, and only after the entry that the
  writer knows to be the last.
- The rows of work change only with an entry, except for the fields that say when a lane was offered.
- ``claim`` appends the start of each attempt that it gives away.
- Every time is the store's own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID

from saga.core.due import Due
from saga.core.events import Entry
from saga.core.outline import Outline
from saga.core.rows import Dispatch
from saga.store.values import Addition, End, Header, Lane, Offer, Opening, Schedule, Signal, Stored, Task, Ticks, Wish


class Clock(Protocol):
    """The time as one process sees it."""

    def monotonic(self) -> float:
        """Seconds, from any beginning."""

    def sleep(self, seconds: float) -> None:
        """Wait so long."""


class StepTransaction(Protocol):
    """A transaction for user code, and then for the log's entry. It is rolled back unless it was committed.

    Attributes:
        connection: for user code.
        driver: its driver's connection.
        ended: user code ended the transaction itself.
    """

    connection: Any
    driver: Any
    ended: bool

    def __enter__(self) -> Any: ...

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None: ...

    def shared(self) -> AbstractContextManager[None]:
        """Where the task is run."""

    def settled(self) -> Store:
        """Take it back from user code; what the store that is returned writes becomes part of it."""

    def commit(self) -> None:
        """Commit."""

    def committed(self) -> None:
        """It is known to be committed."""


class Rounds(Protocol):
    """What the relay of one realm does, each in a turn of its own: ``NotMyTurn`` where another process is the relay.

    Attributes:
        realms: whose work it sees to.
        batch: to how many lanes it does something at a time.
    """

    realms: list[str]
    batch: int

    def enrol(self) -> bool:
        """Be known as a relay; whether none of the realm was."""

    def do(self, task: Task, **which: Any) -> int:
        """Do something to the lanes that it is to be done to, and send their messages; to how many it was done."""

    def take_in(self) -> int:
        """Take signals that were posted into the logs of their sagas, in order; returns how many they were.

        Each is an entry ``signal_received``. It makes all lanes of its saga due that are free, have no attempt, and are in
        the same elements, for only a definition says which of them wait for it. One that has a key that the log has, or
        whose saga is gone, is dropped.
        """

    def ping(self, realm: str, after: str, lots: int) -> str:
        """Send the pings that are due; returns after which queue to go on."""

    def absent(self) -> tuple[list[int], float]:
        """The workers that hold lanes and show no sign of life, and for how many seconds the store has been up."""

    def set_times_right(self, seconds: float) -> tuple[bool, bool]:
        """Go on, for so long, with the times that a step of the store's clock made wrong, as the last ``absent`` found it.

        Returns:
            whether there may be more of them, and whether some would come too early before they are right.
        """

    def bury(self, limit: int) -> None:
        """Take out what is known of workers that are gone."""


class Schedules(Protocol):
    """What a store keeps of the sagas that are started again and again: of its own realm."""

    def put_schedule(self, schedule: Schedule) -> None:
        """Have a schedule, in place of the one that has its name.

        What it says of ``paused`` and ``last_tick`` is not looked at: a schedule stays paused, and remembers its last time.
        With the same ``spec`` as before it keeps its next time, too, so that to put it again changes nothing.
        """

    def schedules(self) -> list[Schedule]:
        """All of them, by name."""

    def pause_schedule(self, name: str) -> bool:
        """Start nothing by that schedule; whether there is one of that name."""

    def resume_schedule(self, name: str, next_tick: datetime | None = None) -> bool:
        """Go on with a schedule, at that time, or where it was; whether there is one of that name."""

    def remove_schedule(self, name: str) -> bool:
        """Forget a schedule; whether there was one of that name. The sagas it has started go on."""

    def due_schedules(self, limit: int) -> Ticks:
        """The schedules whose time has come, so many of them."""

    def advance_schedule(
        self, schedule: Schedule, next_tick: datetime | None, openings: Sequence[Opening], patience: float
    ) -> set[UUID] | None:
        """Start sagas for the time that has come, and say when the next one is, in one transaction.

        Args:
            schedule: as it was found due. If its next time is another one since, or it is paused, nothing is done.
            openings: of a saga for each time that is not to be missed, with the key that belongs to that time.
            patience: as ``open`` has it.

        Returns:
            the ids of the sagas whose key was free; ``None`` if nothing was done.

        Raises:
            Busy: a key is held by another transaction; nothing was done.
        """


class Store(Schedules, Protocol):
    """Where the logs of sagas are kept.

    Every method may raise ``DatabaseNotReady``; those that write may raise ``Refused``, those that read ``CorruptLog``.

    Attributes:
        name: where it is.
        realm: whose work this process does.
    """

    name: str
    realm: str

    @property
    def clock(self) -> Clock:
        """By which this process waits."""

    def breaks(self) -> int:
        """How often it was lost. After each, another server may answer, which lacks the latest of what was known."""

    def hold(self) -> AbstractContextManager[None]:
        """Ask on one connection for all that this thread does inside."""

    # --- reading

    def entries(self, saga_id: UUID, after: int = 0, until: int | None = None) -> list[Entry]:
        """The entries after one place, up to another."""

    def entries_from(self, saga_id: UUID, seq: int, at: datetime | None) -> list[Entry]:
        """The log from a known entry on, with that entry; the whole log, if it does not have that entry at that time.

        Returns:
            nothing if there is no such saga.
        """

    def header(self, saga_id: UUID) -> Header | None:
        """A saga's row in the index."""

    def statuses(self, ids: Sequence[UUID]) -> dict[UUID, str]:
        """The status of each of these sagas that exists."""

    def ends(self, ids: Sequence[UUID], logs: Sequence[UUID]) -> dict[UUID, End]:
        """Where each of these sagas stands, if it exists, with the log of those that have ended and whose log is wanted."""

    def holders(self, name: str, keys: Sequence[str | None]) -> list[tuple[UUID, str] | None]:
        """The id and input hash of the saga of that name under each of these keys, in their order."""

    def definition(self, fingerprint: str) -> Outline | None:
        """The stored definition of that fingerprint."""

    # --- starting

    def register(self, outline: Outline, patience: float) -> None:
        """Store a definition, once.

        Raises:
            Busy: another transaction is storing it, and was still open after that many seconds.
        """

    def open(self, sagas: Sequence[Opening], patience: float) -> set[UUID]:
        """Write new sagas; returns the ids of those whose key was free.

        Raises:
            Busy: a key is held by another transaction, still open after that many seconds.
        """

    def joined(self, connection: Any) -> JoinedStore:
        """This store inside the transaction of a caller: what is written becomes part of it.

        Raises:
            InputError: there is no transaction to be part of.
        """

    # --- progress

    def append(self, additions: Sequence[Addition], worker: int | None) -> dict[UUID, Stored]:
        """Append to the logs of different sagas, and change their rows as follows from it: of each saga all or nothing.

        The parts of a saga that an addition opens are there if it wins, and only then. A change of status that concerns a
        parent makes the parent's lane due in the same transaction; who appends sends the message.

        Returns:
            the sagas whose place in the log was the next one and free, and who are neither too late nor too early, with the
            time.
        """

    def request(self, addition: Addition) -> datetime | None:
        """Append what an operator asks for; a completed saga is taken up again.

        A ``signal_received`` under a key that the log has already is not appended. A parent's lane is made due, as by
        ``append``; its message is left to the relay.

        Returns:
            when; ``None`` where its place in the log is taken, the saga not completed any more, or the signal there.
        """

    def post(self, signal: Signal) -> bool:
        """Keep a signal for a saga, which gets into its log soon after the commit: for who is inside a caller's transaction.

        It is a row of its own, which the relay takes in. So it waits for nobody who writes to the saga, and they do not
        wait for the caller's commit. Two that have the same key may be posted at once; one gets into the log.

        Returns:
            ``False``, and nothing is kept, if the log has a signal of this key, or one is posted that can be seen here.

        Raises:
            ValueRefused: there is no such saga, or it is no signal; a driver's error inside a caller's transaction.
        """

    def purge(self, age: float, after: UUID | None, limit: int) -> tuple[int, UUID | None]:
        """Take out what there is of sagas that finished so many seconds ago, a page of them in the order of their ids.

        A saga goes with its parts, never before the one that it is a part of, and none while a part of it is unfinished.
        What somebody else changes just now stays for another time, without a wait.

        Args:
            after: where to go on, as the page before said.
            limit: how many sagas a page looks at.

        Returns:
            how many sagas were taken out, parts included; and where to go on, if there may be more.
        """

    def claim(self, wishes: Sequence[Wish], worker: int, limits: str) -> dict[Lane, Offer]:
        """Take lanes that are free and due: the start of each one's attempt is appended, each row gets an owner.

        Args:
            limits: JSON of the definitions whose lanes to take: fingerprint to phase to name of a step to the data of the
                entry that starts its attempt, with ``timeout``; and ``watch``: the seconds after which the relay looks at a
                lane. Of a lane whose action has less time left, the timeout is that.

        Returns:
            what became of each; nothing for those that there are not.
        """

    def transaction(self, timeout: float) -> StepTransaction:
        """A transaction for a step, whose statements may take so many seconds."""

    # --- lanes

    def owned(self, worker: int) -> list[UUID]:
        """The claim tokens that a worker holds."""

    def give_back(self, worker: int, tokens: Sequence[UUID]) -> list[Dispatch]:
        """Give back claims of this worker that nothing in it runs; returns the messages to send."""

    def park(self, saga_id: UUID, lane: str, problem: str, *, unknown: bool = False) -> None:
        """Note why a free lane cannot be run here, and offer it again later.

        Args:
            unknown: the saga's definition is not here; a worker that has it offers the lane sooner.
        """

    def sleep_on(self, saga_id: UUID, lane: str, seen: datetime, due: Due) -> bool:
        """Let a free lane without an attempt, of which nothing is to be decided now, wait until then; it keeps its problem.

        One that was due at once, because it was placed so or woken, is looked at again after ten seconds at the latest. A part
        of its saga that ended while the lane was being placed has found no lane to wake: so it must be placed due at once,
        unless it is in the statement in which the part begins.

        Args:
            seen: when it was due, as the claim's offer said. If that is something else since, somebody has woken the lane,
                and it stays as it is.
            due: as in its row: of a lane that waits for a saga or a signal only, far away.

        Returns:
            whether it was put off.
        """

    def hand_on(self, saga_id: UUID, lane: str, worker: int) -> list[Dispatch]:
        """Offer a lane at once to another worker that has its definition; nothing if none lives."""

    def offer_on(self, lanes: Sequence[Lane], *, alone: bool) -> list[Dispatch]:
        """The messages of those lanes that are free, to be sent anew by a worker that took the first ones."""

    def rounds(self, publish: Callable[[Sequence[Any]], None], batch: int) -> Rounds:
        """What a relay does to the lanes of this store."""


class JoinedStore(Store, Protocol):
    """A store inside a transaction that somebody else began."""

    def on_commit(self, follow_up: Callable[[], None]) -> bool:
        """Have that called after the commit, which may be that of a savepoint; whether it can be noticed."""
