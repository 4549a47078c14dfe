"""``doctor``: what in the configuration is unsafe."""

from __future__ import annotations

import sys
from dataclasses import asdict

import click

from saga.cli.context import Context, pass_context
from saga.cli.output import json_option, print_json, print_table
from saga.doctor import Level, examine


@click.command("doctor")
@json_option
@pass_context
def doctor_command(context: Context, as_json: bool) -> None:
    """Check the settings of Celery and Postgres.

    Names each unsafe one with its remedy. Exits with 1 if any is bad; warnings and notes (what has no effect in a saga) are only shown.
    """
    findings = examine(context.orchestrator)
    healthy = all(finding.level is not Level.BAD for finding in findings)
    if as_json:
        print_json({"healthy": healthy, "findings": [asdict(finding) for finding in findings]})
    else:
        print_table(("level", "what", "remedy"), [(each.level, each.what, each.remedy) for each in findings])
        click.echo("\nnothing is bad" if healthy else "\nit is not safe like this")
    sys.exit(0 if healthy else 1)
