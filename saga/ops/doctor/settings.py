"""The checks of a Celery app's own settings, and of its broker."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from celery import Celery
from kombu.serialization import registry

from saga.errors import first_line
from saga.ops.doctor.finding import Finding, Level
from saga.telemetry.thread import answer_within

_BROKER_PATIENCE = 5.0


def eager(app: Celery) -> Iterator[Finding]:
    """``task_always_eager`` runs nothing through the broker."""
    if app.conf.task_always_eager:
        yield Finding(
            Level.BAD,
            "task_always_eager is on: whatever a step sends runs inside the step, and is repeated with it",
            "turn it off; run tests of sagas on `saga.dev.Stack`",
        )


def content(app: Celery) -> Iterator[Finding]:
    """The messages of sagas are serialized as the app's own are, and signed if those are."""
    accepted = {_NAMES.get(content, content) for content in app.conf.accept_content or ()}
    if app.conf.task_serializer not in accepted:
        yield Finding(
            Level.BAD,
            f"accept_content={sorted(accepted)} lacks {app.conf.task_serializer}, which is the task_serializer: workers "
            "refuse the messages of sagas, and the app's own",
            f"add {app.conf.task_serializer!r} to accept_content",
        )


_RISKS = {
    "pickle": "a message can hold code, which the worker runs",
    "yaml": "a short message can grow until the worker has no memory left",
}
_NAMES = {content: name for name, content in registry.name_to_type.items()}


def untrusted_content(app: Celery) -> Iterator[Finding]:
    """No worker accepts messages that can harm it before any task sees them."""
    accepted = {_NAMES.get(content, content) for content in app.conf.accept_content or ()}
    for name in sorted(accepted & _RISKS.keys()):
        yield Finding(
            Level.WARNING,
            f"accept_content allows {name}: {_RISKS[name]}, from any sender",
            f"take {name!r} out of accept_content; sagas need no more than task_serializer='json'",
        )


def time_limits(app: Celery) -> Iterator[Finding]:
    """Celery's time limits would end the carrier's task; it has its own."""
    for name in ("task_time_limit", "task_soft_time_limit"):
        if app.conf[name] is not None:
            yield Finding(
                Level.NOTE, f"{name}={app.conf[name]} does not apply to steps", "give each Step its own timeout="
            )


def visibility(app: Celery) -> Iterator[Finding]:
    """Redis' visibility timeout concerns messages that are acknowledged late; those of sagas are not."""
    if transport(app) in ("redis", "rediss") and "visibility_timeout" in (app.conf.broker_transport_options or {}):
        yield Finding(
            Level.NOTE,
            "visibility_timeout does not apply to sagas: their messages are acknowledged early, and the relay redelivers",
            "set it for your other tasks only",
        )


def broker(app: Celery) -> Iterator[Finding]:
    """The broker answers, within a few seconds."""
    try:
        url = app.connection_for_write().as_uri()
    except (KeyError, ValueError):  # whose text may be half of a password
        yield Finding(
            Level.BAD,
            "broker_url is no URL of a transport that Celery knows",
            "expected such as amqp://user:password@host:5672//; in the password, write / as %2F and # as %23",
        )
        return
    problem = _problem_of_broker(app)
    if problem is not None:
        yield Finding(
            Level.BAD,
            f"the broker at {url} cannot be reached: {problem}",
            "start it, or correct broker_url; sagas that are started meanwhile wait in the log",
        )


def transport(app: Celery) -> str:
    """What carries the app's messages, such as ``redis`` or ``amqp``; nothing if the broker's URL cannot be read."""
    try:
        return str(app.connection_for_write().transport_cls)
    except (KeyError, ValueError):
        return ""


def _problem_of_broker(app: Celery) -> str | None:
    """Ask in a thread: not every transport keeps to a timeout while it connects."""

    def connect() -> str | None:
        try:
            with app.connection_for_write() as connection:
                connection.ensure_connection(max_retries=1, interval_start=0, timeout=_BROKER_PATIENCE)
        except Exception as error:
            return first_line(error) or type(error).__name__
        return None

    problems = answer_within(_BROKER_PATIENCE, "saga-doctor", connect)
    return problems[0] if problems else f"no answer within {_BROKER_PATIENCE:g} s"


SETTINGS_CHECKS: tuple[Callable[[Celery], Iterator[Finding]], ...] = (
    eager,
    content,
    untrusted_content,
    time_limits,
    visibility,
    broker,
)
