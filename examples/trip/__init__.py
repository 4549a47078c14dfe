"""A trip: a hotel, a flight and a car. When there is no flight, the hotel is cancelled and no car is booked.

Run it with `python -m saga.examples.trip`, which brings its own Postgres and broker. The bookings are only printed; a
real task would call the hotel with the `idempotency_key`, so that a second attempt books no second room.
"""

from __future__ import annotations

from celery import Celery

from saga import Abort, Orchestrator, Saga, Step

app = Celery("trip")


@app.task
def book_hotel(city: str, idempotency_key: str) -> str:
    print(f"a room in {city}")
    return f"room-{idempotency_key[-6:]}"


@app.task
def cancel_hotel(hotel: str | None) -> None:
    print(f"{hotel or 'whatever was booked'} is not needed any more")


@app.task
def book_flight(city: str, idempotency_key: str) -> str:
    if city == "Atlantis":
        raise Abort(f"nobody flies to {city}")
    print(f"a seat to {city}")
    return f"seat-{idempotency_key[-6:]}"


@app.task
def cancel_flight(flight: str | None) -> None:
    print(f"{flight or 'whatever was booked'} is free again")


@app.task
def rent_car(city: str) -> str:
    print(f"a car in {city}")
    return "car-7"


book_trip = Saga(
    "book_trip",
    Step(book_hotel, name="hotel", compensate=cancel_hotel),
    Step(book_flight, name="flight", compensate=cancel_flight),
    Step(rent_car, name="car", compensate=None),  # last, so nothing comes after it that could fail
)

orchestrator = Orchestrator(app, sagas=[book_trip])
