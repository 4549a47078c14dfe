"""Doctor: what in the configuration of Celery and Postgres is unsafe for sagas, or has no effect on them, and the remedy.

Each check is a small generator of findings; nothing here prints.
"""

from __future__ import annotations

from saga.doctor.finding import Finding, Level
from saga.doctor.server import examine_server
from saga.doctor.settings import SETTINGS_CHECKS
from saga.doctor.steps import STEP_CHECKS
from saga.errors import DatabaseNotReady
from saga.orchestrator import Orchestrator

__all__ = ["Finding", "Level", "examine"]


def examine(orchestrator: Orchestrator) -> list[Finding]:
    """Everything there is to say about an orchestrator's app, its broker and its database, the worst first.

    It waits a few seconds at most for a broker that does not answer, and ten for a database.
    """
    findings = [finding for check in SETTINGS_CHECKS for finding in check(orchestrator.app)]
    try:
        engine = orchestrator.engine
    except DatabaseNotReady as error:
        findings.append(Finding(Level.BAD, str(error), "name the database of the saga log"))
    else:
        findings += [finding for check in STEP_CHECKS for finding in check(orchestrator.app, engine.catalog)]
        findings += examine_server(orchestrator.app, engine.database)
    return sorted(findings, key=lambda finding: list(Level).index(finding.level))
