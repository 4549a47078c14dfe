"""Claimer: takes lanes that are free and due, and settles those that are undecided."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from uuid import UUID, uuid4

from saga.core.commands import AskPolicy, AttemptCommand, RunStep
from saga.core.due import moment_of
from saga.core.events import AttemptStarted, DeadlinePassed, Entry, Event
from saga.core.machine import decide
from saga.core.outline import DEADLINE, Outline
from saga.core.ref import AttemptRef
from saga.core.rows import Dispatch
from saga.core.state import State, StepStatus
from saga.core.verdict import answer
from saga.crashpoints import reach
from saga.engine.draft import Draft, Instance, Lease
from saga.errors import CorruptLog, first_line
from saga.language.definition import Saga
from saga.store.values import Lane, Offer, Refused, Wish, entries_of
from saga.telemetry.facts.lanes import LanesNotClaimed
from saga.telemetry.stream import emit
from saga.worker.attempt import Attempt
from saga.worker.policy import wait_of_undecided
from saga.worker.recorder import Recorder

_CLAIM_TRIES = 5


@dataclass(frozen=True, slots=True)
class _News:
    """What a claim has read of a saga: the state, and the latest of the new entries of each lane."""

    state: State
    latest: Mapping[str | None, Entry]


class Claimer:
    """The lanes that one worker process takes.

    Args:
        recorder: of the same process; what is started here goes there.
    """

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder
        self._engine = recorder.engine

    def claim(self, saga_id: UUID, lane: str) -> Attempt | None:
        """Take a lane that is free and due; ``None`` when there is nothing to do there for this process."""
        try:
            return self._claim(saga_id, lane)
        except CorruptLog as error:
            problem = str(error)
        except Refused as error:
            problem = f"saga {saga_id}: its log takes no entry: {first_line(error)}"
        self.recorder.park_damaged(saga_id, lane, problem)
        return None

    def _claim(self, saga_id: UUID, lane: str) -> Attempt | None:
        offer = None
        for tries in range(_CLAIM_TRIES):
            known = self._engine.memory.recall(saga_id)
            offer, attempt = self._claim_once(saga_id, lane, known)
            if attempt is not None:
                return attempt
            if offer is None or not offer.open:
                return None
            saga = self._engine.catalog.by_fingerprint(offer.fingerprint)
            if saga is None:
                self._park(saga_id, lane, offer.fingerprint)
                return None
            if offer.attempt is None:
                return self._settle(saga, saga_id, lane, offer, known)
            self._engine.back_off(tries)
        if offer is not None:
            # Others of its saga keep coming first; another turn, or another worker, may be luckier.
            self._engine.publish([Dispatch(saga_id, lane, offer.queue, alone=True)])
        return None

    def claim_together(self, places: Sequence[Lane], sagas: Iterable[str]) -> tuple[list[Attempt], list[Lane]]:
        """Take lanes of one saga or of several in one statement, if nothing has to be decided about them.

        Args:
            sagas: the names of those whose lanes to take.

        Returns:
            the attempts that are started, and the lanes that are to be claimed one by one.
        """
        attempts: list[Attempt] = []
        left: list[Lane] = []
        asked = list(dict.fromkeys(places))
        for tries in range(_CLAIM_TRIES):
            taken, missed, others = self._claim_all(asked, sagas)
            attempts, left, asked = attempts + taken, left + others, missed
            if not asked:
                break
            self._engine.back_off(tries)
        return attempts, left + asked

    def _claim_all(self, places: Sequence[Lane], sagas: Iterable[str]) -> tuple[list[Attempt], list[Lane], list[Lane]]:
        """One try: the attempts that are started, the lanes that another entry kept from it, and those for one by one."""
        known = {saga_id: self._engine.memory.recall(saga_id) for saga_id, _ in places}
        wishes = [_wish(saga_id, lane, known[saga_id]) for saga_id, lane in places]
        attempts: dict[Lane, Attempt] = {}
        damaged: dict[Lane, str] = {}
        try:
            with self._in_use(wishes):
                offers = self._ask(wishes, sagas)
                news: dict[UUID, _News] = {}
                for wish in wishes:
                    place = wish.saga_id, wish.lane
                    if place in offers and offers[place].won:
                        try:
                            attempts[place] = self._claimed(wish, known[wish.saga_id], offers[place], news)
                        except CorruptLog as error:
                            damaged[place] = str(error)
        except (CorruptLog, Refused) as error:
            emit(LanesNotClaimed(len(wishes), error))
            # What could not be read may have been claimed all the same.
            self._engine.store.give_back(self.recorder.worker(), [wish.token for wish in wishes])
            return [], [], list(places)
        for place, problem in damaged.items():
            self.recorder.park_damaged(*place, problem)
        left = [place for place in places if place in offers and _is_left(offers[place])]
        missed = [place for place in left if self._may_be_won(offers[place])]
        return list(attempts.values()), missed, [place for place in left if place not in missed]

    def _may_be_won(self, offer: Offer) -> bool:
        """Whether a lane was not taken only because another entry of its saga came first."""
        return offer.attempt is not None and self._engine.catalog.by_fingerprint(offer.fingerprint) is not None

    def _claim_once(self, saga_id: UUID, lane: str, known: State | None) -> tuple[Offer | None, Attempt | None]:
        wish = _wish(saga_id, lane, known)
        with self._in_use([wish]):
            offer = self._ask([wish]).get((saga_id, lane))
            return offer, self._claimed(wish, known, offer, {}) if offer is not None and offer.won else None

    @contextmanager
    def _in_use(self, wishes: Sequence[Wish]) -> Iterator[None]:
        """Keep the upkeep from giving back what is being claimed. What has no attempt in the end may be given back."""
        running = self.recorder.running
        running.update(dict.fromkeys(wish.token for wish in wishes))
        try:
            yield
        finally:
            for wish in wishes:
                if running[wish.token] is None:
                    del running[wish.token]

    def _ask(self, wishes: Sequence[Wish], sagas: Iterable[str] | None = None) -> dict[Lane, Offer]:
        limits = self._engine.catalog.limits((wish.lane for wish in wishes), sagas)
        offers = self._engine.store.claim(wishes, self.recorder.worker(), limits)
        if any(offer.won for offer in offers.values()):
            reach("claim.after")
        return offers

    def _claimed(self, wish: Wish, known: State | None, offer: Offer, news: dict[UUID, _News]) -> Attempt:
        """The attempt that a claim started. Lanes of one saga that were taken together share what is read of it."""
        saga = self._engine.catalog.by_fingerprint(offer.fingerprint)
        assert saga is not None, "only known fingerprints are claimed"
        found = news.get(wish.saga_id)
        if found is None:
            found = news[wish.saga_id] = self._read(Instance.of(wish.saga_id, saga), known, offer)
        state, own = found.state, found.latest[wish.lane]
        started = own.event
        assert isinstance(started, AttemptStarted)
        self._engine.memory.note(wish.saga_id, [own])
        if not _has_open(state, started):
            raise CorruptLog(
                f"saga {wish.saga_id}, entry {state.seq}: it starts an attempt that its log leaves no room for"
            )
        lease = Lease(self.recorder.worker(), wish.token, self._engine.catalog.queue(saga, started.step, started.undo))
        attempt = Attempt(saga, wish.saga_id, state, started.ref, lease, state.at, self._engine.clock)
        self.recorder.running[wish.token] = attempt
        return attempt

    def _read(self, instance: Instance, known: State | None, offer: Offer) -> _News:
        entries = entries_of(instance.id, offer.entries)
        latest = {entry.lane: entry for entry in entries}
        return _News(self._engine.take_in(instance, entries, known, self.recorder.worker()), latest)

    def _park(self, saga_id: UUID, lane: str, fingerprint: str) -> None:
        """Leave a lane to a worker that has its definition, now or later."""
        store = self._engine.store
        handed_on = store.hand_on(saga_id, lane, self.recorder.worker())
        if not handed_on:
            store.park(saga_id, lane, self._why_parked(store.definition(fingerprint)), unknown=True)
        self._engine.publish(handed_on)

    def _why_parked(self, stored: Outline | None) -> str:
        if stored is None:
            return "its definition is not in the database"
        mine = self._engine.catalog.get(stored.name)
        if mine is None:
            return f"no worker here knows saga {stored.name!r}"
        return f"saga {stored.name!r} is defined differently here: {stored.difference(mine.outline)}"

    def _settle(self, saga: Saga, saga_id: UUID, lane: str, offer: Offer, known: State | None) -> Attempt | None:
        """Decide about a lane that a timeout, a lost worker or the saga's deadline left undecided, and take it."""
        lease = Lease(self.recorder.worker(), uuid4(), offer.queue)
        state = self._engine.take_in(
            Instance.of(saga_id, saga), entries_of(saga_id, offer.entries), known, lease.worker
        )
        self.recorder.running[lease.token] = None
        attempt = Attempt(saga, saga_id, state, AttemptRef(lane, "", 0), lease, None, self._engine.clock)
        waits: dict[int, float | None] = {}

        def settle(state: State, late: bool) -> Draft | None:
            attempt.state = state
            event = self._settling_event(attempt, waits, late=late)
            if event is None:
                return None
            reach("settle.before_append")
            keep = not isinstance(event, DeadlinePassed)
            return self._engine.draft(attempt.instance, state, event, lease, keep=keep)

        def read(instance: Instance, known: State) -> State:
            return self._engine.read(instance, known, lease.worker)

        try:
            while True:
                done = self._engine.advance(attempt.state, settle, read=read)
                if done.draft is None or done.written is None:
                    return None
                reach("settle.after_append")
                if lane == DEADLINE or done.draft.events != (DeadlinePassed(),):
                    return self.recorder.go_on(attempt, done.draft, done.written)
                self._engine.follow_up(done.draft, done.written)
                attempt.state = done.state
        finally:
            if self.recorder.running.get(lease.token) is None:
                self.recorder.running.pop(lease.token, None)

    def _settling_event(self, attempt: Attempt, waits: dict[int, float | None], *, late: bool) -> Event | None:
        command = next(
            (command for command in decide(attempt.saga, attempt.state) if command.lane == attempt.lane), None
        )
        if isinstance(command, AttemptCommand):
            attempt.ref = command.ref
        if isinstance(command, AskPolicy) and attempt.number not in waits:
            waits[attempt.number] = wait_of_undecided(attempt)
        timeout = attempt.job.timeout if attempt.step else 0.0
        event = answer(
            attempt.saga.outline, attempt.state, command, waits.get(attempt.number), timeout=timeout, late=late
        )
        if isinstance(command, RunStep) and isinstance(event, AttemptStarted):
            return event if self._waited_out(attempt.state, command) else None
        return event

    def _waited_out(self, state: State, command: RunStep) -> bool:
        """Sleep through what is left of the short wait for which a lost worker had held the lane; not through a long one."""
        due = moment_of(command.due)
        left = (due - state.at).total_seconds() if due and state.at else 0.0
        if left > self.recorder.inline_wait:
            return False
        self._engine.clock.sleep(max(0.0, left))
        return True


def _wish(saga_id: UUID, lane: str, known: State | None) -> Wish:
    return Wish(saga_id, lane, uuid4(), known.seq, known.at) if known else Wish(saga_id, lane, uuid4())


def _is_left(offer: Offer) -> bool:
    return offer.open and not offer.won


def _has_open(state: State, started: AttemptStarted) -> bool:
    """Whether a state includes the attempt that was started."""
    if started.step not in state.steps:
        return False
    track = state.track(started.step, started.undo)
    return track.status is StepStatus.RUNNING and track.attempts == started.attempt
