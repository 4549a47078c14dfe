"""What the log does not keep of the texts of errors."""

from __future__ import annotations

import pytest

from saga.config import Settings
from saga.core.events import AttemptFailed, AttemptSucceeded, LateResult
from saga.errors import DefinitionError
from saga.worker.report import redacted

FAILED = AttemptFailed("main", "pay", 1, error="ValueError: card 4242", traceback="pay('4242')\nValueError: card 4242")


def mask(text: str) -> str:
    return text.replace("4242", "****")


def test_text_and_traceback_of_an_error_go_through_it():
    event = redacted(FAILED, mask)
    assert (event.error, event.traceback) == ("ValueError: card ****", "pay('****')\nValueError: card ****")


def test_evidence_of_a_late_attempt_goes_through_it():
    assert redacted(LateResult("main", "pay", 1, error="card 4242"), mask).error == "card ****"


def test_nothing_changes_where_there_is_no_text_or_no_function():
    done = AttemptSucceeded("main", "pay", 1, result="4242")
    assert redacted(done, mask) is done
    assert redacted(FAILED, None) is FAILED


def fails(text: str) -> str:
    raise ValueError(text)


def says_nothing(_: str) -> None: ...


@pytest.mark.parametrize("broken", [fails, says_nothing])
def test_where_it_fails_nothing_of_the_text_is_kept(broken, caplog: pytest.LogCaptureFixture):
    event = redacted(FAILED, broken)
    assert "4242" not in f"{event}{caplog.text}"
    assert event.error.startswith("<left out: saga_redact failed: ")


def test_it_is_given_as_a_function_or_by_its_place(monkeypatch: pytest.MonkeyPatch):
    assert Settings.load({"saga_redact": mask}).redact is mask
    monkeypatch.setenv("SAGA_REDACT", f"{__name__}:mask")
    assert Settings.load({}).redact("4242") == "****"
    monkeypatch.setenv("SAGA_REDACT", "no.such:thing")
    with pytest.raises(DefinitionError, match="setting saga_redact"):
        Settings.load({})
