"""Telemetry: who is told of what happened."""
