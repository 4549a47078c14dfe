"""Admin: sagas to look at, and nothing else. To act on them, use the command line or the API.

Every query is bounded, however many sagas there are: nothing is counted beyond a few pages, each filter has an index, and
what is large is cut by the database. SELECT on the schema is all it takes.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Any

from django.contrib import admin
from django.core.paginator import Paginator
from django.db import connections
from django.db.models import BooleanField, Q, QuerySet, TextField
from django.db.models.expressions import RawSQL
from django.db.models.functions import Cast, Left
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from saga.cli.output import inert
from saga.contrib.django.conf import alias, schema
from saga.contrib.django.models import Saga
from saga.core.state import Status
from saga.errors import counted
from saga.store.postgres.short_ids import range_of

_COUNTED = 1000
_SHORTEST = 4
"""Digits of an id to search by: fewer are in too many."""
_CUT = 2000
"""Characters of a text that are shown."""
_ENDS = 100
"""Entries that are shown of either end of a log."""
_COLUMNS = ("seq", "at", "kind", "lane", "step", "attempt", "worker", "data")
_UNLISTED = ("reason", "tags", "realm", "fingerprint", "notable")


class BoundedPaginator(Paginator):
    """Counts up to a thousand, then there are no more pages: filters lead further."""

    @cached_property
    def count(self) -> int:
        found: int = self.object_list[:_COUNTED].count()
        return found


class StatusFilter(admin.SimpleListFilter):
    """By status, each by an index, as ``saga list --status`` does it."""

    title = "status"
    parameter_name = "status"

    def lookups(self, *_: Any) -> list[tuple[str, str]]:
        return [(str(status), str(status)) for status in Status]

    def queryset(self, _: Any, sagas: QuerySet) -> QuerySet:
        status = self.value()
        if status is None:
            return sagas
        if status == Status.RUNNING:
            # Running sagas are found through their work, for no index has that status. As an array, for any estimate of the planner.
            newest = f'SELECT DISTINCT saga_id FROM "{schema()}".work ORDER BY saga_id DESC LIMIT {_COUNTED}'
            at_work = RawSQL(f'"{schema()}".instance.id = ANY(ARRAY({newest}))', (), output_field=BooleanField())
            return sagas.filter(at_work, status=status)
        return sagas.filter(**{"status" if status == Status.COMPLETED else "notable": status})


class NameFilter(admin.SimpleListFilter):
    """By name: of the definitions, which are few."""

    title = "name"
    parameter_name = "name"

    def lookups(self, *_: Any) -> list[tuple[str, str]]:
        with connections[alias()].cursor() as cursor:
            cursor.execute(f'SELECT DISTINCT name FROM "{schema()}".definition ORDER BY name LIMIT 200')
            return [(name, inert(name)) for (name,) in cursor.fetchall()]

    def queryset(self, _: Any, sagas: QuerySet) -> QuerySet:
        return sagas if self.value() is None else sagas.filter(name=self.value())


@admin.register(Saga)
class SagaAdmin(admin.ModelAdmin):
    """A list of sagas, and each with its log."""

    list_display = ("id", "named", "status", "keyed", "started_at", "finished_at")
    list_filter = (StatusFilter, NameFilter)
    search_fields = ("key",)
    search_help_text = "A key, saga/key, or the beginning of an id"
    ordering = ("-id",)
    sortable_by = ()
    actions = None
    paginator = BoundedPaginator
    show_full_result_count = False
    show_facets = getattr(getattr(admin, "ShowFacets", None), "NEVER", None)
    list_max_show_all = _COUNTED
    fields = (
        "id",
        "named",
        "status",
        "why",
        "keyed",
        "tagged",
        "owner",
        "started_at",
        "updated_at",
        "finished_at",
        "log",
    )
    readonly_fields = fields

    def has_add_permission(self, *_: Any, **__: Any) -> bool:
        return False

    def has_change_permission(self, *_: Any, **__: Any) -> bool:
        return False

    def has_delete_permission(self, *_: Any, **__: Any) -> bool:
        return False

    def get_queryset(self, request: Any) -> QuerySet:
        """The sagas, without what may be large."""
        return super().get_queryset(request).using(alias()).defer(*_UNLISTED)

    def get_search_results(self, _: Any, sagas: QuerySet, term: str) -> tuple[QuerySet, bool]:
        """By what has an index: a whole key, the beginning of an id."""
        term = term.strip()
        if not term:
            return sagas, False
        name, _, key = term.partition("/")
        found = Q(key=term) | Q(name=name, key=key)
        between = range_of(term) if len(term) >= _SHORTEST else None
        return sagas.filter(found | Q(id__range=between) if between else found), False

    @admin.display(description="name")
    def named(self, saga: Saga) -> str:
        return _short(saga.name)

    @admin.display(description="key", empty_value="-")
    def keyed(self, saga: Saga) -> str | None:
        return None if saga.key is None else _short(saga.key)

    @admin.display(description="realm")
    def owner(self, saga: Saga) -> str:
        return _short(saga.realm)

    @admin.display(description="reason")
    def why(self, saga: Saga) -> str:
        return _cut(saga, "reason")

    @admin.display(description="tags")
    def tagged(self, saga: Saga) -> str:
        return _cut(saga, "tags")

    @admin.display(description="log")
    def log(self, saga: Saga) -> SafeString:
        """The entries of the saga, from its beginning and up to its end."""
        rows = list(_entries(saga))
        head = format_html_join("", "<th>{}</th>", ((column,) for column in _COLUMNS))
        return format_html("<table><thead><tr>{}</tr></thead><tbody>{}</tbody></table>", head, _lines(rows))


def _entries(saga: Saga) -> Iterator[tuple[Any, ...]]:
    part = f"""
        (SELECT seq, at, kind, lane, step, attempt, worker, left(data::text, {_CUT + 1})
        FROM "{schema()}".log WHERE saga_id = %s ORDER BY seq {{}} LIMIT {_ENDS})
    """
    with connections[alias()].cursor() as cursor:
        cursor.execute(f"{part.format('')} UNION {part.format('DESC')} ORDER BY seq", [saga.id, saga.id])
        yield from cursor.fetchall()


def _lines(rows: list[tuple[Any, ...]]) -> SafeString:
    cells = (
        (_line([*row[:-1], _short(row[-1])]), _gap(row, after))
        for row, after in zip(rows, [*rows[1:], None], strict=True)
    )
    return format_html_join("", "<tr>{}</tr>{}", cells)


def _line(values: list[Any]) -> SafeString:
    return format_html_join("", "<td>{}</td>", (("" if value is None else inert(str(value)),) for value in values))


def _gap(row: tuple[Any, ...], after: tuple[Any, ...] | None) -> str:
    missing = 0 if after is None else after[0] - row[0] - 1
    return (
        format_html('<tr><td colspan="{}">… {} …</td></tr>', len(_COLUMNS), counted(missing, "entry", "entries"))
        if missing
        else ""
    )


def _cut(saga: Saga, column: str) -> str:
    """A column of a saga, no more of it than is shown."""
    found = Saga._base_manager.using(alias()).filter(pk=saga.pk)
    text = found.values_list(Left(Cast(column, TextField()), _CUT + 1), flat=True).first()
    return "-" if text is None else _short(text)


def _short(text: str) -> str:
    return inert(text if len(text) <= _CUT else f"{text[:_CUT]}…")
