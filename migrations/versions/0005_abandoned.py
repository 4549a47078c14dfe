"""A status more: an operator may end a saga without undoing more.

Revision: 0005
Revises: 0004
"""

from __future__ import annotations

from alembic import context, op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_BEFORE = ("running", "paused", "compensating", "completed", "compensated", "stuck")
_ENDED = ("completed", "compensated")


def upgrade() -> None:
    _allow((*_BEFORE, "abandoned"), (*_ENDED, "abandoned"))


def downgrade() -> None:
    """What was abandoned is for an operator to look at again: no status that says that it is finished would be true."""
    schema = context.config.attributes["schema"]
    op.execute(f"UPDATE {schema}.instance SET status = 'stuck', finished_at = NULL WHERE status = 'abandoned'")
    _allow(_BEFORE, _ENDED)


def _allow(statuses: tuple[str, ...], ended: tuple[str, ...]) -> None:
    schema = context.config.attributes["schema"]
    checks = {
        "instance_status_known": f"status IN ({_texts(statuses)})",
        "instance_finished_when_terminal": f"(finished_at IS NOT NULL) = (status IN ({_texts(ended)}))",
    }
    changes = [f"DROP CONSTRAINT {name}, ADD CONSTRAINT {name} CHECK ({check})" for name, check in checks.items()]
    op.execute(f"ALTER TABLE {schema}.instance {', '.join(changes)}")


def _texts(words: tuple[str, ...]) -> str:
    return ", ".join(f"'{word}'" for word in words)
