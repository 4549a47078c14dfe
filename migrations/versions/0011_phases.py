"""What an attempt is one of: a phase of work, of which ``undo`` knows two, and entries of format 3 that say it.

Workers of the version before write ``undo`` only: so it stays, and whoever reads a phase reads both.

Revision: 0011
Revises: 0010
"""

from __future__ import annotations

from importlib import import_module

import sqlalchemy as sa
from alembic import context, op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

_REQUEST: str = import_module("saga.migrations.versions.0009_operator_function")._REQUEST

_PHASE = "coalesce(r.phase, CASE WHEN r.undo THEN 'compensation' ELSE 'step' END)"
_CHANGED = {
    "CREATE FUNCTION": "CREATE OR REPLACE FUNCTION",
    "format NOT BETWEEN 1 AND 2": "format NOT BETWEEN 1 AND 3",
    "attempt integer, undo boolean, queue text": "attempt integer, undo boolean, phase text, queue text",
    "attempt, undo, fingerprint": "attempt, undo, phase, fingerprint",
    "r.attempt, r.undo, i.fingerprint": f"r.attempt, {_PHASE} = 'compensation', {_PHASE}, i.fingerprint",
    "undo = r.undo,": f"undo = {_PHASE} = 'compensation', phase = {_PHASE},",
}

# Workers of this version start before the rights are granted anew: whoever may write one may write the other.
_GRANT = """
DO $$
DECLARE
    role text;
BEGIN
    FOR role IN
        SELECT DISTINCT granted.grantee::regrole::text
        FROM pg_attribute AS a, aclexplode(a.attacl) AS granted
        WHERE a.attrelid = '{schema}.work'::regclass AND a.attname = 'undo'
          AND granted.privilege_type = 'UPDATE' AND granted.grantee <> 0
    LOOP
        EXECUTE 'GRANT UPDATE (phase) ON {schema}.work TO ' || role;
    END LOOP;
END $$
"""


def upgrade() -> None:
    schema = context.config.attributes["schema"]
    op.add_column("work", sa.Column("phase", sa.Text, nullable=False, server_default="step"), schema=schema)
    op.create_check_constraint(
        "work_phase_known", "work", "phase IN ('step', 'compensation', 'confirmation', 'check')", schema=schema
    )
    op.execute(f"UPDATE {schema}.work SET phase = 'compensation' WHERE undo")
    op.execute(_GRANT.format(schema=schema))
    request = _REQUEST
    for old, new in _CHANGED.items():
        assert old in request, old
        request = request.replace(old, new)
    op.execute(request.replace("{s}", schema))


def downgrade() -> None:
    schema = context.config.attributes["schema"]
    op.execute(_REQUEST.replace("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION").replace("{s}", schema))
    op.drop_column("work", "phase", schema=schema)
