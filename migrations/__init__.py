"""The migrations of the saga log, and what keeps yours off its tables."""

from __future__ import annotations

import os
from collections.abc import Mapping

from saga.barriers import table as barrier_table
from saga.store.postgres.tables import SCHEMA


def include_name(
    name: str | None, type_: str, parent_names: Mapping[str, str | None], *, schema: str | None = None
) -> bool:
    """Whether an autogenerate of yours shall look at something in the database: at all but what is pgsaga's.

    For ``context.configure(include_name=…)`` in the ``env.py`` of your own Alembic. With ``include_schemas=True`` it would
    else propose to drop the tables of the saga log, and anywhere the table ``saga_barrier``.

    Args:
        schema: of the saga log; by default what ``SAGA_SCHEMA`` in the environment says, else ``saga``.
    """
    if type_ == "schema":
        return name != (schema or os.environ.get("SAGA_SCHEMA") or SCHEMA)
    return (name if type_ == "table" else parent_names.get("table_name")) != barrier_table.name
