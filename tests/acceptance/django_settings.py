"""A Django project as small as it can be: one database, where the saga log is, too."""

from __future__ import annotations

import os

from sqlalchemy import make_url

_url = make_url(os.environ["SAGA_DATABASE_URL"])
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": _url.database,
        "HOST": _url.host,
        "PORT": _url.port,
        "USER": _url.username,
        "PASSWORD": _url.password,
        "CONN_MAX_AGE": 600,
    }
}
USE_TZ = True
