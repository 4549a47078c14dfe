"""Audit: checks whether today's definitions can go on with unfinished sagas, and repairs the index from the logs.

Both go through the sagas one by one and yield a verdict for each, so that the caller can show the progress.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from uuid import UUID

from saga.core.events import Entry
from saga.core.outline import Outline
from saga.core.state import State
from saga.engine.draft import Instance
from saga.engine.engine import Engine
from saga.errors import CorruptLog
from saga.store.postgres import log, search
from saga.store.postgres.database import Database
from saga.store.postgres.errors import clear_errors
from saga.store.postgres.store import PostgresStore
from saga.store.values import Header, NewStatus

_PAGE = 500


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the audit found about one saga.

    Attributes:
        problem: why no process can go on with its log, in words; ``None`` if all is well.
        changed: its row in the index did not agree with its log, and was repaired.
    """

    header: Header
    problem: str | None = None
    changed: bool = False


@dataclass(frozen=True, slots=True)
class Mismatch:
    """A problem that several sagas of one definition have in common; ``example`` is one of them."""

    name: str
    fingerprint: str
    problem: str
    count: int
    example: UUID


@dataclass(frozen=True, slots=True)
class Summary:
    """The result of an audit: how many sagas were looked at, how many rows were repaired, and each problem once."""

    checked: int
    changed: int
    mismatches: list[Mismatch]


def check(engine: Engine) -> Iterator[Verdict]:
    """Replay the log of every saga that is not finished against today's definition of it.

    Raises:
        DatabaseNotReady: the database does not answer or is not upgraded.
    """
    definitions = _Definitions(engine)
    with clear_errors(_database(engine)):
        for header in _headers(engine, everything=False):
            yield _check(engine, definitions, header)


def rebuild(engine: Engine) -> Iterator[Verdict]:
    """Make every saga's row in the index say what its log says.

    Raises:
        DatabaseNotReady: the database does not answer or is not upgraded.
    """
    definitions = _Definitions(engine)
    with clear_errors(_database(engine)):
        for header in _headers(engine, everything=True):
            yield _rebuild(engine, definitions, header)


def count(engine: Engine, *, everything: bool) -> int:
    """How many sagas ``check`` looks at, or with ``everything`` those ``rebuild`` looks at."""
    with clear_errors(_database(engine)), _database(engine).link() as link:
        return search.count_sagas(link, everything=everything)


def summarize(verdicts: Iterable[Verdict]) -> Summary:
    """Take in verdicts one by one; of those that share a problem, only the first is kept."""
    checked = changed = 0
    found: dict[tuple[str, str, str], Mismatch] = {}
    for verdict in verdicts:
        checked += 1
        changed += verdict.changed
        if verdict.problem is not None:
            key = (verdict.header.name, verdict.header.fingerprint, verdict.problem)
            known = found.get(key) or Mismatch(*key, 0, verdict.header.id)
            found[key] = replace(known, count=known.count + 1)
    return Summary(checked, changed, sorted(found.values(), key=lambda mismatch: -mismatch.count))


def _database(engine: Engine) -> Database:
    """The database behind an engine: this repairs rows of Postgres."""
    assert isinstance(engine.store, PostgresStore)
    return engine.store.database


class _Definitions:
    """The definitions that the walk meets, each looked at once."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._known: dict[str, tuple[Outline, str | None]] = {}

    def of(self, header: Header) -> tuple[Instance, str | None]:
        """A saga with the definition it was started with, and why no worker goes on with it today.

        Raises:
            CorruptLog: its definition cannot be read.
        """
        if header.fingerprint not in self._known:
            stored = self._engine.definition_of(header)
            self._known[header.fingerprint] = stored, self._objection(header, stored)
        stored, objection = self._known[header.fingerprint]
        return Instance(header.id, stored, None), objection

    def _objection(self, header: Header, stored: Outline) -> str | None:
        catalog = self._engine.catalog
        if catalog.by_fingerprint(header.fingerprint) is not None:
            return None
        today = catalog.get(header.name)
        if today is None:
            return f"no saga {header.name!r} is registered any more"
        return f"it is defined differently today: {stored.difference(today.outline)}"


def _headers(engine: Engine, *, everything: bool) -> Iterator[Header]:
    after: UUID | None = None
    while True:
        with _database(engine).link() as link:
            page = search.sagas_in_flight(link, after, _PAGE, everything=everything)
        yield from page
        if len(page) < _PAGE:
            return
        after = page[-1].id


def _check(engine: Engine, definitions: _Definitions, header: Header) -> Verdict:
    try:
        instance, objection = definitions.of(header)
        if objection is None:
            instance.replay(_read(engine, header, 0))
        return Verdict(header, objection)
    except CorruptLog as error:
        return Verdict(header, _without_id(error, header))


def _rebuild(engine: Engine, definitions: _Definitions, header: Header) -> Verdict:
    try:
        instance, _ = definitions.of(header)
        state = instance.replay(_read(engine, header, 0))
        if (header.status, header.reason) == (state.status, state.headline):
            return Verdict(header)
        return Verdict(header, changed=_put_right(engine, instance, header, state))
    except CorruptLog as error:
        return Verdict(header, _without_id(error, header))


def _put_right(engine: Engine, instance: Instance, header: Header, state: State) -> bool:
    """Write what the log says. Do it again if an entry came in between, for this would have overwritten its status."""
    changed = _write(engine, header.id, state)
    while newer := _read(engine, header, state.seq):
        state = instance.replay(newer, state)
        changed |= _write(engine, header.id, state)
    return changed


def _write(engine: Engine, saga_id: UUID, state: State) -> bool:
    with _database(engine).link() as link:
        return log.rebuild_header(link, saga_id, NewStatus(str(state.status), state.headline, state.status.terminal))


def _read(engine: Engine, header: Header, after: int) -> Sequence[Entry]:
    return engine.store.entries(header.id, after=after)


def _without_id(error: CorruptLog, header: Header) -> str:
    """A problem in words without an id, the same for every saga that has it."""
    problem = str(error).removeprefix(f"saga {header.id}").lstrip(",: ")
    return problem if problem.startswith("its definition") else f"its log is damaged: {problem}"
