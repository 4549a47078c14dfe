"""Functions by which clients register definitions and start sagas, with no right to write into the tables themselves.

What a definition starts with is stored beside it, so that a start need not read all of it.

Revision: 0008
Revises: 0007
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import context, op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

# Found by whoever calls them with rights that are not theirs: so nothing is looked up in a schema of the caller's.
_SAFE = "SECURITY DEFINER SET search_path = pg_catalog, pg_temp"

# The backslash by its number: a literal one means something else without standard_conforming_strings.
_ASCII = """
CREATE FUNCTION {s}.ascii_json(given text) RETURNS text LANGUAGE sql IMMUTABLE STRICT AS $$
    SELECT string_agg(
        CASE WHEN code BETWEEN 32 AND 126 THEN sign
             WHEN code < 65536 THEN chr(92) || 'u' || lpad(to_hex(code), 4, '0')
             ELSE chr(92) || 'u' || to_hex(55232 + (code >> 10)) || chr(92) || 'u' || to_hex(56320 + (code & 1023)) END,
        '' ORDER BY place)
    FROM regexp_split_to_table(to_json(given)::text, '') WITH ORDINALITY AS signs (sign, place), ascii(sign) AS code
$$
"""

# As Python writes it with sorted keys: what fingerprints are taken of.
_CANONICAL = """
CREATE FUNCTION {s}.canonical(given jsonb, depth integer) RETURNS text LANGUAGE plpgsql IMMUTABLE STRICT AS $$
BEGIN
    IF depth > 300 THEN
        RAISE EXCEPTION 'the definition is nested too deep' USING ERRCODE = 'data_exception';
    END IF;
    RETURN CASE jsonb_typeof(given)
        WHEN 'object' THEN '{' || coalesce((
            SELECT string_agg({s}.ascii_json(key) || ':' || {s}.canonical(value, depth + 1), ',' ORDER BY key COLLATE "C")
            FROM jsonb_each(given)), '') || '}'
        WHEN 'array' THEN '[' || coalesce((
            SELECT string_agg({s}.canonical(value, depth + 1), ',' ORDER BY place)
            FROM jsonb_array_elements(given) WITH ORDINALITY AS items (value, place)), '') || ']'
        WHEN 'string' THEN {s}.ascii_json(given #>> '{}')
        ELSE given::text
    END;
END $$
"""

# Lane to step, of what is to be run first; null for what is no definition.
_OPENING = """
CREATE FUNCTION {s}.opening_of(steps jsonb, lane text) RETURNS jsonb LANGUAGE plpgsql IMMUTABLE STRICT AS $$
DECLARE
    first jsonb := steps -> 0;
    branches jsonb := steps #> '{0,parallel}';
BEGIN
    IF jsonb_typeof(first -> 'step') = 'string' THEN
        RETURN jsonb_build_object(lane, first ->> 'step');
    ELSIF jsonb_typeof(branches) IS DISTINCT FROM 'array' THEN
        RETURN NULL;
    END IF;
    RETURN (
        SELECT jsonb_object_agg(part.key, part.value)
        FROM jsonb_array_elements(branches) AS branch,
            jsonb_each({s}.opening_of(branch, lane || '/' || {s}.first_name(branch))) AS part
    );
END $$
"""

_FIRST_NAME = """
CREATE FUNCTION {s}.first_name(branch jsonb) RETURNS text LANGUAGE plpgsql IMMUTABLE STRICT AS $$
BEGIN
    RETURN coalesce(branch #>> '{0,step}', {s}.first_name(branch #> '{0,parallel,0}'));
END $$
"""

_REGISTER = """
CREATE FUNCTION {s}.register(print text, given jsonb) RETURNS void LANGUAGE plpgsql {safe} AS $$
DECLARE
    called text := given ->> 'saga';
    opening jsonb;
BEGIN
    IF EXISTS (SELECT FROM {s}.definition WHERE fingerprint = print) THEN
        RETURN;
    END IF;
    IF length(given::text) > 10000000
        OR left(encode(sha256(convert_to({s}.canonical(given, 0), 'UTF8')), 'hex'), 32) IS DISTINCT FROM print
    THEN
        RAISE EXCEPTION USING ERRCODE = 'data_exception',
            MESSAGE = 'definition ' || left(print, 100) || ': what was given has another fingerprint';
    END IF;
    opening := {s}.opening_of(given -> 'steps', 'main');
    IF opening IS NULL OR called IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'data_exception', MESSAGE = 'definition ' || left(print, 100) || ': it is none';
    END IF;
    INSERT INTO {s}.definition (fingerprint, name, version, doc, opening, created_at)
    SELECT print, called, coalesce((SELECT max(version) FROM {s}.definition WHERE name = called), 0) + 1, given, opening,
           clock_timestamp()
    ON CONFLICT DO NOTHING;
END $$
"""

_OPEN = """
CREATE FUNCTION {s}.open(sagas jsonb, works jsonb, patience text, format integer) RETURNS SETOF text
LANGUAGE plpgsql {safe} AS $$
DECLARE
    opened text[];
    known boolean;
    placed boolean;
    short boolean;
BEGIN
    PERFORM set_config('lock_timeout', patience, true);
    WITH wanted AS MATERIALIZED (
        -- In memory as a whole, not fetched again for each lane.
        SELECT r.*, coalesce(d.opening, {s}.opening_of(d.doc -> 'steps', 'main')) || '{}'::jsonb AS opening
        FROM jsonb_to_recordset(sagas) AS r (
            id uuid, name text, fingerprint text, key text, tags jsonb, input_hash text, realm text, data jsonb)
        LEFT JOIN {s}.definition AS d ON d.fingerprint = r.fingerprint AND d.name = r.name
    ), places AS MATERIALIZED (
        SELECT r.*, w.fingerprint,
            CASE WHEN r.lane = 'deadline' THEN r.step = '' AND r.attempt IS NULL AND w.data ? 'deadline'
                 ELSE r.attempt = 1 AND w.opening ->> r.lane = r.step END AS fits
        FROM jsonb_to_recordset(works) AS r (
            id uuid, lane text, step text, attempt integer, queue text, priority smallint, wait float8, sent boolean)
        LEFT JOIN wanted AS w USING (id)
    ), new AS (
        INSERT INTO {s}.instance (id, name, fingerprint, key, status, tags, input_hash, realm, started_at, updated_at)
        SELECT id, name, fingerprint, w.key, 'running', tags, input_hash, realm, clock_timestamp(), clock_timestamp()
        FROM wanted AS w
        ON CONFLICT DO NOTHING
        RETURNING instance.id, instance.realm, instance.started_at
    ), logged AS (
        INSERT INTO {s}.log (saga_id, seq, kind, lane, step, attempt, data, worker, at, format)
        SELECT new.id, 1, 'saga_started', NULL, NULL, NULL, wanted.data, NULL, new.started_at, open.format
        FROM new JOIN wanted USING (id)
    ), queued AS (
        INSERT INTO {s}.work
            (saga_id, lane, step, attempt, undo, fingerprint, realm, queue, priority, due_at, sent, dispatches)
        SELECT new.id, p.lane, p.step, p.attempt, false, p.fingerprint, new.realm, p.queue, p.priority,
               CASE WHEN p.wait > 0 THEN new.started_at + make_interval(secs => p.wait)
                    ELSE clock_timestamp() - interval '876000 h' END, -- at once, whatever the clock does next
               CASE WHEN p.sent THEN clock_timestamp() END, CASE WHEN p.sent THEN 1 ELSE 0 END
        FROM new JOIN places AS p USING (id)
    )
    SELECT (SELECT array_agg(id::text) FROM new),
        (SELECT bool_and(opening IS NOT NULL AND jsonb_typeof(data) = 'object') FROM wanted),
        (SELECT bool_and(fits IS TRUE) AND count(*) FILTER (WHERE lane <> 'deadline') = (
            SELECT sum((SELECT count(*) FROM jsonb_object_keys(opening))) FROM wanted) FROM places),
        (SELECT bool_and(length(coalesce(key, '-')) BETWEEN 1 AND 500 AND length(coalesce(realm, '')) <= 500
                         AND length(input_hash) <= 500) FROM wanted)
        AND (SELECT bool_and(length(queue) <= 500) FROM places)
    INTO opened, known, placed, short;
    IF known IS NOT TRUE THEN
        RAISE EXCEPTION 'a saga can be started of a registered definition only, under its name'
            USING ERRCODE = 'data_exception';
    ELSIF placed IS NOT TRUE THEN
        RAISE EXCEPTION 'a saga can be started at the first steps of its definition only' USING ERRCODE = 'data_exception';
    ELSIF short IS NOT TRUE THEN
        RAISE EXCEPTION 'the key, the realm and the queues of a saga have 500 characters at most'
            USING ERRCODE = 'data_exception';
    END IF;
    RETURN QUERY SELECT unnest(opened);
END $$
"""

_FUNCTIONS = {
    "ascii_json(text)": _ASCII,
    "canonical(jsonb, integer)": _CANONICAL,
    "first_name(jsonb)": _FIRST_NAME,
    "opening_of(jsonb, text)": _OPENING,
    "register(text, jsonb)": _REGISTER,
    "open(jsonb, jsonb, text, integer)": _OPEN,
}


def upgrade() -> None:
    schema = context.config.attributes["schema"]
    op.add_column("definition", sa.Column("opening", JSONB), schema=schema)
    for signature, text in _FUNCTIONS.items():
        op.execute(sa.text(_filled(text, schema).replace(":", r"\:")))
        op.execute(f"REVOKE ALL ON FUNCTION {schema}.{signature} FROM PUBLIC")


def _filled(text: str, schema: str) -> str:
    return text.replace("{s}", schema).replace("{safe}", _SAFE)


def downgrade() -> None:
    schema = context.config.attributes["schema"]
    for signature in reversed(_FUNCTIONS):
        op.execute(f"DROP FUNCTION {schema}.{signature}")
    op.drop_column("definition", "opening", schema=schema)
