"""Ids are ordered by time, so that new rows lie together."""

from __future__ import annotations

import time

import pytest

from saga.client.ids import uuid7


def test_an_id_is_a_uuid_of_version_7():
    found = uuid7()
    assert found.version == 7
    assert found.variant == "specified in RFC 4122"


def test_ids_are_all_different():
    assert len({uuid7() for _ in range(10_000)}) == 10_000


def test_an_id_starts_with_its_millisecond(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(time, "time_ns", lambda: 1_767_268_800_123_456_789)
    assert uuid7().int >> 80 == 1_767_268_800_123


def test_a_later_id_is_greater(monkeypatch: pytest.MonkeyPatch):
    clock = iter(range(10**18, 10**18 + 10**9, 10**6))
    monkeypatch.setattr(time, "time_ns", lambda: next(clock))
    found = [uuid7() for _ in range(100)]
    assert found == sorted(found)
