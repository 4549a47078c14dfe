"""The check of the database's clock."""

from __future__ import annotations

from collections.abc import Iterator

from saga.errors import DatabaseNotReady
from saga.ops.doctor.finding import Finding, Level
from saga.store.postgres import clock
from saga.store.postgres.database import Database
from saga.store.postgres.errors import clear_errors


def examine_clock(database: Database) -> Iterator[Finding]:
    """The database's clock is not behind what the log has seen."""
    try:
        with clear_errors(database), database.link() as link:
            lead = clock.read_lead(link)
    except DatabaseNotReady:
        return  # said already
    if lead > clock.STEP:
        yield Finding(
            Level.WARNING,
            f"the database's clock has stepped back: the log's newest entry is of {lead:,.0f} s from now. Times that were set "
            "longer before the step than it is long, and entries that are older or newer than they look, are off by it",
            "compare the clocks of the database's servers, standbys too, and let them be kept by NTP, which slews them; "
            "a relay that runs sets right what was set just before",
        )
