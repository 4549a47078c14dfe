"""`python -m saga.examples.transfer`: one transfer that holds, and two that do not."""

from __future__ import annotations

import sys
from decimal import Decimal

from sqlalchemy import select

from saga import Status
from saga.barriers import create_table

from ..stage import environment, stage, tell
from . import Order, account, bank, metadata, orchestrator, transfer

ORDERS = [
    Order("ann", "bob", Decimal("30.00")),
    Order("ann", "nobody", Decimal("20.00")),  # refused at the second bank: the money comes back
    Order("ann", "bob", Decimal("1000.00")),  # refused at the first bank: nothing to give back
]
EXPECTED = [Status.COMPLETED, Status.COMPENSATED, Status.COMPENSATED]


def main() -> int:
    """Make them, tell what happened, and return the exit code: 1 if the money is not where it should be."""
    with stage() as stack:
        banks = {f"{name}_BANK_URL": stack.postgres.create_database(name.lower()) for name in ("NORTH", "SOUTH")}
        with environment(**banks):
            open_account("north", "ann", 100)
            open_account("south", "bob", 0)
            stack.worker(__package__, concurrency=1)
            handles = orchestrator.start_many(transfer, ORDERS)
            outcomes = [handle.wait(timeout=30) for handle in handles]
            for order, handle in zip(ORDERS, handles, strict=True):
                tell(f"{order.amount} from {order.payer} to {order.payee}", handle)
            balances = [balance("north", "ann"), balance("south", "bob")]
            print(f"ann has {balances[0]}, bob has {balances[1]}")
            for name in ("north", "south"):
                bank(name).dispose()
        orchestrator.close()
    return 0 if outcomes == EXPECTED and balances == [70, 30] else 1


def open_account(name: str, owner: str, amount: int) -> None:
    """Make a bank's tables and one account."""
    create_table(bank(name))
    with bank(name).begin() as connection:
        metadata.create_all(connection)
        connection.execute(account.insert().values(owner=owner, balance=amount))


def balance(name: str, owner: str) -> Decimal | None:
    """What somebody has."""
    with bank(name).connect() as connection:
        return connection.scalar(select(account.c.balance).where(account.c.owner == owner))


if __name__ == "__main__":
    sys.exit(main())
