"""Drawing: a saga's structure drawn, as text for a terminal or as Mermaid for a page. Pure functions over ``Outline``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import count

from saga.core.outline import Fork, Lane, Outline, StepOutline

_Node = StepOutline | Fork | Lane


def text(outline: Outline) -> str:
    """A tree: a line for each step, with its task and its undo; the branches of a fork stand below it."""
    rows = [(outline.name, ""), *_rows(outline.main.items, "")]
    width = max(len(drawing) for drawing, _ in rows)
    return "\n".join(f"{drawing:<{width}}  {remark}".rstrip() for drawing, remark in rows)


def _rows(nodes: Sequence[_Node], indent: str) -> Iterator[tuple[str, str]]:
    for index, node in enumerate(nodes):
        corner, below = ("└─", "  ") if index == len(nodes) - 1 else ("├─", "│ ")
        if isinstance(node, StepOutline):
            yield f"{indent}{corner} {node.name}", _remark(node)
        else:
            what = "in parallel" if isinstance(node, Fork) else "in sequence"
            yield f"{indent}{corner}┬ {what}", ""
            yield from _rows(_below(node), indent + below)


def _below(node: Fork | Lane) -> Sequence[_Node]:
    if isinstance(node, Lane):
        return node.items
    return [lane.items[0] if len(lane.items) == 1 else lane for lane in node.lanes]


def _remark(step: StepOutline) -> str:
    marks = [step.task]
    if step.compensate:
        marks.append(f"↩ {step.compensate}")
    if step.pivot:
        marks.append("◆ pivot: no way back once it succeeded")
    elif step.after_pivot:
        marks.append("→ forward only")
    elif not step.compensate:
        marks.append("nothing to undo")
    if step.transactional:
        marks.append("transactional")
    return "  ".join(marks)


# --- Mermaid ----------------------------------------------------------------------------------------------------------


def mermaid(outline: Outline) -> str:
    """A flowchart: forks and joins as bars, the pivot as a hexagon, each undo on a dotted edge."""
    drawing = _Flowchart()
    start = drawing.node(f"([{_quoted(outline.name)}])")
    end = drawing.lane(outline.main, start)
    drawing.edge(end, drawing.node("([completed])"))
    return "\n".join(["flowchart TD", *(f"    {line}" for line in drawing.lines)])


class _Flowchart:
    """Collects nodes and edges; nodes are numbered, so that no step's name can clash with Mermaid's words."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._numbers = count()

    def node(self, shape: str) -> str:
        name = f"n{next(self._numbers)}"
        self.lines.append(f"{name}{shape}")
        return name

    def edge(self, source: str, target: str, arrow: str = "-->") -> None:
        self.lines.append(f"{source} {arrow} {target}")

    def lane(self, lane: Lane, before: str) -> str:
        """Draw a lane after a node; returns the node it ends with."""
        for item in lane.items:
            before = self.step(item, before) if isinstance(item, StepOutline) else self.fork(item, before)
        return before

    def step(self, step: StepOutline, before: str) -> str:
        label = _quoted(step.name, step.task)
        node = self.node(f"{{{{{label}}}}}" if step.pivot else f"[{label}]")
        self.edge(before, node)
        if step.compensate:
            self.edge(node, self.node(f"({_quoted(f'undo {step.name}', step.compensate)})"), "-.->")
        return node

    def fork(self, fork: Fork, before: str) -> str:
        opening = self.node("[/fork\\]")
        self.edge(before, opening)
        ends = [self.lane(lane, opening) for lane in fork.lanes]
        closing = self.node("[\\join/]")
        for end in ends:
            self.edge(end, closing)
        return closing


def _quoted(*lines: str) -> str:
    safe = (line.replace("&", "#amp;").replace('"', "#quot;").replace("<", "#lt;") for line in lines)
    return f'"{"<br/>".join(safe)}"'
