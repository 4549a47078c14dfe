"""The settings: one database, where the saga log is, too; nothing says so but the installed app."""

import os

from sqlalchemy import make_url

_url = make_url(os.environ["BAKERY_DATABASE_URL"])
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": _url.database,
        "HOST": _url.host,
        "PORT": _url.port,
        "USER": _url.username,
        "PASSWORD": _url.password,
        "CONN_MAX_AGE": 600,
        "OPTIONS": {"application_name": "bakery"},
    }
}
INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "saga.contrib.django",
    "bakery",
]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
ROOT_URLCONF = "bakery.urls"
ALLOWED_HOSTS = ["testserver"]
SECRET_KEY = "of tests"
USE_TZ = True
TIME_ZONE = "Europe/Berlin"
CELERY_TASK_DEFAULT_QUEUE = "bakery"
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
