"""What waiting work is said to wait for."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from saga.client.diagnosis import obstacle, reason
from saga.store.postgres.fleet import About, Member, Waiting

ABOUT = About("shop", "celery@a", "a", 1, "1", True, ("celery",), ("known",))
WORKER = Member(1, ABOUT, datetime.now(UTC), alive=True)
WAITING = Waiting("celery", "known", "order", "shop", None, sent=True, lanes=1, seconds=10.0)


def member(*, alive: bool = True, **about: object) -> Member:
    return replace(WORKER, alive=alive, about=replace(ABOUT, **about))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("waiting", "members", "why"),
    [
        (replace(WAITING, problem="it is damaged"), [WORKER], "it is damaged"),
        (WAITING, [], "no worker is alive"),
        (WAITING, [member(alive=False)], "no worker is alive"),
        (WAITING, [member(queues=(), fingerprints=())], "no worker is alive"),
        (WAITING, [member(realm="other")], "no worker is alive in realm 'shop'"),
        (WAITING, [member(fingerprints=())], "no living worker knows saga 'order'"),
        (replace(WAITING, saga=None), [member(fingerprints=("x",))], "no living worker knows saga of that definition"),
        (
            WAITING,
            [member(queues=("other",)), member(fingerprints=())],
            "no living worker that knows saga 'order' listens to queue 'celery'",
        ),
        (replace(WAITING, sent=False), [member(relays=False)], "no relay is alive to send its message"),
    ],
)
def test_an_obstacle_is_named(waiting: Waiting, members: list[Member], why: str):
    assert obstacle(waiting, members) == why
    assert reason(waiting, members) == why


@pytest.mark.parametrize(
    ("waiting", "members", "why"),
    [
        (WAITING, [WORKER], "one process could run it, but all are busy, or its message has not come through"),
        (
            replace(WAITING, realm=""),
            [WORKER, WORKER],
            ("2 processes could run it, but all are busy, or its message has not come through"),
        ),
        (replace(WAITING, sent=False), [WORKER], "the relay has not sent its message yet"),
    ],
)  # fmt: skip
def test_what_somebody_could_take_is_held_up_by_no_obstacle(waiting: Waiting, members: list[Member], why: str):
    assert obstacle(waiting, members) is None
    assert reason(waiting, members) == why
