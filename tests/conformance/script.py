"""A script: verbs in any order, drawn by hypothesis and done on a stand; what it answers is the same on every store.

Times are left out of the answers. All that passes is so long, and so far from all that is waited for, that a store whose
time passes by itself agrees with one whose time does not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

from hypothesis import strategies as st

from saga.core.due import Due
from saga.core.events import KINDS, AttemptFailed, CancelRequested, CompensateRequested, Entry, Event, Paused
from saga.core.outline import DEADLINE
from saga.core.ref import Phase
from saga.core.rows import Changes, Dispatch, Place
from saga.errors import CorruptLog
from saga.store.values import Addition, NewStatus, Refused, Signal, Task, Wish
from tests.unit.simulation import Tape, bytes_of

from .stand import COMPLETED, FORKED, LIMITS, LINE, Row, Stand, opening_of, started, succeeded

Op = tuple[Any, ...]
_LANES = ("main", "main/b", "main/c", DEADLINE, "nowhere")
_OUTLINES = (LINE, FORKED)
_EVENTS: tuple[Event, ...] = (
    Paused("ann"),
    Paused("ann"),
    started(),
    started(),
    succeeded(),
    started(phase=Phase.COMPENSATION),
    succeeded(result={"b": 1.0, "a": [1e20]}),
    started("b", lane="main/b"),
    AttemptFailed("main", "a", 1, outcome="retry", wait=50.0),
    succeeded(result="\x00"),
    started(attempt=0),
)
_REQUESTS = (Paused("ann"), CancelRequested("ann", "no"), CompensateRequested("ann", "returned"), succeeded())
_STATUSES = (None, None, None, COMPLETED, NewStatus("stuck", "it broke", False), NewStatus("compensating", None, False),
             NewStatus("completed", None, False))  # fmt: skip
_WORKERS = (1, 2, 3)
_NUMBERS = (0, 1, 2, 3)

MOST = 40
"""Draws of a script."""


def script_of(tape: Tape) -> list[Op]:
    """Draw a script. What leads somewhere only together is drawn together, too: by chance it hardly would be."""
    script: list[Op] = [("open", 1, "k", 0.0, None, True), ("open", 0, None, 0.0, 500.0, False)]
    for _ in range(MOST):
        script += tape.pick(_DRAWN)(tape)
    return script


def _open(tape: Tape) -> Iterator[Op]:
    yield ("open", tape.pick([0, 1]), tape.pick([None, "k"]), tape.pick([0.0, 50.0, 500.0, 0.0]), tape.pick([None, 500.0]),
           tape.flip())  # fmt: skip


def _append(tape: Tape) -> Iterator[Op]:
    yield "append", [_addition(tape) for _ in range(tape.pick([1, 1, 2]))], tape.pick(_WORKERS)


def _addition(tape: Tape) -> Any:
    events = [tape.pick(_EVENTS) for _ in range(tape.pick([1, 2]))]
    return (tape.pick(_NUMBERS), tape.pick([0, 0, 0, 0, 0, 0, -1, 1]), tape.pick(["no", "no", "right", "wrong"]),
            tape.pick(["no", "no", "past", "future"]), events, _changes(tape), tape.pick(_STATUSES))  # fmt: skip


def _changes(tape: Tape) -> Any:
    added, moved = (
        [_place(tape) for _ in range(tape.pick([0, 0, 1]))],
        [_place(tape) for _ in range(tape.pick([0, 1, 1]))],
    )
    return added, moved, [tape.pick(_LANES) for _ in range(tape.pick([0, 0, 1]))]


def _place(tape: Tape) -> Any:
    return (tape.pick(_LANES), tape.pick("abc"), tape.pick([1, 2, None]), tape.pick([*Phase, Phase.STEP]), tape.pick(["celery", "other", None]),
            tape.pick([None, 3]), tape.pick([None, 0.0, 50.0, 3700.0, "earlier", "later"]), tape.pick([False, False, True]),
            tape.flip())  # fmt: skip


def _request(tape: Tape) -> Iterator[Op]:
    yield "request", tape.pick(_NUMBERS), tape.pick(_REQUESTS), _changes(tape), tape.pick(_STATUSES)


def _claim(tape: Tape) -> Iterator[Op]:
    known = ["nothing", "first", "last", "wrong"]
    wishes = [(tape.pick(_NUMBERS), tape.pick(_LANES), tape.pick(known)) for _ in range(tape.pick([1, 2, 3]))]
    yield "claim", wishes, tape.pick(_WORKERS), tape.pick([True, True, True, False])


def _offer(tape: Tape) -> Iterator[Op]:
    yield "offer_on", [(tape.pick(_NUMBERS), tape.pick(_LANES)) for _ in range(tape.pick([1, 2, 3]))], tape.flip()


def _overdue(tape: Tape) -> Iterator[Op]:
    yield from _claim(tape)
    yield "pass", 400.0
    yield "relay", tape.pick([Task.TIME_OUT, Task.WATCH_ON]), 1


def _gone(tape: Tape) -> Iterator[Op]:
    for claim in _claim(tape):
        yield claim
        yield tape.pick([("relay", Task.LOSE, claim[2]), ("give_back", claim[2]), ("die", claim[2])])


def _lost(tape: Tape) -> Iterator[Op]:
    yield "pass", tape.pick([40.0, 400.0])
    yield "ping", tape.pick([True, True, False])
    yield "relay", Task.SEND_LOST, 1


def _handed(tape: Tape) -> Iterator[Op]:
    yield "enrol", tape.pick(_WORKERS), tape.pick([True, False])
    yield "hand_on", tape.pick(_NUMBERS), tape.pick(_LANES), tape.pick(_WORKERS)


def _signal(tape: Tape) -> Iterator[Op]:
    names = ["approval", "approval[3]"]
    yield (
        "post",
        tape.pick(_NUMBERS),
        tape.pick(names),
        tape.pick([None, {"b": 1.0, "aa": None}]),
        tape.pick([None, "k", "l"]),
    )
    if tape.flip():
        yield ("take_in",)


def _sleep(tape: Tape) -> Iterator[Op]:
    yield "sleep_on", tape.pick(_NUMBERS), tape.pick(_LANES), tape.pick([True, True, False]), tape.pick([50.0, 3700.0])


def _other(tape: Tape) -> Iterator[Op]:
    yield tape.pick([
        ("pass", 40.0), ("pass", 400.0), ("relay", Task.SEND_DUE, 1), ("relay", Task.SEND_DUE, 1), ("bury",),
        ("give_back", tape.pick(_WORKERS)), ("park", tape.pick(_NUMBERS), tape.pick(_LANES), tape.flip()),
    ])  # fmt: skip


_DRAWN: list[Callable[[Tape], Iterator[Op]]] = [
    _append, _claim, _other, _request, _open, _offer, _overdue, _gone, _lost, _handed, _append, _claim, _other, _sleep,
    *([_signal] if "signal_received" in KINDS else []),
]  # fmt: skip
SCRIPTS: st.SearchStrategy[list[Op]] = bytes_of(600).map(lambda drawn: script_of(Tape(drawn)))


class About(float):
    """Seconds that are told apart only where they differ by what passes in a script, not by what passes during one."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, float) and abs(self - other) < 15

    __hash__ = None  # type: ignore[assignment]


class Actor:
    """Does a script on one stand."""

    def __init__(self, stand: Stand) -> None:
        self.stand = stand
        self.sagas: list[UUID] = []
        self._made = 0
        self._relaying = stand.relay()
        self._elsewhere = stand.beside("elsewhere")
        for outline in _OUTLINES:
            stand.store.register(outline, 1.0)

    def do(self, op: Op) -> Any:
        """Do something; what the store answers, without times, or the name of its refusal."""
        verb: Callable[..., Any] = getattr(self, f"_{op[0]}")
        try:
            return verb(*op[1:])
        except (Refused, CorruptLog) as error:
            return type(error).__name__

    @property
    def doubtful(self) -> bool:
        """Whether several lanes of a saga are claimed: which of them is ended first is nobody's business."""
        return any(sum(row.worker is not None for row in self.stand.rows(saga)) > 1 for saga in self.sagas)

    def standing(self) -> list[Any]:
        """All that there is to know of all sagas."""
        return [(self._header(saga), self.log(saga), list(map(_row, self.stand.rows(saga)))) for saga in self.sagas]

    def log(self, saga: UUID) -> list[Any]:
        """The entries of a saga, without times and without the operator's role."""
        return [_entry(entry) for entry in self.stand.store.entries(saga)]

    def _header(self, saga: UUID) -> Any:
        header = self.stand.store.header(saga)
        assert header is not None
        return (header.name, header.fingerprint, header.key, header.status, header.reason, header.finished_at is None,
                header.updated_at - header.started_at > timedelta(seconds=20), header.realm)  # fmt: skip

    def _uuid(self) -> UUID:
        self._made += 1
        return UUID(int=self._made)

    def _saga(self, number: int) -> UUID:
        return self.sagas[number % len(self.sagas)] if self.sagas else UUID(int=0)

    # --- the verbs --------------------------------------------------------------------------------------------------------

    def _open(self, outline: int, key: str | None, delay: float, deadline: float | None, sent: bool) -> Any:
        opening = opening_of(
            _OUTLINES[outline],
            key=key,
            delay=delay,
            deadline=deadline,
            sent=sent,
            id=self._uuid(),
            input={"bb": 1, "a": 2},
        )
        found = self.stand.store.open([opening], 1.0)
        self.sagas += found
        return found, self.stand.store.holders(_OUTLINES[outline].name, [key])

    def _append(self, given: Sequence[Any], worker: int) -> Any:
        additions = {addition.saga_id: addition for addition in map(self._addition, given)}
        return set(self.stand.store.append(list(additions.values()), worker))

    def _addition(self, given: Any) -> Addition:
        number, shift, after, before, events, said, status = given
        saga = self._saga(number)
        seq = self._last(saga) + 1 + shift
        known = self._at(saga, seq - 1)
        if known is not None and after == "wrong":
            known -= timedelta(seconds=1)
        hour = timedelta(hours=1)
        until = {"no": None, "past": self.stand.now() - hour, "future": self.stand.now() + hour}[before]
        return Addition(
            saga, seq, events, said and self._changes(said), status, until, None if after == "no" else known
        )

    def _last(self, saga: UUID) -> int:
        return len(self.stand.store.entries(saga)) if saga in self.sagas else 0

    def _at(self, saga: UUID, seq: int) -> Any:
        return self.stand.at(saga, seq) if 0 < seq <= self._last(saga) else None

    def _changes(self, said: Any) -> Changes:
        added, moved, removed = said
        found = Changes(LINE.fingerprint, self._uuid(), "default")
        for places, into in ((moved, found.moved), (added, found.added)):
            # No lane twice.
            taken = {place.lane for place in (*found.moved, *found.added)}
            into.extend(self._place(*place) for place in places if place[0] not in taken)
            into[:] = {place.lane: place for place in into}.values()
        found.removed = [lane for lane in removed if lane not in {place.lane for place in (*found.moved, *found.added)}]
        return found

    def _place(self, lane: str, step: str, attempt: int | None, phase: Phase, queue: str | None, priority: int | None,
               due: Any, owned: bool, sent: bool) -> Place:  # fmt: skip
        moments = {"later": 3700.0, "earlier": -3700.0}
        if due in moments:
            when: Due | None = Due(self.stand.now() + timedelta(seconds=moments[due]))
        else:
            when = None if due is None else Due(None, due)
        return Place(lane, step, attempt, phase, queue, priority, when, owned, 100.0, sent)

    def _request(self, number: int, event: Event, said: Any, status: NewStatus | None) -> Any:
        saga = self._saga(number)
        return (
            self.stand.store.request(Addition(saga, self._last(saga) + 1, [event], self._changes(said), status))
            is not None
        )

    def _claim(self, given: Sequence[Any], worker: int, mine: bool) -> Any:
        wishes = {}
        for number, lane, known in given:
            saga = self._saga(number)
            seq = {"nothing": 0, "first": 1, "last": self._last(saga), "wrong": 1}[known]
            at = self._at(saga, seq)
            if at is not None and known == "wrong":
                at -= timedelta(seconds=1)
            wishes[saga, lane] = Wish(saga, lane, self._uuid(), seq, at)
        store = self.stand.store if mine else self._elsewhere
        offers = store.claim(list(wishes.values()), worker, LIMITS)
        return {
            lane: (offer.fingerprint, offer.attempt, offer.queue, offer.open, offer.won,
                   [(*row[:5], _known(row[5]), row[6], row[8]) for row in offer.entries])
            for lane, offer in offers.items()
        }  # fmt: skip

    def _park(self, number: int, lane: str, unknown: bool) -> None:
        self.stand.store.park(self._saga(number), lane, "nobody knows it", unknown=unknown)

    def _hand_on(self, number: int, lane: str, worker: int) -> Any:
        return self.stand.store.hand_on(self._saga(number), lane, worker)

    def _offer_on(self, given: Sequence[Any], alone: bool) -> Any:
        self.stand.pass_time(40)
        lanes = dict.fromkeys((self._saga(number), lane) for number, lane in given)
        return _in_order(self.stand.store.offer_on(list(lanes), alone=alone))

    def _give_back(self, worker: int) -> Any:
        tokens = sorted(self.stand.store.owned(worker))
        return tokens, _in_order(self.stand.store.give_back(worker, tokens))

    def _relay(self, task: Task, worker: int) -> Any:
        if task is Task.SEND_LOST:
            self.stand.pass_time(40)
        self._relaying.do(task, **({"workers": [worker]} if task is Task.LOSE else {}))
        return _in_order(self._relaying.sent)

    def _ping(self, seen: bool) -> Any:
        self.stand.pass_time(40)
        pings = self._relaying.ping()
        for ping in pings if seen else ():
            self.stand.see_ping(ping)
        return sorted((ping.queue, ping.priority) for ping in pings)

    def _pass(self, seconds: float) -> None:
        self.stand.pass_time(seconds)

    def _enrol(self, worker: int, knows: bool) -> None:
        if worker not in self.stand.members():
            self.stand.enrol(worker, [LINE.fingerprint] if knows else [], ["celery"])

    def _die(self, worker: int) -> Any:
        if worker in self.stand.members():
            self.stand.die(worker)
        return sorted(self._relaying.rounds.absent()[0])

    def _post(self, number: int, name: str, payload: Any, key: str | None) -> Any:
        return self.stand.store.post(Signal(self._saga(number), name, payload, key, "ann"))

    def _take_in(self) -> Any:
        self._relaying.sent.clear()
        return self._relaying.rounds.take_in(), _in_order(self._relaying.sent)

    def _sleep_on(self, number: int, lane: str, seen: bool, seconds: float) -> Any:
        saga = self._saga(number)
        offer = self.stand.store.claim([Wish(saga, lane, self._uuid())], 1, "{}").get((saga, lane))
        due = offer.due if offer is not None and offer.due is not None and seen else self.stand.now()
        return self.stand.store.sleep_on(saga, lane, due, Due(seconds=seconds))

    def _bury(self) -> Any:
        self._relaying.rounds.bury(1)
        return self.stand.members()


def _in_order(messages: Sequence[Dispatch]) -> list[Dispatch]:
    return sorted(messages, key=lambda message: (message.saga_id, message.lane))


def _known(data: Any) -> Any:
    return {name: value for name, value in data.items() if name != "session_user"}


def _entry(entry: Entry) -> Any:
    return entry.seq, entry.kind, entry.lane, entry.step, entry.attempt, _known(entry.data), entry.worker


def _row(row: Row) -> Any:
    due = None if row.due is None else About(row.due)
    sent = None if row.sent is None else About(row.sent)
    return (row.lane, row.step, row.attempt, row.phase, row.queue, row.priority, due, row.watch, sent, row.dispatches,
            row.worker, row.token, row.problem, row.realm)  # fmt: skip
