"""The Celery app, and the orchestrator of its sagas."""

import os

from celery import Celery

from saga import Orchestrator

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "bakery.settings")

app = Celery("bakery")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()

orchestrator = Orchestrator(app)
orchestrator.autodiscover_sagas()
