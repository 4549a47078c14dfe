"""Parts: what a saga that is a part of another tells it; within a transaction."""

from __future__ import annotations

from saga.core.ref import Parent
from saga.core.rows import Dispatch
from saga.core.state import Status
from saga.store.memory.tables import Transaction
from saga.store.values import Header, NewStatus


def tell_parent(
    within: Transaction, parent: Parent | None, header: Header, status: NewStatus, *, sent: bool = True
) -> tuple[Dispatch, ...]:
    """Make the lane due in which its parent waits for what the new status of a saga says; returns the message.

    Args:
        sent: it is sent by who asks, and not by the relay.
    """
    rows = None if parent is None else within.take(parent.saga_id)
    work = None if rows is None or parent is None else rows.work.get(parent.lane)
    if rows is None or work is None or parent is None or not work.free or work.attempt is not None:
        return ()
    about = f"child {header.id}"
    stuck = status.status == Status.STUCK
    if status.status not in _ENDED and not stuck and not (work.problem or "").startswith(about):
        return ()
    problem = f"{about} ({header.name}) is stuck" + ("" if status.reason is None else f": {status.reason}")
    now = within.tables.now
    rows.change(work.lane, due_at=within.tables.at_once, sent=now if sent else None, dispatches=int(sent),
                problem=problem if stuck else None)  # fmt: skip
    return (Dispatch(parent.saga_id, work.lane, work.queue, work.priority),)


_ENDED = [status for status in Status if status.terminal]
