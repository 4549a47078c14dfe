"""A function by which operators append what they ask for, with no right to write into the tables themselves.

Revision: 0009
Revises: 0008
"""

from __future__ import annotations

from alembic import context, op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_ROW = """(
    lane text, step text, attempt integer, undo boolean, queue text, default_queue text, priority smallint, due timestamptz,
    wait float8, owned boolean, watch float8, sent boolean)"""
_AT_ONCE = "clock_timestamp() - interval '876000 h'"
_DUE = f"""CASE
    WHEN r.due IS NOT NULL THEN r.due
    WHEN r.owned THEN clock_timestamp() + make_interval(secs => r.watch)
    WHEN r.wait > 0 THEN clock_timestamp() + make_interval(secs => r.wait)
    ELSE {_AT_ONCE} END"""
_SENT = "CASE WHEN r.sent THEN clock_timestamp() END"

# A format that is newer than this function has another function made with it.
_UNREADABLE = """(
        format NOT BETWEEN 1 AND 2 OR jsonb_typeof(said) <> 'object' OR length(said::text) > 10000000
        OR said - ARRAY['by', 'reason', 'session_user'] - CASE
            WHEN what = 'step_skipped' THEN ARRAY['undo', 'undo_later', 'result'] ELSE '{}'::text[] END <> '{}'
        OR coalesce(jsonb_typeof(said -> 'by'), 'null') NOT IN ('string', 'null')
        OR coalesce(jsonb_typeof(said -> 'reason'), 'null') NOT IN ('string', 'null')
        OR coalesce(jsonb_typeof(said -> 'undo'), 'boolean') <> 'boolean'
        OR coalesce(jsonb_typeof(said -> 'undo_later'), 'boolean') <> 'boolean'
        OR (what = 'step_skipped' AND (lane IS NULL OR step IS NULL))
    )"""

# No place in the log is an error inside, so that a saga that was taken up again is not; and null to the caller.
_REQUEST = f"""
CREATE FUNCTION {{s}}.request(
    saga uuid, place integer, what text, lane text, step text, said jsonb, format integer, after timestamptz,
    removed jsonb, added jsonb, moved jsonb, status text, reason text
) RETURNS timestamptz LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    written timestamptz;
BEGIN
    IF what IS NULL OR what NOT IN ('cancel_requested', 'compensate_requested', 'paused', 'resumed', 'retry_requested',
                                    'step_skipped', 'abandoned')
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
        ON CONFLICT DO NOTHING
        RETURNING at
    ), taken AS (
        DELETE FROM {{s}}.work AS w USING won, jsonb_to_recordset(removed) AS r (lane text)
        WHERE w.saga_id = saga AND w.lane = r.lane
    ), put AS (
        INSERT INTO {{s}}.work (saga_id, lane, step, attempt, undo, fingerprint, queue, priority, due_at, watch, sent,
                                dispatches, realm)
        SELECT saga, r.lane, r.step, r.attempt, r.undo, i.fingerprint, coalesce(r.queue, r.default_queue), r.priority,
               {_DUE}, r.watch, {_SENT}, CASE WHEN r.sent THEN 1 ELSE 0 END, i.realm
        FROM won, {{s}}.instance AS i, jsonb_to_recordset(added) AS r {_ROW}
        WHERE i.id = saga
    ), changed AS (
        UPDATE {{s}}.work AS w
        SET step = r.step, attempt = r.attempt, undo = r.undo, queue = coalesce(r.queue, w.queue), priority = r.priority,
            due_at = {_DUE}, watch = r.watch, sent = {_SENT}, dispatches = CASE WHEN r.sent THEN 1 ELSE 0 END,
            worker = NULL, token = NULL, problem = NULL
        FROM won, jsonb_to_recordset(moved) AS r {_ROW}
        WHERE w.saga_id = saga AND w.lane = r.lane
    ), projected AS (
        UPDATE {{s}}.instance AS i
        SET status = request.status, reason = request.reason, updated_at = won.at,
            finished_at = CASE WHEN request.status IN ('completed', 'compensated', 'abandoned') THEN won.at END
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
            finished_at = CASE WHEN request.status IN ('completed', 'compensated', 'abandoned') THEN written END
        WHERE i.id = saga;
    END IF;
    RETURN written;
EXCEPTION WHEN SQLSTATE 'SG001' THEN
    RETURN NULL;
END $$
"""

_SIGNATURE = "request(uuid, integer, text, text, text, jsonb, integer, timestamptz, jsonb, jsonb, jsonb, text, text)"


def upgrade() -> None:
    schema = context.config.attributes["schema"]
    op.execute(_REQUEST.replace("{s}", schema))
    op.execute(f"REVOKE ALL ON FUNCTION {schema}.{_SIGNATURE} FROM PUBLIC")


def downgrade() -> None:
    schema = context.config.attributes["schema"]
    op.execute(f"DROP FUNCTION {schema}.{_SIGNATURE}")
