"""The examples, run as a newcomer runs them."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil
import pytest
from rich.console import Console
from sqlalchemy import Engine, text

from saga.examples.shop import demo, faults, purchases
from saga.examples.shop.audit import audit
from saga.examples.shop.purchases import Order
from saga.examples.shop.report import Report
from saga.examples.stage import stage

pytestmark = pytest.mark.acceptance

ORDERS = 60


def run(module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", f"saga.examples.{module}", *arguments],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


@pytest.fixture(scope="module")
def orders() -> Sequence[Order]:
    return purchases.first(ORDERS)


@pytest.fixture(scope="module")
def played(orders: Sequence[Order]) -> Iterator[tuple[Engine, Report, str]]:
    """A shop in which the demo has been played: its database, the report, and what was printed."""
    console = Console(file=io.StringIO(), width=80)
    with (
        stage(**{faults.SEED: "1997", "SAGA_FAILOVER_GRACE": "1"}) as stack,
        demo.shop_front() as orchestrator,
        demo.engine(stack) as database,
    ):
        report = demo.play(stack, orchestrator, database, orders, console)
        demo.show(console, report, demo.longest_undone(orchestrator))
        assert isinstance(console.file, io.StringIO)
        yield database, report, console.file.getvalue()


def test_the_shop_survives_the_loss_of_a_worker(played: tuple[Engine, Report, str]) -> None:
    _, report, output = played
    assert report.discrepancies == []
    assert report.completed + report.compensated == ORDERS
    assert report.compensated == sum(map(declined, range(1, ORDERS + 1))) > 0
    assert "kill -9" in output


def declined(number: int) -> bool:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(faults.SEED, "1997")
        return faults.card_declined(number)


def test_the_shop_shows_an_undone_order_and_the_verdict(played: tuple[Engine, Report, str]) -> None:
    output = played[2]
    assert "payment is refused, so it did nothing: card declined" in output
    assert output.index("What was done is undone, in reverse:") < output.index("reservation is undone.")
    assert "Audit passed" in output


def test_the_shop_shows_its_counts_and_each_check_of_the_audit(played: tuple[Engine, Report, str]) -> None:
    _, report, output = played
    assert f"{ORDERS}/{ORDERS}" in output
    for count in ("completed", "refused", "undone", "killed"):
        assert count in output
    assert [check.claim for check in report.checks if check.claim not in output] == []
    assert all(check.examined > 0 for check in report.checks if check.claim != "No work is left over")
    assert "saga dev -A" in output


COMPLETED = "SELECT min(number) FROM shop.orders"
UNDONE = "SELECT min(undoes) FROM shop.stock"


@pytest.mark.parametrize(
    ("tampering", "problem"),
    [
        (f"DELETE FROM shop.payments WHERE number = ({COMPLETED})", "payments: order 1 (completed) has nothing"),
        (
            f"INSERT INTO shop.shipments SELECT 'again', NULL, number, amount FROM shop.shipments WHERE number = ({COMPLETED})",
            "shipments: order 1 (completed) has 1 and 1, expected 1",
        ),
        (f"DELETE FROM shop.receipts WHERE number = ({COMPLETED})", "receipts: order 1 (completed) has nothing"),
        (f"DELETE FROM shop.orders WHERE number = ({COMPLETED})", "orders: order 1 is not confirmed"),
        ("DELETE FROM shop.stock WHERE undoes IS NOT NULL", "(compensated) has "),
        (f"DELETE FROM shop.stock WHERE undoes = ({UNDONE}) OR key = ({UNDONE})", "(compensated) has nothing"),
        ("UPDATE shop.stock SET amount = amount + 1 WHERE key = 'delivery'", None),
        ("UPDATE shop.payments SET amount = amount + 1 WHERE undoes IS NULL", "payments: the sum is"),
        ("INSERT INTO shop.shipments (key, number, amount) VALUES ('stray', 9999, 1)", "there is no such order"),
        (
            "UPDATE saga.instance SET status = 'stuck', finished_at = NULL WHERE key = 'order-1'",
            "order 1: its saga is stuck",
        ),
        ("DELETE FROM saga.instance WHERE key = 'order-1'", "order 1: its saga is not there"),
    ],
)
def test_the_audit_finds_tampering(
    played: tuple[Engine, Report, str], orders: Sequence[Order], tampering: str, problem: str | None
) -> None:
    with played[0].connect() as connection:
        assert audit(connection, orders) == []
        assert connection.execute(text(tampering)).rowcount > 0
        found = "\n".join(audit(connection, orders))
        connection.rollback()
    # More CDs than were sold are no problem of the books.
    assert (problem in found) if problem else not found


def test_the_shop_prints_one_json_document_if_asked() -> None:
    done = run("shop", "--orders", "30", "--json")
    assert done.returncode == 0, done.stderr
    printed = json.loads(done.stdout)
    assert printed["discrepancies"] == []
    assert printed["completed"] + printed["compensated"] == 30
    assert printed["undone"]["log"][0]["kind"] == "saga_started"


def test_a_trip_without_a_flight_is_undone() -> None:
    done = run("trip")
    assert done.returncode == 0, done.stderr
    assert "Lisbon: completed" in done.stdout
    assert "Atlantis: compensated, because of flight: nobody flies to Atlantis" in done.stdout


def test_a_transfer_to_nobody_gives_the_money_back() -> None:
    done = run("transfer")
    assert done.returncode == 0, done.stderr
    assert "20.00 from ann to nobody: compensated" in done.stdout
    assert "ann has 70.00, bob has 30.00" in done.stdout


@pytest.mark.parametrize("processes", [1, 3, 20], ids=["at once", "starting", "at work"])
def test_ctrl_c_leaves_nothing_behind(tmp_path: Path, processes: int) -> None:
    command = [sys.executable, "-m", "saga.examples.shop", "--orders", "5000"]
    env = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=env) as shop:
        family = descendants(shop, processes)
        shop.send_signal(signal.SIGINT)
        output, _ = shop.communicate(timeout=60)
    assert shop.returncode == 130, output
    assert "Interrupted" in output
    assert not [process for process in family if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]
    assert list(tmp_path.iterdir()) == []


def descendants(shop: subprocess.Popen[str], count: int) -> list[psutil.Process]:
    """The processes that the demo has started, as soon as there are so many."""
    deadline = time.monotonic() + 60
    while len(found := psutil.Process(shop.pid).children(recursive=True)) < count:
        assert time.monotonic() < deadline, "it does not start"
        assert shop.poll() is None, "it has ended"
        time.sleep(0.01)
    return found
