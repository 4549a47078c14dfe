"""``check`` and ``graph``: what is defined, and whether it fits what is under way."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import asdict

import click
from rich.console import Console
from rich.progress import track

from saga.cli.context import Context, pass_context
from saga.cli.output import json_option, print_json, say
from saga.client.orchestrator import Orchestrator
from saga.errors import UnknownSaga, counted
from saga.language import drawing
from saga.language.definition import Saga
from saga.ops import audit
from saga.ops.audit import Summary, Verdict


@click.command("check")
@click.option("--rebuild", is_flag=True, help="Repair the index of sagas from their logs.")
@json_option
@pass_context
def check_command(context: Context, rebuild: bool, as_json: bool) -> None:
    """Check that today's definitions fit every unfinished saga.

    Run it before a deploy, with the new code: every saga that is not finished is replayed from its log against today's
    definition. Exits with 1 if one does not fit, and says what has changed.

    \b
        saga -A shop.app check
    """
    orchestrator = context.orchestrator
    summary = audit.summarize(_shown(orchestrator, rebuild=rebuild))
    if as_json:
        names = [saga.name for saga in orchestrator.sagas]
        print_json({"definitions": names, **asdict(summary), "changed": summary.changed if rebuild else None})
    else:
        _report(len(orchestrator.sagas), summary, rebuilt=rebuild)
    sys.exit(1 if summary.mismatches else 0)


def _shown(orchestrator: Orchestrator, *, rebuild: bool) -> Iterable[Verdict]:
    """The verdicts one by one, with a progress bar on a terminal."""
    engine = orchestrator.engine
    verdicts = audit.rebuild(engine) if rebuild else audit.check(engine)
    console = Console(stderr=True)
    if not console.is_terminal:
        return verdicts
    total = audit.count(engine, everything=rebuild)
    return track(verdicts, "rebuilding" if rebuild else "replaying", total, console=console, transient=True)


def _report(definitions: int, summary: Summary, *, rebuilt: bool) -> None:
    for each in summary.mismatches:
        say(
            f"{each.name} ({each.fingerprint[:12]}), {counted(each.count, 'saga')}, such as {each.example}: {each.problem}"
        )
    if rebuilt:
        say(f"{counted(summary.checked, 'saga')} read, {counted(summary.changed, 'row')} changed")
    elif not summary.mismatches:
        valid, them = counted(definitions, "definition is", "definitions are"), "it" if definitions == 1 else "them"
        say(f"{valid} valid; {counted(summary.checked, 'saga in flight fits', 'sagas in flight fit')} {them}")


@click.command("graph")
@click.argument("saga")
@click.option("--format", "style", type=click.Choice(["text", "mermaid"]), default="text", show_default=True)
@json_option
@pass_context
def graph_command(context: Context, saga: str, style: str, as_json: bool) -> None:
    """Draw a saga's steps, its pivot and its compensations.

    \b
        saga -A shop.app graph place_order --format mermaid
    """
    found = _named(context.orchestrator, saga)
    outline, children = found.outline, {child.name: child.outline for child in found.children()}
    if as_json:
        print_json({"fingerprint": outline.fingerprint, **outline.to_json()})
    else:
        say(drawing.text(outline, children) if style == "text" else drawing.mermaid(outline))


def _named(orchestrator: Orchestrator, name: str) -> Saga:
    """A registered definition; asking the catalog instead would need a database."""
    known = {saga.name: saga for saga in orchestrator.sagas}
    if name not in known:
        raise UnknownSaga(f"no saga {name!r} is registered; known are: {', '.join(known) or 'none'}")
    return known[name]
