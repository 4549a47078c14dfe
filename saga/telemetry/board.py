"""Board: what the processes of a worker show of the attempts they make, for its main process to read.

Celery's commands are answered by the worker's main process, which handed a message to its pool and does not see what
becomes of it. The board is memory that is shared with every process forked later. Each process of the pool writes into
a part that is its own: into a slot what it runs, into cells how many attempts of each task it has begun. So nothing is
locked between processes. A process that takes the place of a dead one takes its part, and its cells count on.
"""

from __future__ import annotations

import mmap
import os
import struct
import threading
import time
from collections import Counter
from collections.abc import Container, Iterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from billiard.process import current_process
from celery import Celery

from saga.telemetry.facts.attempts import AttemptBegan, AttemptLeft
from saga.telemetry.stream import subscribe

_ATTRIBUTE = "saga_board"
_RECORD = struct.Struct("=16s16sdqiI")
_WORD = 8
_CELL = 256
"""Bytes: eight of the count, one of the name's length, and the name."""
_LONGEST_NAME = _CELL - _WORD - 1
_SERIALS = 2**32


@dataclass(frozen=True, slots=True)
class Shown:
    """An attempt that a process makes.

    Attributes:
        task: the name of the step's own task; its first 247 bytes.
        began: seconds since 1970.
        carrier: the mark of the message that brought it, as ``mark_of`` gives it.
    """

    task: str
    task_id: UUID
    saga_id: UUID
    attempt: int
    began: float
    pid: int
    carrier: int


class Board:
    """Attempts under way, and counts of those begun. Make it before the pool forks.

    Args:
        processes: how many at most write on it. One beyond that shows nothing.
        at_once: how many attempts a process shows at a time; more are counted, but not shown.
        tasks: how many names a process counts; attempts of further tasks are neither counted nor shown.
    """

    def __init__(self, processes: int, at_once: int, tasks: int = 256) -> None:
        self._processes, self._at_once, self._tasks = processes, at_once, tasks
        slots = processes * at_once
        self._marks = memoryview(mmap.mmap(-1, slots * _WORD)).cast("Q")
        self._records = memoryview(mmap.mmap(-1, slots * _RECORD.size))
        self._cells = memoryview(mmap.mmap(-1, processes * tasks * _CELL))
        self._counts = self._cells.cast("Q")
        # Held by the threads of a pool of threads only: a process that forks its pool begins no attempt.
        self._lock = threading.Lock()
        self._maker = os.getpid()
        self._pid: int | None = None
        self._first_cell: int | None = None
        self._cell_of: dict[str, int | None] = {}
        self._free: list[int] = []
        self._slots: dict[int, int | None] = {}
        self._serial = 0

    @staticmethod
    def of(app: Celery) -> Board | None:
        """The board of an app's worker; ``None`` where nobody asks for it."""
        return getattr(app, _ATTRIBUTE, None)

    def hang_up(self, app: Celery) -> None:
        """Make it the board of an app's worker."""
        setattr(app, _ATTRIBUTE, self)

    # --- the processes that make attempts -----------------------------------------------------------------------------

    def begin(self, task: str, task_id: UUID, saga_id: UUID, attempt: int, carrier_id: str | None) -> int | None:
        """Count an attempt and show it.

        Returns:
            what ``end`` is to be given; ``None`` where there was no room to show it.
        """
        with self._lock:
            pid = os.getpid()
            if self._pid != pid:
                self._take_part(pid)
            cell = self._cell_of[task] if task in self._cell_of else self._add(task)
            if cell is None:
                return None
            self._counts[cell * _CELL // _WORD] += 1
            if not self._free:
                return None
            slot = self._free.pop()
            self._serial = (self._serial + 1) % _SERIALS
            mark = pid * _SERIALS + self._serial
        record = (task_id.bytes, saga_id.bytes, time.time(), mark_of(carrier_id), attempt, cell)
        _RECORD.pack_into(self._records, slot * _RECORD.size, *record)
        self._marks[slot] = mark
        return slot

    def end(self, slot: int | None) -> None:
        """Show an attempt no more."""
        # A process that a step has forked may come here with its parent's slot.
        if slot is not None and self._pid == os.getpid():
            self._marks[slot] = 0
            self._free.append(slot)

    def show(self, fact: AttemptBegan) -> None:
        """Do so for an attempt that began."""
        name = fact.attempt
        carrier_id = getattr(fact.carrier, "id", None)
        self._slots[fact.task_id.int] = self.begin(fact.task, fact.task_id, name.saga_id, name.ref.attempt, carrier_id)

    def hide(self, fact: AttemptLeft) -> None:
        """Show it no more."""
        self.end(self._slots.pop(fact.began.task_id.int, None))

    def _take_part(self, pid: int) -> None:
        """Take the part of this process, which is that of its place in the pool: no two living ones have the same."""
        forked = pid != self._maker
        place = getattr(current_process(), "index", 0) if forked else 0
        self._cell_of, self._free, self._first_cell = {}, [], None
        if place < self._processes:
            self._first_cell = place * self._tasks
            self._free = list(range(place * self._at_once, (place + 1) * self._at_once))
            for slot in self._free:
                self._marks[slot] = 0
        self._pid = pid

    def _add(self, task: str) -> int | None:
        name = _clipped(task)
        first = self._first_cell
        cells = () if first is None else range(first, first + self._tasks)
        found = next((cell for cell in cells if self._name(cell) in (name, b"")), None)
        if found is not None:
            at = found * _CELL + _WORD
            self._cells[at + 1 : at + 1 + len(name)] = name
            self._cells[at] = len(name)  # last: who reads meanwhile sees the name whole, or none
        self._cell_of[task] = found
        return found

    # --- the process that is asked ------------------------------------------------------------------------------------

    def under_way(self, processes: Container[int]) -> list[Shown]:
        """The attempts that some processes make; what dead ones left behind is passed over."""
        marked = [(slot, mark) for slot, mark in enumerate(self._marks) if mark and mark // _SERIALS in processes]
        return [shown for slot, mark in marked if (shown := self._read(slot, mark)) is not None]

    def counts(self) -> Counter[str]:
        """How many attempts have begun, by the names of their tasks."""
        found: Counter[str] = Counter()
        for place in range(self._processes):
            for cell in self._named_cells(place * self._tasks):
                found[self._task(cell)] += self._counts[cell * _CELL // _WORD]
        return found

    def _read(self, slot: int, mark: int) -> Shown | None:
        at = slot * _RECORD.size
        record = bytes(self._records[at : at + _RECORD.size])
        if self._marks[slot] != mark:
            return None  # it ended while it was read
        task_id, saga_id, began, carrier, attempt, cell = _RECORD.unpack(record)
        task = self._task(cell)
        return Shown(task, UUID(bytes=task_id), UUID(bytes=saga_id), attempt, began, mark // _SERIALS, carrier)

    def _named_cells(self, first: int) -> Iterator[int]:
        for cell in range(first, first + self._tasks):
            if not self._cells[cell * _CELL + _WORD]:
                return
            yield cell

    def _task(self, cell: int) -> str:
        return self._name(cell).decode(errors="replace")

    def _name(self, cell: int) -> bytes:
        at = cell * _CELL + _WORD
        return bytes(self._cells[at + 1 : at + 1 + self._cells[at]])


def _show(fact: AttemptBegan) -> None:
    board = Board.of(fact.app)
    if board is not None:
        board.show(fact)


def _hide(fact: AttemptLeft) -> None:
    board = Board.of(fact.began.app)
    if board is not None:
        board.hide(fact)


subscribe(AttemptBegan, _show)
subscribe(AttemptLeft, _hide)


def mark_of(carrier_id: Any) -> int:
    """A number for a message's id: the same in a process and in those forked from it, and nowhere else; 0 for none."""
    return hash(carrier_id) if isinstance(carrier_id, str) else 0


def _clipped(task: str) -> bytes:
    name = task.encode(errors="replace")[:_LONGEST_NAME]
    return name.decode(errors="ignore").encode() or b"?"
