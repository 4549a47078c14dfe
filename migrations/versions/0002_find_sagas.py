"""What sagas are found by: an index row that is updated in place, and statuses, times and tags that are looked up.

The new columns make Postgres write the table ``instance`` anew: about ten seconds for a million sagas, during which starts
and ends of sagas wait.

Revision: 0002
Revises: 0001
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import context, op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_NOTABLE = "CASE WHEN status NOT IN ('running', 'completed') THEN status END"
_ID_TIME = "to_timestamp(('x' || left(id::text, 8) || substr(id::text, 10, 4))::bit(48)::bigint / 1000.0)"
_SKEWED = f"CASE WHEN started_at - {_ID_TIME} NOT BETWEEN interval '-1 minute' AND interval '1 minute' THEN true END"


def upgrade() -> None:
    schema = context.config.attributes["schema"]
    op.drop_index("instance_status", "instance", schema=schema)
    op.drop_index("instance_tags", "instance", schema=schema)
    op.execute(f"ALTER TABLE {schema}.instance SET (fillfactor = 90)")
    # In one statement, so that the table is written once.
    op.execute(
        f"""
        ALTER TABLE {schema}.instance
        ADD COLUMN notable text GENERATED ALWAYS AS ({_NOTABLE}) STORED,
        ADD COLUMN skewed boolean GENERATED ALWAYS AS ({_SKEWED}) STORED
        """
    )
    is_notable, is_skewed = sa.text("notable IS NOT NULL"), sa.text("skewed")
    op.create_index("instance_notable", "instance", ["notable", "id"], schema=schema, postgresql_where=is_notable)
    op.create_index(
        "instance_name_notable", "instance", ["name", "notable", "id"], schema=schema, postgresql_where=is_notable
    )
    op.create_index("instance_skewed", "instance", ["started_at"], schema=schema, postgresql_where=is_skewed)
    _index_tags(schema, postgresql_ops={"tags": "jsonb_path_ops"})


def _index_tags(schema: str, **options: object) -> None:
    has_tags = sa.text("tags IS NOT NULL")
    op.create_index(
        "instance_tags",
        "instance",
        ["tags"],
        schema=schema,
        postgresql_using="gin",
        postgresql_where=has_tags,
        **options,
    )


def downgrade() -> None:
    schema = context.config.attributes["schema"]
    for index in ("instance_tags", "instance_skewed", "instance_name_notable", "instance_notable"):
        op.drop_index(index, "instance", schema=schema)
    op.execute(f"ALTER TABLE {schema}.instance DROP COLUMN notable, DROP COLUMN skewed")
    op.execute(f"ALTER TABLE {schema}.instance RESET (fillfactor)")
    not_completed = sa.text("status <> 'completed'")
    op.create_index("instance_status", "instance", ["status", "id"], schema=schema, postgresql_where=not_completed)
    _index_tags(schema)
