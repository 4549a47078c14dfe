"""Benchmarks: what sagas cost next to Celery's own chains, measured side by side. Run them with ``make bench``."""
