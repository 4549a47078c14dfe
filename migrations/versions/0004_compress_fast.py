"""Compress large entries of the log with lz4 where Postgres was built with it: a third of the time of its own method.

Revision: 0004
Revises: 0003
"""

from __future__ import annotations

from alembic import context, op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    schema = context.config.attributes["schema"]
    op.execute(
        f"""
        DO $$ BEGIN
            IF EXISTS (SELECT FROM pg_settings WHERE name = 'default_toast_compression' AND 'lz4' = ANY (enumvals)) THEN
                ALTER TABLE {schema}.log ALTER COLUMN data SET COMPRESSION lz4;
            END IF;
        END $$
        """
    )


def downgrade() -> None:
    schema = context.config.attributes["schema"]
    op.execute(f"ALTER TABLE {schema}.log ALTER COLUMN data SET COMPRESSION default")
