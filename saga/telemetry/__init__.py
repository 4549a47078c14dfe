"""Telemetry: who is told of what happened. Importing any of it has the log lines written; who else listens does so when imported."""

from saga.telemetry import wording as wording
