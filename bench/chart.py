"""Chart: pictures of a document, in SVG, that can be read on light and on dark."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from .workloads import CHAIN, SAGA

WIDTH, MARGIN, NAMES, FIGURES = 760, 16, 130, 70
ROW, GAP, TITLE = 20, 14, 24

STYLE = """
  .card { fill: #ffffff } text { fill: #1f2328; font: 12px sans-serif } .head { font-weight: 600 }
  .small { fill: #59636e } .bar { fill: #8c959f } .saga { fill: #0969da } .axis { stroke: #59636e; fill: none }
  @media (prefers-color-scheme: dark) {
    .card { fill: #0d1117 } text { fill: #e6edf3 } .small { fill: #9198a1 } .bar { fill: #6e7681 }
    .saga { fill: #4493f8 } .axis { stroke: #9198a1 }
  }
"""


def bars(report: Mapping[str, Any]) -> str:
    """A bar for each contender of each workload: its ratio to the chain, with a line where the chain is."""
    workloads = [
        workload
        for workload in report["workloads"]
        if any(found["ratio_to_chain"] for found in workload["contenders"].values())
    ]
    groups = [(_title(workload), [*_bars(workload)]) for workload in workloads]
    return _groups("Ratio to Celery's chain", groups, line=1.0)


def scaling(points: Sequence[Mapping[str, Any]]) -> str:
    """A bar for each number of workers: its rate to that of one worker."""
    rows = [(_plural(point["workers"], "worker"), point["ratio"]["median"], True) for point in points]
    return _groups("Rate with more worker processes, to that of one", [("", rows)], line=1.0)


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _title(workload: Mapping[str, Any]) -> str:
    less = " (less is better)" if workload["less_is_better"] else ""
    return f"{workload['name']}: {workload['title']}{less}"


def _bars(workload: Mapping[str, Any]) -> Iterable[tuple[str, float, bool]]:
    for name, found in workload["contenders"].items():
        if name != CHAIN and found["ratio_to_chain"]:
            yield name, found["ratio_to_chain"]["median"], name == SAGA


def _groups(title: str, groups: Sequence[tuple[str, Sequence[tuple[str, float, bool]]]], line: float) -> str:
    """Each group has a heading and its rows: a name, a figure, and whether it is ours."""
    figures = [figure for _, rows in groups for _, figure, _ in rows]
    scale = (WIDTH - 2 * MARGIN - NAMES - FIGURES) / max([line, *figures])
    left = MARGIN + NAMES
    parts = [f'<text class="head" x="{MARGIN}" y="{MARGIN + 10}">{escape(title)}</text>']
    y = MARGIN + TITLE
    for heading, rows in groups:
        if heading:
            parts.append(f'<text class="small" x="{MARGIN}" y="{y + 12}">{escape(heading)}</text>')
            y += ROW
        top = y
        for name, figure, ours in rows:
            width = max(1.0, figure * scale)
            parts += [
                f'<text x="{left - 8}" y="{y + 13}" text-anchor="end">{escape(name)}</text>',
                f'<rect class="{"saga" if ours else "bar"}" x="{left}" y="{y + 3}" width="{width:.1f}" height="{ROW - 6}"/>',
                f'<text x="{left + width + 6:.1f}" y="{y + 13}">{figure:.2f}</text>',
            ]
            y += ROW
        x = left + line * scale
        parts.append(f'<path class="axis" d="M{x:.1f} {top} V{y}" stroke-dasharray="3 3"/>')
        y += GAP
    height = y + MARGIN - GAP
    size = f'viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label="{escape(title)}">',
            f"<style>{STYLE}</style>",
            f'<rect class="card" width="{WIDTH}" height="{height}" rx="6"/>',
            *parts,
            "</svg>\n",
        ]
    )
