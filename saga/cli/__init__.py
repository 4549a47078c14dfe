"""The command line: ``saga -A shop.app ...``, and the same group as ``celery -A shop.app saga ...``."""

from saga.cli.root import main, saga

__all__ = ["main", "saga"]
