"""Catalog: the definitions that one process knows, and where their steps run."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property

from saga.core.outline import StepOutline
from saga.core.ref import Phase
from saga.core.text import dumps
from saga.errors import DefinitionError, UnknownSaga, did_you_mean
from saga.language.definition import Saga
from saga.language.job import Job
from saga.telemetry.facts.messages import RouteFailed
from saga.telemetry.stream import emit

_KEPT = 1000
_WHERE = re.compile(r"(\[[0-9]+\]|#[0-9]+)+")
"""In the name of a lane, which element and round it is of."""


class Catalog:
    """Sagas by name and by fingerprint.

    Args:
        route: gives the queue of a task whose step names no queue.
    """

    def __init__(self, route: Callable[[str], str]) -> None:
        self._route = route
        self._by_name: dict[str, Saga] = {}
        self._by_fingerprint: dict[str, Saga] = {}
        self._queues: dict[tuple[str, str, bool], str] = {}
        self._limits: dict[tuple[frozenset[str], frozenset[str] | None], str] = {}

    def __iter__(self) -> Iterator[Saga]:
        return iter(self._by_name.values())

    @property
    def fingerprints(self) -> list[str]:
        """Those of all definitions, in order."""
        return sorted(self._by_fingerprint)

    def add(self, saga: Saga) -> None:
        """Register a definition with its children, in place of those that have the same name and structure.

        Raises:
            DefinitionError: another one has its name.
        """
        if not isinstance(saga, Saga):
            raise DefinitionError(f"expected a Saga to register, got {saga!r}; register with sagas=[saga, ...]")
        for each in (*saga.children(), saga):
            self._add(each)

    def _add(self, saga: Saga) -> None:
        known = self._by_name.get(saga.name)
        if known is not None and not known.is_like(saga):
            raise DefinitionError(
                f"saga {saga.name!r}: another definition of that name is registered; rename one of them"
            )
        self._by_name[saga.name] = saga
        self._by_fingerprint[saga.outline.fingerprint] = saga
        self._queues = {key: queue for key, queue in self._queues.items() if key[0] != saga.name}
        self._limits.clear()

    def named(self, saga: Saga | str) -> Saga:
        """The registered saga of that name, or with the name and structure of that definition.

        Raises:
            UnknownSaga: there is no such saga.
        """
        if not isinstance(saga, (Saga, str)):
            raise UnknownSaga(f"expected a Saga or the name of one, got {saga!r}; such as start('place_order', ...)")
        name = saga if isinstance(saga, str) else saga.name
        found = self._by_name.get(name)
        if found is None or (isinstance(saga, Saga) and not found.is_like(saga)):
            hint = did_you_mean(name, self._by_name) or f"; known are: {', '.join(self._by_name) or 'none'}."
            raise UnknownSaga(f"no saga {name!r} is registered{hint} Register it with Orchestrator(app, sagas=[...])")
        return found

    def get(self, name: str) -> Saga | None:
        """The registered saga of that name, if there is one."""
        return self._by_name.get(name)

    def by_fingerprint(self, fingerprint: str) -> Saga | None:
        """The registered saga with exactly that structure, if there is one."""
        return self._by_fingerprint.get(fingerprint)

    def queue(self, saga: Saga | None, step: str, undo: bool) -> str:
        """The queue on which a step's action or undo runs. If its router fails, the default one, so that no result has to wait."""
        if saga is None or not step:
            return self._default
        try:
            return self._routed(saga, step, undo)
        except DefinitionError as error:
            emit(RouteFailed(error))
            return self._default

    @cached_property
    def _default(self) -> str:
        """The queue of work that belongs to no task."""
        return self._route("")

    def check_routes(self, saga: Saga) -> None:
        """Find the queue of every action and undo.

        Raises:
            DefinitionError: a router fails; the text names saga, step and router.
        """
        for undo, jobs in ((False, saga.actions), (True, saga.undos)):
            for step in jobs:
                self._routed(saga, step, undo)

    def _routed(self, saga: Saga, step: str, undo: bool) -> str:
        key = (saga.name, saga.outline.step(step).name, undo)
        found = self._queues.get(key)
        if found is None:
            job = saga.job(step, undo)
            try:
                found = self._queues[key] = job.queue or self._route(job.task)
            except DefinitionError as error:
                what = "undo of " if undo else ""
                raise DefinitionError(f"saga {saga.name!r}, {what}step {step!r}: {error}") from error
        return found

    def limits(self, lanes: Iterable[str], sagas: Iterable[str] | None = None) -> str:
        """The timeouts of the steps in some lanes as JSON, for their claim: by fingerprint, phase, and step.

        Of a lane of one element or round, they are those of the lane that all of these have in the definition.

        The timeouts of all steps would be 60 KB for a saga of a thousand branches, in every claim.

        Args:
            sagas: names; all that are known if not said.
        """
        key = frozenset(_WHERE.sub("", lane) for lane in lanes), None if sagas is None else frozenset(sagas)
        found = self._limits.get(key)
        if found is None:
            if len(self._limits) >= _KEPT:
                self._limits.clear()
            names = self._by_name if key[1] is None else key[1]
            chosen = [self._by_name[name] for name in sorted(names)]
            limits = {saga.outline.fingerprint: _limits(saga, sorted(key[0])) for saga in chosen}
            found = self._limits[key] = dumps(limits)
        return found


def watch(saga: Saga) -> float:
    """Seconds after which a claimed lane is looked at: the shortest timeout of the steps that may follow inline."""
    return saga.shortest_timeout


def _limits(saga: Saga, lanes: Sequence[str]) -> dict[str, object]:
    known = [saga.outline.lanes[lane] for lane in lanes if lane in saga.outline.lanes]
    steps = [item.name for lane in known for item in lane.items if isinstance(item, StepOutline)]
    return {
        Phase.STEP: {name: _start(saga.actions[name]) for name in steps},
        Phase.COMPENSATION: {name: _start(saga.undos[name]) for name in steps if name in saga.undos},
        "watch": watch(saga),
    }


def _start(job: Job) -> dict[str, object]:
    """What the entry of a start says."""
    return {"timeout": job.timeout}
