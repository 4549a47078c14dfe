"""The house as it is built: its floors, its modules, and who imports whom."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import saga

ROOT = Path(saga.__file__).parent

FLOORS: list[list[str]] = [
    re.split(r", ", line.strip().split("  ")[0])
    for line in (saga.__doc__ or "").splitlines()
    if line.startswith("    ")
]
"""From the top down, as the docstring of ``saga`` has them."""

MODULES = {
    ".".join(("saga", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__"): path
    for path in sorted(ROOT.rglob("*.py"))
}


def room_of(module: str) -> str:
    """The file or folder of ``saga`` that a module is in."""
    return [*module.split("."), "__init__"][1]


@cache
def imports(module: str) -> frozenset[str]:
    """Every module that a module imports, at its top or anywhere else; of a package, the submodule where it is one."""
    tree = ast.parse(MODULES[module].read_text(), filename=str(MODULES[module]))
    return frozenset(_imports(module, tree))


def _imports(module: str, tree: ast.Module) -> Iterator[str]:
    package = module if MODULES[module].name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            source = node.module or ""
            if node.level:
                base = package.split(".")[: len(package.split(".")) - node.level + 1]
                source = ".".join([*base, source] if source else base)
            for name in node.names:
                inner = f"{source}.{name.name}"
                yield inner if inner in MODULES else source


def ours(module: str) -> frozenset[str]:
    """The modules of ours that a module imports."""
    return frozenset(name for name in imports(module) if name in MODULES)


def reach(module: str) -> set[str]:
    """Every module, ours or not, that is imported on the way."""
    found: set[str] = set()
    ahead = [module]
    while ahead:
        for name in imports(ahead.pop()) - found:
            found.add(name)
            if name in MODULES:
                ahead.append(name)
    return found
