"""A Sphinx directive for each function of `from_code` and `house`: `settings_table` is `settings-table`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import from_code
import house
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
    house.floors_table,
    house.modules_list,
)
PICTURES = (from_code.transitions_diagram, house.floors_picture)


def _markdown(write: Callable[[], str]) -> type[SphinxDirective]:
    class FromCode(SphinxDirective):
        def run(self) -> list[nodes.Node]:
            return list(self.parse_text_to_nodes(write(), allow_section_headings=True))

    return FromCode


def _picture(draw: Callable[[], str]) -> type[SphinxDirective]:
    class Picture(SphinxDirective):
        def run(self) -> list[nodes.Node]:
            return [nodes.raw("", draw(), format="html")]

    return Picture


def setup(app: Sphinx) -> dict[str, Any]:
    """Register them."""
    for write in WRITERS:
        app.add_directive(write.__name__.replace("_", "-"), _markdown(write))
    for draw in PICTURES:
        app.add_directive(draw.__name__.replace("_", "-"), _picture(draw))
    return {"parallel_read_safe": True}
