"""Sagas that are started again and again: a row for each schedule, which says when next.

Revision: 0014
Revises: 0013
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import context, op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

# Workers of this version start before the rights are granted anew: who may append may start sagas when it is time.
_GRANT = """
DO $$
DECLARE
    role text;
BEGIN
    FOR role IN
        SELECT DISTINCT granted.grantee::regrole::text
        FROM pg_class AS c, aclexplode(c.relacl) AS granted
        WHERE c.oid = '{schema}.log'::regclass AND granted.privilege_type = 'INSERT'
          AND granted.grantee NOT IN (0, c.relowner)
    LOOP
        EXECUTE 'GRANT SELECT, INSERT, DELETE, UPDATE ON {schema}.schedule TO ' || role;
        EXECUTE 'GRANT EXECUTE ON FUNCTION {schema}.open(jsonb, jsonb, text, integer) TO ' || role;
    END LOOP;
END $$
"""


def upgrade() -> None:
    schema = context.config.attributes["schema"]
    op.create_table(
        "schedule",
        sa.Column("realm", sa.Text, primary_key=True),
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("saga", sa.Text, nullable=False),
        sa.Column("input", JSONB),
        sa.Column("key_prefix", sa.Text, nullable=False),
        sa.Column("spec", JSONB, nullable=False),
        sa.Column("missed", sa.Text, nullable=False),
        sa.Column("next_tick", sa.DateTime(timezone=True)),
        sa.Column("last_tick", sa.DateTime(timezone=True)),
        sa.Column("paused", sa.Boolean, nullable=False, server_default=sa.text("false")),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("length(realm) <= 500 AND length(name) BETWEEN 1 AND 500", name="schedule_named"),
        schema=schema,
    )
    op.create_index(
        "schedule_due", "schedule", ["realm", "next_tick"], schema=schema, postgresql_where=sa.text("NOT paused")
    )
    op.execute(_GRANT.format(schema=schema))


def downgrade() -> None:
    op.drop_table("schedule", schema=context.config.attributes["schema"])
