"""Sagas inside sagas, and definitions that begin with other things than steps.

A saga's row says which lane of which saga it is a part of. The functions of the owner's take definitions that begin with any
construct: where that is neither a step nor a parallel of such, what is stored beside the definition is a list of the names
that it may begin with, and the worker that claims a lane decides what comes first.

Revision: 0012
Revises: 0011
"""

from __future__ import annotations

from importlib import import_module

import sqlalchemy as sa
from alembic import context, op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

_BEFORE = import_module("saga.migrations.versions.0008_client_functions")

# Lane to step, of what is to be run first, where that is a step or several; else null.
_OPENING = """
CREATE OR REPLACE FUNCTION {s}.opening_of(steps jsonb, lane text) RETURNS jsonb LANGUAGE plpgsql IMMUTABLE STRICT AS $$
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
        SELECT CASE WHEN bool_and(part IS NOT NULL) THEN jsonb_object_agg(pair.key, pair.value) END
        FROM jsonb_array_elements(branches) AS branch,
            {s}.opening_of(branch, lane || '/' || {s}.first_name(branch)) AS part,
            jsonb_each(coalesce(part, '{"": null}')) AS pair
    );
END $$
"""

# The names of what a sequence may begin with: a step, or whatever decides, lists or waits. Branches of a graph that wait for
# others do not begin it.
_FIRST_NAMES = """
CREATE FUNCTION {s}.first_names(steps jsonb) RETURNS SETOF text LANGUAGE plpgsql IMMUTABLE STRICT AS $$
DECLARE
    first jsonb := steps -> 0;
BEGIN
    RETURN QUERY
    SELECT first ->> word FROM unnest(ARRAY['step', 'choice', 'for_each', 'child', 'sleep', 'wait', 'try']) AS word
    WHERE jsonb_typeof(first -> word) = 'string'
    UNION ALL
    SELECT {s}.first_names(branch)
    FROM (VALUES (first -> 'parallel'), (first -> 'graph'), (jsonb_build_array(first -> 'body'))) AS kind (branches),
        jsonb_array_elements(CASE jsonb_typeof(branches) WHEN 'array' THEN branches ELSE '[]' END)
            WITH ORDINALITY AS each (branch, place)
    WHERE NOT coalesce(first ? 'for_each' OR first -> 'after' ? (place - 1)::text, false)
        AND jsonb_typeof(branch) = 'array';
END $$
"""

_REGISTER = (
    _BEFORE._REGISTER.replace("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION").replace(
        "    IF opening IS NULL OR called IS NULL THEN",
        """    IF opening IS NULL THEN
        SELECT jsonb_agg(DISTINCT name) INTO opening FROM {s}.first_names(given -> 'steps') AS name;
    END IF;
    IF opening IS NULL OR called IS NULL THEN""",
    )
)  # fmt: skip

_OPEN = _BEFORE._OPEN.replace("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION")
for _old, _new in {
    "coalesce(d.opening, {s}.opening_of(d.doc -> 'steps', 'main')) || '{}'::jsonb AS opening": """
            CASE jsonb_typeof(d.opening) WHEN 'array' THEN d.opening || '[]'::jsonb
            ELSE coalesce(d.opening, {s}.opening_of(d.doc -> 'steps', 'main')) || '{}'::jsonb END AS opening""",
    "                 ELSE r.attempt = 1 AND w.opening ->> r.lane = r.step END AS fits": """
                 WHEN jsonb_typeof(w.opening) = 'array' THEN
                     (r.lane = 'main' OR r.lane LIKE 'main/%') AND length(r.lane) <= 2000 AND coalesce(r.attempt, 1) = 1
                     AND w.opening ? split_part(split_part(r.step, '[', 1), '#', 1)
                 ELSE r.attempt = 1 AND w.opening ->> r.lane = r.step END AS fits""",
    """        (SELECT bool_and(fits IS TRUE) AND count(*) FILTER (WHERE lane <> 'deadline') = (
            SELECT sum((SELECT count(*) FROM jsonb_object_keys(opening))) FROM wanted) FROM places),
""": """        (SELECT bool_and(fits IS TRUE) FROM places) AND (
            SELECT bool_and(CASE jsonb_typeof(opening) WHEN 'array' THEN counted.lanes > 0
                            ELSE counted.lanes = (SELECT count(*) FROM jsonb_object_keys(opening)) END IS TRUE)
            FROM wanted LEFT JOIN (
                SELECT id, count(*) AS lanes FROM places WHERE lane <> 'deadline' GROUP BY id) AS counted USING (id)),
""",
}.items():
    assert _old in _OPEN, _old
    _OPEN = _OPEN.replace(_old, _new)

_CHANGED = {"opening_of(jsonb, text)": _OPENING, "register(text, jsonb)": _REGISTER,
            "open(jsonb, jsonb, text, integer)": _OPEN}  # fmt: skip


def upgrade() -> None:
    schema = context.config.attributes["schema"]
    op.add_column("instance", sa.Column("parent_lane", sa.Text), schema=schema)
    op.add_column("instance", sa.Column("parent_step", sa.Text), schema=schema)
    op.create_index(
        "instance_parent", "instance", ["parent", "id"], schema=schema, postgresql_where=sa.text("parent IS NOT NULL")
    )
    op.add_column("work", sa.Column("until", sa.DateTime(timezone=True)), schema=schema)
    op.execute(_GRANT.format(schema=schema))
    op.execute(_GRANT_BEGIN.format(schema=schema))
    _run(_FIRST_NAMES)
    op.execute(f"REVOKE ALL ON FUNCTION {schema}.first_names(jsonb) FROM PUBLIC")
    for text in _CHANGED.values():
        _run(text)


# Who may append may begin parts of sagas.
_GRANT_BEGIN = """
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
        EXECUTE 'GRANT INSERT ON {schema}.instance TO ' || role;
    END LOOP;
END $$
"""

# Workers of this version start before the rights are granted anew: whoever may write one time may write the other.
_GRANT: str = import_module("saga.migrations.versions.0011_phases")._GRANT.replace("(phase)", "(until)")


def _run(text: str) -> None:
    schema = context.config.attributes["schema"]
    op.execute(sa.text(_BEFORE._filled(text, schema).replace(":", r"\:")))


def downgrade() -> None:
    schema = context.config.attributes["schema"]
    for signature in _CHANGED:
        text = _BEFORE._FUNCTIONS[signature]
        _run(text.replace("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION"))
    op.execute(f"DROP FUNCTION {schema}.first_names(jsonb)")
    op.drop_column("work", "until", schema=schema)
    op.drop_index("instance_parent", "instance", schema=schema)
    for name in ("parent_lane", "parent_step"):
        op.drop_column("instance", name, schema=schema)
