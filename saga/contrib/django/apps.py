"""The app: what it adds to a project when Django is set up."""

from __future__ import annotations

from django.apps import AppConfig

from saga import config
from saga.contrib.django.conf import alias, setting
from saga.contrib.django.lending import DjangoTransaction
from saga.store.postgres import transaction


class SagaConfig(AppConfig):
    """Settings of sagas out of the project's, the ORM in transactional steps, ``manage.py saga`` and an admin to read."""

    name = "saga.contrib.django"
    label = "pgsaga"
    verbose_name = "Sagas"

    def ready(self) -> None:
        """Take effect."""
        config.fall_back(setting)
        if alias() is not None:
            transaction.invite(DjangoTransaction)
