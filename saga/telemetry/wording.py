"""Wording: the lines of the logger ``saga``, one for each kind of fact that a reader of logs is told of.

A line has the place in the code where its fact was emitted.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from logging import DEBUG, ERROR, INFO, WARNING
from typing import Any

from saga.context import current
from saga.errors import counted, first_line
from saga.telemetry.facts.attempts import (
    AttemptCameLate,
    BarrierPassedTwice,
    HookFailed,
    LogFoundGone,
    ProcessOverdue,
    RedactionFailed,
    RefusalFailed,
    RetryPolicyFailed,
    ThreadOverdue,
)
from saga.telemetry.facts.lanes import (
    ChoreFailed,
    LaneDamaged,
    LaneLeftAside,
    LaneNotClaimed,
    LaneNotGivenBack,
    LaneNotPutOff,
    LanePutOff,
    LanesFreed,
    LanesLeft,
    LanesNotClaimed,
    SignalPutOff,
)
from saga.telemetry.facts.messages import (
    BrokerBack,
    BrokerCutOff,
    BrokerTooSlow,
    CarrierMisused,
    EventsDropped,
    ForeignLogFound,
    ForeignRealmFound,
    IdentityNotRead,
    MessageNotSent,
    MessageRefused,
    MonitoringTooSlow,
    OfferLeft,
    PingNotNoted,
    QueueRefused,
    RouteFailed,
    SendingFailed,
    SendingMisconfigured,
)
from saga.telemetry.facts.sagas import (
    EvidenceNotKept,
    HistoryCut,
    LogsNotRead,
    OutcomesUnknown,
    OutcomeUnknown,
    WaitingFailed,
)
from saga.telemetry.facts.upkeep import (
    ClockStepped,
    EndNotNoted,
    LockMissed,
    LockRegained,
    NumberTaken,
    RelayBack,
    RelayCutOff,
    RelayFailed,
    ReliefFailed,
    TimesNotSet,
    UpkeepCutOff,
    UpkeepFailed,
    WorkersLost,
)
from saga.telemetry.stream import Fact, Heard, ListenerFailed, subscribe

REDACTED = "<in the saga log>"
"""In place of a payload, wherever one would show."""

logger = logging.getLogger("saga")

_EMITTER = 3
"""How many calls above the logger's own the emitting code is: ``Line.say``, ``Stream.emit``, and itself."""

Fill = Callable[[Any], tuple[object, ...]]


def _nothing(_: Fact) -> tuple[object, ...]:
    return ()


@dataclass(frozen=True, slots=True)
class Line:
    """How facts of one kind are told.

    Attributes:
        fill: what the text is filled with.
        traced: the traceback of the fact's error comes with it.
    """

    level: int
    text: str
    fill: Fill
    traced: bool

    def say(self, fact: Any) -> None:
        """Write the line, if somebody reads lines of its level."""
        if logger.isEnabledFor(self.level):
            error = fact.error if self.traced else None
            logger.log(self.level, self.text, *self.fill(fact), exc_info=error, stacklevel=_EMITTER)


LINES: dict[type[Fact], Line] = {}


def _line(
    kind: type[Heard], level: int, text: str, fill: Callable[[Heard], tuple[object, ...]] = _nothing, *,
    traced: bool = False,
) -> None:  # fmt: skip
    LINES[kind] = Line(level, text, fill, traced)
    subscribe(kind, LINES[kind].say)


_line(ListenerFailed, ERROR, "%s failed when told of %s", lambda fact: (fact.listener, fact.kind), traced=True)

# --- sagas ------------------------------------------------------------------------------------------------------------

_line(
    HistoryCut, ERROR,
    "saga %s: the database has lost entries, as after a failover to a standby that lagged: entry %d was known here,"
    " with %s; it goes on from what its log says now, so steps may be made again, under the same keys",
    lambda fact: (_saga(fact), fact.known, fact.written),
)  # fmt: skip
_line(
    EvidenceNotKept, WARNING, "saga %s: the evidence could not be kept: %s",
    lambda fact: (_saga(fact), first_line(fact.error)),
)  # fmt: skip
_line(
    OutcomeUnknown, WARNING, "saga %s: what happened is not known to be in the log: %s",
    lambda fact: (_saga(fact), first_line(fact.error)),
)  # fmt: skip
_line(
    OutcomesUnknown, WARNING, "what happened to %d sagas is not known to be in the log: %s",
    lambda fact: (fact.sagas, first_line(fact.error)),
)  # fmt: skip

_line(LogsNotRead, DEBUG, "one of %d logs cannot be read: %s", lambda fact: (fact.logs, fact.error))
_line(WaitingFailed, ERROR, "the waiting for sagas failed; it looks again", traced=True)

# --- attempts ---------------------------------------------------------------------------------------------------------

_line(
    AttemptCameLate, WARNING, "%s: ended (%s) after it had been declared over; kept as evidence only",
    lambda fact: (fact.attempt, fact.outcome),
)  # fmt: skip
_line(LogFoundGone, ERROR, "%s: what it has brought finds no log: %s", lambda fact: (fact.attempt, fact.error))
_line(
    ProcessOverdue, ERROR, "%s: it holds this process %g s past its timeout; the process ends itself",
    lambda fact: (fact.attempt, fact.grace),
)  # fmt: skip
_line(
    ThreadOverdue, ERROR, "%s: it holds a thread past its timeout, and this pool cannot end it",
    lambda fact: (fact.attempt,),
)  # fmt: skip
_line(
    RetryPolicyFailed, ERROR, "%s: its retry policy failed, so there is no further attempt",
    lambda fact: (fact.attempt,), traced=True,
)  # fmt: skip
_line(
    RefusalFailed, ERROR,
    "%s: abort_on failed when asked about a %s, so that counts as a failure that may have had its effect",
    lambda fact: (fact.place, fact.about), traced=True,
)  # fmt: skip
_line(
    RedactionFailed, ERROR, "saga_redact failed (%s); the text of an error is left out of the log",
    lambda fact: (fact.error_type,),
)  # fmt: skip
_line(
    HookFailed, ERROR, "on_commit(%s) of a transactional step failed, after the commit",
    lambda fact: (fact.hook,), traced=True,
)  # fmt: skip
_line(
    BarrierPassedTwice, WARNING,
    "saga %s[%s], step %s: it passes a barrier in %s twice; the second block is skipped. If it has another effect, "
    "give each a name of its own: barrier(connection, 'stock')",
    lambda fact: (fact.saga, fact.saga_id, fact.step, fact.database),
)  # fmt: skip

# --- lanes ------------------------------------------------------------------------------------------------------------

_line(
    LaneNotClaimed, ERROR, "saga %s, lane %s: it cannot be claimed",
    lambda fact: (fact.saga_id, fact.lane), traced=True,
)  # fmt: skip
_line(
    LanesNotClaimed, DEBUG, "one of %d lanes cannot be claimed: %s",
    lambda fact: (fact.lanes, first_line(fact.error)),
)  # fmt: skip
_line(
    LanesLeft, WARNING, "%d lanes are left to the relay, to be offered again: %s",
    lambda fact: (fact.lanes, first_line(fact.error)),
)  # fmt: skip
_line(
    LanesFreed, WARNING, "worker %s owned %d lanes that nothing ran; they are given back",
    lambda fact: (fact.worker, fact.lanes),
)  # fmt: skip
_line(LaneDamaged, ERROR, "%s", lambda fact: (fact.problem,))
_line(
    LaneNotGivenBack, WARNING, "%s: the lane could not be given back: %s",
    lambda fact: (fact.attempt, first_line(fact.error)),
)  # fmt: skip
_line(
    ChoreFailed, WARNING, "some lanes cannot %s all at once: %s",
    lambda fact: (fact.chore, first_line(fact.error)),
)  # fmt: skip
_line(
    LaneLeftAside, WARNING, "saga %s, lane %s: it cannot %s yet: %s",
    lambda fact: (fact.saga_id, fact.lane, fact.chore, first_line(fact.error)),
)  # fmt: skip
_line(LanePutOff, ERROR, "saga %s, lane %s: %s", lambda fact: (fact.saga_id, fact.lane, fact.problem))
_line(
    SignalPutOff, ERROR, "saga %s, signal %s: it cannot be taken in: %s",
    lambda fact: (fact.saga_id, fact.number, first_line(fact.error)),
)  # fmt: skip
_line(
    LaneNotPutOff, ERROR, "saga %s, lane %s: nor can that be noted: %s",
    lambda fact: (fact.saga_id, fact.lane, first_line(fact.error)),
)  # fmt: skip

# --- upkeep -----------------------------------------------------------------------------------------------------------

_line(RelayFailed, ERROR, "the relay failed; it looks again", traced=True)
_line(RelayCutOff, WARNING, "the relay cannot reach the database: %s", lambda fact: (fact.why,))
_line(RelayBack, INFO, "the relay reaches the database again")
_line(
    WorkersLost, WARNING, "worker %s gone; its attempts are given back",
    lambda fact: (", ".join(map(str, fact.workers)),),
)  # fmt: skip
_line(
    ClockStepped, WARNING, "the database's clock has stepped %s; times are set right",
    lambda fact: ("forth again, or no relay has looked for long" if fact.back is None else f"back by {fact.back} s",),
)  # fmt: skip
_line(
    TimesNotSet, ERROR, "times that a step of the database's clock made wrong cannot be set right%s: %s",
    lambda fact: (", and come that much later" if fact.final else " yet", first_line(fact.error)),
)  # fmt: skip
_line(UpkeepCutOff, DEBUG, "the upkeep cannot reach the database: %s", lambda fact: (fact.error,))
_line(UpkeepFailed, ERROR, "the upkeep failed; it looks again", traced=True)
_line(ReliefFailed, ERROR, "the relief of a batch failed; it looks again", traced=True)
_line(NumberTaken, WARNING, "worker number %d: its lock is taken; the next one is tried", lambda fact: (fact.number,))
_line(LockRegained, INFO, "worker %s: the liveness lock is held again", lambda fact: (fact.worker,))
_line(
    LockMissed, DEBUG, "worker %s: the liveness lock is not to be had yet: %s", lambda fact: (fact.worker, fact.error)
)
_line(EndNotNoted, DEBUG, "the end of a worker is not noted: %s", lambda fact: (first_line(fact.error),))

# --- messages ---------------------------------------------------------------------------------------------------------

_line(BrokerTooSlow, WARNING, "the broker does not keep up; the relay sends the rest again")
_line(
    BrokerCutOff, WARNING, "the broker does not answer (%s); the relay sends the message again",
    lambda fact: (fact.error,),
)  # fmt: skip
_line(BrokerBack, INFO, "the broker answers again")
_line(MessageNotSent, DEBUG, "a message could not be sent", traced=True)
_SENDING_FAILED = "a message could not be sent%s; the relay sends it again: %s"
_line(SendingFailed, WARNING, _SENDING_FAILED, lambda fact: (_left_out(fact.left_out), fact.why))
_line(SendingMisconfigured, ERROR, _SENDING_FAILED, lambda fact: (_left_out(fact.left_out), fact.why))
_line(
    QueueRefused, ERROR,
    "nothing is sent to %s, which is no name of a queue, or one that brokers keep for themselves",
    lambda fact: (fact.queue,),
)  # fmt: skip
_line(RouteFailed, ERROR, "%s; meanwhile it goes to the default queue", lambda fact: (fact.error,))
_line(
    CarrierMisused, ERROR, "%s is called by another task; only a message of its own is heard",
    lambda fact: (fact.task,),
)  # fmt: skip
_line(MessageRefused, ERROR, "a malformed %s message is refused%s", lambda fact: (fact.task, _after_colon(fact.why)))
_line(
    OfferLeft, WARNING, "the database does not answer (%s); the relay offers the work again", lambda fact: (fact.why,)
)
_line(PingNotNoted, DEBUG, "a ping is not noted: %s", lambda fact: (first_line(fact.error),))
_line(
    ForeignLogFound, ERROR,
    "on queue %r there are messages of another saga log (%r, realm %r) than this worker's (%s): two environments share"
    " this broker; give each a broker, a virtual host or queues of its own. They are offered on",
    lambda fact: (fact.queue, fact.log, fact.realm, fact.ours),
)  # fmt: skip
_line(
    ForeignRealmFound, ERROR,
    "on queue %r there are messages of realm %r, and this worker is of %r: two apps share a queue. Give each queues of"
    " its own; or, if they are to run each other's sagas, the same saga_realm. They are offered on",
    lambda fact: (fact.queue, fact.realm, fact.ours),
)  # fmt: skip
_line(IdentityNotRead, DEBUG, "the id of the log cannot be read: %s", lambda fact: (first_line(fact.error),))
_line(MonitoringTooSlow, DEBUG, "the broker does not keep up with the events; the rest is dropped")
_line(EventsDropped, DEBUG, "%d events are dropped: %s", lambda fact: (fact.events, first_line(fact.error)))


def _saga(fact: EvidenceNotKept | HistoryCut | OutcomeUnknown) -> str:
    return f"{fact.saga}[{fact.saga_id}]"


def _left_out(count: int) -> str:
    return f", and {counted(count, 'other')} for the same reason since this was last said" if count else ""


def _after_colon(why: str | None) -> str:
    return "" if why is None else f": {why}"


# --- Celery's log lines show no payload -------------------------------------------------------------------------------


class _Redaction(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, dict) and "return_value" in record.args and current() is not None:
            record.args = {**record.args, "return_value": REDACTED}
        return True


logging.getLogger("celery.app.trace").addFilter(_Redaction())
