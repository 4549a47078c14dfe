"""The house as the pages show it: its floors, who stands on whom, and what each module holds; read from the code.

Each is a pure function that returns Markdown, or for the picture SVG; `directives` makes them known to Sphinx.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import saga

sys.path.append(str(Path(__file__).parents[2]))  # for the tests, which know the house already

from tests.unit.house import FLOORS, MODULES, ours, room_of

_SAID = [line.strip().split("  ", 1) for line in (saga.__doc__ or "").splitlines() if line.startswith("    ")]
PURPOSES = {line[0]: line[1].strip() for line in _SAID if len(line) > 1}
"""The rooms of a floor, as the docstring of ``saga`` names them, to what they are for."""
BASE = FLOORS[-1]
"""The lowest floor, on which everything stands."""


def floors_table() -> str:
    """Every floor, and what it is for."""
    rows = [(", ".join(f"`{room}`" for room in rooms), PURPOSES.get(", ".join(rooms), _BASE)) for rooms in FLOORS]
    lines = [("rooms", "what for"), ("---", "---"), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


_BASE = "small things that all the others may use"


def modules_list() -> str:
    """Every module, by its room, with the first sentence of its docstring."""
    return "\n\n".join(part for rooms in FLOORS for room in rooms for part in _room(room))


def _room(room: str) -> Iterator[str]:
    names = [name for name in MODULES if room_of(name) == room]
    yield f"### `{room}`"
    yield "\n".join(f"- `{_short(name, room)}`: {_first_sentence(name)}" for name in names)


def _short(name: str, room: str) -> str:
    return name.removeprefix(f"saga.{room}.") if name != f"saga.{room}" else room


def _first_sentence(module: str) -> str:
    text = ast.get_docstring(ast.parse(MODULES[module].read_text())) or ""
    first = " ".join(text.split("\n\n", 1)[0].split())
    return first.split(". ", 1)[0].rstrip(".").replace("``", "`") + "."


# --- the picture ------------------------------------------------------------------------------------------------------

_ROW, _GAP, _BOX, _LEFT = 27, 12, 194, 8
_LANE = 15
"""Between two arrows that run side by side."""


def uses() -> dict[str, set[str]]:
    """Room to the rooms that its modules import from; all but those of the lowest floor."""
    found: dict[str, set[str]] = {room: set() for rooms in FLOORS[:-1] for room in rooms}
    for module in MODULES:
        if (room := room_of(module)) in found:
            found[room] |= {room_of(name) for name in ours(module)} & found.keys() - {room}
    return found


def nearest(found: dict[str, set[str]]) -> dict[str, set[str]]:
    """Without what is used by way of another room, too."""
    return {room: {used for used in below if not any(used in _all_below(found, by) for by in below - {used})}
            for room, below in found.items()}  # fmt: skip


def _all_below(found: dict[str, set[str]], room: str) -> set[str]:
    return found[room].union(*(_all_below(found, used) for used in found[room]))


def floors_picture() -> str:
    """A box for each room, floor by floor, and an arrow to each room that it stands on."""
    places, bands, height = _places()
    arrows = list(_arrows(places))
    width = max(x for x, _ in arrows) + _LEFT
    parts = [
        (
            f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="The floors of the house and who uses whom" '
            'style="width: 100%; max-width: 27rem; height: auto; font: 14px sans-serif" fill="currentColor" stroke="none">'
        ),
        (
            '<defs><marker id="down" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" markerHeight="7" '
            'orient="auto-start-reverse"><path d="M0 0 L8 4 L0 8 z"/></marker></defs>'
        ),
    ]
    for top, bottom in bands:
        parts.append(
            f'<rect x="1" y="{top}" width="{_LEFT + _BOX + 6}" height="{bottom - top}" rx="7" fill-opacity=".07"/>'
        )
    for room, y in places.items():
        parts += _box(room, y)
    parts += [arrow for _, arrow in arrows]
    parts.append(f'<text x="{_LEFT + 4}" y="{height - _ROW - 8}" font-size="13">{", ".join(BASE[:3])},</text>')
    parts.append(f'<text x="{_LEFT + 4}" y="{height - 15}" font-size="13">{", ".join(BASE[3:])}</text>')
    return "\n".join([*parts, "</svg>"])


def _places() -> tuple[dict[str, int], list[tuple[int, int]], int]:
    """Where each room is, from where to where each floor goes, and how high it all is."""
    places: dict[str, int] = {}
    bands, y = [], 1
    for rooms in FLOORS[:-1]:
        top = y
        for room in rooms:
            places[room] = y + 3
            y += _ROW
        bands.append((top, y + 3))
        y += _GAP
    bands.append((y, y + 2 * _ROW))
    return places, bands, y + 2 * _ROW + 2


def _box(room: str, y: int) -> Iterator[str]:
    number = sum(room_of(name) == room for name in MODULES)
    modules = f'<tspan font-size="11" fill-opacity=".7"> {number} {"module" if number == 1 else "modules"}</tspan>'
    yield f'<rect x="{_LEFT}" y="{y}" width="{_BOX}" height="{_ROW - 4}" rx="5" fill="none" stroke="currentColor" stroke-opacity=".5"/>'
    yield f'<text x="{_LEFT + 8}" y="{y + 16}"><tspan font-weight="600">{room}</tspan>{modules}</text>'


def _arrows(places: dict[str, int]) -> Iterator[tuple[int, str]]:
    """How far each arrow reaches to the right, and the arrow: the shortest are nearest to the boxes, and none runs on another."""
    edge, rooms = _LEFT + _BOX, list(places)
    steps = sorted(
        ((rooms.index(used) - rooms.index(room), rooms.index(room), room, used)
         for room, below in nearest(uses()).items() for used in below)
    )  # fmt: skip
    taken: list[list[tuple[int, int]]] = []
    ins = dict.fromkeys(places, 0)
    outs = dict.fromkeys(places, 0)
    for _, _, room, used in steps:
        span = places[room], places[used]
        lane = next(
            (at for at, spans in enumerate(taken) if all(span[1] <= a or b <= span[0] for a, b in spans)), len(taken)
        )
        taken[lane:] = taken[lane:] or [[]]
        taken[lane].append(span)
        x = edge + 16 + lane * _LANE
        start = span[0] + 11 + 4 * (outs[room] % 3)
        end = span[1] + 5 + 4 * (ins[used] % 2)
        outs[room] += 1
        ins[used] += 1
        path = f"M{edge} {start} H{x - 6} q6 0 6 6 V{end - 6} q0 6 -6 6 H{edge + 1}"
        yield x, f'<path d="{path}" fill="none" stroke="currentColor" stroke-opacity=".75" marker-end="url(#down)"/>'
