"""The saga log: definition, instance, log, work and ping.

Revision: 0001
Revises: nothing
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import context, op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_STATUSES = "'running', 'paused', 'compensating', 'completed', 'compensated', 'stuck'"


def _moment(name: str, nullable: bool = False) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def upgrade() -> None:
    schema = context.config.attributes["schema"]
    _definition(schema)
    _instance(schema)
    _log(schema)
    _work(schema)
    _ping(schema)
    op.execute(
        sa.schema.CreateSequence(sa.Sequence("worker_id", schema=schema, data_type=sa.Integer, cycle=True, minvalue=1))
    )


def _definition(schema: str) -> None:
    op.create_table(
        "definition",
        sa.Column("fingerprint", sa.Text, primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("doc", JSONB, nullable=False),
        _moment("created_at"),
        sa.CheckConstraint("version > 0", name="definition_version_positive"),
        schema=schema,
    )


def _instance(schema: str) -> None:
    op.create_table(
        "instance",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("fingerprint", sa.Text, nullable=False),
        sa.Column("key", sa.Text),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("reason", sa.Text),
        sa.Column("tags", JSONB),
        sa.Column("input_hash", sa.Text, nullable=False),
        sa.Column("parent", sa.Uuid),
        _moment("started_at"),
        _moment("updated_at"),
        _moment("finished_at", nullable=True),
        sa.CheckConstraint(f"status IN ({_STATUSES})", name="instance_status_known"),
        sa.CheckConstraint(
            "(finished_at IS NOT NULL) = (status IN ('completed', 'compensated'))",
            name="instance_finished_when_terminal",
        ),
        schema=schema,
    )
    has_key, has_tags = sa.text("key IS NOT NULL"), sa.text("tags IS NOT NULL")
    op.create_index(
        "instance_key_name", "instance", ["key", "name"], unique=True, schema=schema, postgresql_where=has_key
    )
    not_completed = sa.text("status <> 'completed'")
    op.create_index("instance_status", "instance", ["status", "id"], schema=schema, postgresql_where=not_completed)
    op.create_index("instance_name", "instance", ["name", "id"], schema=schema)
    op.create_index(
        "instance_tags", "instance", ["tags"], schema=schema, postgresql_using="gin", postgresql_where=has_tags
    )


def _log(schema: str) -> None:
    op.create_table(
        "log",
        sa.Column("saga_id", sa.Uuid, primary_key=True),
        sa.Column("seq", sa.Integer, primary_key=True),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("lane", sa.Text),
        sa.Column("step", sa.Text),
        sa.Column("attempt", sa.Integer),
        sa.Column("data", JSONB, nullable=False),
        sa.Column("worker", sa.Integer),
        _moment("at"),
        sa.Column("format", sa.SmallInteger, nullable=False),
        sa.CheckConstraint("seq > 0", name="log_seq_positive"),
        sa.CheckConstraint("(seq = 1) = (kind = 'saga_started')", name="log_opens_with_start"),
        sa.CheckConstraint("attempt > 0", name="log_attempt_positive"),
        sa.CheckConstraint("format > 0", name="log_format_positive"),
        schema=schema,
    )


def _work(schema: str) -> None:
    op.create_table(
        "work",
        sa.Column("saga_id", sa.Uuid, primary_key=True),
        sa.Column("lane", sa.Text, primary_key=True),
        sa.Column("step", sa.Text, nullable=False),
        sa.Column("attempt", sa.Integer),
        sa.Column("undo", sa.Boolean, nullable=False),
        sa.Column("fingerprint", sa.Text, nullable=False),
        sa.Column("queue", sa.Text, nullable=False),
        sa.Column("priority", sa.SmallInteger),
        _moment("due_at"),
        sa.Column("watch", sa.Double, nullable=False, server_default=sa.text("0")),
        _moment("sent", nullable=True),
        sa.Column("dispatches", sa.Integer, nullable=False),
        sa.Column("worker", sa.Integer),
        sa.Column("token", sa.Uuid),
        sa.Column("problem", sa.Text),
        sa.CheckConstraint("(worker IS NULL) = (token IS NULL)", name="work_claimed_with_token"),
        sa.CheckConstraint("attempt > 0", name="work_attempt_positive"),
        sa.CheckConstraint("dispatches >= 0", name="work_dispatches_counted"),
        schema=schema,
    )
    op.execute(
        f"""
        ALTER TABLE {schema}.work SET (
            fillfactor = 60, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 500,
            autovacuum_vacuum_cost_delay = 0)
        """
    )
    free, claimed = "worker IS NULL AND sent IS {}NULL", sa.text("worker IS NOT NULL")
    op.create_index("work_due", "work", ["due_at"], schema=schema, postgresql_where=sa.text(free.format("")))
    op.create_index("work_watch", "work", ["due_at"], schema=schema, postgresql_where=claimed)
    op.create_index("work_worker", "work", ["worker"], schema=schema, postgresql_where=claimed)
    op.create_index(
        "work_sent", "work", ["queue", "sent"], schema=schema, postgresql_where=sa.text(free.format("NOT "))
    )


def _ping(schema: str) -> None:
    op.create_table(
        "ping",
        sa.Column("queue", sa.Text, primary_key=True),
        sa.Column("number", sa.BigInteger, nullable=False),
        _moment("sent_at"),
        _moment("through", nullable=True),
        sa.Column("tries", sa.Integer, nullable=False),
        sa.CheckConstraint("number > 0 AND tries >= 0", name="ping_counted"),
        schema=schema,
    )


def downgrade() -> None:
    schema = context.config.attributes["schema"]
    op.execute(sa.schema.DropSequence(sa.Sequence("worker_id", schema=schema)))
    for table in ("ping", "work", "log", "instance", "definition"):
        op.drop_table(table, schema=schema)
