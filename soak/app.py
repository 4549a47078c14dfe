"""What the workers run: the shop's app, with a line in the trace for each attempt that really runs."""

from __future__ import annotations

from celery import signals

from examples.shop.app import app

from . import trace

signals.task_prerun.connect(trace.note, weak=False)

__all__ = ["app"]
