"""Facts about messages: what is sent, what comes, and what a broker makes of it."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from saga.telemetry.stream import Fact


@dataclass(frozen=True, slots=True)
class BrokerTooSlow(Fact):
    """More messages wait to be sent than there is room for; the rest is left to the relay."""


@dataclass(frozen=True, slots=True)
class BrokerCutOff(Fact):
    """The broker does not answer; told once, until it does again."""

    error: Exception


@dataclass(frozen=True, slots=True)
class BrokerBack(Fact):
    """The broker answers again."""


@dataclass(frozen=True, slots=True)
class MessageNotSent(Fact):
    """A message could not be sent, for another reason than a broker that does not answer; the relay sends it again."""

    error: Exception


@dataclass(frozen=True, slots=True)
class SendingFailed(Fact):
    """Messages could not be sent, all for one reason; told once in a while.

    Attributes:
        why: the reason, in words.
        left_out: how many more it was since this was last told.
    """

    why: str
    left_out: int


@dataclass(frozen=True, slots=True)
class SendingMisconfigured(Fact):
    """The same for a reason that stays until somebody mends how the app is configured."""

    why: str
    left_out: int


@dataclass(frozen=True, slots=True)
class QueueRefused(Fact):
    """A message was not sent, since its queue has a name that no queue must have.

    Attributes:
        queue: how the name looks.
    """

    queue: str


@dataclass(frozen=True, slots=True)
class RouteFailed(Fact):
    """The app's router raised when asked for the queue of a step, which goes to the default one meanwhile."""

    error: Exception


# --- what comes -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CarrierMisused(Fact):
    """A task that carries messages was called by another task, and heard nothing."""

    task: str


@dataclass(frozen=True, slots=True)
class MessageRefused(Fact):
    """A message that is not of our form has come.

    Attributes:
        task: the task it was for.
        why: what is wrong with it, where that is known.
    """

    task: str
    why: str | None = None


@dataclass(frozen=True, slots=True)
class OfferLeft(Fact):
    """Lanes that a message offered are left to the relay, since the database does not answer.

    Attributes:
        why: in words for an operator.
    """

    why: str


@dataclass(frozen=True, slots=True)
class PingNotNoted(Fact):
    """A ping has come, and could not be noted."""

    error: Exception


@dataclass(frozen=True, slots=True)
class ForeignLogFound(Fact):
    """Messages of another saga log come to this worker, and are offered on; told once in a while.

    Attributes:
        log: the id of that log, as the message says.
        ours: the id of the log of this worker.
    """

    queue: str | None
    log: str | None
    realm: str | None
    ours: UUID


@dataclass(frozen=True, slots=True)
class ForeignRealmFound(Fact):
    """Messages of another realm come to this worker, and are offered on; told once in a while.

    Attributes:
        ours: the realm of this worker.
    """

    queue: str | None
    realm: str | None
    ours: str


@dataclass(frozen=True, slots=True)
class IdentityNotRead(Fact):
    """The id of the log could not be read; it is asked for again later."""

    error: Exception


# --- Celery's monitoring ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class MonitoringTooSlow(Fact):
    """More events for Celery's monitoring wait to be sent than there is room for; the rest is dropped."""


@dataclass(frozen=True, slots=True)
class EventsDropped(Fact):
    """Events for Celery's monitoring could not be sent.

    Attributes:
        events: how many.
    """

    events: int
    error: Exception
