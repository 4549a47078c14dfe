"""Whose work it is: a realm on sagas and their work, an id of the log, and a relay, pings and indexes for each realm.

The table ``ping`` stays for workers of the version before.

Revision: 0006
Revises: 0005
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import context, op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_DUE, _CLAIMED = "worker IS NULL AND sent IS NULL", "worker IS NOT NULL"
_SENT = "worker IS NULL AND sent IS NOT NULL"


def _moment(name: str, nullable: bool = False) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def upgrade() -> None:
    schema = context.config.attributes["schema"]
    for table in ("instance", "work"):
        op.add_column(table, sa.Column("realm", sa.Text, nullable=False, server_default=""), schema=schema)
    _identity(schema)
    _relay(schema)
    _probe(schema)
    _bound(schema)
    for name in ("work_due", "work_watch", "work_worker", "work_sent"):
        op.drop_index(name, "work", schema=schema)
    _index("work_due", ["realm", "due_at"], _DUE)
    _index("work_watch", ["realm", "due_at"], _CLAIMED)
    _index("work_worker", ["worker", "realm"], _CLAIMED)
    rank, times = sa.text("coalesce(priority, '-1'::smallint)"), sa.text("least(dispatches, 12)")
    _index("work_sent", ["realm", "queue", rank, times, "sent"], _SENT)


def _index(name: str, columns: list[object], where: str) -> None:
    schema = context.config.attributes["schema"]
    op.create_index(name, "work", columns, schema=schema, postgresql_where=sa.text(where))  # type: ignore[arg-type]


def _identity(schema: str) -> None:
    op.create_table(
        "identity",
        sa.Column("single", sa.Boolean, primary_key=True),
        sa.Column("log_id", sa.Uuid, nullable=False),
        sa.CheckConstraint("single", name="identity_single"),
        schema=schema,
    )
    op.execute(f"INSERT INTO {schema}.identity VALUES (true, gen_random_uuid())")


def _relay(schema: str) -> None:
    op.create_table(
        "relay", sa.Column("realm", sa.Text, primary_key=True), _moment("looked_at", nullable=True), schema=schema
    )


def _probe(schema: str) -> None:
    op.create_table(
        "probe",
        sa.Column("realm", sa.Text, primary_key=True),
        sa.Column("queue", sa.Text, primary_key=True),
        _moment("sent_at"),
        _moment("through", nullable=True),
        sa.Column("tries", sa.Integer, nullable=False),
        sa.CheckConstraint("tries >= 0", name="probe_counted"),
        schema=schema,
    )


def _bound(schema: str) -> None:
    """Refuse what no arithmetic can go on with; what is there of it is put right."""
    op.execute(f"UPDATE {schema}.work SET dispatches = 1000000 WHERE dispatches > 1000000")
    op.execute(f"UPDATE {schema}.work SET watch = 300 WHERE NOT (watch BETWEEN 0 AND 1e9)")
    op.create_check_constraint("work_dispatches_bounded", "work", "dispatches <= 1000000000", schema=schema)
    op.create_check_constraint("work_watch_bounded", "work", "watch >= 0 AND watch <= 1e9", schema=schema)


def downgrade() -> None:
    schema = context.config.attributes["schema"]
    for name in ("work_due", "work_watch", "work_worker", "work_sent"):
        op.drop_index(name, "work", schema=schema)
    for name in ("work_dispatches_bounded", "work_watch_bounded"):
        op.drop_constraint(name, "work", schema=schema)
    for table in ("identity", "relay", "probe"):
        op.drop_table(table, schema=schema)
    for table in ("instance", "work"):
        op.drop_column(table, "realm", schema=schema)
    _index("work_due", ["due_at"], _DUE)
    _index("work_watch", ["due_at"], _CLAIMED)
    _index("work_worker", ["worker"], _CLAIMED)
    _index("work_sent", ["queue", "sent"], _SENT)
