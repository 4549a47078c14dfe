"""Catalog: the definitions that one process knows, and where their steps run."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator

from saga.codec import dumps
from saga.definition import Saga
from saga.errors import DefinitionError, UnknownSaga


class Catalog:
    """Sagas by name and by fingerprint.

    Args:
        route: the queue of a task that its step names none for.
    """

    def __init__(self, route: Callable[[str], str]) -> None:
        self._route = route
        self._by_name: dict[str, Saga] = {}
        self._by_fingerprint: dict[str, Saga] = {}
        self._queues: dict[tuple[str, str, bool], str] = {}
        self._limits: dict[frozenset[str], str] = {}

    def __iter__(self) -> Iterator[Saga]:
        return iter(self._by_name.values())

    def add(self, saga: Saga) -> None:
        """Register a definition, in place of one that has the same name and structure.

        Raises:
            DefinitionError: another one has its name.
        """
        if not isinstance(saga, Saga):
            raise DefinitionError(f"expected a Saga to register, got {saga!r}; register with sagas=[saga, ...]")
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
            UnknownSaga: there is none.
        """
        if not isinstance(saga, (Saga, str)):
            raise UnknownSaga(f"expected a Saga or the name of one, got {saga!r}; such as start('place_order', ...)")
        name = saga if isinstance(saga, str) else saga.name
        found = self._by_name.get(name)
        if found is None or (isinstance(saga, Saga) and not found.is_like(saga)):
            close = difflib.get_close_matches(name, self._by_name, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"known are: {', '.join(self._by_name) or 'none'}."
            raise UnknownSaga(f"no saga {name!r} is registered; {hint} Register it with Orchestrator(app, sagas=[...])")
        return found

    def get(self, name: str) -> Saga | None:
        """The registered saga of that name, if there is one."""
        return self._by_name.get(name)

    def by_fingerprint(self, fingerprint: str) -> Saga | None:
        """The registered saga with exactly that structure, if there is one."""
        return self._by_fingerprint.get(fingerprint)

    def queue(self, saga: Saga | None, step: str, undo: bool) -> str:
        """The queue on which a step's action or undo runs."""
        if saga is None or not step:
            return self._route("")
        key = (saga.name, step, undo)
        found = self._queues.get(key)
        if found is None:
            job = saga.job(step, undo)
            found = self._queues[key] = job.queue or self._route(job.task)
        return found

    @property
    def limits(self) -> str:
        """The timeouts of every known step as JSON, for the claim: by fingerprint, then ``do`` or ``undo``, then step."""
        return self.limits_of(self._by_name)

    def limits_of(self, names: Iterable[str]) -> str:
        """The same for the sagas of these names."""
        key = frozenset(names)
        found = self._limits.get(key)
        if found is None:
            sagas = [self._by_name[name] for name in sorted(key)]
            found = self._limits[key] = dumps({saga.outline.fingerprint: _limits(saga) for saga in sagas})
        return found


def watch(saga: Saga) -> float:
    """Seconds after which a claimed lane is looked at: the shortest timeout of the steps that may follow inline."""
    return saga.shortest_timeout


def _limits(saga: Saga) -> dict[str, object]:
    return {
        "do": {name: job.timeout for name, job in saga.actions.items()},
        "undo": {name: job.timeout for name, job in saga.undos.items()},
        "watch": watch(saga),
    }
