"""Audit: whether the shop's books say what the sagas say: nothing missing, nothing double, nothing left half done."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import NamedTuple

from sqlalchemy import Connection, Table, select, text

from saga import Status

from . import tables
from .purchases import Order

Amount = int | Decimal


class Movement(NamedTuple):
    """A row of a ledger."""

    number: int
    amount: Amount


@dataclass(frozen=True)
class Books:
    """All that is written down about a number of orders.

    Attributes:
        statuses: what became of each order's saga.
        succeeded: the steps that the log calls done, as (order number, step).
        work: what the engine still has to do.
        ledgers: the rows of each ledger, those of the orders only.
        delivered: the CDs that were on the shelf at first.
        confirmed: the numbers of the confirmed orders.
    """

    orders: Sequence[Order]
    statuses: Mapping[int, str]
    succeeded: frozenset[tuple[int, str]]
    work: int
    ledgers: Mapping[str, Sequence[Movement]]
    delivered: int
    confirmed: Sequence[int]

    @property
    def completed(self) -> list[Order]:
        """The orders that were placed; all the others must have left no trace."""
        return [order for order in self.orders if self.statuses.get(order.number) == Status.COMPLETED]


@dataclass(frozen=True)
class Ledger:
    """A ledger, the step that writes it, and what that step writes for an order."""

    table: Table
    step: str
    amount: Callable[[Order], Amount]


LEDGERS = (
    Ledger(tables.stock, "reservation", lambda order: -order.cds),
    Ledger(tables.payments, "payment", lambda order: order.dollars),
    Ledger(tables.shipments, "courier", lambda _: 1),
    Ledger(tables.receipts, "receipt", lambda _: 1),
)


@dataclass(frozen=True)
class Check:
    """One thing that has to be so.

    Attributes:
        claim: what it is, in words.
        examined: how many rows or sagas were looked at.
        problems: whatever shows that it is not so, in words.
    """

    claim: str
    examined: int
    problems: list[str]


def audit(connection: Connection, orders: Sequence[Order]) -> list[str]:
    """Everything that is wrong, in words; nothing, if all is well."""
    return check(read(connection, orders))


def read(connection: Connection, orders: Sequence[Order]) -> Books:
    """Open the books."""
    sagas = connection.execute(text("SELECT key, status FROM saga.instance WHERE name = 'place_order'")).all()
    steps = connection.execute(
        text(
            "SELECT key, step FROM saga.log JOIN saga.instance ON id = saga_id "
            "WHERE name = 'place_order' AND kind = 'step_succeeded'"
        )
    )
    numbers = {order.key: order.number for order in orders}
    return Books(
        orders=orders,
        statuses={numbers[key]: status for key, status in sagas if key in numbers},
        succeeded=frozenset((numbers[key], step) for key, step in steps if key in numbers),
        work=connection.scalar(text("SELECT count(*) FROM saga.work")) or 0,
        ledgers={ledger.table.name: _movements(connection, ledger.table) for ledger in LEDGERS},
        delivered=connection.scalar(select(tables.stock.c.amount).where(tables.stock.c.key == tables.DELIVERY)) or 0,
        confirmed=connection.scalars(select(tables.orders.c.number)).all(),
    )


def _movements(connection: Connection, table: Table) -> list[Movement]:
    rows = select(table.c.number, table.c.amount).where(table.c.number.is_not(None))
    return [Movement(number, amount) for number, amount in connection.execute(rows)]


def check(books: Books) -> list[str]:
    """What is wrong in these books."""
    return [problem for each in checks(books) for problem in each.problems]


def checks(books: Books) -> list[Check]:
    """All that is looked at, and what was found."""
    return [
        Check("Every saga has come to its end", len(books.orders), list(check_sagas(books))),
        Check("No work is left over", books.work, list(check_work(books))),
        Check("The confirmed orders are the completed sagas", len(books.confirmed), list(check_confirmed(books))),
        *(
            Check(
                f"{ledger.table.name.capitalize()}: once for each order, and back once if undone",
                len(books.ledgers[ledger.table.name]),
                list(check_ledger(books, ledger)),
            )
            for ledger in LEDGERS
        ),
        Check("Stock, money and parcels add up to the completed orders", len(books.completed), list(check_sums(books))),
    ]


def check_sagas(books: Books) -> Iterator[str]:
    """Every saga is finished."""
    for order in books.orders:
        status = books.statuses.get(order.number, "not there")
        if status not in (Status.COMPLETED, Status.COMPENSATED):
            yield f"order {order.number}: its saga is {status}, expected completed or compensated"


def check_work(books: Books) -> Iterator[str]:
    """The engine has nothing left to do."""
    if books.work:
        yield f"the work table has {books.work} rows, expected none"


def check_confirmed(books: Books) -> Iterator[str]:
    """The confirmed orders are the completed sagas."""
    confirmed, completed = set(books.confirmed), {order.number for order in books.completed}
    for number in sorted(confirmed ^ completed):
        wrong = "is confirmed, but its saga did not complete" if number in confirmed else "is not confirmed"
        yield f"orders: order {number} {wrong}"


def check_ledger(books: Books, ledger: Ledger) -> Iterator[str]:
    """Each order has what its steps did, once, and what was to be undone is undone, once."""
    name = ledger.table.name
    found: dict[int, list[Amount]] = defaultdict(list)
    for row in books.ledgers[name]:
        found[row.number].append(row.amount)
    for order in books.orders:
        amounts = found.pop(order.number, [])
        expected = _expected(books, ledger, order, amounts)
        if Counter(amounts) != Counter(expected):
            status = books.statuses.get(order.number)
            yield f"{name}: order {order.number} ({status}) has {_words(amounts)}, expected {_words(expected)}"
    for number in sorted(found):
        yield f"{name}: order {number} has {_words(found[number])}, but there is no such order"


def _expected(books: Books, ledger: Ledger, order: Order, found: Sequence[Amount]) -> list[Amount]:
    amount = ledger.amount(order)
    if books.statuses.get(order.number) == Status.COMPLETED:
        return [amount]
    # An attempt that was lost or declined may have left nothing to undo; one that succeeded must have left both rows.
    if found or (order.number, ledger.step) in books.succeeded:
        return [amount, -amount]
    return []


def check_sums(books: Books) -> Iterator[str]:
    """Stock, money and parcels add up to the completed orders."""
    sold = sum(order.cds for order in books.completed)
    earned = sum((order.dollars for order in books.completed), Decimal(0))
    yield from _sum("stock", books.delivered + _total(books, "stock"), books.delivered - sold)
    yield from _sum("payments", _total(books, "payments"), earned)
    yield from _sum("shipments", _total(books, "shipments"), len(books.completed))


def _total(books: Books, ledger: str) -> Amount:
    return sum((row.amount for row in books.ledgers[ledger]), Decimal(0))


def _sum(name: str, found: Amount, expected: Amount) -> Iterator[str]:
    if found != expected:
        yield f"{name}: the sum is {found}, expected {expected}"


def _words(amounts: Iterable[Amount]) -> str:
    return " and ".join(map(str, amounts)) or "nothing"
