"""The engine: the only writer of progress.

What it does is always the same: read a state, see what an event makes of it, and append the event at the very next
position of the log together with all that follows from it. If the position is taken, it reads on and decides again.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import UUID

from saga.core.commands import RunStep
from saga.core.decision import watches_deadline
from saga.core.events import AttemptEvent, AttemptStarted, AttemptSucceeded, Entry, Event, HistoryLost, Request
from saga.core.machine import extend, follow, replay
from saga.core.outline import Outline
from saga.core.permission import check
from saga.core.ref import Phase
from saga.core.rows import Dispatch, dispatches, next_inline, plan
from saga.core.state import State
from saga.engine.draft import Advance, Draft, Instance, Lease, Written
from saga.engine.memory import Memory
from saga.errors import CorruptLog, DatabaseNotReady, SagaNotFound
from saga.language.catalog import Catalog
from saga.language.definition import Saga
from saga.store.port import Clock, Store
from saga.store.values import Addition, Header, NewStatus
from saga.telemetry.facts.sagas import Appended, EvidenceNotKept, HistoryCut
from saga.telemetry.stream import emit

TRIES = 200
"""How often a writer drafts anew when others come first, unless it must not give up."""
_EVIDENCE_TRIES = 5


class Engine:
    """Reads and writes the progress of sagas, for one process.

    Args:
        publish: sends messages, without waiting for the broker.
        max_payload: the largest result that is stored, in bytes of JSON.
    """

    def __init__(
        self,
        store: Store,
        catalog: Catalog,
        publish: Callable[[Sequence[Dispatch]], None],
        max_payload: int = 1_048_576,
    ) -> None:
        self.store = store
        self.max_payload = max_payload
        self.catalog = catalog
        self.publish = publish
        self.memory = Memory()

    @property
    def clock(self) -> Clock:
        """By which this process waits."""
        return self.store.clock

    # --- writing ------------------------------------------------------------------------------------------------------

    def advance(
        self,
        state: State,
        decide: Callable[[State, bool], Draft | None],
        *,
        write: Callable[[Draft], Written | None] | None = None,
        read: Callable[[Instance, State], State] | None = None,
        tries: int = TRIES,
    ) -> Advance:
        """Append what is decided. When another entry has come first, read on and decide again.

        Every entry but a saga's first gets into its log this way, or by a claim or the relay.

        Args:
            decide: from a state, and whether the last draft came too late for the saga's own deadline; ``None`` when there
                is nothing to append any more.
            write, read: how a draft is appended and how its writer reads on, where that is not as ``write`` and ``read`` do.
                Where ``decide`` takes a late draft for a deadline that has passed, ``write`` may return ``None`` only if the
                store has said that it did not append.
            tries: how often.

        Raises:
            DatabaseNotReady: it may have been appended.
        """
        draft, late = None, False
        for tried in range(tries):
            draft = decide(state, late)
            if draft is None:
                return Advance(state)
            if (written := (write or self.write)(draft)) is not None:
                return Advance(written.state, draft, written)
            self.back_off(tried)
            state = (read or self.read)(draft.instance, state)
            late = late or draft.is_too_late(state)
        return Advance(state, draft)

    def back_off(self, tries: int, longest: float = 0.05) -> None:
        """Wait a random moment, longer with each try, up to ``longest`` seconds: writers that collide spread out."""
        self.clock.sleep(random.random() * min(longest, 0.0005 * 2 ** min(tries, 20)))

    def draft(
        self, instance: Instance, state: State, event: Event, claim: Lease | None = None, *, keep: bool = False
    ) -> Draft:
        """See what an event makes of a state.

        Args:
            claim: the worker that writes it, if one does.
            keep: that worker may go on with what follows, if it is single and runs on the same queue.
        """
        return self.draft_all(instance, state, (event,), claim, keep=keep)

    def draft_all(
        self,
        instance: Instance,
        state: State,
        events: tuple[Event, ...],
        claim: Lease | None = None,
        *,
        keep: bool = False,
    ) -> Draft:
        """See what several events make of a state, one after the other, and what follows from all of them.

        Args:
            claim, keep: as ``draft`` has them.
        """
        worker = claim.worker if claim else None
        entries = [Entry(seq, event, None, worker) for seq, event in enumerate(events, state.seq + 1)]
        after, before, commands = follow(instance.outline, state, entries)
        kept = next_inline(before, commands) if keep and not isinstance(events[0], AttemptStarted) else None
        if kept and claim and self.catalog.queue(instance.saga, kept.ref.step, kept.ref.undo) != claim.queue:
            kept = None
        changes = plan(self.catalog, instance.outline.fingerprint, instance.saga, after, before, commands, kept,
                       claim.token if claim else None)  # fmt: skip
        before_it = _deadline(state, events[0])
        if kept:
            events = (*events, start_of(instance.saga, kept))
            before_it = before_it or _deadline(after, events[-1])
        return Draft(instance, state, after, events, worker, changes, _status_change(state, after), kept, before_it)

    def write(self, draft: Draft, store: Store | None = None) -> Written | None:
        """Append a draft; ``None`` when another entry has come before it, or the saga's own deadline.

        Args:
            store: inside a transaction to do it in.

        Raises:
            DatabaseNotReady: it may have been appended; ``find`` tells.
            Refused: it was not, and cannot be.
        """
        return self.write_all([draft], store)[0]

    def write_all(self, drafts: Sequence[Draft], store: Store | None = None) -> list[Written | None]:
        """Append drafts of different sagas, by one worker, in one statement: each of them wins or loses by itself."""
        found = (store or self.store).append([_addition(draft) for draft in drafts], drafts[0].worker)
        return [
            self._written(draft, won.at, won.woken) if (won := found.get(draft.instance.id)) else None
            for draft in drafts
        ]

    def find(self, draft: Draft) -> Written | None:
        """Whether a draft was appended after all, if its write gave no answer.

        Raises:
            DatabaseNotReady: the store still cannot be asked.
        """
        seq = draft.state.seq
        entries = self.store.entries(draft.instance.id, seq, seq + len(draft.events))
        if len(entries) < len(draft.events) or (at := entries[0].at) is None:
            return None
        # All of them, in one statement: other drafts of the same writer may begin alike.
        together = all(entry.at == at and entry.worker == draft.worker for entry in entries)
        same = all(_same(entry.event, event) for entry, event in zip(entries, draft.events, strict=True))
        return self._written(draft, at) if together and same else None

    def _written(self, draft: Draft, at: datetime, woken: Sequence[Dispatch] = ()) -> Written:
        entries = [Entry(seq, event, at, draft.worker) for seq, event in enumerate(draft.events, draft.state.seq + 1)]
        if isinstance(draft.events[0], AttemptSucceeded):
            # The draft lacks only the time, which a success does not need.
            state = draft.after
            state.at = at
            extend(draft.instance.outline, state, entries[-1:] if draft.kept else ())
        else:
            state = replay(draft.instance.outline, entries, draft.state)
        owed = dispatches(draft.instance.id, draft.changes) if draft.changes else []
        return Written(entries, state, at, draft.kept, [*owed, *woken])

    def follow_up(self, draft: Draft, written: Written) -> None:
        """Tell the rest of the world what is committed now: send the messages that are owed, and what was appended."""
        if draft.worker is not None:
            self.memory.note(draft.instance.id, written.entries)
        self.publish(written.dispatches)
        name, moved = draft.instance.outline.name, draft.status is not None
        emit(Appended(name, draft.instance.id, draft.events, draft.state, written.state, moved, draft.worker))

    # --- requests -----------------------------------------------------------------------------------------------------

    def request(self, saga_id: UUID, request: Request) -> tuple[State, State]:
        """Append what an operator asked for; returns the states before and after it.

        Raises:
            NotAllowed: the saga's status does not allow it.
            SagaNotFound: there is no such saga.
        """
        instance = self.instance(saga_id)
        if instance.foreign:
            # Who does not know where steps run leaves each lane where it is, and the sending to the relay.
            instance = replace(instance, saga=None)

        def decide(state: State, _: bool) -> Draft:
            check(str(instance), instance.outline, state, request)
            return self.draft(instance, state, request)

        advance = self.advance(self.read(instance), decide, write=self._write_request)
        if advance.draft is None or advance.written is None:
            raise DatabaseNotReady(f"saga {instance} is too busy for the request; try again")
        self.follow_up(advance.draft, advance.written)
        return advance.draft.state, advance.state

    def _write_request(self, draft: Draft) -> Written | None:
        try:
            at = self.store.request(_addition(draft))
        except DatabaseNotReady as error:
            if error.refused:
                raise
            return self.find(draft)
        return self._written(draft, at) if at is not None else None

    # --- reading ------------------------------------------------------------------------------------------------------

    def instance(self, saga_id: UUID, fingerprint: str | None = None) -> Instance:
        """A saga with the definition to read its log with: the registered one, or else the stored outline.

        Args:
            fingerprint: of its definition, if that is known.

        Raises:
            SagaNotFound: there is no such saga.
        """
        if fingerprint and (saga := self.catalog.by_fingerprint(fingerprint)):
            return Instance.of(saga_id, saga)
        with self.store.hold():
            header = self.store.header(saga_id)
            if header is None:
                raise SagaNotFound(f"there is no saga {saga_id} in {self.store.name}")
            saga = self.catalog.by_fingerprint(header.fingerprint)
            outline = saga.outline if saga else self.definition_of(header)
        return Instance(saga_id, outline, saga, header.realm not in ("", self.store.realm))

    def definition_of(self, header: Header) -> Outline:
        """The outline that a saga was started with.

        Raises:
            CorruptLog: it is not in the store, or damaged; the text names the saga.
        """
        try:
            outline = self.store.definition(header.fingerprint)
        except CorruptLog as error:
            raise CorruptLog(f"saga {header.id}: its {error}") from None
        if outline is None:
            raise CorruptLog(f"saga {header.id}: its definition {header.fingerprint} is not in the database")
        return outline

    def read(self, instance: Instance, known: State | None = None, worker: int | None = None) -> State:
        """A saga's state now, read on from one that is known.

        Args:
            worker: this process's number, if it is one.

        Raises:
            SagaNotFound: the database does not have the saga any more.
        """
        known = known or self.memory.recall(instance.id)
        if known is None:
            return instance.replay(self.store.entries(instance.id))
        entries = self.store.entries_from(instance.id, known.seq, known.at)
        if not entries:
            raise SagaNotFound(self._gone(instance, known))
        if (entries[0].seq, entries[0].at) == (known.seq, known.at):
            return instance.replay(entries[1:], known)
        return self.take_in(instance, entries, known, worker)

    def take_in(
        self, instance: Instance, entries: Sequence[Entry], known: State | None, worker: int | None = None
    ) -> State:
        """The state after entries: either those that come after what is known, or the whole log, if it has fewer than known.

        A log that has lost its end is read as it is. What this process still knows of the end is reported, and kept in the
        log as evidence.
        """
        if not entries or entries[0].seq != 1:
            return instance.replay(entries, known)
        known = known if known and known.seq else None
        lost = self.memory.missing(instance.id, entries, certain=known is not None)
        if known is None and not lost:
            return instance.replay(entries)
        event = HistoryLost(max([known.seq if known else 0, *(entry["seq"] for entry in lost)]), lost)
        emit(HistoryCut(instance.outline.name, instance.id, event.known, _in_words(lost)))
        self.memory.forget(instance.id)
        return self.keep_evidence(instance, instance.replay(entries), event, worker)

    def keep_evidence(self, instance: Instance, state: State, event: Event, worker: int | None) -> State:
        """Append an entry that nothing uses, if possible; returns the state after it.

        Raises:
            ValueRefused: the store does not take it.
        """

        def decide(state: State, _: bool) -> Draft:
            return Draft(instance, state, state, (event,), worker)

        def read(instance: Instance, state: State) -> State:
            return self.read(instance, state, worker)

        try:
            return self.advance(state, decide, read=read, tries=_EVIDENCE_TRIES).state
        except (DatabaseNotReady, SagaNotFound) as error:
            emit(EvidenceNotKept(instance.outline.name, instance.id, error))
            return state

    def _gone(self, instance: Instance, known: State) -> str:
        lost = _in_words(self.memory.missing(instance.id, (), certain=True))
        self.memory.forget(instance.id)
        return (
            f"there is no saga {instance} in {self.store.name} any more: it was purged, or the database has lost it, as"
            f" after a failover to a standby that lagged; entry {known.seq} was known here, with {lost}; what its steps did"
            " is not undone"
        )


def _in_words(lost: Sequence[Mapping[str, Any]]) -> str:
    known = ", ".join(f"{e['seq']} {e['kind']} {e['step']}, attempt {e['attempt']}" for e in lost if e["step"])
    return f"what this worker had written ({known})" if known else "nothing that this worker had written"


def start_of(saga: Saga | None, step: RunStep) -> AttemptStarted:
    """The event that starts an attempt."""
    assert saga is not None, "a worker runs only what it has the definition of"
    return AttemptStarted(*step.ref, timeout=saga.job(step.ref.step, step.ref.undo).timeout)


def _deadline(state: State, event: Event) -> datetime | None:
    """The moment after which an action may not start, if the event is such a start."""
    starts = isinstance(event, AttemptStarted) and event.phase is Phase.STEP
    return state.deadline if starts and watches_deadline(state) else None


def _addition(draft: Draft) -> Addition:
    return Addition(draft.instance.id, draft.state.seq + 1, draft.events, draft.changes, draft.status,
                        before=draft.before, after=draft.state.at)  # fmt: skip


def _same(stored: Event, drafted: Event) -> bool:
    if isinstance(stored, Request):
        stored = replace(stored, session_user=None)  # which only the database knows
    if isinstance(stored, AttemptEvent) and isinstance(drafted, AttemptEvent):
        return type(stored) is type(drafted) and stored.ref == drafted.ref
    return stored == drafted


def _status_change(before: State, after: State) -> NewStatus | None:
    if after.status is before.status and after.headline == before.headline:
        return None
    return NewStatus(str(after.status), after.headline, after.status.terminal)
