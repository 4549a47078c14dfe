"""What the pages show that is read from the code, so that they cannot say something else than it does.

Each is a pure function that returns Markdown, or for the diagram SVG; `directives` makes them known to Sphinx.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterator, Mapping, Sequence

import click

from saga.cli.root import SECTIONS, saga
from saga.config import Settings
from saga.core.machine import TRANSITIONS
from saga.core.state import Status, StepStatus
from saga.language.wiring import RESERVED
from saga.telemetry import signals

# --- what the code does not say in words ------------------------------------------------------------------------------

TRIGGERS: Mapping[str, str] = {
    "started": "a worker claimed the attempt; the entry is written before your code runs",
    "succeeded": "the task returned, and its result is stored",
    "retry": "the attempt failed, and the retry policy allows another",
    "aborted": "it failed for good, and no attempt can have had an effect",
    "unknown": "it failed for good, and some attempt may have had its effect",
    "failed": "an undo failed for good",
    "timed out": "the deadline passed; the retry policy is asked next",
    "lost": "the worker is gone; the retry policy is asked next",
    "interrupted": "the worker was told to stop and gave the step back; this costs no attempt",
    "rollback": "the saga rolls back while the step waits for its retry: no further attempt is made",
    "rollback, no effect": "the same, and no attempt can have had an effect",
    "retry requested": "an operator gave it a fresh budget",
    "skipped": "an operator says that it was done by hand",
    "abandoned": "an operator abandons the saga: nobody will know whether it had its effect",
    "abandoned, no effect": "the same, and no attempt can have had an effect",
    "cancelled in doubt": "an operator cancels while it is in doubt: it did not happen",
}
GIVEN_UP = "the worker that was sleeping through the wait gave it up, or is gone; the due time stays"
STATUSES: Mapping[Status, str] = {
    Status.RUNNING: "It goes forward. A step may be running, waiting for its retry, or waiting for a worker.",
    Status.PAUSED: "An operator paused it. What runs comes to its end; nothing new starts.",
    Status.COMPENSATING: "It goes backward: open actions are awaited, then what is owed is undone.",
    Status.COMPLETED: "Every step is done. It can still be compensated, if it has no pivot.",
    Status.COMPENSATED: "It was rolled back, and no undo is owed.",
    Status.STUCK: "It cannot go on without an operator. It is not finished.",
    Status.ABANDONED: "An operator ended it without undoing more. What it still owes is listed, and nobody undoes it.",
}
WORDS: Mapping[str, str] = {
    "input": "the whole input, as its declared type",
    "idempotency_key": "the key of this action, undo or confirmation, the same on every attempt; in a check, that of the action",
    "action_key": "the key of the action; in an undo or a confirmation, that of what it undoes or confirms",
    "error": "in an undo: why the saga is rolled back; in the `otherwise` of a `Try`: why it came to that",
    "result": "in an undo or a confirmation: what its own action returned, `None` if the outcome is unknown",
    "connection": "in a transactional step: a SQLAlchemy `Connection` in the log's transaction",
    "session": "in a transactional step: a SQLAlchemy `Session` in the log's transaction",
}

# --- tables -----------------------------------------------------------------------------------------------------------


def settings_table() -> str:
    """Every setting, with its default and its docstring."""
    rows = []
    for field, text in _attribute_docs(Settings).items():
        info = Settings.model_fields[field]
        name = info.alias or field
        rows.append((f"`saga_{name}`", f"`SAGA_{name.upper()}`", f"`{info.default!r}`", text))
    return table(("setting", "environment", "default", "meaning"), rows)


def transitions_table() -> str:
    """Every transition of a step."""
    rows = [
        (f"`{source}`", trigger, f"`{target}`", _meaning(source, trigger))
        for (source, trigger), target in TRANSITIONS.items()
    ]
    return table(("from", "what happens", "to", "meaning"), rows)


def _meaning(source: StepStatus, trigger: str) -> str:
    ended = trigger in ("lost", "timed out", "interrupted")
    return GIVEN_UP if ended and source is StepStatus.WAITING else TRIGGERS[trigger]


def statuses_table() -> str:
    """Every status of a saga."""
    return table(("status", "meaning"), [(f"`{status}`", STATUSES[status]) for status in Status])


def reserved_words_table() -> str:
    """Every parameter name that means the same in every saga."""
    return table(("parameter", "value"), [(f"`{word}`", WORDS[word]) for word in RESERVED])


def signals_table() -> str:
    """Every signal with its keywords."""
    found = [(name, value) for name, value in vars(signals).items() if isinstance(value, signals.Signal)]
    rows = [(f"`{name}`", ", ".join(f"`{word}`" for word in sorted(value.providing_args))) for name, value in found]
    return table(("signal", "keywords"), rows)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


def _attribute_docs(kind: type) -> dict[str, str]:
    """The text below each annotated attribute of a class."""
    body = ast.parse(textwrap.dedent(inspect.getsource(kind))).body[0]
    assert isinstance(body, ast.ClassDef)
    found = {}
    for item, following in zip(body.body, body.body[1:], strict=False):
        if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name) and isinstance(following, ast.Expr):
            found[item.target.id] = str(ast.literal_eval(following.value)).replace("``", "`")
    return found


# --- the command line -------------------------------------------------------------------------------------------------


def command_line() -> str:
    """Every command, with its help and its parameters."""
    context = click.Context(saga, info_name="saga")
    parts = []
    for title, commands in SECTIONS.items():
        parts.append(f"## {title}")
        for name in commands:
            command = saga.get_command(context, name)
            assert command is not None
            parts += _command(command, f"saga {name}")
    return "\n\n".join(parts)


def _command(command: click.Command, name: str) -> Iterator[str]:
    if isinstance(command, click.Group):
        yield f"### `{name}`"
        yield _help(command)
        for inner in command.commands.values():
            yield from _command(inner, f"{name} {inner.name}")
        return
    context = click.Context(command, info_name=name)
    yield f"### `{name}`"
    yield f"```text\n{' '.join([name, *command.collect_usage_pieces(context)])}\n```"
    yield _help(command)
    rows = [_option(option) for option in command.params if isinstance(option, click.Option)]
    if rows:
        yield table(("option", "meaning"), rows)


def _help(command: click.Command) -> str:
    """The help text; what click keeps unwrapped, after a line with a backspace, is an example."""
    paragraphs = inspect.cleandoc(command.help or "").split("\n\n")
    return "\n\n".join(_example(text) if text.startswith("\b") else " ".join(text.split("\n")) for text in paragraphs)


def _example(text: str) -> str:
    return f"```console\n{textwrap.dedent(text.split(chr(10), 1)[1])}\n```"


def _option(option: click.Option) -> tuple[str, str]:
    context = click.Context(click.Command("nothing"))
    spelled, text = option.get_help_record(context) or (", ".join(option.opts), "")
    return f"`{spelled}`", text


# --- the diagram ------------------------------------------------------------------------------------------------------

_COLUMN, _ROW, _TOP, _MARGIN = 112, 30, 54, 62


def transitions_diagram() -> str:
    """A ladder: each status is a line, each transition an arrow from one line to another. Any table can be drawn."""
    columns = {status: _MARGIN + index * _COLUMN for index, status in enumerate(StepStatus)}
    rungs: dict[tuple[StepStatus, StepStatus], list[str]] = {}
    for (source, trigger), target in TRANSITIONS.items():
        rungs.setdefault((source, target), []).append(trigger)
    width, height = max(columns.values()) + _MARGIN, _TOP + len(rungs) * _ROW + 10
    opening = (
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="The transitions of a step" '
        'style="width: 100%; height: auto; font: 12px sans-serif" fill="currentColor" stroke="none">'
    )
    arrowhead = (
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" markerHeight="8" '
        'orient="auto-start-reverse"><path d="M0 0 L8 4 L0 8 z"/></marker></defs>'
    )
    parts = [opening, arrowhead]
    for status, x in columns.items():
        parts.append(f'<line x1="{x}" y1="32" x2="{x}" y2="{height}" stroke="currentColor" stroke-opacity=".25"/>')
        parts.append(f'<rect x="{x - 46}" y="6" width="92" height="26" rx="5" fill="none" stroke="currentColor"/>')
        parts.append(f'<text x="{x}" y="23" text-anchor="middle" font-weight="600">{status}</text>')
    for index, ((source, target), triggers) in enumerate(rungs.items()):
        parts += _rung(columns[source], columns[target], _TOP + index * _ROW + 10, " / ".join(triggers), width)
    return "\n".join([*parts, "</svg>"])


def _rung(start: int, end: int, y: int, label: str, width: int) -> Iterator[str]:
    style = 'fill="none" stroke="currentColor" marker-end="url(#tip)"'
    if start == end:
        yield f'<path d="M{start} {y - 6} h22 v10 h-19" {style}/>'
        yield f'<text x="{start + 28}" y="{y + 3}">{label}</text>'
        return
    yield f'<circle cx="{start}" cy="{y}" r="2.5"/>'
    yield f'<path d="M{start} {y} H{end - 3 if end > start else end + 3}" {style}/>'
    # The label stands above the arrow, at its tail, and stays inside the picture.
    room = len(label) * 6.3
    x = start + 6 if end > start else start - 6
    anchor = "start" if end > start else "end"
    if end > start and start + room > width:
        x, anchor = end - 6, "end"
    elif end < start and start - room < 0:
        x, anchor = end + 10, "start"
    yield f'<text x="{x}" y="{y - 4}" text-anchor="{anchor}">{label}</text>'
