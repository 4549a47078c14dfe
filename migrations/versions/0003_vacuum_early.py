"""Freeze new pages of the log and its index soon after they were filled, before it costs each of them twice.

Revision: 0003
Revises: 0002
"""

from __future__ import annotations

from alembic import context, op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_TABLES = {"instance": 2000, "log": 10000}


def upgrade() -> None:
    schema = context.config.attributes["schema"]
    for table, rows in _TABLES.items():
        op.execute(
            f"""
            ALTER TABLE {schema}.{table} SET (
                autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_insert_threshold = {rows},
                autovacuum_freeze_min_age = 0)
            """
        )


def downgrade() -> None:
    schema = context.config.attributes["schema"]
    for table in _TABLES:
        op.execute(
            f"""
            ALTER TABLE {schema}.{table} RESET (
                autovacuum_vacuum_insert_scale_factor, autovacuum_vacuum_insert_threshold, autovacuum_freeze_min_age)
            """
        )
