"""The documentation says what the code does: programs run, commands, settings and names exist, tables are complete."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import click
import pytest

import saga
from saga import barriers
from saga.cli.root import saga as command_line
from saga.config import Settings
from saga.core.machine import TRANSITIONS
from saga.core.state import Status
from saga.language.wiring import RESERVED
from saga.telemetry import signals

from .house import FLOORS, MODULES

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
PAGES = [README, ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def _extension(name: str) -> Any:
    """A module of the documentation's own."""
    spec = importlib.util.spec_from_file_location(name, ROOT / f"docs/_ext/{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


from_code, house = _extension("from_code"), _extension("house")


def blocks(page: Path, language: str) -> list[str]:
    """The fenced blocks of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)


def programs() -> Iterator[Any]:
    for page in PAGES:
        for number, block in enumerate(blocks(page, "python"), 1):
            yield pytest.param(block, id=f"{page.relative_to(ROOT)}-{number}")


def commands() -> Iterator[Any]:
    """Every line of a console block, and every piece of code in a sentence, that is a command of ours."""
    for page in PAGES:
        text = page.read_text()
        lines = [line for block in blocks(page, "console") for line in block.splitlines()]
        lines += re.findall(r"(?<!`)`(saga [^`]+)`(?!`)", re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S))
        for line in dict.fromkeys(" ".join(line.split()) for line in lines):
            if line.startswith("saga ") and "…" not in line and "COMMAND" not in line:
                yield pytest.param(line, id=f"{page.relative_to(ROOT)}: {line}")


# --- programs ---------------------------------------------------------------------------------------------------------


def test_the_first_program_is_short_and_has_a_compensation() -> None:
    program = blocks(README, "python")[0]
    code = [line for line in program.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    assert len(code) < 20
    assert "compensate=" in program


@pytest.mark.parametrize("program", list(programs()))
def test_a_program_compiles(program: str) -> None:
    ast.parse(program)


def test_the_programs_that_need_nothing_else_run() -> None:
    runnable = [
        param.values[0]
        for param in programs()
        if not re.search(r"^from (shop|django)|DJANGO_SETTINGS_MODULE", param.values[0], re.M)
    ]
    script = "import saga\n" + "\n".join(
        f"names = {{'__name__': 'block{number}'}}; exec(compile({program!r}, 'block {number}', 'exec'), names)\n"
        # A step that is shown alone warns of nothing either, once it is in a saga.
        "[saga.Saga('alone', each) for each in names.values() if isinstance(each, saga.Step)]"
        for number, program in enumerate(runnable)
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


# --- commands ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("line", list(commands()))
def test_a_command_exists_and_takes_these_options(line: str) -> None:
    words = shlex.split(line)[1:]
    context = click.Context(command_line, info_name="saga")
    group: click.Group = command_line
    while words:
        word = words.pop(0)
        if word in ("-A", "--app"):
            words.pop(0)
            continue
        command = group.get_command(context, word)
        assert command is not None, f"there is no command {word!r}"
        if not isinstance(command, click.Group):
            # A bare name is a mention; JSON stands for something that this command would want to read.
            if words and "JSON" not in words:
                command.make_context(word, words, parent=context)
            return
        group = command


def test_every_command_is_in_the_readme() -> None:
    text = README.read_text().split("## The command line")[1].split("##")[0]
    missing = [name for name in command_line.list_commands(click.Context(command_line)) if f"`{name}" not in text]
    assert missing == []


# --- what is read from the code ---------------------------------------------------------------------------------------


def test_every_setting_is_in_the_table_with_its_default() -> None:
    rows = from_code.settings_table().splitlines()[2:]
    expected = [(info.alias or name, repr(info.default)) for name, info in Settings.model_fields.items()]
    assert [(row.split("`")[1], row.split("`")[5]) for row in rows] == [
        (f"saga_{name}", default) for name, default in expected
    ]


def test_every_transition_is_in_the_table_and_in_the_diagram() -> None:
    rows = [
        tuple(cell.strip(" `") for cell in row.split("|")[1:4]) for row in from_code.transitions_table().split("\n")[2:]
    ]
    assert rows == [(str(source), trigger, str(target)) for (source, trigger), target in TRANSITIONS.items()]
    diagram = from_code.transitions_diagram()
    assert all(trigger in diagram for _, trigger in TRANSITIONS)
    assert diagram.count("url(#tip)") == len({(source, target) for (source, _), target in TRANSITIONS.items()})


def test_every_room_is_in_the_picture_and_every_module_in_the_list() -> None:
    picture, listed = house.floors_picture(), house.modules_list()
    assert [room for rooms in FLOORS for room in rooms if room not in picture] == []
    assert picture.count("url(#down)") == sum(map(len, house.nearest(house.uses()).values()))
    assert len(re.findall(r"^- `[\w.]+`: ", listed, re.MULTILINE)) == len(MODULES) - 1  # all but the package itself


def test_what_is_used_by_another_way_is_left_out_of_the_picture_and_nothing_else() -> None:
    found = {"a": {"b", "c"}, "b": {"c"}, "c": set[str](), "d": {"c"}}
    assert house.nearest(found) == {"a": {"b"}, "b": {"c"}, "c": set(), "d": {"c"}}


def test_every_trigger_status_and_reserved_word_is_explained() -> None:
    assert set(from_code.TRIGGERS) == {trigger for _, trigger in TRANSITIONS}
    assert set(from_code.STATUSES) == set(Status)
    assert set(from_code.WORDS) == set(RESERVED)


@pytest.mark.parametrize(
    ("page", "directive"),
    [
        ("concepts.md", "transitions-table"),
        ("concepts.md", "transitions-diagram"),
        ("concepts.md", "statuses-table"),
        ("concepts.md", "reserved-words-table"),
        ("howto/deploy.md", "settings-table"),
        ("reference/settings.md", "settings-table"),
        ("reference/signals.md", "signals-table"),
        ("reference/cli.md", "command-line"),
        ("architecture.md", "floors-table"),
        ("architecture.md", "floors-picture"),
        ("architecture.md", "modules-list"),
    ],
)
def test_a_page_takes_its_table_from_the_code(page: str, directive: str) -> None:
    assert f"```{{{directive}}}" in (ROOT / "docs" / page).read_text()


# --- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", saga.__all__)
def test_a_public_name_is_in_the_reference(name: str) -> None:
    reference = "\n".join(page.read_text() for page in (ROOT / "docs/reference").glob("*.md"))
    if isinstance(getattr(saga, name), signals.Signal):
        reference = from_code.signals_table()
        assert f"`{name}`" in reference
    else:
        assert re.search(rf"^\.\. auto\w+:: saga\.{name}$", reference, re.MULTILINE)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_setting_and_signal_that_is_named_exists(page: Path) -> None:
    known = {f"saga_{info.alias or name}" for name, info in Settings.model_fields.items()}
    known |= {*saga.__all__, "saga_id", barriers.table.name}
    known |= set(re.findall(r"CREATE ROLE (\w+)", (ROOT / "docs/howto/roles.md").read_text()))
    named = set(re.findall(r"\bsaga_[a-z_]+\b", page.read_text()))
    named |= {name.lower() for name in re.findall(r"\bSAGA_[A-Z_]+\b", page.read_text())} - {"saga_app"}
    named -= {"saga_database", "saga_celery_app"}  # of saga.contrib.django
    assert named <= known


@pytest.mark.parametrize("page", PAGES[:2], ids=lambda page: page.name)
def test_every_link_leads_to_a_file(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text())
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_the_changelog_knows_this_version() -> None:
    assert f"## [{saga.__version__}]" in (ROOT / "CHANGELOG.md").read_text()


# --- words ------------------------------------------------------------------------------------------------------------

_HARD_WORDS = r"\b(lest|whoever|whomever|thereof|wherein|whence|hitherto|of which nobody)\b"
"""What a reader of English as a second language stumbles over."""


def test_the_prose_is_in_plain_words() -> None:
    hard: dict[str, list[str]] = {}
    for path in [*PAGES, *MODULES.values()]:
        prose = re.sub(r"`[^`]*`", "", path.read_text()) if path.suffix == ".md" else path.read_text()
        if found := re.findall(_HARD_WORDS, prose, re.IGNORECASE):
            hard[str(path.relative_to(ROOT))] = found
    assert hard == {}


# --- layers -----------------------------------------------------------------------------------------------------------


def test_the_floors_in_contributing_are_those_of_the_code() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    table = text.split("the tests go by it:")[1].split("\n\n")[1]
    assert [re.findall(r"`(\w+)`", row.split("|")[1]) for row in table.splitlines()[2:]] == FLOORS


def test_every_module_opens_with_what_it_holds() -> None:
    silent = [name for name, path in MODULES.items() if not ast.get_docstring(ast.parse(path.read_text()))]
    assert silent == []


# --- how it runs ------------------------------------------------------------------------------------------------------


def codes(page: Path) -> list[str]:
    """What stands between backticks in sentences and tables."""
    return re.findall(r"(?<!`)`([^`]+)`(?!`)", re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.M | re.S))


def named_in_contributing() -> list[str]:
    """Names with a dot, ``module.name`` or ``Class.name``, that are neither files nor what only runs has: tasks, ``self``."""
    dotted = (code for code in codes(ROOT / "CONTRIBUTING.md") if re.fullmatch(r"[A-Za-z]\w*\.\w+", code))
    return sorted({name for name in dotted if not (ROOT / name).exists()} - {"saga.run", "self.retry"})


@cache
def our_names() -> dict[str, list[Any]]:
    """Modules by their last name, and classes, of the library itself."""
    found: dict[str, list[Any]] = {}
    for name in MODULES:
        if not re.match(r"saga\.(contrib|dev|cli)\b", name):
            module = importlib.import_module(name)
            found.setdefault(name.rpartition(".")[2], []).append(module)
            for each in vars(module).values():
                if isinstance(each, type) and each.__module__ == name:
                    found.setdefault(each.__name__, []).append(each)
    return found


@pytest.mark.parametrize("name", named_in_contributing())
def test_what_contributing_names_exists(name: str) -> None:
    owner, _, attribute = name.partition(".")
    assert any(hasattr(each, attribute) for each in our_names()[owner])
