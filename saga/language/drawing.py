"""Drawing: a saga's structure drawn, as text for a terminal or as Mermaid for a page.

Pure functions over the document that is stored of a saga, so what was started once can be drawn without its code.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from types import MappingProxyType
from typing import Any

from saga.core.outline import Outline

_NONE: Mapping[str, Outline] = MappingProxyType({})


def text(outline: Outline, children: Mapping[str, Outline] = _NONE) -> str:
    """A tree: a line for each step, with its task and its undo; what is inside a construct stands below it.

    Args:
        children: by name, the sagas to draw inside the steps that they are.
    """
    trees = _Trees(children).sequence(outline.doc)
    rows = [(outline.name, ""), *_rows(trees, "")]
    width = max(len(drawing) for drawing, _ in rows)
    return "\n".join(f"{drawing:<{width}}  {remark}".rstrip() for drawing, remark in rows)


@dataclass(frozen=True, slots=True)
class _Tree:
    title: str
    remark: str = ""
    below: Sequence[_Tree] = ()


def _rows(trees: Sequence[_Tree], indent: str) -> Iterator[tuple[str, str]]:
    for index, tree in enumerate(trees):
        corner, below = ("└─", "  ") if index == len(trees) - 1 else ("├─", "│ ")
        yield f"{indent}{corner}{'┬' if tree.below else ''} {tree.title}", tree.remark
        yield from _rows(tree.below, indent + below)


class _Trees:
    """Makes trees of a document.

    Attributes:
        passed: the pivot comes before the present item.
    """

    def __init__(self, children: Mapping[str, Outline]) -> None:
        self._children = children
        self.passed = False

    def sequence(self, docs: Sequence[Any]) -> list[_Tree]:
        return [self.item(doc) for doc in docs]

    def item(self, doc: Any) -> _Tree:
        title, remark = _titled(doc)
        if "step" in doc:
            remark = _step_remark(doc, self.passed)
        tree = _Tree(title, remark, self._below(doc))
        self.passed = self.passed or doc.get("pivot", False)
        return tree

    def _below(self, doc: Any) -> list[_Tree]:
        if "parallel" in doc:
            return [self._branch(branch) for branch in doc["parallel"]]
        if "graph" in doc:
            return [self._arrowed(doc, index) for index in range(len(doc["graph"]))]
        if "choice" in doc:
            return self._ways(doc)
        if "child" in doc and doc["saga"] in self._children:
            child = self._children[doc["saga"]]
            return _Trees(self._children).sequence(child.doc)
        trees = self.sequence(doc.get("body", ()))
        for key, title in _OTHER_WAYS.items():
            if key in doc and "choice" not in doc:
                trees.append(self._way(title, doc[key]))
        return trees

    def _ways(self, choice: Any) -> list[_Tree]:
        """The ways, before each of which the same was passed."""
        before, after, trees = self.passed, self.passed, []
        for title, way in _ways(choice):
            self.passed = before
            trees.append(self._way(title, way))
            after = after or self.passed
        self.passed = after
        return trees

    def _branch(self, docs: Sequence[Any]) -> _Tree:
        return self.item(docs[0]) if len(docs) == 1 else _Tree("in sequence", "", self.sequence(docs))

    def _arrowed(self, graph: Any, index: int) -> _Tree:
        """An item of a graph, with what it waits for."""
        tree = self._branch(graph["graph"][index])
        others = [_first_name(graph["graph"][other]) for other in graph["after"].get(str(index), ())]
        if not others:
            return tree
        return _Tree(tree.title, "  ".join(filter(None, (tree.remark, f"after {', '.join(others)}"))), tree.below)

    def _way(self, title: str, docs: Sequence[Any]) -> _Tree:
        return _Tree(title, "" if docs else "goes on", self.sequence(docs))


_OTHER_WAYS = {"otherwise": "otherwise", "on_timeout": "on timeout"}


def _titled(doc: Any) -> tuple[str, str]:
    """An item's name, or what it is called in its place, and what it does."""
    match doc:
        case {"step": name}:
            return name, doc["task"]
        case {"parallel": _}:
            return "in parallel", ""
        case {"graph": _}:
            return "as soon as each can", ""
        case {"choice": name}:
            return name, f"one way, by {doc['on'] or doc['function']}"
        case {"for_each": name}:
            return name, f"for each {doc['item']} of {doc['over']}"
        case {"child": name}:
            pivot = "  ◆ pivot: no way back once it completed" if doc.get("pivot") else ""
            return name, f"saga {doc['saga']}{pivot}"
        case {"sleep": name}:
            return name, f"sleeps until {doc['until']}" if "until" in doc else "sleeps"
        case {"wait": name}:
            return name, f"waits for {' or '.join(doc['signals'])}"
    return doc["try"], "tried, and undone as a whole"


def _step_remark(doc: Any, passed: bool) -> str:
    marks = [doc["task"]]
    if "compensate" in doc:
        marks.append(f"↩ {doc['compensate']}")
    if doc.get("pivot"):
        marks.append("◆ pivot: no way back once it succeeded")
    elif "compensate" not in doc:
        marks.append("→ forward only" if passed else "nothing to undo")
    if "confirm" in doc:
        marks.append(f"✓ {doc['confirm']}")
    if doc.get("transactional"):
        marks.append("transactional")
    return "  ".join(marks)


def _ways(choice: Any) -> Iterator[tuple[str, Sequence[Any]]]:
    for answer, way in choice["cases"]:
        yield json.dumps(answer, ensure_ascii=False), way
    yield "otherwise", choice["otherwise"]


def _first_name(docs: Sequence[Any]) -> str:
    """The name that a branch begins with."""
    first = docs[0]
    for key in ("parallel", "graph"):
        if key in first:
            return _first_name(first[key][0])
    return _titled(first)[0]


# --- Mermaid ----------------------------------------------------------------------------------------------------------


def mermaid(outline: Outline) -> str:
    """A flowchart: forks and joins as bars, the pivot as a hexagon, each undo on a dotted edge."""
    drawing = _Flowchart()
    start = drawing.node(f"([{_quoted(outline.name)}])")
    ends = drawing.sequence(outline.doc, [_End(start)])
    drawing.join(ends, drawing.node("([completed])"))
    return "\n".join(["flowchart TD", *(f"    {line}" for line in drawing.lines)])


@dataclass(frozen=True, slots=True)
class _End:
    """Where an edge to what follows begins, and what is said on it."""

    node: str
    label: str = ""
    arrow: str = "-->"


@dataclass
class _Flowchart:
    """Collects nodes and edges; nodes are numbered, so that no step's name can clash with Mermaid's words.

    Attributes:
        late: edges that are drawn once the frame around is closed: they would draw what is outside into it.
    """

    lines: list[str] = field(default_factory=list)
    late: list[str] = field(default_factory=list)
    frames: int = 0
    _numbers: Iterator[int] = field(default_factory=count)

    def node(self, shape: str) -> str:
        name = f"n{next(self._numbers)}"
        self.lines.append(f"{name}{shape}")
        return name

    def join(self, ends: Sequence[_End], target: str) -> None:
        """Draw the edges from where others end."""
        for end in ends:
            label = f"|{_quoted(end.label)}|" if end.label else ""
            (self.late if self.frames else self.lines).append(f"{end.node} {end.arrow}{label} {target}")

    def sequence(self, docs: Sequence[Any], ends: list[_End]) -> list[_End]:
        """Draw a sequence after what ends so; gives how it ends itself."""
        for doc in docs:
            ends = self.item(doc, ends)
        return ends

    def item(self, doc: Any, ends: list[_End]) -> list[_End]:
        match doc:
            case {"step": _}:
                return self._step(doc, ends)
            case {"parallel": branches}:
                return self._fork(branches, {}, ends)
            case {"graph": branches, "after": after}:
                return self._fork(branches, after, ends)
            case {"choice": _}:
                return self._choice(doc, ends)
            case {"for_each": _} | {"try": _}:
                return self._frame(doc, ends)
        label = _quoted(*_titled(doc))
        pivot = doc.get("pivot")
        node = self.node(f"{{{{{label}}}}}" if pivot else f"[[{label}]]" if "child" in doc else f"[/{label}/]")
        self.join(ends, node)
        late = self.sequence(doc["on_timeout"], [_End(node, "on timeout")]) if "on_timeout" in doc else []
        return [_End(node), *late]

    def _step(self, doc: Any, ends: list[_End]) -> list[_End]:
        name = doc["step"]
        label = _quoted(name, doc["task"])
        node = self.node(f"{{{{{label}}}}}" if doc.get("pivot") else f"[{label}]")
        self.join(ends, node)
        if "compensate" in doc:
            undo = self.node(f"({_quoted(f'undo {name}', doc['compensate'])})")
            self.lines.append(f"{node} -.-> {undo}")
        return [_End(node)]

    def _fork(self, branches: Sequence[Any], after: Mapping[str, Sequence[int]], ends: list[_End]) -> list[_End]:
        """Branches between two bars, with the arrows from branch to branch."""
        opening = self.node("[/fork\\]")
        self.join(ends, opening)
        gates = {index: self.node("((&))") for index in sorted(map(int, after))}
        found = [self.sequence(branch, [_End(gates.get(index, opening))]) for index, branch in enumerate(branches)]
        for index, gate in gates.items():
            for other in after[str(index)]:
                self.join(found[other], gate)
        awaited = {other for others in after.values() for other in others}
        closing = self.node("[\\join/]")
        for index, last in enumerate(found):
            if index not in awaited:
                self.join(last, closing)
        return [_End(closing)]

    def _choice(self, doc: Any, ends: list[_End]) -> list[_End]:
        node = self.node(f"{{{_quoted(*_titled(doc))}}}")
        self.join(ends, node)
        return [end for title, way in _ways(doc) for end in self.sequence(way, [_End(node, title)])]

    def _frame(self, doc: Any, ends: list[_End]) -> list[_End]:
        """A frame around what is inside a construct; its other way is beside it."""
        name = f"n{next(self._numbers)}"
        self.lines.append(f"subgraph {name}[{_quoted(': '.join(_titled(doc)))}]")
        self.frames += 1
        found = self.sequence(doc["body"], ends)
        self.frames -= 1
        self.lines.append("end")
        if not self.frames:
            self.lines += self.late
            self.late.clear()
        if "otherwise" in doc:
            found += self.sequence(doc["otherwise"], [_End(name, "otherwise", "-.->")])
        return found


def _quoted(*lines: str) -> str:
    safe = (line.replace("&", "#amp;").replace('"', "#quot;").replace("<", "#lt;") for line in lines)
    return f'"{"<br/>".join(safe)}"'
