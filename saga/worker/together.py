"""Together: the ends of several attempts recorded in one statement, as far as that can be."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from uuid import UUID

from saga.crashpoints import reach
from saga.engine.draft import Draft, Written
from saga.errors import DatabaseNotReady
from saga.telemetry.facts.sagas import OutcomesUnknown
from saga.telemetry.stream import emit
from saga.worker.attempt import Attempt
from saga.worker.batch import Ended, by_saga, ends_lane
from saga.worker.recorder import REFUSED, Recorder, tell

_TRIES = 10


class Together:
    """Records for a recorder what its threads bring in batches."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    def record_all(
        self, ended: Sequence[Ended], may_continue: Callable[[], bool], *, hold: bool = False, tries: int = 0
    ) -> list[Attempt]:
        """Append how several attempts ended, in one statement where that can be.

        What this does not append, because another entry came first or because the statement failed, is recorded by
        itself, as ``record`` does; the branches of one saga are tried together some times before.
        """
        shares = self._shares(ended, may_continue)
        written, interrupt = self._write_together([draft for draft, _ in shares])
        following: list[Attempt] = []
        for draft, members in shares:
            may = may_continue if interrupt is None else _never
            try:
                if draft is not None and (done := written.get(draft.instance.id)) is not None:
                    following += self._go_on_together([attempt for attempt, _ in members], draft, done)
                elif draft is not None and len(members) > 1 and tries < _TRIES:
                    self._recorder.engine.back_off(tries)
                    members[0][0].state = state = self._recorder.read_on(members[0][0])
                    may = _never if draft.is_too_late(state) else may
                    following += self.record_all(members, may, hold=hold, tries=tries + 1)
                else:
                    following += self._record_each(members, draft, written, may, hold=hold)
            except BaseException as error:
                interrupt = error
                for attempt, _ in members:
                    self._recorder.abandon(attempt)
        self._recorder.raise_once(interrupt, following)
        return following

    def _record_each(
        self, members: Sequence[Ended], draft: Draft | None, written: Mapping[UUID, Written], may: Callable[[], bool],
        *, hold: bool,
    ) -> Iterator[Attempt]:  # fmt: skip
        """Record attempts one by one, from what is known of their sagas by now."""
        for attempt, outcome in members:
            if done := written.get(attempt.saga_id):
                attempt.state = done.state
            elif draft is not None:
                attempt.state = self._recorder.read_on(attempt)
            after = self._recorder.record(attempt, outcome, may, hold=hold)
            if after is not None:
                yield after

    def _shares(
        self, ended: Sequence[Ended], may_continue: Callable[[], bool]
    ) -> list[tuple[Draft | None, list[Ended]]]:
        """What ended, each with the draft that records it; none, where that is to be recorded by itself.

        Of each saga one draft at most: of those attempts after which their lanes are over, or else of its first one.
        """
        if len(ended) == 1:
            return [(None, list(ended))]
        return [share for members in by_saga(ended) for share in self._share(members, may_continue)]

    def _share(
        self, members: Sequence[Ended], may_continue: Callable[[], bool]
    ) -> Iterator[tuple[Draft | None, list[Ended]]]:
        if len(members) > 1:
            newest = max((attempt.state for attempt, _ in members), key=lambda state: state.seq)
            for attempt, _ in members:
                attempt.state = newest
        standing = [each for each in members if each[0].stands]
        sharing = [each for each in standing if len(standing) > 1 and ends_lane(*each)] or standing[:1]
        if sharing:
            yield self._recorder.draft_all(sharing, keep=may_continue()), sharing
        shared = {attempt.ref for attempt, _ in sharing}
        for attempt, outcome in members:
            if attempt.ref not in shared:
                yield None, [(attempt, outcome)]

    def _go_on_together(self, attempts: Sequence[Attempt], draft: Draft, written: Written) -> list[Attempt]:
        """Turn attempts whose end is committed into the one that follows, if one does."""
        first, *others = attempts
        for attempt in others:
            attempt.state = written.state
            tell(attempt, draft)
            self._recorder.forget(attempt)
        following = self._recorder.go_on(first, draft, written)
        return [] if following is None else [following]

    def _write_together(self, given: Sequence[Draft | None]) -> tuple[dict[UUID, Written], BaseException | None]:
        """What was appended, by saga; and what came from outside meanwhile."""
        drafts = [draft for draft in given if draft is not None]
        interrupt: BaseException | None = None
        if not drafts:
            return {}, None
        paths = sorted({"undo" if getattr(draft.events[0], "undo", False) else "run" for draft in drafts})
        try:
            _reach(paths, "before_append")
            written = self._recorder.engine.write_all(drafts)
            _reach(paths, "after_append")
        except BaseException as error:
            if not isinstance(error, (DatabaseNotReady, *REFUSED)):
                interrupt = error
            emit(OutcomesUnknown(len(drafts), error))
            written = [self._recorder.find(draft) for draft in drafts]
        found = zip(drafts, written, strict=True)
        return {draft.instance.id: done for draft, done in found if done is not None}, interrupt


def _reach(paths: Sequence[str], place: str) -> None:
    for path in paths:
        reach(f"{path}.{place}")


def _never() -> bool:
    return False
