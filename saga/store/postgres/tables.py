"""The tables of the saga log, as SQLAlchemy knows them; the migrations make them."""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    DDL,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Computed,
    DateTime,
    Double,
    Identity,
    Index,
    Integer,
    MetaData,
    Sequence,
    SmallInteger,
    Table,
    Text,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from saga.core.ref import Phase
from saga.core.state import Status

SCHEMA = "saga"
"""The schema these tables are declared in; another is set by ``saga_schema`` and put in its place when used."""

metadata = MetaData(schema=SCHEMA)


def _moment(name: str, *, nullable: bool = False) -> Column[object]:
    return Column(name, DateTime(timezone=True), nullable=nullable)


definition = Table(
    "definition",
    metadata,
    Column("fingerprint", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("doc", JSONB, nullable=False),
    _moment("created_at"),
    # Lane to the step that runs first there; null if an earlier version has registered it.
    Column("opening", JSONB),
    CheckConstraint("version > 0", name="definition_version_positive"),
)


def _storage(parameters: dict[str, str]) -> list[Any]:
    """A table's storage parameters, as listeners of it: as options, SQLAlchemy knows them from 2.1 on only."""
    said = ", ".join(f"{name} = {value}" for name, value in parameters.items())
    return [("after_create", DDL(f"ALTER TABLE %(fullname)s SET ({said})"))]  # type: ignore[no-untyped-call]


def _vacuumed_early(rows: int) -> dict[str, str]:
    """Have new pages frozen as long as the checkpoint before they were filled is the last one.

    They never change again. After the next checkpoint freezing would write each of them to the write-ahead log once more,
    whole; and by default it comes when a fifth of the table is new, however large the table has become.
    """
    return {
        "autovacuum_vacuum_insert_scale_factor": "0",
        "autovacuum_vacuum_insert_threshold": str(rows),
        "autovacuum_freeze_min_age": "0",
    }


# As Postgres prints them, so that they can be compared with what is in the database.
_NOTABLE = "CASE WHEN status <> ALL (ARRAY['running'::text, 'completed'::text]) THEN status ELSE NULL::text END"
_ID_TIME = (
    "to_timestamp((('x'::text || left(id::text, 8) || substr(id::text, 10, 4))::bit(48)::bigint::numeric"
    " / 1000.0)::double precision)"
)
_SKEWED = (
    f"CASE WHEN started_at - {_ID_TIME} < '-00:01:00'::interval OR started_at - {_ID_TIME} > '00:01:00'::interval"
    " THEN true ELSE NULL::boolean END"
)

instance = Table(
    "instance",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("name", Text, nullable=False),
    # No foreign key: every start would lock the one row of its definition, which is never deleted while it is in use.
    Column("fingerprint", Text, nullable=False),
    Column("key", Text),
    Column("status", Text, nullable=False),
    Column("reason", Text),
    Column("tags", JSONB),
    Column("input_hash", Text, nullable=False),
    Column("parent", Uuid),
    _moment("started_at"),
    _moment("updated_at"),
    _moment("finished_at", nullable=True),
    # Whose it is: the app that started it; empty: anybody's.
    Column("realm", Text, nullable=False, server_default=""),
    # What the status is where it is neither ``running`` nor ``completed``. An index on the status itself, even a partial
    # one, would have every saga that completes write all its index entries anew: its row could not be updated in place.
    Column("notable", Text, Computed(_NOTABLE, persisted=True)),
    # Whether the time in the id, the client's, is more than a minute off the database's ``started_at``; else null.
    Column("skewed", Boolean, Computed(_SKEWED, persisted=True)),
    # Of a saga that is a part of another: where it is in its ``parent``.
    Column("parent_lane", Text),
    Column("parent_step", Text),
    CheckConstraint(f"status IN ({', '.join(repr(str(status)) for status in Status)})", name="instance_status_known"),
    CheckConstraint(
        "(finished_at IS NOT NULL) = (status IN ('completed', 'compensated', 'abandoned'))",
        name="instance_finished_when_terminal",
    ),
    Index("instance_key_name", "key", "name", unique=True, postgresql_where=text("key IS NOT NULL")),
    # Most sagas are completed; the others are what one looks for. Those that run have rows in ``work``.
    Index("instance_notable", "notable", "id", postgresql_where=text("notable IS NOT NULL")),
    Index("instance_name_notable", "name", "notable", "id", postgresql_where=text("notable IS NOT NULL")),
    Index("instance_name", "name", "id"),
    Index("instance_parent", "parent", "id", postgresql_where=text("parent IS NOT NULL")),
    Index("instance_skewed", "started_at", postgresql_where=text("skewed")),
    Index(
        "instance_tags",
        "tags",
        postgresql_using="gin",
        postgresql_ops={"tags": "jsonb_path_ops"},
        postgresql_where=text("tags IS NOT NULL"),
    ),
    # Room for the update at the end of a saga, which stays on its page and touches no index.
    listeners=_storage({"fillfactor": "90", **_vacuumed_early(2000)}),
)

log = Table(
    "log",
    metadata,
    Column("saga_id", Uuid, primary_key=True),
    Column("seq", Integer, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("lane", Text),
    Column("step", Text),
    Column("attempt", Integer),
    Column("data", JSONB, nullable=False),
    Column("worker", Integer),
    _moment("at"),
    Column("format", SmallInteger, nullable=False),
    CheckConstraint("seq > 0", name="log_seq_positive"),
    CheckConstraint("(seq = 1) = (kind = 'saga_started')", name="log_opens_with_start"),
    CheckConstraint("attempt > 0", name="log_attempt_positive"),
    CheckConstraint("format > 0", name="log_format_positive"),
    listeners=_storage(_vacuumed_early(10000)),
)

work = Table(
    "work",
    metadata,
    Column("saga_id", Uuid, primary_key=True),
    Column("lane", Text, primary_key=True),
    Column("step", Text, nullable=False),
    Column("attempt", Integer),
    # Of workers of the version before, which know no other phase; the phase counts where it says nothing.
    Column("undo", Boolean, nullable=False),
    Column("fingerprint", Text, nullable=False),
    Column("queue", Text, nullable=False),
    Column("priority", SmallInteger),
    _moment("due_at"),
    Column("watch", Double, nullable=False, server_default=text("0")),
    _moment("sent", nullable=True),
    Column("dispatches", Integer, nullable=False),
    Column("worker", Integer),
    Column("token", Uuid),
    Column("problem", Text),
    Column("realm", Text, nullable=False, server_default=""),
    # The worker that noted the problem does not have the saga's definition.
    Column("unknown", Boolean, nullable=False, server_default=text("false")),
    # By how many seconds a time was moved back when the clock was; and which: of a claimed lane, when its attempt started;
    # of another, when it is due now. Where either is something else since, that says nothing any more.
    _moment("shifted", nullable=True),
    Column("shifted_by", Double),
    Column("phase", Text, nullable=False, server_default="step"),
    # The end of the time that the step's action has as a whole: a start leaves no more than that.
    _moment("until", nullable=True),
    CheckConstraint(f"phase IN ({', '.join(repr(str(phase)) for phase in Phase)})", name="work_phase_known"),
    CheckConstraint("(worker IS NULL) = (token IS NULL)", name="work_claimed_with_token"),
    CheckConstraint("attempt > 0", name="work_attempt_positive"),
    CheckConstraint("dispatches >= 0", name="work_dispatches_counted"),
    CheckConstraint("dispatches <= 1000000000", name="work_dispatches_bounded"),
    CheckConstraint("watch >= 0 AND watch <= 1e9", name="work_watch_bounded"),
    Index("work_due", "realm", "due_at", postgresql_where=text("worker IS NULL AND sent IS NULL")),
    Index("work_watch", "realm", "due_at", postgresql_where=text("worker IS NOT NULL")),
    Index("work_worker", "worker", "realm", postgresql_where=text("worker IS NOT NULL")),
    # The relay goes from one lot to the next: of one queue, one priority, and sent as often.
    Index(
        "work_sent",
        "realm",
        "queue",
        text("coalesce(priority, '-1'::smallint)"),
        text("least(dispatches, 12)"),
        "sent",
        postgresql_where=text("worker IS NULL AND sent IS NOT NULL"),
    ),
    Index("work_unknown", "fingerprint", postgresql_where=text("unknown AND problem IS NOT NULL")),
    Index("work_shifted", "realm", "shifted_by", postgresql_where=text("shifted_by IS NOT NULL")),
    # Small and busy. Each update changes an indexed column, so none is in place; with room for it on the same page it is
    # cheaper all the same. A vacuum comes long before a fifth of a backlog is dead, and does not dawdle.
    listeners=_storage(
        {
            "fillfactor": "60",
            "autovacuum_vacuum_scale_factor": "0.02",
            "autovacuum_vacuum_threshold": "500",
            "autovacuum_vacuum_cost_delay": "0",
        }
    ),
)

# Signals of callers' transactions, until they are in the logs.
signal = Table(
    "signal",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("saga_id", Uuid, nullable=False),
    Column("name", Text, nullable=False),
    Column("payload", JSONB),
    Column("key", Text),
    Column("by", Text),
    Column("reason", Text),
    Column("role", Text, nullable=False),
    Column("realm", Text, nullable=False),
    _moment("posted_at"),
    _moment("due_at"),
    Column("problem", Text),
    Index("signal_due", "realm", "due_at", "id"),
    Index("signal_saga", "saga_id"),
)

# Sagas that are started again and again.
schedule = Table(
    "schedule",
    metadata,
    Column("realm", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("saga", Text, nullable=False),
    Column("input", JSONB),
    Column("key_prefix", Text, nullable=False),
    Column("spec", JSONB, nullable=False),
    Column("missed", Text, nullable=False),
    _moment("next_tick", nullable=True),
    _moment("last_tick", nullable=True),
    Column("paused", Boolean, nullable=False, server_default=text("false")),
    _moment("updated_at"),
    CheckConstraint("length(realm) <= 500 AND length(name) BETWEEN 1 AND 500", name="schedule_named"),
    Index("schedule_due", "realm", "next_tick", postgresql_where=text("NOT paused")),
)

# One row: which log this is, of all that may share a broker.
identity = Table(
    "identity",
    metadata,
    Column("single", Boolean, primary_key=True),
    Column("log_id", Uuid, nullable=False),
    CheckConstraint("single", name="identity_single"),
)

# A row for each realm; the process that has it locked is its relay.
relay = Table(
    "relay",
    metadata,
    Column("realm", Text, primary_key=True),
    _moment("looked_at", nullable=True),
    # Seconds by which the clock stepped back, while times are moved by it, and the worker and the time it has come to.
    Column("behind", Double),
    Column("past_worker", Integer),
    _moment("past_due", nullable=True),
    # Times moved by no more than so many seconds are being put back.
    Column("ahead", Double),
)

probe = Table(
    "probe",
    metadata,
    Column("realm", Text, primary_key=True),
    Column("queue", Text, primary_key=True),
    _moment("sent_at"),
    _moment("through", nullable=True),
    Column("tries", Integer, nullable=False),
    CheckConstraint("tries >= 0", name="probe_counted"),
)

# Of workers of the version before.
ping = Table(
    "ping",
    metadata,
    Column("queue", Text, primary_key=True),
    Column("number", BigInteger, nullable=False),
    _moment("sent_at"),
    _moment("through", nullable=True),
    Column("tries", Integer, nullable=False),
    CheckConstraint("number > 0 AND tries >= 0", name="ping_counted"),
)

# What each worker process says of itself. Whether it lives, its liveness lock tells.
worker = Table(
    "worker",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("realm", Text, nullable=False, server_default=""),
    Column("node", Text),
    Column("host", Text, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("version", Text, nullable=False),
    Column("relays", Boolean, nullable=False),
    Column("queues", ARRAY(Text), nullable=False),
    Column("fingerprints", ARRAY(Text), nullable=False),
    _moment("started_at"),
)

worker_id = Sequence("worker_id", metadata=metadata, schema=SCHEMA, data_type=Integer, cycle=True, minvalue=1)
