"""Broker: Celery's messages."""
