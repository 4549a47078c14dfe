"""Ids: time-ordered UUIDs, so that new rows lie together. The time in them decides nothing."""

from __future__ import annotations

import os
import time
from uuid import UUID


def uuid7() -> UUID:
    """A UUID of version 7 (RFC 9562): 48 bits of milliseconds, then random bits."""
    millis = time.time_ns() // 1_000_000
    rand = int.from_bytes(os.urandom(10), "big")
    high = (rand >> 62) & 0xFFF
    low = rand & 0x3FFF_FFFF_FFFF_FFFF
    return UUID(int=(millis & 0xFFFF_FFFF_FFFF) << 80 | 0x7 << 76 | high << 64 | 0b10 << 62 | low)
