"""A Sphinx directive for each function of `from_code`: `settings_table` is `settings-table`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import from_code
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

WRITERS = (
    from_code.settings_table,
    from_code.transitions_table,
    from_code.statuses_table,
    from_code.reserved_words_table,
    from_code.signals_table,
    from_code.command_line,
)


def _markdown(write: Callable[[], str]) -> type[SphinxDirective]:
    class FromCode(SphinxDirective):
        def run(self) -> list[nodes.Node]:
            return list(self.parse_text_to_nodes(write(), allow_section_headings=True))

    return FromCode


class _Diagram(SphinxDirective):
    def run(self) -> list[nodes.Node]:
        return [nodes.raw("", from_code.transitions_diagram(), format="html")]


def setup(app: Sphinx) -> dict[str, Any]:
    """Register them."""
    for write in WRITERS:
        app.add_directive(write.__name__.replace("_", "-"), _markdown(write))
    app.add_directive("transitions-diagram", _Diagram)
    return {"parallel_read_safe": True}
