"""Faults: the demo's bad luck, the same for the same seed. Without SHOP_FAULTS in the environment there is none."""

from __future__ import annotations

import os
import random

SEED = "SHOP_FAULTS"
COURIER_TAKES = 0.02
"""Seconds a courier takes to answer; long enough for a worker to be killed meanwhile."""


def card_declined(number: int) -> bool:
    """One card in twenty is declined."""
    return _happens("card", number, 0.05)


def answer_lost(number: int) -> bool:
    """One courier in ten does not answer the first attempt."""
    return _happens("courier", number, 0.10)


def _happens(what: str, number: int, probability: float) -> bool:
    seed = os.environ.get(SEED)
    return seed is not None and random.Random(f"{seed}/{what}/{number}").random() < probability
