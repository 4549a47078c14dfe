"""The takeouts stay true: what they take out is there, and every promise has one."""

from __future__ import annotations

import re

import pytest

from takeouts.takeout import ROOT, Takeout, places, read

TAKEOUTS = read()


@pytest.mark.parametrize("takeout", TAKEOUTS, ids=lambda takeout: takeout.behaviour)
def test_what_is_taken_out_is_there_once_and_its_tests_exist(takeout: Takeout) -> None:
    for edit in takeout.edits:
        assert (ROOT / edit.file).read_text().count(edit.find) == 1
        assert edit.put != edit.find
    assert set(takeout.tests) <= set(places())


def test_every_promise_names_tests_that_fail_without_it() -> None:
    page = (ROOT / "docs/guarantees.md").read_text()
    promised = set(re.findall(r"`(test_\w+)`", page))
    assert promised == {test for takeout in TAKEOUTS for test in takeout.tests}
