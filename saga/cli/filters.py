"""Filters: which sagas a command is about."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import wraps
from typing import Any

import click

from saga.cli.types import tags_of, time
from saga.client.handle import Handle
from saga.client.orchestrator import Orchestrator
from saga.core.state import Status

_PAGE = 200


@dataclass(frozen=True, slots=True)
class Filter:
    """What the options say; a saga has to match all that is given."""

    saga: str | None
    statuses: Sequence[str]
    key: str | None
    tags: Any
    since: datetime | None
    until: datetime | None
    parked: bool = False

    @property
    def given(self) -> bool:
        """Whether there is any option."""
        return any((self.saga, self.statuses, self.key, self.tags, self.since, self.until, self.parked))

    def page(
        self, orchestrator: Orchestrator, limit: int, after: Handle | str | None, statuses: Sequence[str] = ()
    ) -> list[Handle]:
        """One page of the sagas that match, newest first.

        Args:
            after: the last of the page before.
            statuses: those to look at where the options name none.
        """
        return orchestrator.find(
            saga=self.saga, status=self.statuses or statuses, key=self.key, tags=self.tags, since=self.since,
            until=self.until, limit=limit, after=after, parked=self.parked,
        )  # fmt: skip

    def pages(self, orchestrator: Orchestrator, statuses: Sequence[str]) -> Iterator[Sequence[Handle]]:
        """All that match, a page at a time, so that they may change meanwhile."""
        after: Handle | None = None
        while page := self.page(orchestrator, _PAGE, after, statuses):
            yield page
            after = page[-1]


_OPTIONS = (
    click.option("--saga", help="Only sagas of this name."),
    click.option(
        "--status",
        "statuses",
        multiple=True,
        type=click.Choice([status.value for status in Status]),
        help="Only in this status; repeat it.",
    ),
    click.option("--key", help="Only the saga started with this key."),
    click.option("--tag", "tags", multiple=True, metavar="K=V", help="Only with this tag; repeat it."),
    click.option("--since", type=time, help="Only started then or later: 2026-07-01, or 2h for two hours ago."),
    click.option("--until", type=time, help="Only started before."),
    click.option("--parked", is_flag=True, help="Only with work that waits for longer than it should."),
)


def filter_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options of a filter; it gets them as ``chosen``."""

    @wraps(command)
    def with_filter(*args: Any, saga: str | None, statuses: Sequence[str], key: str | None, tags: Sequence[str],
                    since: datetime | None, until: datetime | None, parked: bool, **options: Any) -> Any:  # fmt: skip
        chosen = Filter(saga, [str(word) for word in statuses], key, tags_of(tags), since, until, parked)
        return command(*args, chosen=chosen, **options)

    for option in reversed(_OPTIONS):
        option(with_filter)
    return with_filter
