"""Examples that run: `python -m saga.examples.trip`, `… .transfer`, `… .shop`. Each brings its own Postgres and broker."""
