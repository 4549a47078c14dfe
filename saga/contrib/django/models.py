"""Models: the sagas of the log, as rows to read. The tables are made by ``manage.py saga db upgrade``."""

from __future__ import annotations

from django.db import models

from saga.contrib.django.conf import schema
from saga.core.state import Status


class Saga(models.Model):
    """A saga, as ``saga list`` shows it."""

    id = models.UUIDField(primary_key=True)
    name = models.TextField()
    status = models.TextField(choices=[(str(status), str(status)) for status in Status])
    key = models.TextField(null=True)
    reason = models.TextField(null=True)
    tags = models.JSONField(null=True)
    realm = models.TextField()
    fingerprint = models.TextField()
    started_at = models.DateTimeField()
    updated_at = models.DateTimeField()
    finished_at = models.DateTimeField(null=True)
    # The status, where it is neither `running` nor `completed`: what the index is on.
    notable = models.TextField(null=True, editable=False)

    class Meta:
        managed = False
        db_table = f'"{schema()}"."instance"'
        default_permissions = ("view",)

    def __str__(self) -> str:
        return str(self.id)
