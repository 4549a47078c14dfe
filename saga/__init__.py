"""pgsaga: transactional sagas for Celery, with the saga log in Postgres."""

try:
    import psycopg as _psycopg  # noqa: F401
except ImportError as error:
    raise ImportError(
        'psycopg finds no libpq: pip install "pgsaga[binary]", or install the libpq of your system, such as libpq5 of Debian; '
        f"psycopg says: {str(error).strip()}"
    ) from None

from saga.barriers import barrier
from saga.context import Current, current
from saga.definition import Parallel, Saga, Step
from saga.errors import (
    AbandonedStep,
    Abort,
    BarrierError,
    CarelessStep,
    Cause,
    DatabaseNotReady,
    DefinitionError,
    DefinitionWarning,
    DoubtfulType,
    InputError,
    KeyBusy,
    KeyConflict,
    NotAllowed,
    SagaAbandoned,
    SagaCompensated,
    SagaError,
    SagaNotFound,
    SagaStuck,
    StepTimeout,
    UnknownSaga,
    WorkerLost,
)
from saga.handle import Handle
from saga.orchestrator import Orchestrator
from saga.retry import Retry
from saga.signals import (
    compensation_started,
    saga_abandoned,
    saga_compensated,
    saga_completed,
    saga_started,
    saga_stuck,
    step_failed,
    step_succeeded,
)
from saga.state import State, Status, StepState, StepStatus
from saga.wiring import Value

__version__ = "0.1.0"

__all__ = [
    "AbandonedStep",
    "Abort",
    "BarrierError",
    "CarelessStep",
    "Cause",
    "Current",
    "DatabaseNotReady",
    "DefinitionError",
    "DefinitionWarning",
    "DoubtfulType",
    "Handle",
    "InputError",
    "KeyBusy",
    "KeyConflict",
    "NotAllowed",
    "Orchestrator",
    "Parallel",
    "Retry",
    "Saga",
    "SagaAbandoned",
    "SagaCompensated",
    "SagaError",
    "SagaNotFound",
    "SagaStuck",
    "State",
    "Status",
    "Step",
    "StepState",
    "StepStatus",
    "StepTimeout",
    "UnknownSaga",
    "Value",
    "WorkerLost",
    "barrier",
    "compensation_started",
    "current",
    "saga_abandoned",
    "saga_compensated",
    "saga_completed",
    "saga_started",
    "saga_stuck",
    "step_failed",
    "step_succeeded",
]
