"""Signals: operators send them, those of a caller's transaction wait in a table of their own; and parents hear of children.

Revision: 0013
Revises: 0012
"""

from __future__ import annotations

from importlib import import_module

import sqlalchemy as sa
from alembic import context, op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

_SAFE = "SECURITY DEFINER SET search_path = pg_catalog, pg_temp"
_ROW = """(
    lane text, step text, attempt integer, undo boolean, phase text, queue text, default_queue text, priority smallint,
    due timestamptz, wait float8, owned boolean, watch float8, sent boolean, until timestamptz, within float8)"""
_AT_ONCE = "clock_timestamp() - interval '876000 h'"
_DUE = f"""CASE
    WHEN r.due IS NOT NULL THEN r.due
    WHEN r.owned THEN clock_timestamp() + make_interval(secs => r.watch)
    WHEN r.wait > 0 THEN clock_timestamp() + make_interval(secs => r.wait)
    ELSE {_AT_ONCE} END"""
_SENT = "CASE WHEN r.sent THEN clock_timestamp() END"
_UNTIL = "coalesce(r.until, clock_timestamp() + make_interval(secs => r.within))"
# Workers of the version before say no phase.
_PHASE = "coalesce(r.phase, CASE WHEN r.undo THEN 'compensation' ELSE 'step' END)"
_ENDED = "('completed', 'compensated', 'abandoned')"

# A format that is newer than this function has another function made with it.
_UNREADABLE = """(
        format NOT BETWEEN 1 AND 3 OR jsonb_typeof(said) <> 'object' OR length(said::text) > 10000000
        OR said - ARRAY['by', 'reason', 'session_user'] - CASE what
            WHEN 'step_skipped' THEN ARRAY['undo', 'undo_later', 'result', 'phase']
            WHEN 'signal_received' THEN ARRAY['name', 'payload', 'key'] ELSE '{}'::text[] END <> '{}'
        OR coalesce(jsonb_typeof(said -> 'by'), 'null') NOT IN ('string', 'null')
        OR coalesce(jsonb_typeof(said -> 'reason'), 'null') NOT IN ('string', 'null')
        OR coalesce(jsonb_typeof(said -> 'undo'), 'boolean') <> 'boolean'
        OR coalesce(jsonb_typeof(said -> 'undo_later'), 'boolean') <> 'boolean'
        OR coalesce(said -> 'phase', 'null') NOT IN ('null', '"step"', '"compensation"', '"confirmation"', '"check"')
        OR (what = 'step_skipped' AND (lane IS NULL OR step IS NULL))
        OR (what = 'signal_received' AND (
            coalesce(jsonb_typeof(said -> 'name'), '') <> 'string' OR coalesce(jsonb_typeof(said -> 'key'), 'null') NOT IN ('string', 'null')))
    )"""

# No place in the log is an error inside, so that a saga that was taken up again is not; and null to the caller.
_REQUEST = f"""
CREATE OR REPLACE FUNCTION {{s}}.request(
    saga uuid, place integer, what text, lane text, step text, said jsonb, format integer, after timestamptz,
    removed jsonb, added jsonb, moved jsonb, status text, reason text
) RETURNS timestamptz LANGUAGE plpgsql {_SAFE} AS $$
DECLARE
    written timestamptz;
BEGIN
    IF what IS NULL OR what NOT IN ('cancel_requested', 'compensate_requested', 'paused', 'resumed', 'retry_requested',
                                    'step_skipped', 'abandoned', 'signal_received')
        OR coalesce(status = 'abandoned', false) <> (what = 'abandoned')
        OR (status = 'paused' AND what <> 'paused')
        OR (status = 'completed' AND what NOT IN ('step_skipped', 'resumed'))
    THEN
        RAISE EXCEPTION USING ERRCODE = 'data_exception',
            MESSAGE = concat('an operator cannot ask for ', left(what, 100), ', status ', left(status, 100));
    END IF;
    -- No reader of the log could take in anything else, and what is in it stays.
    IF {_UNREADABLE} IS NOT FALSE THEN
        RAISE EXCEPTION USING ERRCODE = 'data_exception',
            MESSAGE = concat('this is no entry of kind ', what, ': ', left(said::text, 200));
    END IF;
    IF what = 'compensate_requested' THEN
        -- The instance first, the one exception to the order of locks, so that it cannot cross with a purge.
        UPDATE {{s}}.instance AS i SET status = 'compensating', updated_at = clock_timestamp(), finished_at = NULL
        WHERE i.id = saga AND i.status = 'completed';
        IF NOT FOUND THEN
            RETURN NULL;
        END IF;
    END IF;
    WITH won AS (
        INSERT INTO {{s}}.log (saga_id, seq, kind, lane, step, attempt, data, worker, at, format)
        SELECT saga, place, what, request.lane, request.step, NULL,
               said || jsonb_build_object('session_user', session_user), NULL, clock_timestamp(), request.format
        FROM {{s}}.log AS b
        WHERE b.saga_id = saga AND b.seq = place - 1 AND b.at = coalesce(after, b.at)
          AND NOT (what = 'signal_received' AND said ->> 'key' IS NOT NULL AND {{s}}.has_signal(saga, said ->> 'key'))
        ON CONFLICT DO NOTHING
        RETURNING at
    ), taken AS (
        DELETE FROM {{s}}.work AS w USING won, jsonb_to_recordset(removed) AS r (lane text)
        WHERE w.saga_id = saga AND w.lane = r.lane
    ), put AS (
        INSERT INTO {{s}}.work (saga_id, lane, step, attempt, undo, phase, fingerprint, queue, priority, due_at, watch, sent,
                                dispatches, until, realm)
        SELECT saga, r.lane, r.step, r.attempt, {_PHASE} = 'compensation', {_PHASE}, i.fingerprint,
               coalesce(r.queue, r.default_queue), r.priority, {_DUE}, r.watch, {_SENT}, CASE WHEN r.sent THEN 1 ELSE 0 END,
               {_UNTIL}, i.realm
        FROM won, {{s}}.instance AS i, jsonb_to_recordset(added) AS r {_ROW}
        WHERE i.id = saga
    ), changed AS (
        UPDATE {{s}}.work AS w
        SET step = r.step, attempt = r.attempt, undo = {_PHASE} = 'compensation', phase = {_PHASE},
            queue = coalesce(r.queue, w.queue), priority = r.priority, due_at = {_DUE}, watch = r.watch, sent = {_SENT},
            dispatches = CASE WHEN r.sent THEN 1 ELSE 0 END, until = {_UNTIL}, worker = NULL, token = NULL, problem = NULL
        FROM won, jsonb_to_recordset(moved) AS r {_ROW}
        WHERE w.saga_id = saga AND w.lane = r.lane
    ), woken AS (
        -- The lane of the parent, whose message is left to the relay.
        UPDATE {{s}}.work AS w
        SET due_at = {_AT_ONCE}, sent = NULL, dispatches = 0, problem = CASE WHEN request.status = 'stuck' THEN
            concat('child ', i.id, ' (', i.name, ') is stuck', ': ' || request.reason) END
        FROM won, {{s}}.instance AS i
        WHERE i.id = saga AND w.saga_id = i.parent AND w.lane = i.parent_lane AND w.worker IS NULL AND w.attempt IS NULL
          AND (request.status IN {_ENDED} OR request.status = 'stuck'
               OR (request.status IS NOT NULL AND starts_with(w.problem, concat('child ', i.id))))
    ), projected AS (
        UPDATE {{s}}.instance AS i
        SET status = request.status, reason = request.reason, updated_at = won.at,
            finished_at = CASE WHEN request.status IN {_ENDED} THEN won.at END
        FROM won
        WHERE i.id = saga AND request.status IS NOT NULL AND what <> 'compensate_requested'
    )
    SELECT at FROM won INTO written;
    IF what = 'compensate_requested' THEN
        IF written IS NULL THEN
            RAISE EXCEPTION 'lost' USING ERRCODE = 'SG001';
        END IF;
        UPDATE {{s}}.instance AS i
        SET status = request.status, reason = request.reason,
            finished_at = CASE WHEN request.status IN {_ENDED} THEN written END
        WHERE i.id = saga;
    END IF;
    RETURN written;
EXCEPTION WHEN SQLSTATE 'SG001' THEN
    RETURN NULL;
END $$
"""

_HAS_SIGNAL = """
CREATE FUNCTION {s}.has_signal(saga uuid, sought text) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT EXISTS (SELECT FROM {s}.log WHERE saga_id = saga AND kind = 'signal_received' AND data ->> 'key' = sought)
$$
"""

# Nothing here waits for anybody who writes to the saga, or holds him up.
_POST = f"""
CREATE FUNCTION {{s}}.post(saga uuid, called text, given jsonb, sought text, said_by text, said_why text) RETURNS boolean
LANGUAGE plpgsql {_SAFE} AS $$
DECLARE
    whose text;
BEGIN
    SELECT i.realm INTO whose FROM {{s}}.instance AS i WHERE i.id = saga;
    IF whose IS NULL OR length(called) NOT BETWEEN 1 AND 2000 OR length(sought) NOT BETWEEN 1 AND 500
        OR greatest(length(said_by), length(said_why)) > 10000 OR length(given::text) > 10000000 OR called IS NULL
    THEN
        RAISE EXCEPTION USING ERRCODE = 'data_exception',
            MESSAGE = concat('there is no saga ', saga, ', or this is no signal: ', left(called, 200));
    END IF;
    IF sought IS NOT NULL AND ({{s}}.has_signal(saga, sought) OR EXISTS (
        SELECT FROM {{s}}.signal AS p WHERE p.saga_id = saga AND p.key = sought))
    THEN
        RETURN false;
    END IF;
    INSERT INTO {{s}}.signal (saga_id, name, payload, key, by, reason, role, realm, posted_at, due_at)
    VALUES (saga, called, given, sought, said_by, said_why, session_user, whose, clock_timestamp(), {_AT_ONCE});
    RETURN true;
END $$
"""

# Processes of this version start before the rights are granted anew: who may append may take signals in, and who may ask for
# what operators ask for may send them.
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
        EXECUTE 'GRANT SELECT, DELETE, UPDATE (due_at, problem) ON {schema}.signal TO ' || role;
    END LOOP;
    FOR role IN
        SELECT DISTINCT granted.grantee::regrole::text
        FROM pg_proc AS p, aclexplode(p.proacl) AS granted
        WHERE p.pronamespace = '{schema}'::regnamespace AND p.proname = 'request' AND granted.grantee NOT IN (0, p.proowner)
    LOOP
        EXECUTE 'GRANT EXECUTE ON FUNCTION {schema}.post(uuid, text, jsonb, text, text, text) TO ' || role;
    END LOOP;
END $$
"""

_NEW = {"has_signal(uuid, text)": _HAS_SIGNAL, "post(uuid, text, jsonb, text, text, text)": _POST}


def upgrade() -> None:
    schema = context.config.attributes["schema"]
    op.create_table(
        "signal",
        sa.Column("id", sa.BigInteger, sa.Identity(), primary_key=True),
        sa.Column("saga_id", sa.Uuid, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("payload", JSONB),
        sa.Column("key", sa.Text),
        sa.Column("by", sa.Text),
        sa.Column("reason", sa.Text),
        sa.Column("role", sa.Text, nullable=False),
        sa.Column("realm", sa.Text, nullable=False),
        sa.Column("posted_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("problem", sa.Text),
        schema=schema,
    )
    op.create_index("signal_due", "signal", ["realm", "due_at", "id"], schema=schema)
    op.create_index("signal_saga", "signal", ["saga_id"], schema=schema)
    for signature, text in _NEW.items():
        op.execute(text.replace("{s}", schema))
        op.execute(f"REVOKE ALL ON FUNCTION {schema}.{signature} FROM PUBLIC")
    op.execute(_REQUEST.replace("{s}", schema))
    op.execute(_GRANT.format(schema=schema))


def downgrade() -> None:
    schema = context.config.attributes["schema"]
    before = import_module("saga.migrations.versions.0011_phases")
    request = before._REQUEST
    for old, new in before._CHANGED.items():
        request = request.replace(old, new)
    op.execute(request.replace("{s}", schema))
    for signature in reversed(_NEW):
        op.execute(f"DROP FUNCTION {schema}.{signature}")
    op.drop_table("signal", schema=schema)
