"""``doctor``: what in the configuration is unsafe."""

from __future__ import annotations

import sys
from dataclasses import asdict

import click

from saga.cli.context import Context, pass_context
from saga.cli.output import json_option, print_advice, print_json
from saga.ops.doctor import Level, examine


@click.command("doctor")
@click.option("--strict", is_flag=True, help="Exit with 1 on warnings, too.")
@json_option
@pass_context
def doctor_command(context: Context, strict: bool, as_json: bool) -> None:
    """Check settings and servers, and whether workers live.

    Looks at the settings of Celery and Postgres, at the workers, the relay and what waits. Names what is unsafe, with a
    remedy. Exits with 1 if anything is bad, with --strict also on warnings. Notes (what has no effect in a saga) are only
    shown.
    """
    findings = examine(context.orchestrator)
    healthy = all(finding.level is not Level.BAD for finding in findings)
    passes = healthy and not (strict and any(finding.level is Level.WARNING for finding in findings))
    if as_json:
        print_json({"healthy": healthy, "findings": [asdict(finding) for finding in findings]})
    else:
        print_advice(("level", "what", "remedy"), [(each.level, each.what, each.remedy) for each in findings])
        warned = any(finding.level is Level.WARNING for finding in findings)
        click.echo(f"\n{_verdict(healthy, passes, warned)}")
    sys.exit(0 if passes else 1)


def _verdict(healthy: bool, passes: bool, warned: bool) -> str:
    if not healthy:
        return "it is not safe like this"
    if not passes:
        return "nothing is bad, but there are warnings, and --strict counts them"
    return "nothing is bad, but there are warnings" if warned else "nothing is bad"
