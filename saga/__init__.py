"""pgsaga: transactional sagas for Celery, with the saga log in Postgres.

The house has floors. What stands on one uses what stands below it and, on its own floor, what stands to its right:

    contrib, cli                          Django; the command line
    ops, dev                              what operators ask of the whole; a stack to develop on
    client                                how sagas are started, waited for, read and acted on
    broker                                Celery's messages
    worker                                what one process does that runs steps
    relay                                 who finds what is due, overdue or lost
    engine, schema                        the only writer of progress; how the tables are made and upgraded
    barriers, language, store, telemetry  effects made once; what a saga can say; where its log is kept; who is told
    core                                  what a saga is and does: no database, no Celery, no clock, no chance
    log_context, context, config, crashpoints, errors
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from saga.barriers import barrier
    from saga.client.handle import Handle
    from saga.client.orchestrator import Orchestrator
    from saga.context import Current, current
    from saga.core.state import State, Status, StepState, StepStatus
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
        NotYet,
        SagaAbandoned,
        SagaCompensated,
        SagaError,
        SagaNotFound,
        SagaStuck,
        StepTimeout,
        UnknownSaga,
        WorkerLost,
    )
    from saga.language.choice import Choice
    from saga.language.definition import Saga
    from saga.language.evidence import DidNotHappen, Happened
    from saga.language.for_each import ForEach
    from saga.language.graph import Graph
    from saga.language.parallel import Parallel
    from saga.language.retry import Retry
    from saga.language.sleep import Sleep
    from saga.language.source import Value
    from saga.language.step import Step
    from saga.language.sub_saga import SubSaga
    from saga.language.try_ import Try
    from saga.language.wait_for import WaitFor
    from saga.telemetry.signals import (
        compensation_started,
        saga_abandoned,
        saga_compensated,
        saga_completed,
        saga_started,
        saga_stuck,
        step_failed,
        step_succeeded,
    )

__version__ = "0.1.0"

__all__ = [
    "AbandonedStep",
    "Abort",
    "BarrierError",
    "CarelessStep",
    "Cause",
    "Choice",
    "Current",
    "DatabaseNotReady",
    "DefinitionError",
    "DefinitionWarning",
    "DidNotHappen",
    "DoubtfulType",
    "ForEach",
    "Graph",
    "Handle",
    "Happened",
    "InputError",
    "KeyBusy",
    "KeyConflict",
    "NotAllowed",
    "NotYet",
    "Orchestrator",
    "Parallel",
    "Retry",
    "Saga",
    "SagaAbandoned",
    "SagaCompensated",
    "SagaError",
    "SagaNotFound",
    "SagaStuck",
    "Sleep",
    "State",
    "Status",
    "Step",
    "StepState",
    "StepStatus",
    "StepTimeout",
    "SubSaga",
    "Try",
    "UnknownSaga",
    "Value",
    "WaitFor",
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

_NAMES = {
    "saga.barriers": "barrier",
    "saga.client.handle": "Handle",
    "saga.client.orchestrator": "Orchestrator",
    "saga.context": "Current current",
    "saga.core.state": "State Status StepState StepStatus",
    "saga.errors": (
        "AbandonedStep Abort BarrierError CarelessStep Cause DatabaseNotReady DefinitionError "
        "DefinitionWarning DoubtfulType InputError KeyBusy KeyConflict NotAllowed NotYet SagaAbandoned "
        "SagaCompensated SagaError SagaNotFound SagaStuck StepTimeout UnknownSaga WorkerLost"
    ),
    "saga.language.choice": "Choice",
    "saga.language.definition": "Saga",
    "saga.language.evidence": "DidNotHappen Happened",
    "saga.language.for_each": "ForEach",
    "saga.language.graph": "Graph",
    "saga.language.parallel": "Parallel",
    "saga.language.retry": "Retry",
    "saga.language.sleep": "Sleep",
    "saga.language.source": "Value",
    "saga.language.step": "Step",
    "saga.language.sub_saga": "SubSaga",
    "saga.language.try_": "Try",
    "saga.language.wait_for": "WaitFor",
    "saga.telemetry.signals": (
        "compensation_started saga_abandoned saga_compensated saga_completed saga_started saga_stuck "
        "step_failed step_succeeded"
    ),
}
_HOMES = {name: module for module, names in _NAMES.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    """Load a public name from the module that has it, once it is asked for, so that reading a log needs no Celery."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = getattr(import_module(_HOMES[name]), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
