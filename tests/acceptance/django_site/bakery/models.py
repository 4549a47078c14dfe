"""What the steps write."""

from django.db import models


class Entry(models.Model):
    """That a step was here, once."""

    key = models.TextField(primary_key=True)
    about = models.JSONField(default=dict)
    at = models.DateTimeField(auto_now_add=True)
