"""A project's settings as those of the saga log; and that pgsaga does not need Django."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.conf import UserSettingsHolder, global_settings, settings
from django.db.utils import ConnectionHandler
from sqlalchemy import make_url

from saga import config
from saga.config import Settings
from saga.contrib.django import conf
from saga.errors import DatabaseNotReady, DefinitionError
from saga.store.postgres.database import Database

POSTGRES = {"ENGINE": "django.db.backends.postgresql", "NAME": "shop"}
SQLITE = {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}


@contextmanager
def project(databases: dict[str, Any], **others: Any) -> Iterator[None]:
    """A project with these settings, whose app is installed."""
    holder = UserSettingsHolder(global_settings)
    for name, value in {"DATABASES": databases, **others}.items():
        setattr(holder, name, value)
    before = vars(settings)["_wrapped"]
    settings._wrapped = holder
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(conf, "connections", ConnectionHandler(databases))
        patch.setattr(config, "_fallbacks", [conf.setting])
        patch.delenv("SAGA_DATABASE_URL", raising=False)
        try:
            yield
        finally:
            settings._wrapped = before


def given_to_libpq(**database: Any) -> dict[str, Any]:
    """What a connection to the log of such a project is made of."""
    with project({"default": POSTGRES | database}):
        url = Database(Settings.load({})).url
    [_, found] = url.get_dialect()().create_connect_args(make_url(url.render_as_string(hide_password=False)))
    return dict(found)


@pytest.mark.parametrize(
    ("database", "expected"),
    [
        ({}, {"dbname": "shop"}),
        ({"USER": "ann", "PASSWORD": "p@:/?#%&= ü", "HOST": "db.example", "PORT": "5433"},
         {"dbname": "shop", "user": "ann", "password": "p@:/?#%&= ü", "host": "db.example", "port": 5433}),
        ({"USER": "a@b:c", "PORT": 5433}, {"dbname": "shop", "user": "a@b:c", "port": "5433"}),
        ({"HOST": "/var/run/my sockets"}, {"dbname": "shop", "host": "/var/run/my sockets"}),
        ({"HOST": "/run/pg", "PORT": 5433}, {"dbname": "shop", "host": "/run/pg", "port": "5433"}),
        ({"HOST": "@abstract"}, {"dbname": "shop", "host": "@abstract"}),
        ({"HOST": "::1", "PORT": "5432"}, {"dbname": "shop", "host": "::1", "port": 5432}),
        ({"HOST": "a,b"}, {"dbname": "shop", "host": "a,b", "port": ","}),
        ({"HOST": "a,b", "PORT": "5433"}, {"dbname": "shop", "host": "a,b", "port": "5433,5433"}),
        ({"HOST": "a,b", "PORT": "1,2"}, {"dbname": "shop", "host": "a,b", "port": "1,2"}),
        ({"NAME": "a shop/of?#%é"}, {"dbname": "a shop/of?#%é"}),
        ({"NAME": "", "OPTIONS": {"service": "shop"}}, {"service": "shop"}),
        ({"OPTIONS": {"sslmode": "verify-full", "sslrootcert": "/a b/&c.pem", "connect_timeout": 3,
                      "options": "-c search_path=a,b", "isolation_level": 2, "server_side_binding": True,
                      "assume_role": "owner", "pool": True, "prepare_threshold": 5}},
         {"dbname": "shop", "sslmode": "verify-full", "sslrootcert": "/a b/&c.pem", "connect_timeout": "3",
          "options": "-c search_path=a,b"}),
    ],
)  # fmt: skip
def test_the_log_is_where_django_would_connect_to(database: dict[str, Any], expected: dict[str, Any]) -> None:
    found = given_to_libpq(**database)
    assert {name: str(value) for name, value in found.items() if name != "context"} == {
        name: str(value) for name, value in expected.items()
    }


def test_another_database_of_the_project_can_have_the_log() -> None:
    with project({"default": SQLITE, "log": POSTGRES}, SAGA_DATABASE="log"):
        assert Database(Settings.load({})).url.database == "shop"


@pytest.mark.parametrize(
    ("databases", "alias", "error"),
    [
        (
            {"default": SQLITE},
            "default",
            r"'default', which is of django.db.backends.sqlite3: the saga log needs Postgres",
        ),
        ({}, "default", r"'default', which is of django.db.backends.dummy"),
        ({"default": POSTGRES}, "log", r"'log', which is not in DATABASES"),
        ({"default": POSTGRES}, None, r"no database is configured"),
    ],
)
def test_a_project_without_a_database_for_the_log_is_told_what_to_set(databases: Any, alias: Any, error: str) -> None:
    with project(databases, SAGA_DATABASE=alias), pytest.raises(DatabaseNotReady, match=error):
        Database(Settings.load({}))


def test_a_url_that_is_said_goes_before_the_projects_databases() -> None:
    with project({"default": SQLITE}):
        assert Settings.load({"saga_database_url": "postgresql://a/b"}).database_url == "postgresql://a/b"
        assert Settings.load({}, database_url="postgresql://c/d").database_url == "postgresql://c/d"


def test_any_setting_can_be_in_the_projects_settings() -> None:
    with project({"default": POSTGRES}, SAGA_SCHEMA="orders_log", SAGA_RELAY=False, SAGA_QUEUE="slow"):
        found = Settings.load({"saga_queue": "fast"})
        assert (found.schema_name, found.relay, found.queue) == ("orders_log", False, "fast")
        assert conf.schema() == "orders_log"
    with project({"default": POSTGRES}, SAGA_SCHEMA='x"; DROP'), pytest.raises(DefinitionError, match="saga_schema"):
        conf.schema()


def test_nothing_of_the_url_is_shown() -> None:
    with project({"default": POSTGRES | {"PASSWORD": "secret", "HOST": "db"}}):
        found = Settings.load({})
        assert "secret" not in repr(found)
        assert "secret" not in Database(found).name


def test_pgsaga_does_not_import_django() -> None:
    program = "import sys, saga, saga.cli, saga.dev, saga.ops.doctor; assert not sys.modules.keys() & {'django.db', 'saga.contrib'}"
    subprocess.run([sys.executable, "-c", program], check=True)
