"""A row for each worker process: where it runs, what it listens to and knows; and parked work, found by its definition.

Revision: 0007
Revises: 0006
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import context, op
from sqlalchemy.dialects.postgresql import ARRAY

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    schema = context.config.attributes["schema"]
    op.create_table(
        "worker",
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("realm", sa.Text, nullable=False, server_default=""),
        sa.Column("node", sa.Text),
        sa.Column("host", sa.Text, nullable=False),
        sa.Column("pid", sa.Integer, nullable=False),
        sa.Column("version", sa.Text, nullable=False),
        sa.Column("relays", sa.Boolean, nullable=False),
        sa.Column("queues", ARRAY(sa.Text), nullable=False),
        sa.Column("fingerprints", ARRAY(sa.Text), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        schema=schema,
    )
    op.add_column("work", sa.Column("unknown", sa.Boolean, nullable=False, server_default=sa.false()), schema=schema)
    op.create_index(
        "work_unknown",
        "work",
        ["fingerprint"],
        schema=schema,
        postgresql_where=sa.text("unknown AND problem IS NOT NULL"),
    )


def downgrade() -> None:
    schema = context.config.attributes["schema"]
    op.drop_index("work_unknown", "work", schema=schema)
    op.drop_column("work", "unknown", schema=schema)
    op.drop_table("worker", schema=schema)
