"""The barrier: an effect in another database comes once, and not after its undo."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID, uuid4

import pytest
import sqlalchemy
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.orm import Session

import saga
from saga import AbandonedStep, Abort, BarrierError
from saga.barriers import create_table
from saga.cli.root import saga as command_line
from saga.context import Current, action_key, reset_current, set_current, undo_key
from saga.dev import Stack

SAGA = UUID(int=1)


@contextmanager
def attempt(step: str = "debit", *, undo: bool = False, saga_id: UUID = SAGA, number: int = 1) -> Iterator[None]:
    """Be an attempt of a step."""
    key = undo_key(saga_id, step) if undo else action_key(saga_id, step)
    token = set_current(Current(saga_id, "transfer", step, number, key, action_key(saga_id, step), undo))
    try:
        yield
    finally:
        reset_current(token)


def make_bank(url: str) -> Engine:
    engine = create_engine(url)
    create_table(engine)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE effect (what text)"))
    return engine


@pytest.fixture(params=["postgres", "sqlite"])
def bank(request: pytest.FixtureRequest, tmp_path: Path, stack: Stack) -> Iterator[Engine]:
    if request.param == "sqlite":
        engine = make_bank(f"sqlite:///{tmp_path / 'bank.db'}")
    else:
        engine = make_bank(stack.postgres.create_database(f"bank_{uuid4().hex}"))
    yield engine
    engine.dispose()


@pytest.fixture
def postgres_bank(stack: Stack) -> Iterator[Engine]:
    engine = make_bank(stack.postgres.create_database(f"bank_{uuid4().hex}"))
    yield engine
    engine.dispose()


def debit(bank: Engine, *, name: str = "") -> bool:
    """The action, as the documentation writes it."""
    with bank.begin() as connection, saga.barrier(connection, name) as first:
        if first:
            connection.execute(text("INSERT INTO effect VALUES ('debit')"))
        return first


def give_back(bank: Engine) -> bool:
    """Its undo."""
    with bank.begin() as connection, saga.barrier(connection) as first:
        if first:
            connection.execute(text("INSERT INTO effect VALUES ('give back')"))
        return first


def effects(bank: Engine) -> list[str]:
    with bank.connect() as connection:
        return list(connection.execute(text("SELECT what FROM effect ORDER BY what")).scalars())


def rows(bank: Engine) -> list[tuple[str, str]]:
    with bank.connect() as connection:
        found = connection.execute(text("SELECT key, reason FROM saga_barrier ORDER BY key"))
        return [tuple(row) for row in found]


# --- the three guarantees ---------------------------------------------------------------------------------------------


def test_a_duplicate_action_is_skipped(bank: Engine) -> None:
    with attempt():
        assert debit(bank)
    with attempt(number=2):
        assert not debit(bank)
    assert effects(bank) == ["debit"]


def test_a_duplicate_undo_is_skipped(bank: Engine) -> None:
    with attempt():
        debit(bank)
    with attempt(undo=True):
        assert give_back(bank)
    with attempt(undo=True, number=2):
        assert not give_back(bank)
    assert effects(bank) == ["debit", "give back"]


def test_an_undo_whose_action_never_ran_is_an_empty_success(bank: Engine) -> None:
    for number in (1, 2):
        with attempt(undo=True, number=number):
            assert not give_back(bank)
    assert effects(bank) == []
    assert rows(bank) == [(f"{SAGA}/debit", "undo"), (f"{SAGA}/debit/undo", "undo")]


@pytest.mark.parametrize("ran_before", [False, True])
def test_an_action_that_arrives_after_its_undo_is_refused(bank: Engine, ran_before: bool) -> None:
    if ran_before:
        with attempt():
            debit(bank)
    with attempt(undo=True):
        give_back(bank)
    before = effects(bank)
    with attempt(number=2):
        if ran_before:
            assert not debit(bank)
        else:
            with pytest.raises(AbandonedStep, match=rf"transfer\[{SAGA}\], step debit: its undo was here before it"):
                debit(bank)
    assert effects(bank) == before


@given(calls=st.lists(st.tuples(st.sampled_from(["do", "undo"]), st.booleans()), max_size=12))
def test_in_any_order_of_calls_and_crashes_the_effect_comes_once_and_is_undone_once(
    calls: list[tuple[str, bool]],
) -> None:
    bank = create_engine("sqlite://", poolclass=sqlalchemy.StaticPool)
    with bank.begin() as connection:
        connection.execute(text("CREATE TABLE effect (what text)"))
    create_table(bank)
    for number, (call, crashes) in enumerate(calls, 1):
        with attempt(undo=call == "undo", number=number):
            call_once(bank, call, crashes=crashes)
    committed = [call for call, crashes in calls if not crashes]
    # What comes to its commit first decides: an action is had, and undone at the first undo; an undo leaves nothing to do.
    expected = ["debit"] if committed[:1] == ["do"] else []
    expected += ["give back"] if expected and "undo" in committed else []
    assert effects(bank) == expected
    bank.dispose()


def call_once(bank: Engine, call: str, *, crashes: bool) -> None:
    """A call that may crash before its commit."""
    with contextlib.suppress(InterruptedError, AbandonedStep), bank.begin() as connection:
        with saga.barrier(connection) as first:
            if first:
                what = "debit" if call == "do" else "give back"
                connection.execute(text("INSERT INTO effect VALUES (:what)"), {"what": what})
        if crashes:
            raise InterruptedError


def test_an_undo_waits_for_an_action_that_is_not_committed_yet(postgres_bank: Engine) -> None:
    bank = postgres_bank
    undone = threading.Event()

    def undo() -> None:
        with attempt(undo=True):
            give_back(bank)
        undone.set()

    with bank.connect() as connection:
        with attempt(), connection.begin(), saga.barrier(connection) as first:
            assert first
            connection.execute(text("INSERT INTO effect VALUES ('debit')"))
            thread = threading.Thread(target=undo)
            thread.start()
            with bank.connect() as other:
                while not other.execute(
                    text("SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = 'transactionid'")
                ).scalar():
                    other.rollback()
            assert not undone.is_set()
        thread.join()
    assert effects(bank) == ["debit", "give back"]


# --- the block and its transaction ------------------------------------------------------------------------------------


def test_a_block_that_does_not_ask_has_its_effect_once_all_the_same(bank: Engine) -> None:
    for number in (1, 2):
        with attempt(number=number), bank.begin() as connection, saga.barrier(connection):
            connection.execute(text("INSERT INTO effect VALUES ('debit')"))
    assert effects(bank) == ["debit"]


def test_what_comes_after_a_skipped_block_is_kept(bank: Engine) -> None:
    for number in (1, 2):
        with attempt(number=number), bank.begin() as connection:
            with saga.barrier(connection):
                connection.execute(text("INSERT INTO effect VALUES ('debit')"))
            connection.execute(text("INSERT INTO effect VALUES ('note')"))
    assert effects(bank) == ["debit", "note", "note"]


def test_the_row_and_the_effect_are_rolled_back_together(bank: Engine) -> None:
    with attempt(), bank.connect() as connection:
        connection.begin()
        with saga.barrier(connection):
            connection.execute(text("INSERT INTO effect VALUES ('debit')"))
        connection.rollback()
    assert effects(bank) == []
    assert rows(bank) == []
    with attempt(number=2):
        assert debit(bank)


def test_an_error_in_a_skipped_block_is_raised(bank: Engine) -> None:
    with attempt():
        debit(bank)
    with attempt(number=2), pytest.raises(ZeroDivisionError), bank.begin() as connection, saga.barrier(connection):
        raise ZeroDivisionError
    assert effects(bank) == ["debit"]


@pytest.mark.parametrize("opened", [Engine.connect, Session], ids=["connection", "session"])
def test_without_a_transaction_the_barrier_begins_and_commits_one(bank: Engine, opened: Callable[..., Session]) -> None:
    with attempt(), opened(bank) as connection, saga.barrier(connection) as first:
        assert first
        connection.execute(text("INSERT INTO effect VALUES ('debit')"))
    assert effects(bank) == ["debit"]
    with attempt(number=2), opened(bank) as connection, saga.barrier(connection) as first:
        assert not first


def test_a_session_that_has_begun_is_joined(bank: Engine) -> None:
    with attempt(), Session(bank) as session:
        session.execute(text("INSERT INTO effect VALUES ('note')"))
        with saga.barrier(session):
            session.execute(text("INSERT INTO effect VALUES ('debit')"))
        session.rollback()
    assert effects(bank) == []
    assert rows(bank) == []


def test_blocks_of_one_step_are_told_apart_by_name(bank: Engine) -> None:
    with attempt():
        assert debit(bank, name="one")
        assert debit(bank, name="two")
    with attempt(number=2):
        assert not debit(bank, name="one")
    assert effects(bank) == ["debit", "debit"]


def test_steps_and_sagas_are_told_apart(bank: Engine) -> None:
    for step, saga_id in (("debit", SAGA), ("fee", SAGA), ("debit", UUID(int=2))):
        with attempt(step, saga_id=saga_id):
            assert debit(bank)


def test_a_database_without_insert_on_conflict_is_guarded_by_savepoints(
    postgres_bank: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    bank = postgres_bank
    monkeypatch.setattr("saga.barriers._ON_CONFLICT", {})
    with attempt():
        assert debit(bank)
    with attempt(undo=True):
        assert give_back(bank)
    with attempt(undo=True, number=2):
        assert not give_back(bank)
    assert effects(bank) == ["debit", "give back"]


def test_a_block_that_fails_leaves_no_row_even_if_the_caller_goes_on_and_commits(bank: Engine) -> None:
    with attempt(), bank.begin() as connection:
        with contextlib.suppress(Abort), saga.barrier(connection):
            connection.execute(text("INSERT INTO effect VALUES ('debit')"))
            raise Abort("not enough")
        connection.execute(text("INSERT INTO effect VALUES ('note')"))
    assert effects(bank) == ["note"]
    with attempt(undo=True):
        assert not give_back(bank)


def test_what_is_rolled_back_with_the_callers_transaction_stays_away_in_sqlite_too(bank: Engine) -> None:
    with attempt(), bank.connect() as connection:
        transaction = connection.begin()
        with saga.barrier(connection):
            connection.execute(text("INSERT INTO effect VALUES ('debit')"))
        transaction.rollback()
    assert effects(bank) == []
    assert rows(bank) == []


# --- wrong use --------------------------------------------------------------------------------------------------------


def test_a_second_block_under_one_name_is_skipped_with_a_warning(
    bank: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    with attempt():
        assert debit(bank)
        assert "twice" not in caplog.text
        assert not debit(bank)
    assert "step debit: it passes a barrier in" in caplog.text
    assert "give each a name of its own" in caplog.text
    assert effects(bank) == ["debit"]


@pytest.mark.parametrize("opened", [Engine.connect, Session], ids=["connection", "session"])
def test_a_skipped_block_cannot_commit(bank: Engine, opened: Callable[..., Session]) -> None:
    with attempt():
        debit(bank)
    with attempt(number=2), opened(bank) as connection:
        connection.begin()
        with saga.barrier(connection):
            connection.execute(text("INSERT INTO effect VALUES ('debit')"))
            with pytest.raises(BarrierError, match="let it ask `if first`"):
                connection.commit()
    assert effects(bank) == ["debit"]
    with bank.connect() as connection:
        connection.commit()
    assert effects(bank) == ["debit"]


def test_a_block_that_is_tried_again_after_its_transaction_failed_is_no_second_one(
    bank: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    with attempt():
        with bank.connect() as connection, connection.begin() as transaction:
            with saga.barrier(connection):
                connection.execute(text("INSERT INTO effect VALUES ('debit')"))
            transaction.rollback()
        assert debit(bank)
    assert "twice" not in caplog.text
    assert effects(bank) == ["debit"]


def test_an_error_that_is_not_about_the_table_is_left_as_it_is(postgres_bank: Engine) -> None:
    bank = postgres_bank
    with bank.begin() as holder, bank.connect() as connection, attempt(), saga.barrier(holder):
        connection.execute(text("SET lock_timeout = '10ms'"))
        with attempt(number=2), pytest.raises(sqlalchemy.exc.OperationalError, match="lock timeout"):
            saga.barrier(connection).__enter__()


def test_a_block_that_failed_may_be_tried_again_in_the_same_attempt(bank: Engine) -> None:
    with attempt():
        with pytest.raises(ZeroDivisionError), bank.begin() as connection, saga.barrier(connection):
            raise ZeroDivisionError
        assert debit(bank)


def test_outside_a_saga_there_is_no_barrier(bank: Engine) -> None:
    with pytest.raises(BarrierError, match="does not run in one"):
        debit(bank)


@pytest.mark.parametrize("opened", [Engine.connect, Session], ids=["connection", "session"])
def test_a_connection_that_commits_each_statement_is_refused(bank: Engine, opened: Callable[..., Session]) -> None:
    engine = create_engine(bank.url, isolation_level="AUTOCOMMIT")
    with attempt(), opened(engine) as connection, pytest.raises(BarrierError, match="AUTOCOMMIT"):
        saga.barrier(connection).__enter__()
    assert rows(bank) == []
    engine.dispose()


def test_sqlite_with_transactions_of_its_own_is_no_autocommit(tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path / 'bank.db'}", isolation_level="AUTOCOMMIT")
    sqlalchemy.event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN"))
    create_table(engine)
    with attempt(), engine.begin() as connection, saga.barrier(connection) as first:
        assert first
    engine.dispose()


def test_a_database_without_the_table_says_how_to_make_it(tmp_path: Path, stack: Stack) -> None:
    for url in (f"sqlite:///{tmp_path / 'empty.db'}", stack.postgres.create_database(f"empty_{uuid4().hex}")):
        engine = create_engine(url)
        with attempt(), pytest.raises(BarrierError, match="run `saga db barrier --url URL`"):
            debit(engine)
        engine.dispose()


def test_something_else_than_a_connection_is_refused() -> None:
    with attempt(), pytest.raises(BarrierError, match="expected a SQLAlchemy Connection or Session"):
        saga.barrier("postgresql://").__enter__()  # type: ignore[arg-type]


def test_a_snapshot_that_cannot_see_the_other_transaction_is_an_error_and_no_success(postgres_bank: Engine) -> None:
    bank = postgres_bank
    snapshot = bank.execution_options(isolation_level="REPEATABLE READ")
    with snapshot.connect() as connection, connection.begin():
        connection.execute(text("SELECT 1 FROM effect")).all()
        with attempt():
            debit(bank)
        with attempt(number=2), pytest.raises((BarrierError, sqlalchemy.exc.OperationalError)):
            saga.barrier(connection).__enter__()


# --- the command ------------------------------------------------------------------------------------------------------


def test_the_command_makes_the_table_and_may_be_repeated(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'bank.db'}"
    made = CliRunner().invoke(command_line, ["db", "barrier", "--url", url])
    again = CliRunner().invoke(command_line, ["db", "barrier", "--url", url])
    assert (made.exit_code, again.exit_code) == (0, 0)
    assert "made the table saga_barrier" in made.output
    assert "has the table saga_barrier" in again.output
    engine = create_engine(url)
    assert sqlalchemy.inspect(engine).has_table("saga_barrier")
    engine.dispose()


def test_the_command_prints_the_statement_for_someone_who_runs_it_by_hand(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'bank.db'}"
    printed = CliRunner().invoke(command_line, ["db", "barrier", "--sql", "--url", url])
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text(printed.output))
        connection.execute(text("CREATE TABLE effect (what text)"))
    with attempt():
        assert debit(engine)
    engine.dispose()


@pytest.mark.parametrize(
    ("url", "problem", "code"),
    [
        ("bank", "Could not parse", 2),
        ("nonsense://host/bank", "Can't load plugin", 2),
        ("postgresql://user:geheim@127.0.0.1:1/bank", "Connection refused", 1),
        ("postgresql://user:geheim@127.0.0.1:port/bank", "expected a URL", 2),
        ("postgresql://user:ge@heim@geheim@127.0.0.1:1/bank", "two @", 2),
    ],
)
def test_the_command_says_what_is_wrong_and_no_password(url: str, problem: str, code: int) -> None:
    result = CliRunner().invoke(command_line, ["db", "barrier", "--url", url])
    assert result.exit_code == code
    assert problem in result.output
    assert "geheim" not in result.output
