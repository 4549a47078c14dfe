"""What holds in every simulated world holds where the engine, workers and a relay play it on the store in memory."""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import Any
from uuid import UUID

from hypothesis import given, settings

from saga import Abort
from saga.core.events import (
    Abandoned,
    CancelRequested,
    CompensateRequested,
    Paused,
    Request,
    Resumed,
    RetryRequested,
    StepSkipped,
)
from saga.core.machine import decide
from saga.core.permission import is_asked
from saga.core.state import State, Status
from saga.errors import NotAllowed

from .simulation import Tape, sagas, tapes
from .test_machine_properties import Account
from .theatre import Theatre

MOST = 500
"""Deliveries, looks and requests after which a saga has to be over."""


class Drama:
    """A saga's whole life in a theatre, as a tape has it. Where the tape ends, all goes well.

    Attributes:
        denied: the steps of which a person said that they had no effect.
    """

    def __init__(self, saga: Any, tape: Tape) -> None:
        self.saga = saga
        self.tape = tape
        self.theatre = Theatre(saga, part=self.play, inline_budget=tape.pick([10.0, 0.0]))
        self.denied: set[str] = set()
        self.newest = 1
        self.theatre.join(self.hire())
        self.id = self.theatre.start(
            saga, {"sku": "A1"}, deadline=tape.pick([None, 60.0]), delay=tape.pick([None, 3.0])
        )

    @property
    def state(self) -> State:
        return self.theatre.state(self.id)

    def hire(self) -> int:
        self.newest += 1
        return self.newest

    def play(self, _: Any) -> Any:
        """What a task does."""
        error = self.tape.pick([None] * 6 + [RuntimeError, Abort])
        if error is not None:
            raise error("it broke")
        return {"done": self.tape.pick([1, 2.5, None])}

    def run(self) -> None:
        """Go on until there is nothing to be done by anyone, operators included."""
        for _ in range(MOST):
            if not self.go_on() and not self.settle():
                return
        raise AssertionError(f"no end in sight: {self.state}")

    def go_on(self) -> bool:
        """The next thing that happens; whether anything did."""
        if self.tape.pick([False] * 7 + [True]):
            self.request()
        if self.theatre.messages:
            self.tape.pick([self.theatre.deliver] * 6 + [self.hang, self.die, self.lose])()
            return True
        moment = self.theatre.next_moment()
        if moment is None or (self.state.paused and not self.is_under_way()):
            return False
        self.theatre.clock.sleep((moment - self.theatre.clock.now).total_seconds() or 0.5)
        self.theatre.look()
        return True

    def is_under_way(self) -> bool:
        """Whether an attempt is still to end."""
        rows = self.theatre.store.tables.sagas[self.id].work.values()
        return any(work.worker is not None for work in rows)

    def hang(self) -> None:
        self.theatre.hang(min(self.theatre.players))

    def die(self) -> None:
        """A worker claims a lane, and is gone."""
        number = min(self.theatre.players)
        self.theatre.hang(number)
        self.theatre.join(self.hire())
        self.theatre.kill(number)

    def lose(self) -> None:
        """A message is lost on its way; the ping after it is not."""
        self.theatre.messages.popleft()
        self.theatre.clock.sleep(1)
        self.theatre.look()
        for ping in self.theatre.pings:
            self.theatre.store.see_ping(ping.queue, ping.number, ping.realm)
        self.theatre.look()

    # --- operators --------------------------------------------------------------------------------------------------------

    def request(self) -> None:
        """An operator asks for something, if that is allowed."""
        requests = [
            Paused("ann"),
            Resumed("ann"),
            RetryRequested("ann"),
            CancelRequested("ann"),
            CompensateRequested("ann"),
        ]
        self.ask(self.tape.pick([*requests * 3, Abandoned("ann", "enough")]))

    def ask(self, request: Request) -> bool:
        doubts = {step for step, undo in self.state.stuck_on if not undo}
        try:
            self.theatre.ask(self.id, request)
        except NotAllowed:
            return False
        if isinstance(request, CancelRequested):
            self.denied |= doubts & set(self.saga.asks)
        return True

    def settle(self) -> bool:
        """What an operator does about a saga that does not go on by itself; whether it needed one."""
        state = self.state
        if state.stuck_on:
            step, undo = next(iter(state.stuck_on))
            skip = StepSkipped("ann", "by hand", self.saga.outline.steps[step].lane, step, undo, {"by": "hand"})
            choices: list[Request] = [skip, RetryRequested("ann")]
            choices += [CancelRequested("ann", "it did not happen")] if is_asked(state) else []
            return self.ask(self.tape.pick(choices)) or self.ask(skip)
        return state.paused and not state.status.terminal and self.ask(Resumed("ann"))


def played(saga: Any, tape: Tape) -> Drama:
    drama = Drama(saga, tape)
    drama.run()
    return drama


@settings(max_examples=60)
@given(sagas(), tapes)
def test_a_saga_that_is_played_ends_as_its_log_says_and_leaves_no_work(saga: Any, tape: Tape) -> None:
    drama = played(saga, tape)
    theatre, state = drama.theatre, drama.state
    assert state.status in (Status.COMPLETED, Status.COMPENSATED, Status.ABANDONED)
    assert decide(saga, state) == ()
    header = theatre.store.header(drama.id)
    assert header is not None
    assert (header.status, header.reason) == (str(state.status), state.headline)
    assert theatre.store.tables.sagas[drama.id].work == {}
    assert [entry.seq for entry in theatre.log(drama.id)] == list(range(1, state.seq + 1))
    assert all(not player.recorder.running for player in theatre.players.values() if not hung(theatre, drama.id))


def hung(theatre: Theatre, saga_id: UUID) -> bool:
    """Whether an attempt was left without a word, of which its worker still thinks that it runs."""
    return bool({"attempt_timed_out", "attempt_lost"} & set(theatre.kinds(saga_id)))


@settings(max_examples=60)
@given(sagas(), tapes)
def test_a_saga_that_is_played_keeps_the_laws(saga: Any, tape: Tape) -> None:
    drama = played(saga, tape)
    account = Account(
        SimpleNamespace(saga=saga, denied=drama.denied, entries=drama.theatre.log(drama.id), echoes=set())
    )  # type: ignore[arg-type]
    for name, step in saga.outline.steps.items():
        done, undone = len(account.settled(name, undo=False)), len(account.settled(name, undo=True))
        if drama.state.status is Status.COMPLETED:
            assert (done, undone) == (1, 0)
        if drama.state.status is Status.COMPENSATED:
            assert undone == (1 if step.compensate and account.may_have_happened(name) else 0), name


def test_the_plays_reach_what_they_are_for():
    from .simulation import saga_of

    dice = random.Random(7)
    seen: set[str] = set()
    for _ in range(60):
        drama = played(saga_of(Tape(dice.randbytes(40))), Tape(dice.randbytes(120)))
        seen.update(drama.theatre.kinds(drama.id))
        seen.add(drama.state.status)
    assert seen >= {
        "attempt_lost",
        "attempt_timed_out",
        "compensation_succeeded",
        "paused",
        "resumed",
        "cancel_requested",
    }
    assert seen >= {"completed", "compensated", "abandoned", "step_failed", "compensation_failed", "step_skipped"}
