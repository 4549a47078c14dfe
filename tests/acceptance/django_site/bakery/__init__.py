"""A Django project with a Celery app, laid out as Celery's documentation has it; it is its own only app, too."""

from .celery import app as celery_app

__all__ = ["celery_app"]
