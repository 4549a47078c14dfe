"""Settings come from code, the environment and the app, in that order; what is wrong is named and never shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from saga.config import Settings, postgres_url
from saga.errors import DatabaseNotReady, DefinitionError

URL = "postgresql://ann:secret@db.example:5433/shop"


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for name in [name for name in os.environ if name.startswith("SAGA_")]:
        monkeypatch.delenv(name)


def test_nothing_need_be_set_but_the_url():
    settings = Settings.load({})
    assert settings.database_url is None
    assert (settings.schema_name, settings.inline_wait, settings.max_payload) == ("saga", 1.0, 1024 * 1024)
    assert settings.relay is True


def test_the_apps_configuration_is_read():
    settings = Settings.load({"saga_database_url": URL, "saga_inline_wait": 2, "saga_schema": "sagas", "task_acks": 1})
    assert (settings.database_url, settings.inline_wait, settings.schema_name) == (URL, 2.0, "sagas")


def test_the_environment_wins_over_the_app(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SAGA_SCHEMA", "other")
    monkeypatch.setenv("SAGA_RELAY", "false")
    monkeypatch.setenv("SAGA_MAX_PAYLOAD", "100")
    settings = Settings.load({"saga_schema": "sagas", "saga_relay": True})
    assert (settings.schema_name, settings.relay, settings.max_payload) == ("other", False, 100)


def test_what_is_given_in_code_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SAGA_DATABASE_URL", "postgresql://elsewhere/db")
    assert Settings.load({}, database_url=URL).database_url == URL
    assert Settings.load({}, database_url=None).database_url == "postgresql://elsewhere/db"


@pytest.mark.parametrize(
    ("conf", "name"),
    [
        ({"saga_inline_wait": "soon"}, "saga_inline_wait"),
        ({"saga_inline_wait": -1}, "saga_inline_wait"),
        ({"saga_max_payload": 0}, "saga_max_payload"),
        ({"saga_relay": "perhaps"}, "saga_relay"),
        ({"saga_schema": "Robert'); DROP"}, "saga_schema"),
        ({"saga_schema": "x" * 64}, "saga_schema"),
        ({"saga_pool_size": 0}, "saga_pool_size"),
        ({"saga_database_url": 5}, "saga_database_url"),
    ],
    ids=str,
)
def test_a_setting_of_the_wrong_kind_is_named(conf: dict[str, object], name: str):
    with pytest.raises(DefinitionError, match=rf"^setting {name}: ") as caught:
        Settings.load(conf)
    assert "Robert" not in str(caught.value)


def test_settings_cannot_be_changed():
    with pytest.raises(ValueError, match="frozen"):
        Settings.load({}).relay = False


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg2", "postgresql+psycopg"])
def test_a_url_always_goes_through_psycopg_3(scheme: str):
    url = postgres_url(URL.replace("postgresql", scheme))
    assert (url.drivername, url.host, url.port, url.database) == ("postgresql+psycopg", "db.example", 5433, "shop")
    assert url.password == "secret"


@pytest.mark.parametrize("url", [None, ""])
def test_no_url_says_where_to_set_it(url: str | None):
    with pytest.raises(DatabaseNotReady, match=r"set app\.conf\.saga_database_url or SAGA_DATABASE_URL"):
        postgres_url(url)


@pytest.mark.parametrize("url", ["secret", "host=db password=secret", "postgresql://ann:secret@db:port/shop"])
def test_what_is_no_url_is_refused_and_not_shown(url: str):
    with pytest.raises(DatabaseNotReady, match="is not a URL: expected postgresql://") as caught:
        postgres_url(url)
    assert "secret" not in str(caught.value)


def test_whoever_names_no_database_is_told_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        DatabaseNotReady, match=r"set app\.conf\.saga_database_url or SAGA_DATABASE_URL to postgresql://"
    ) as bare:
        postgres_url(None)
    assert "`saga dev`" in str(bare.value)
    (tmp_path / ".saga").mkdir()
    (tmp_path / ".saga" / "env").write_text("export SAGA_DATABASE_URL=postgresql://saga:secret@localhost/postgres")
    with pytest.raises(DatabaseNotReady, match=r"or run `\. \.saga/env` to use that of `saga dev`") as known:
        postgres_url(None)
    assert "secret" not in str(known.value)


@pytest.mark.parametrize("url", ["mysql://ann:secret@db/shop", "sqlite:///shop.db"])
def test_another_database_is_refused(url: str):
    with pytest.raises(DatabaseNotReady, match="the saga log needs Postgres") as caught:
        postgres_url(url)
    assert "secret" not in str(caught.value)


def test_a_password_with_an_at_sign_is_not_taken_for_a_host():
    with pytest.raises(DatabaseNotReady, match="write @ as %40") as caught:
        postgres_url("postgresql://ann:se@cret@db/shop")
    assert "cret" not in str(caught.value).replace("secret", "")
    assert postgres_url("postgresql://ann:se%40cret@db/shop").password == "se@cret"
