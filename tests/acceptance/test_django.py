"""Sagas in a Django project: its settings, its transactions, its workers, its command line and its admin."""

from __future__ import annotations

import importlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from saga import Handle, Orchestrator, SagaCompensated, Status, config
from saga.crashpoints import Strike, arm, is_armed
from saga.dev import Stack, Worker
from saga.store.postgres import transaction
from tests.acceptance.conftest import HERE, PATIENCE

pytestmark = pytest.mark.acceptance

SITE = HERE / "django_site"


class Project:
    """The project, set up in this process as in a web server's, and a worker of it."""

    def __init__(self, stack: Stack, folder: Path) -> None:
        url = stack.postgres.create_database("django_site")
        self.env = {"BAKERY_DATABASE_URL": url, "CELERY_BROKER_URL": stack.broker_url}
        self.crash_points = folder / "points"
        self.crash_points.mkdir()
        points = {"SAGA_CRASH_POINTS": str(self.crash_points)}
        self.worker = Worker("bakery", log=folder / "worker.log", cwd=SITE, env=self.env | points, concurrency=1)
        self.orchestrator: Orchestrator = None  # type: ignore[assignment]

    def manage(self, *arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        """Run ``manage.py``."""
        return subprocess.run(
            [sys.executable, "-W", "error", "manage.py", *arguments],
            cwd=SITE, env=os.environ | self.env | (env or {}), capture_output=True, text=True, check=False,
        )  # fmt: skip

    def entries(self, handle: Handle) -> dict[str, Any]:
        """What the steps of a saga wrote, without its id before it."""
        from bakery.models import Entry

        rows = Entry.objects.filter(key__startswith=f"{handle.id}/").order_by("key").values_list("key", "about")
        return {key.partition("/")[2]: about for key, about in rows}

    def knead(self, script: str, saga: str = "dough") -> Handle:
        """A saga whose transactional step does as the script says, at its end."""
        handle = self.orchestrator.start(saga, {"script": script})
        handle.wait(PATIENCE)
        return handle


@pytest.fixture(scope="module")
def project(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    found = Project(stack, tmp_path_factory.mktemp("django"))
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("SAGA_DATABASE_URL", raising=False)
        patch.setattr(config, "_fallbacks", [])
        patch.setattr(transaction, "_invited", [])
        for name, value in {**found.env, "DJANGO_SETTINGS_MODULE": "bakery.settings"}.items():
            patch.setenv(name, value)
        patch.syspath_prepend(SITE)
        importlib.import_module("django").setup()
        found.orchestrator = importlib.import_module("bakery.celery").orchestrator
        importlib.import_module("django.core.management").call_command("migrate", run_syncdb=True, verbosity=0)
        done = found.manage("saga", "db", "upgrade")
        assert done.returncode == 0, done.stderr
        found.worker.spawn()
        found.worker.wait_ready(PATIENCE)
        yield found
        found.worker.kill()
        found.orchestrator.close()
        importlib.import_module("django.db").connection.close()
        for name in [name for name in sys.modules if name.partition(".")[0] == "bakery"]:
            del sys.modules[name]


# --- starts -----------------------------------------------------------------------------------------------------------


def test_a_start_is_part_of_djangos_transaction(project: Project) -> None:
    from django.db import connection, transaction

    orchestrator = project.orchestrator
    with transaction.atomic():
        kept = orchestrator.start("order", {"hang_up": False}, key="kept", connection=connection)
        with transaction.atomic():
            orchestrator.start("order", {"hang_up": False}, key="inner", connection=connection)
            transaction.set_rollback(True)
    with transaction.atomic():
        orchestrator.start("order", {"hang_up": False}, key="outer", connection=connection)
        transaction.set_rollback(True)
    assert kept.wait(PATIENCE) == Status.COMPLETED
    assert orchestrator.find(key="inner") == orchestrator.find(key="outer") == []
    assert list(project.entries(kept)) == ["confirm", "reserve"]


def test_djangos_transaction_is_usable_after_a_start_was_refused(project: Project) -> None:
    from django.db import connection, transaction

    from saga import KeyConflict

    project.orchestrator.start("order", {"hang_up": False}, key="taken").wait(PATIENCE)
    with transaction.atomic():
        with pytest.raises(KeyConflict):
            project.orchestrator.start("order", {"hang_up": True}, key="taken", connection=connection)
        other = project.orchestrator.start("order", {"hang_up": False}, key="free", connection=connection)
    assert other.wait(PATIENCE) == Status.COMPLETED


def test_a_connection_that_broke_in_one_step_is_replaced_before_the_next(project: Project) -> None:
    handle = project.orchestrator.start("order", {"hang_up": True})
    handle.wait(PATIENCE)
    assert handle.replay().status == Status.COMPENSATED  # the step failed after its effect, each time
    assert list(project.entries(handle)) == ["reserve", "reserve/undo"]


# --- transactional steps ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("script", "written"),
    [
        ("nothing_more", ["knead"]),
        ("catches_an_error_of_the_database", ["knead", "knead/caught"]),
        ("nests", ["knead", "knead/outer"]),
        ("closes", ["knead", "knead/closed"]),
        ("has_hooks", ["knead", "knead/hook"]),
    ],
)
def test_what_the_orm_writes_in_a_transactional_step_commits_with_the_log(
    project: Project, script: str, written: list[str]
) -> None:
    handle = project.knead(script)
    assert handle.status == Status.COMPLETED
    assert list(project.entries(handle)) == written


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("raises", "ValueError: too wet"),
        ("has_hooks_and_fails", "ValueError: too wet"),
        ("hides_an_error_of_the_database", "marked for rollback (by IntegrityError: duplicate key"),
        ("marks_for_rollback", "marked for rollback (by set_rollback(True))"),
        ("commits", "forbidden when an 'atomic' block is active"),
        ("wants_to_be_outermost", "durable atomic block cannot be nested"),
        ("starts_another_and_fails", "ValueError: too wet"),
    ],
)
def test_a_transactional_step_that_fails_leaves_nothing_of_the_orm(project: Project, script: str, why: str) -> None:
    handle = project.knead(script)
    assert handle.status == Status.COMPENSATED
    assert project.entries(handle) == {}
    assert project.orchestrator.find(key=f"{handle.id}/knead") == []
    with pytest.raises(SagaCompensated, match=re.escape(why)):
        handle.result(PATIENCE)
    ended = [entry for entry in handle.log() if entry.kind == "step_failed"]
    assert [entry.data["outcome"] for entry in ended] == ["aborted"]


def test_a_transactional_undo_uses_the_orm_too(project: Project) -> None:
    handle = project.knead("burnt")
    assert handle.status == Status.COMPENSATED
    assert project.entries(handle) == {}


def test_the_orm_reads_in_a_transactional_step_as_anywhere_else(project: Project) -> None:
    handle = project.knead("looks_around")
    seen = project.entries(handle)["knead/seen"]
    assert seen == {"read": {"script": "looks_around"}, "offset": "0:00:00", "zone": "UTC"}


def test_a_saga_can_be_started_from_within_a_transactional_step(project: Project) -> None:
    handle = project.knead("starts_another")
    [other] = project.orchestrator.find(key=f"{handle.id}/knead")
    assert other.wait(PATIENCE) == Status.COMPLETED


def test_the_orm_is_refused_in_a_transactional_step_whose_log_is_in_another_database(
    project: Project, database_url: str
) -> None:
    from bakery.models import Entry
    from django.db import connection

    from saga.contrib.django.lending import DjangoTransaction, OtherDatabase

    own = connection.connection
    with (
        psycopg.connect(database_url.replace("+psycopg", "")) as driver,
        DjangoTransaction(driver),
        pytest.raises(OtherDatabase, match="'default', which is not the one of the saga log"),
    ):
        Entry.objects.count()
    assert connection.connection is own
    same = project.env["BAKERY_DATABASE_URL"].replace("+psycopg", "").replace("127.0.0.1", "localhost")
    with psycopg.connect(same) as driver, DjangoTransaction(driver):
        Entry.objects.count()
        assert connection.connection is driver


@pytest.mark.crash
@pytest.mark.parametrize("point", ["run.before_commit", "run.after_commit"])
@pytest.mark.parametrize("strike", ["kill", "drop"])
def test_a_worker_struck_around_the_commit_has_written_once(project: Project, point: str, strike: Strike) -> None:
    arm(project.crash_points, point, strike)
    handle = project.knead("has_hooks", "patient_dough")
    assert not is_armed(project.crash_points, point)
    assert handle.status == Status.COMPLETED
    hooks = [] if (point, strike) == ("run.after_commit", "kill") else ["knead/hook"]
    assert list(project.entries(handle)) == ["knead", *hooks]


# --- manage.py --------------------------------------------------------------------------------------------------------


def test_manage_passes_commands_on_to_the_projects_app(project: Project) -> None:
    done = project.manage(
        "saga", "start", "--settings", "bakery.settings", "order", '{"hang_up": false}', "--key", "by hand", "--wait",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    listed = project.manage("saga", "list", "--key", "by hand", "--json")
    assert [found["status"] for found in json.loads(listed.stdout)["sagas"]] == ["completed"]


@pytest.mark.parametrize(
    ("arguments", "code"), [(["show", "no-such"], 1), (["lst"], 2), (["--help"], 0), (["list", "--help"], 0)]
)
def test_manage_keeps_exit_codes(project: Project, arguments: list[str], code: int) -> None:
    done = project.manage("saga", *arguments)
    assert done.returncode == code
    assert "Traceback" not in done.stderr
    assert "manage.py saga" in done.stdout + done.stderr or code == 1


def test_manage_says_what_is_wrong_with_an_app_that_is_named(project: Project) -> None:
    done = project.manage("saga", "-A", "bakery.nowhere", "list")
    assert done.returncode == 2
    assert "bakery.nowhere" in done.stderr


def test_call_command_raises_what_ends_with_another_code(project: Project) -> None:
    from django.core.management import CommandError, call_command

    call_command("saga", "list", "--limit", "1")
    with pytest.raises(CommandError) as raised:
        call_command("saga", "show", "no-such")
    assert raised.value.returncode == 1


# --- the admin --------------------------------------------------------------------------------------------------------


@pytest.fixture
def browser(project: Project) -> Any:
    """Someone who may see sagas, and nothing else."""
    from django.contrib.auth.models import Permission, User
    from django.test import Client

    user, _ = User.objects.get_or_create(username="ann", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename="view_saga"))
    client = Client()
    client.force_login(user)
    return client


def listed(browser: Any, **query: str) -> list[str]:
    """The ids that the list shows."""
    page = browser.get("/admin/pgsaga/saga/", query)
    assert page.status_code == 200
    return re.findall(r'<a href="/admin/pgsaga/saga/([0-9a-f-]+)/change/', page.content.decode())


def test_the_admin_lists_sagas_and_finds_them(project: Project, browser: Any) -> None:
    done, undone = project.knead("nothing_more"), project.knead("raises")
    keyed = project.orchestrator.start("order", {"hang_up": False}, key="order 7")
    keyed.wait(PATIENCE)
    newest = [str(handle.id) for handle in (keyed, undone, done)]
    assert listed(browser)[:3] == newest
    assert listed(browser, status="compensated")[0] == newest[1]
    assert newest[1] not in listed(browser, status="completed")
    assert set(listed(browser, name="dough")) >= set(newest[1:])
    assert newest[0] not in listed(browser, name="dough")
    assert listed(browser, status="running") == []
    assert listed(browser, q="order 7") == listed(browser, q="order/order 7") == newest[:1]
    assert listed(browser, q=newest[2][:20]) == [id for id in listed(browser) if id.startswith(newest[2][:20])]
    assert listed(browser, q="dough") == listed(browser, q="%") == []


def test_the_admin_shows_a_saga_with_its_log(project: Project, browser: Any) -> None:
    handle = project.knead("raises")
    page = browser.get(f"/admin/pgsaga/saga/{handle.id}/change/").content.decode()
    assert "ValueError: too wet" in page
    kinds = re.findall(r"<tr><td>\d+</td><td>[^<]*</td><td>(\w+)</td>", page)
    assert kinds == [entry.kind for entry in handle.log()]


def test_the_admin_changes_nothing(project: Project, browser: Any) -> None:
    place = f"/admin/pgsaga/saga/{project.knead('nothing_more').id}"
    assert not re.findall('<input[^>]+name="_', browser.get(f"{place}/change/").content.decode())
    answers = [browser.post(f"{place}/change/", {"status": "stuck"}), browser.post(f"{place}/delete/", {"post": "yes"})]
    answers += [browser.get("/admin/pgsaga/saga/add/"), browser.post("/admin/pgsaga/saga/add/", {"name": "x"})]
    answers += [browser.post("/admin/pgsaga/saga/", {"action": "delete_selected", "_selected_action": place[-36:]})]
    assert {answer.status_code for answer in answers[:4]} == {403}
    assert place[-36:] in listed(browser)


def test_nobody_sees_sagas_in_the_admin_without_the_permission(project: Project) -> None:
    from django.contrib.auth.models import User
    from django.test import Client

    client = Client()
    client.force_login(User.objects.get_or_create(username="ben", is_staff=True)[0])
    assert client.get("/admin/pgsaga/saga/").status_code == 403
    handle = project.knead("nothing_more")
    assert client.get(f"/admin/pgsaga/saga/{handle.id}/change/").status_code == 403


def test_the_admin_shows_hostile_text_as_text_and_large_text_in_part(project: Project, browser: Any) -> None:
    from django.db import connection

    evil = "<script>alert(1)</script>\x1b[2J\u202e"
    handle = project.orchestrator.start(
        "order", {"hang_up": False}, key=f"{evil}{handle_number()}", tags={"evil": evil, "large": "x" * 100_000}
    )
    handle.wait(PATIENCE)
    with connection.cursor() as cursor:
        cursor.execute("UPDATE saga.instance SET reason = %s WHERE id = %s", [evil * 10_000, handle.id])
        rows = [(handle.id, seq, json.dumps({"error": evil, "large": "x" * 100_000})) for seq in range(1000, 1300)]
        cursor.executemany(
            "INSERT INTO saga.log (saga_id, seq, kind, data, at, format) VALUES (%s, %s, 'odd', %s, now(), 1)", rows
        )
    page = browser.get(f"/admin/pgsaga/saga/{handle.id}/change/").content.decode()
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "\x1b" not in page
    assert len(page) < 1_000_000
    assert len(re.findall("<tr><td>\\d+</td>", page)) == 200
    assert re.search("… \\d+ entries …", page)
    assert browser.get("/admin/pgsaga/saga/").status_code == 200


def handle_number() -> str:
    return os.urandom(4).hex()


def test_the_admin_asks_the_database_for_a_bounded_part_of_many_sagas(project: Project, browser: Any) -> None:
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO saga.instance (id, name, fingerprint, status, input_hash, started_at, updated_at, finished_at) "
            "SELECT gen_random_uuid(), 'many', '', 'completed', '', now(), now(), now() FROM generate_series(1, 20000); "
            "ANALYZE saga.instance"
        )
    for query in ({}, {"p": "5"}, {"status": "stuck"}, {"status": "running"}, {"status": "completed"}, {"q": "order 7"},
                  {"name": "many"}, {"name": "order", "status": "compensated"}):  # fmt: skip
        with CaptureQueriesContext(
            connection,
        ) as captured:
            assert browser.get("/admin/pgsaga/saga/", query).status_code == 200
        ours = [found["sql"] for found in captured if '"instance"' in found["sql"]]
        assert ours
        for statement in ours:
            assert rows_read(statement) <= 2500, (query, statement)


def rows_read(statement: str) -> int:
    """How many rows of the sagas a statement goes through."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}")
        [(plan,)] = cursor.fetchall()
    plan = json.loads(plan) if isinstance(plan, str) else plan

    def scanned(node: dict[str, Any]) -> int:
        here = 0
        if node.get("Relation Name") == "instance":
            here = (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"]
        return here + sum(map(scanned, node.get("Plans", [])))

    return int(scanned(plan[0]["Plan"]))


def test_the_admin_only_reads(project: Project, browser: Any) -> None:
    from django.db import connection

    handle = project.knead("nothing_more")
    with connection.cursor() as cursor:
        cursor.execute("SET default_transaction_read_only = on")
        try:
            assert listed(browser, status="completed")
            assert browser.get(f"/admin/pgsaga/saga/{handle.id}/change/").status_code == 200
        finally:
            cursor.execute("RESET default_transaction_read_only")


# --- the how-to -------------------------------------------------------------------------------------------------------

SHOP_MODELS = """
from django.db import models

class Order(models.Model):
    def as_input(self):
        return {"account": self.pk}

class Account(models.Model):
    balance = models.IntegerField(default=0)
"""
SHOP_RUN = """
from django.db import connection
from shop.models import Account, Order

with connection.schema_editor() as editor:
    editor.create_model(Account)
    editor.create_model(Order)
place(Order())
assert [found.key for found in orchestrator.find(saga="place_order")] == ["order-1"]
account = Account.objects.create(balance=5)
from shop.sagas import deposit, take_back, transfer
from django.db import transaction
assert transfer in orchestrator.sagas
with transaction.atomic():
    deposit(account.pk, 3)
    take_back(account.pk, 1)
account.refresh_from_db()
assert account.balance == 7
"""


def test_the_programs_of_the_how_to_make_a_project(project: Project, tmp_path: Path) -> None:
    page = (HERE.parents[1] / "docs/howto/django.md").read_text()
    apps, celery, place, sagas = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    site = (SITE / "bakery/settings.py").read_text().replace("bakery", "shop")
    files = {
        "__init__": "from .celery import app as celery_app\n",
        "settings": f"{site.replace('SHOP_', 'BAKERY_')}\n{apps}\nINSTALLED_APPS.append('shop')\n",
        "celery": celery,
        "urls": "urlpatterns = []\n",
        "models": SHOP_MODELS,
        "sagas": f"{sagas}\nplace_order = Saga('place_order', Step(notify, pivot=True))\n",
    }
    (tmp_path / "shop").mkdir()
    for name, text in files.items():
        (tmp_path / f"shop/{name}.py").write_text(text)
    program = f"import django; django.setup()\n{place}\n{SHOP_RUN}"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False,
        env=os.environ | project.env | {"DJANGO_SETTINGS_MODULE": "shop.settings"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
