"""What it takes to move times back when the database's clock steps back, and to put them back.

Revision: 0010
Revises: 0009
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import context, op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

_NEW = {
    "work": [("shifted", sa.DateTime(timezone=True)), ("shifted_by", sa.Double())],
    "relay": [
        ("behind", sa.Double()),
        ("past_worker", sa.Integer()),
        ("past_due", sa.DateTime(timezone=True)),
        ("ahead", sa.Double()),
    ],
}

# Workers of this version start before the rights are granted anew: whoever may write one time may write these.
_GRANT = """
DO $$
DECLARE
    role text;
BEGIN
    FOR role IN
        SELECT DISTINCT granted.grantee::regrole::text
        FROM pg_attribute AS a, aclexplode(a.attacl) AS granted
        WHERE a.attrelid = '{schema}.{table}'::regclass AND a.attname = '{like}'
          AND granted.privilege_type = 'UPDATE' AND granted.grantee <> 0
    LOOP
        EXECUTE 'GRANT UPDATE ({columns}) ON {schema}.{table} TO ' || role;
    END LOOP;
END $$
"""


def upgrade() -> None:
    schema = context.config.attributes["schema"]
    for table, columns in _NEW.items():
        for name, kind in columns:
            op.add_column(table, sa.Column(name, kind), schema=schema)
        like = {"work": "due_at", "relay": "looked_at"}[table]
        names = ", ".join(name for name, _ in columns)
        op.execute(_GRANT.format(schema=schema, table=table, like=like, columns=names))
    op.create_index(
        "work_shifted",
        "work",
        ["realm", "shifted_by"],
        schema=schema,
        postgresql_where=sa.text("shifted_by IS NOT NULL"),
    )


def downgrade() -> None:
    schema = context.config.attributes["schema"]
    op.drop_index("work_shifted", "work", schema=schema)
    for table, columns in _NEW.items():
        for name, _ in columns:
            op.drop_column(table, name, schema=schema)
