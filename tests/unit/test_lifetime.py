"""How long a lane waits for the others of its message, where the pool replaces its processes."""

from __future__ import annotations

import pytest

from saga.worker.lifetime import Lifetime


@pytest.mark.parametrize(
    ("lifetime", "patience"),
    [
        (Lifetime(), 0.1),
        (Lifetime(messages=1), 1.0),
        (Lifetime(messages=5), 0.2),
        (Lifetime(messages=1000), 0.1),
        (Lifetime(memory=1), 1.0),
        (Lifetime(memory=10**9), 0.1),
        (Lifetime(memory=10**9, messages=2), 0.5),
    ],
)
def test_a_lane_waits_longer_where_a_message_costs_a_process(lifetime: Lifetime, patience: float):
    assert lifetime.patience() == patience
