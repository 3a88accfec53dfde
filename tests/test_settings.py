"""Settings: their names in the environment, and no password in an error or a repr."""

import base64
import traceback
from pathlib import Path

import pytest
from pydantic import SecretStr

from carnivore_db import Database, Settings
from carnivore_db.errors import ConfigurationError
from carnivore_db.settings import parse_url

NAMES = [name for name in Settings.model_fields if name != "database_url"]
PASSWORD = "hunter2"
KEY = base64.b64encode(b"hunter2-" * 4).decode()
BAD = [
    f"mysql://ada:{PASSWORD}@host/name",
    f"ada:{PASSWORD}@host/name",
    f"postgresql+asyncpg://ada:{PASSWORD}@host/name",
    f"postgresql://ada:{PASSWORD}@host:port/name",
    f"{PASSWORD}",
    "",
    f"postgresql://ada:{PASSWORD}/name",  # the host was forgotten
]


@pytest.fixture(autouse=True)
def empty_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)  # where there is no .env
    monkeypatch.delenv("DATABASE_URL", raising=False)
    monkeypatch.delenv("CARNIVORE_DB_DATABASE_URL", raising=False)
    for name in NAMES:
        monkeypatch.delenv(f"CARNIVORE_DB_{name.upper()}", raising=False)


def test_without_an_environment_everything_but_the_database_is_known() -> None:
    settings = Settings()
    assert settings.access_counting == "immediate"
    assert settings.prepare_threshold is None
    with pytest.raises(ConfigurationError, match="DATABASE_URL"):
        _ = settings.url
    with pytest.raises(ConfigurationError):
        Database()


@pytest.mark.parametrize("variable", ["DATABASE_URL", "CARNIVORE_DB_DATABASE_URL"])
@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
def test_the_database_comes_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, variable: str, scheme: str
) -> None:
    monkeypatch.setenv(variable, f"{scheme}://ada:{PASSWORD}@host:6432/name?sslmode=require")
    url = Settings().url
    assert url.render_as_string(hide_password=False) == (
        f"postgresql+psycopg://ada:{PASSWORD}@host:6432/name?sslmode=require"
    )


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("pool_size", "7", 7),
        ("max_overflow", "0", 0),
        ("prepare_threshold", "5", 5),
        ("access_counting", "deferred", "deferred"),
        ("migration_lock_timeout", "3", 3),
        ("migration_statement_timeout", "60", 60),
        ("verify_ignore", '["public.orders*"]', ["public.orders*"]),
        ("encryption_keys", f'{{"k-1_a": "{KEY}"}}', {"k-1_a": SecretStr(KEY)}),
        ("encryption_key_id", "k-1_a", "k-1_a"),
        ("export_location", "s3://bucket/exports", "s3://bucket/exports"),
        ("export_validity_hours", "87600", 87_600),
    ],
)
def test_every_other_setting_has_the_prefix(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, expected: object
) -> None:
    assert getattr(Settings(), name) != expected
    monkeypatch.setenv(f"CARNIVORE_DB_{name.upper()}", value)
    assert getattr(Settings(), name) == expected


def test_a_file_serves_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").write_text("CARNIVORE_DB_POOL_SIZE=9\nDATABASE_URL=postgresql://host/name\nOTHER=1\n")
    settings = Settings()
    assert (settings.pool_size, settings.url.database) == (9, "name")
    monkeypatch.setenv("CARNIVORE_DB_POOL_SIZE", "8")
    assert Settings().pool_size == 8


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("pool_size", "0"),
        ("pool_size", "many"),
        ("max_overflow", "-1"),
        ("access_counting", "never"),
        ("migration_lock_timeout", "0"),
        ("encryption_keys", "[]"),
        ("encryption_key_id", "K1"),
        ("encryption_key_id", ""),
        ("export_validity_hours", "0"),
        ("export_validity_hours", "87601"),
    ],
)
def test_a_setting_out_of_bounds_is_refused(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"CARNIVORE_DB_{name.upper()}", value)
    with pytest.raises(ConfigurationError, match=name):
        Settings()


def said(error: BaseException) -> str:
    return "".join([str(error), repr(error), *traceback.format_exception(error)])


@pytest.mark.parametrize("url", BAD)
def test_a_bad_url_is_refused_without_its_password(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    with pytest.raises(ValueError) as parsed:  # noqa: PT011 - which text it has is looked at below
        parse_url(url)
    monkeypatch.setenv("DATABASE_URL", url)
    with pytest.raises(ConfigurationError, match="DATABASE_URL") as validated:
        Settings()
    with pytest.raises(ConfigurationError) as opened:
        Database(url)
    for caught in (parsed, validated, opened):
        assert PASSWORD not in said(caught.value)


def test_secrets_do_not_show() -> None:
    url = f"postgresql://ada:{PASSWORD}@host/name"
    settings = Settings(database_url=url, encryption_keys={"k1": KEY})
    db = Database(settings=settings)
    shown = f"{settings} {settings!r} {settings.model_dump()} {settings.model_dump_json()} {settings.url}"
    assert PASSWORD not in f"{shown} {db} {db!r} {db.engine!r} {db.engine.url}"
    assert KEY not in shown
    assert db.engine.url.password == PASSWORD
