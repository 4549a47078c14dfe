"""Finding sagas in a large log: the answer is the right one, and it comes from an index, whatever is asked."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from psycopg.types.json import Jsonb

from saga import SagaNotFound, Status
from saga.client.ids import uuid7
from saga.store.postgres.database import Link, Row
from saga.worker.claimer import Claimer
from tests.integration.conftest import Bench

START = datetime(2026, 1, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
SAGAS = 6000

QUESTIONS: dict[str, dict[str, Any]] = {
    "all": {},
    "name": {"saga": "common"},
    "rare name": {"saga": "rare"},
    "unknown name": {"saga": "unknown"},
    "key": {"key": "key-77"},
    "key and name": {"key": "key-77", "saga": "common"},
    **{f"status {status}": {"status": status} for status in Status},
    "name and a status that none has": {"saga": "common", "status": "paused"},
    "rare name and status": {"saga": "rare", "status": "compensated"},
    "rare name, running": {"saga": "rare", "status": "running"},
    "several statuses": {"status": ["stuck", "running", "stuck", "compensated"]},
    "tag of many": {"tags": {"country": "de"}},
    "tag of few": {"tags": {"customer": 77}},
    "tag of none": {"tags": {"customer": -1}},
    "tag of few and status": {"tags": {"customer": 77}, "status": "compensated"},
    "tag of many and status": {"tags": {"country": "de"}, "status": "stuck"},
    "since": {"since": START + 5990 * MINUTE},
    "since later than all": {"since": START + 9000 * MINUTE},
    "until": {"until": START + 10 * MINUTE},
    "until earlier than all": {"until": START - 10 * MINUTE},
    "a while": {"since": START + 3000 * MINUTE, "until": START + 3020 * MINUTE},
    "a while and name": {"since": START + 3000 * MINUTE, "until": START + 3400 * MINUTE, "saga": "rare"},
    "a while and status": {"since": START + 3000 * MINUTE, "until": START + 3400 * MINUTE, "status": "stuck"},
}


def fill(bench: Bench) -> list[tuple[Any, ...]]:
    """A saga a minute, newest last; every hundredth was started by a client whose clock is a day off."""
    chance = random.Random(7)
    rows = []
    for number in range(SAGAS):
        started_at = START + number * MINUTE
        ids_time = started_at + timedelta(days=number % 3 - 1 if number % 100 == 0 else 0)
        saga_id = UUID(int=int(ids_time.timestamp() * 1000) << 80 | uuid7().int & ((1 << 80) - 1))
        status = chance.choices(["completed", "compensated", "stuck", "running"], [970, 25, 4, 1])[0]
        name = "rare" if number % 200 == 0 else "common"
        country = chance.choice(["de", "fr"])
        tags = {"customer": number // 3, "country": country} if number % 2 else None
        ended_at = started_at if status in ("completed", "compensated") else None
        rows.append((saga_id, name, f"key-{number}", status, tags, started_at, ended_at))
    with bench.connect() as connection:
        connection.cursor().executemany(
            "INSERT INTO saga.instance (id, name, fingerprint, key, status, tags, input_hash, started_at, updated_at, finished_at) "
            "VALUES (%s, %s, 'f', %s, %s, %s, 'h', %s, now(), %s)",
            [(*row[:4], row[4] and Jsonb(row[4]), *row[5:]) for row in rows],
        )
        connection.execute(
            "INSERT INTO saga.work (saga_id, lane, step, undo, fingerprint, queue, due_at, dispatches) "
            "SELECT id, 'main', 'a', false, 'f', 'q', 'infinity', 0 FROM saga.instance WHERE status = 'running'"
        )
        connection.commit()
        connection.execute("ANALYZE saga.instance, saga.work")
    return rows


@pytest.fixture
def rows(bench: Bench) -> list[tuple[Any, ...]]:
    return fill(bench)


@contextmanager
def plans() -> Iterator[list[dict[str, Any]]]:
    """How Postgres goes about what is asked meanwhile."""
    seen: list[dict[str, Any]] = []
    run = Link.run_planned

    def explained(self: Link, statement: str, params: Any) -> list[Row]:
        seen.append(run(self, f"EXPLAIN (FORMAT JSON) {statement}", params)[0][0][0]["Plan"])
        return run(self, statement, params)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Link, "run_planned", explained)
        yield seen


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", ()):
        yield from nodes(child)


def test_whatever_is_asked_an_index_has_it(bench: Bench, rows: list[tuple[Any, ...]]) -> None:
    scans = {}
    for question, given in QUESTIONS.items():
        with plans() as seen:
            bench.orchestrator.find(**given)
        found = [node for plan in seen for node in nodes(plan) if node.get("Relation Name") == "instance"]
        assert {node["Node Type"] for node in found} <= {"Index Scan", "Bitmap Heap Scan", "Index Only Scan"}, question
        scans[question] = {node["Index Name"] for plan in seen for node in nodes(plan) if "Index Name" in node}
    notable = {"instance_notable", "instance_name_notable"}
    assert scans["status stuck"] <= notable
    assert scans["name and a status that none has"] <= notable
    assert scans["tag of many and status"] <= notable
    assert scans["rare name"] == {"instance_name"}
    assert scans["key"] == {"instance_key_name"}
    assert scans["tag of few"] == {"instance_tags"}
    assert scans["a while"] == {"instance_pkey", "instance_skewed"}


def test_a_page_in_order_is_read_in_order(bench: Bench, rows: list[tuple[Any, ...]]) -> None:
    """Without a sort of all that match, of which there may be many more than a page holds."""
    for question in ("all", "name", "status completed", "status compensated", "tag of many"):
        with plans() as seen:
            bench.orchestrator.find(**QUESTIONS[question], limit=10)
        assert "Sort" not in {node["Node Type"] for plan in seen for node in nodes(plan)}, question


def test_all_that_match_are_found_once_newest_first(bench: Bench, rows: list[tuple[Any, ...]]) -> None:
    """Also those whose ids a wrong clock has made, and whatever is combined, page by page."""
    newest_first = sorted(rows, key=lambda row: row[0].int, reverse=True)
    for (one, given), (two, more) in itertools.combinations_with_replacement(QUESTIONS.items(), 2):
        if one != two and given.keys() & more.keys():
            continue
        asked = {**given, **more}
        expected = [row[0] for row in newest_first if matches(row, **asked)]
        found = [handle.id for handle in bench.orchestrator.find(**asked, limit=SAGAS)]
        assert found == expected, (one, two)
        middle = expected[len(expected) // 2 :][:1]
        page = bench.orchestrator.find(**asked, limit=3, after=middle[0] if middle else None)
        assert [handle.id for handle in page] == expected[len(expected) // 2 :][1:4], (one, two)


def matches(row: tuple[Any, ...], saga: str | None = None, status: str | list[str] | None = None, key: str | None = None,
            tags: dict[str, Any] | None = None, since: datetime | None = None, until: datetime | None = None) -> bool:  # fmt: skip
    _, name, own_key, own_status, own_tags, started_at, _ = row
    return (
        (saga is None or name == saga)
        and (status is None or own_status in ([status] if isinstance(status, str) else status))
        and (key is None or own_key == key)
        and (tags is None or tags.items() <= (own_tags or {}).items())
        and (since is None or started_at >= since)
        and (until is None or started_at < until)
    )


def test_a_moment_without_a_zone_is_in_utc(bench: Bench, rows: list[tuple[Any, ...]]) -> None:
    (zone,) = bench.sql("SHOW TimeZone")[0]
    assert zone in ("UTC", "Etc/UTC", "GMT")
    naive = (START + 5000 * MINUTE).replace(tzinfo=None)
    aware = bench.orchestrator.find(since=START + 5000 * MINUTE, limit=SAGAS)
    assert bench.orchestrator.find(since=naive, limit=SAGAS) == aware
    assert len(aware) == 1000


def test_the_ends_of_time_are_moments_too(bench: Bench, rows: list[tuple[Any, ...]]) -> None:
    for zone in (UTC, None):
        first, last = datetime.min.replace(tzinfo=zone), datetime.max.replace(tzinfo=zone)
        assert len(bench.orchestrator.find(since=first, until=last, limit=SAGAS)) == SAGAS
        assert bench.orchestrator.find(since=last) == bench.orchestrator.find(until=first) == []


def test_a_saga_that_completes_has_its_index_row_updated_in_place(bench: Bench) -> None:
    """No index of ``instance`` is touched then; that is why none may contain the status."""
    worker = bench.worker()
    for number in range(20):
        handle = bench.start(key=f"k{number}", tags={"number": number})
        bench.finish(worker, Claimer(worker).claim(handle.id, "main"))
    bench.orchestrator.close()  # sessions report what they did at the latest when they end
    query = (
        "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE schemaname = 'saga' AND relname = 'instance'"
    )
    bench.until(lambda: bench.sql(query) == [(20, 20)], "twenty updates in place")


def test_a_clock_that_is_off_is_noted(bench: Bench) -> None:
    handle = bench.start()
    assert bench.sql("SELECT skewed FROM saga.instance WHERE id = %s", handle.id) == [(None,)]
    bench.sql("UPDATE saga.instance SET started_at = started_at + interval '61 s'")
    assert bench.sql("SELECT skewed FROM saga.instance WHERE id = %s", handle.id) == [(True,)]


def test_the_parts_of_a_saga_are_found_by_it(bench: Bench, rows: list[tuple[Any, ...]]) -> None:
    whole, *parts = (row[0] for row in rows[100:106])
    bench.sql(
        "UPDATE saga.instance SET parent = %s, parent_lane = 'main', parent_step = 'a' WHERE id = ANY(%s)", whole, parts
    )
    bench.sql("ANALYZE saga.instance")
    with plans() as seen:
        found = bench.orchestrator.find(parent=whole)
    assert [handle.id for handle in found] == sorted(parts, reverse=True)
    assert {handle.id for handle in bench.orchestrator.find(parent=str(whole), limit=2)} <= set(parts)
    assert bench.orchestrator.find(parent=bench.orchestrator.get(parts[0])) == []
    assert {node["Index Name"] for node in nodes(seen[0]) if "Index Name" in node} == {"instance_parent"}
    with pytest.raises(SagaNotFound):
        bench.orchestrator.find(parent="nobody")
