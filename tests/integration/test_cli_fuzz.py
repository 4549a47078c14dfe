"""Whatever is typed on the command line: an exit code of 0, 1 or 2, no traceback, and reading changes nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any
from uuid import UUID

import psycopg
import pytest
from celery import Celery
from click.testing import CliRunner, Result
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from saga import Orchestrator
from saga.cli import saga as cli
from saga.cli.context import Context
from saga.core.outcome import Failure, Outcome, Success
from saga.core.state import Status
from saga.dev import Stack
from saga.worker.claimer import Claimer
from saga.worker.recorder import Recorder
from tests.conftest import make_database
from tests.integration.conftest import SAGAS, act, never, undo

NOBODY = "01890a5d-ac96-774b-bcce-b302099a8057"
fuzzed = settings(
    deadline=None,
    derandomize=True,
    max_examples=150,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


class Shop:
    """An app with a few sagas in different states, and its command line."""

    def __init__(self, url: str) -> None:
        self.url = url.replace("+psycopg", "")
        self.app = Celery("fuzz", broker="memory://", set_as_current=False)
        for task in (act, undo):
            self.app.task(task.run, name=task.name, shared=False)
        self.orchestrator = Orchestrator(self.app, sagas=SAGAS, database_url=url)
        self.orchestrator.engine.publish = lambda _: None
        self.attempts = Recorder(self.orchestrator.engine, lambda: 1, inline_wait=0)
        self.ids = [str(self.orchestrator.start("sequence", {}, key=key, tags={"a": "b"}).id) for key in "abc"]
        self.go_on(self.ids[0], [Success(1)] * 4)
        self.go_on(self.ids[1], [Failure(RuntimeError("no"), final=True)])

    def go_on(self, saga_id: str, outcomes: Sequence[Outcome]) -> None:
        """Let attempts of a saga end like this."""
        for outcome in outcomes:
            run = Claimer(self.attempts).claim(UUID(saga_id), "main")
            assert run is not None
            self.attempts.record(run, outcome, never)

    def run(self, *words: str) -> Result:
        result = CliRunner().invoke(cli, words)
        told = f"{words!r} -> {result.exit_code}: {result.output[:2000]}"
        assert result.exception is None or isinstance(result.exception, SystemExit), (told, repr(result.exception))
        assert result.exit_code in (0, 1, 2), told
        assert "Traceback" not in result.output, told
        return result

    def rows(self) -> list[Any]:
        """All that is stored, in short."""
        tables = ("definition", "instance", "log", "work", "ping")
        query = " UNION ALL ".join(
            f"SELECT md5(string_agg(t::text, '' ORDER BY t::text)) FROM saga.{t} AS t" for t in tables
        )
        with psycopg.connect(self.url) as connection:
            return connection.execute(query.encode()).fetchall()


@pytest.fixture(scope="module")
def shop(stack: Stack) -> Iterator[Shop]:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("CELERY_BROKER_URL", raising=False)
        found = Shop(make_database(stack))
        patch.setattr("saga.cli.root.Context", lambda _: Context(None, found.app))
        yield found
        found.orchestrator.close()


odd = st.sampled_from(["", "-", "--", "-1", "0", "a=b", "=", "\x00", "a\x00", "\ud800", "\u202e", "💥", "9" * 5000, "x" * 9000,
                       "%(id)s", "{s}", "'; --", "null", "nan", "inf", NOBODY, "--help", "--json", "\n", "\x1b[2J"])  # fmt: skip
words = odd | st.text(max_size=12) | st.text(st.characters(categories=["Cs", "Cc", "Nd", "L"]), max_size=6)
names = st.sampled_from(["sequence", "forked", "a", "b"]) | words
moments = st.sampled_from(["2h", "1.5d", "30s", "99999999d", "9" * 400 + "h", "0001-01-01", "9999-12-31T23:59:59+00:00",
                           "9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00+23:59", "2026-07-01", "2026-13-01"]) | words  # fmt: skip
numbers = st.sampled_from(["1", "50", "1000", "1001", "-1", "2147483647", "2147483648", "9" * 30, "1.5"]) | words
texts = st.sampled_from(["{}", "[]", "1", '{"a": 1}', '{"a": "\\ud800"}', '{"a": "\\u0000"}', '{"a": NaN}', '{"a": 1e999}',
                         "[" * 100_000, '{"a":' * 3000, "9" * 5000, '"x"', '{"a": ' + "9" * 4400 + "}"]) | words  # fmt: skip
ids = st.integers(0, 2).map(lambda index: f"id {index}") | words


def option(name: str, values: st.SearchStrategy[str]) -> st.SearchStrategy[list[str]]:
    return st.just([]) | values.map(lambda value: [name, value]) | values.map(lambda value: [f"{name}={value}"])


def flag(name: str) -> st.SearchStrategy[list[str]]:
    return st.sampled_from([[], [name]])


def line(*parts: st.SearchStrategy[Any]) -> st.SearchStrategy[list[str]]:
    """A command line of parts, each a word or several."""
    return st.tuples(*parts).map(
        lambda found: [word for part in found for word in ([part] if isinstance(part, str) else part)]
    )


def command(*found: str) -> st.SearchStrategy[list[str]]:
    return st.sampled_from(found).map(str.split)


filters = line(
    option("--saga", names), option("--status", st.sampled_from(list(map(str, Status))) | words), option("--key", words),
    option("--tag", words), option("--tag", words), option("--since", moments), option("--until", moments),
)  # fmt: skip
as_json = flag("--json")
reads = st.one_of(
    line(command("list"), filters, option("--limit", numbers), option("--after", ids), as_json),
    line(command("show", "log"), ids, as_json),
    line(command("replay"), ids, option("--until", numbers), as_json),
    line(command("graph"), names, option("--format", st.sampled_from(["text", "mermaid"]) | words), as_json),
    line(command("check", "db current", "db sql"), as_json),
    line(command("list", "show", "log", "replay", "graph", "check", "db", "db current", "start", "skip"), st.lists(words, max_size=3)),
    st.lists(words, min_size=1, max_size=3),
)  # fmt: skip
on_record = line(option("--reason", words), option("--by", words))
asks = command("retry", "cancel", "compensate", "pause", "resume")
writes = st.one_of(
    line(command("start"), names, texts, option("--key", words), option("--tag", words), as_json),
    line(asks, ids, on_record),
    line(asks, filters, flag("--yes"), on_record),
    line(command("skip"), ids, names, option("--result", texts), flag("--undo"), on_record),
)


def with_ids(shop: Shop, found: list[str]) -> list[str]:
    """Put real ids in where the line means one."""
    known = {f"id {index}": saga_id for index, saga_id in enumerate(shop.ids)}
    return [known.get(word, word) for word in found]


@fuzzed
@given(found=reads)
def test_a_command_that_reads_ends_well_and_changes_nothing(shop: Shop, found: list[str]) -> None:
    before = shop.rows()
    shop.run(*with_ids(shop, found))
    assert shop.rows() == before


@fuzzed
@given(found=writes)
def test_a_command_that_writes_ends_well(shop: Shop, found: list[str]) -> None:
    shop.run(*with_ids(shop, found))


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 50_000, "9" * 5000], ids=["lists", "objects", "digits"])
def test_json_that_python_cannot_read_is_bad_usage(shop: Shop, text: str) -> None:
    for line in (["start", "sequence", text], ["skip", shop.ids[0], "a", "--result", text]):
        assert shop.run(*line).exit_code == 2


@pytest.mark.parametrize("wait", ["0", "1e10", "1e300", "nan", "-1", "x", "\ud800", ""])
def test_start_waits_for_any_number_of_seconds(shop: Shop, wait: str) -> None:
    key = f"waited for {wait!r}"
    shop.go_on(str(shop.orchestrator.start("sequence", {}, key=key).id), [Success(1)] * 4)
    result = shop.run("start", "sequence", "{}", "--key", key, "--wait", wait)
    assert result.exit_code == (0 if wait in ("0", "1e10", "1e300") else 2)


urls = st.sampled_from(["postgresql://127.0.0.1:1/x", "postgres://[::1]:1/x", "postgresql:///x?host=127.0.0.1&port=1",
                        "postgresql://127.0.0.1:1/x?connect_timeout=abc", "postgresql://127.0.0.1:1/x?a=1&a=2",
                        "postgresql://127.0.0.1:1/x?autocommit=1", "postgresql://127.0.0.1:1/x?row_factory=1",
                        "postgresql://127.0.0.1:1/x?sslmode=1", "postgresql://127.0.0.1:99999/x", "sqlite://",
                        "postgresql://127.0.0.1:1/x?prepare_threshold=x", "postgresql://127.0.0.1:1/\x00",
                        "postgresql://127.0.0.1:1/\ud800", "postgresql+nothing://127.0.0.1:1/x"]) | words  # fmt: skip


@fuzzed
@given(url=urls, name=st.sampled_from(["current", "upgrade"]))
def test_no_url_ends_in_a_traceback(shop: Shop, url: str, name: str) -> None:
    result = shop.run("db", name, f"--url={url}")
    assert result.exit_code == 1
