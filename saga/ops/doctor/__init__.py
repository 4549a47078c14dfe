"""Doctor: what in the configuration of Celery and Postgres is unsafe for sagas, or has no effect on them, with remedies.

Each check is a small generator of findings; nothing here prints.
"""

from __future__ import annotations

from saga.client.orchestrator import Orchestrator
from saga.errors import DatabaseNotReady
from saga.ops.doctor.clock import examine_clock
from saga.ops.doctor.finding import Finding, Level
from saga.ops.doctor.server import examine_server
from saga.ops.doctor.settings import SETTINGS_CHECKS
from saga.ops.doctor.steps import STEP_CHECKS
from saga.ops.doctor.workers import examine_workers

__all__ = ["Finding", "Level", "examine"]


def examine(orchestrator: Orchestrator) -> list[Finding]:
    """All findings about an orchestrator's app, its broker and its database, the worst first.

    It waits a few seconds at most for the broker and its workers to answer, and ten for a database.
    """
    findings = [finding for check in SETTINGS_CHECKS for finding in check(orchestrator.app)]
    try:
        engine = orchestrator.engine
    except DatabaseNotReady as error:
        findings.append(Finding(Level.BAD, str(error), "name the database of the saga log"))
    else:
        findings += [finding for check in STEP_CHECKS for finding in check(orchestrator.app, engine.catalog)]
        server = list(examine_server(orchestrator.app, orchestrator.database))
        findings += server
        if all(finding.level is not Level.BAD for finding in server):  # else there may be no table to ask
            findings += examine_clock(orchestrator.database)
            findings += examine_workers(orchestrator.app, engine.catalog, orchestrator.database)
    return sorted(findings, key=lambda finding: list(Level).index(finding.level))
