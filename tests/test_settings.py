"""One name three ways, one check for all three, and one error that lists everything that is wrong."""

from __future__ import annotations

import dataclasses
import math
import os
from pathlib import Path
from typing import Any

import pytest

from ninetailed_wsgi import Settings
from ninetailed_wsgi.errors import SettingsError
from ninetailed_wsgi.settings import OPTIONS


def problems_of(environ: dict[str, str] | None = None, **keywords: Any) -> tuple[str, ...]:
    with pytest.raises(SettingsError) as caught:
        Settings.from_env(environ or {}, **keywords)
    return caught.value.problems


def test_the_defaults_are_those_of_the_documentation() -> None:
    settings = Settings()
    assert settings.bind == "127.0.0.1:8000"
    assert (settings.workers, settings.threads) == (2, 4)
    assert settings.data_dir == Path("ninetailed-data")
    assert (settings.content, settings.geoip_database, settings.content_locale) == ((), None, None)
    assert (settings.trusted_proxies, settings.environments, settings.cors_origins) == ((), (), ())
    assert (settings.max_body_bytes, settings.history_events, settings.history_days) == (1_048_576, 500, 365)
    assert (settings.sqlite_synchronous, settings.store_shards, settings.store_timeout) == ("NORMAL", 32, 5.0)
    assert settings.explain is False


def test_settings_cannot_be_changed_once_made() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Settings().workers = 3  # type: ignore[misc]


def test_an_empty_environment_gives_the_defaults() -> None:
    assert Settings.from_env({}) == Settings()


def test_every_option_has_a_sentence_of_help_and_a_stand_in_for_its_value() -> None:
    assert {option.name for option in OPTIONS} == {each.name for each in dataclasses.fields(Settings)}
    assert all(option.help.endswith(".") and option.metavar for option in OPTIONS)


def test_every_option_can_be_set_by_its_environment_variable(tmp_path: Path) -> None:
    database = tmp_path / "city.mmdb"
    database.touch()
    settings = Settings.from_env(
        {
            "NINETAILED_BIND": "[::1]:9000",
            "NINETAILED_WORKERS": "3",
            "NINETAILED_THREADS": "8",
            "NINETAILED_DATA_DIR": str(tmp_path / "data"),
            "NINETAILED_CONTENT": str(tmp_path),
            "NINETAILED_GEOIP_DATABASE": str(database),
            "NINETAILED_TRUSTED_PROXIES": "10.0.0.0/8, ::1",
            "NINETAILED_ENVIRONMENTS": "acme/main,acme/test",
            "NINETAILED_CORS_ORIGINS": "https://www.example.com",
            "NINETAILED_MAX_BODY_BYTES": "2048",
            "NINETAILED_HISTORY_EVENTS": "100",
            "NINETAILED_HISTORY_DAYS": "30",
            "NINETAILED_SQLITE_SYNCHRONOUS": "full",
            "NINETAILED_STORE_SHARDS": "1",
            "NINETAILED_STORE_TIMEOUT": "0.5",
            "NINETAILED_CONTENT_LOCALE": "de-AT",
            "NINETAILED_EXPLAIN": "true",
        }
    )
    assert settings == Settings(
        bind="[::1]:9000",
        workers=3,
        threads=8,
        data_dir=tmp_path / "data",
        content=tmp_path,
        geoip_database=database,
        trusted_proxies=("10.0.0.0/8", "::1"),
        environments=("acme/main", "acme/test"),
        cors_origins=("https://www.example.com",),
        max_body_bytes=2048,
        history_events=100,
        history_days=30,
        sqlite_synchronous="FULL",
        store_shards=1,
        store_timeout=0.5,
        content_locale="de-AT",
        explain=True,
    )


def test_a_keyword_wins_over_the_environment_and_the_environment_over_the_default() -> None:
    settings = Settings.from_env({"NINETAILED_WORKERS": "3", "NINETAILED_THREADS": "8"}, workers=5)
    assert (settings.workers, settings.threads) == (5, 8)


def test_variables_without_the_prefix_are_none_of_our_business() -> None:
    assert Settings.from_env({"WORKERS": "x", "NINETAILEDWORKERS": "x", "PATH": "/bin"}) == Settings()


def test_a_list_may_be_a_list_or_text_with_commas_and_says_each_item_once() -> None:
    as_text = Settings(environments="acme/main, acme/test,,acme/main")  # type: ignore[arg-type]
    as_list = Settings(environments=["acme/main", "acme/test"])  # type: ignore[arg-type]
    assert as_text.environments == as_list.environments == ("acme/main", "acme/test")


def test_an_empty_list_variable_is_an_empty_list() -> None:
    assert Settings.from_env({"NINETAILED_CORS_ORIGINS": ""}).cors_origins == ()


def test_an_empty_path_variable_means_no_path() -> None:
    settings = Settings.from_env({"NINETAILED_CONTENT": "", "NINETAILED_GEOIP_DATABASE": ""})
    assert (settings.content, settings.geoip_database) == ((), None)


def test_paths_may_be_text_and_start_at_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Settings(data_dir="~/data").data_dir == tmp_path / "data"  # type: ignore[arg-type]


@pytest.mark.parametrize("word", ["yes", "TRUE", "on", "1", True])
def test_yes_may_be_said_in_several_ways(word: object) -> None:
    assert Settings(explain=word).explain is True  # type: ignore[arg-type]


@pytest.mark.parametrize("bind", ["localhost:80", "0.0.0.0:8000", "[::]:0", "[::1]:65535", "api.example.com:443"])
def test_an_address_has_a_host_and_a_port(bind: str) -> None:
    assert Settings(bind=bind).bind == bind


@pytest.mark.parametrize(
    ("option", "wrong"),
    [
        *[("bind", wrong) for wrong in ("8000", ":8000", "localhost", "::1:80", "[:::1]:80", "a:65536", "a b:1", "")],
        ("bind", 80),
        *[("workers", wrong) for wrong in ("0", "-1", "1.5", "two", "", 0, 257, True, None, 2.0)],
        ("threads", "0"),
        ("max_body_bytes", "0"),
        ("history_events", "0"),
        ("history_days", "0"),
        ("store_shards", "0"),
        ("store_shards", "257"),
        *[("store_timeout", wrong) for wrong in ("0", "-1", "soon", "nan", "inf", math.nan, "3601", None, True)],
        *[("sqlite_synchronous", wrong) for wrong in ("OFF", "", None)],
        *[("trusted_proxies", wrong) for wrong in ("10.0.0.0/33", "proxy.example.com", "10.1.2.3/8", [7], 7)],
        *[("environments", wrong) for wrong in ("acme", "acme/", "/main", "acme/main/x", "a/b,c")],
        *[("cors_origins", wrong) for wrong in ("www.example.com", "https://a.example/", "https://a.example/b")],
        *[("explain", wrong) for wrong in ("maybe", "", None, 2)],
        *[("content_locale", wrong) for wrong in ("de AT", 5)],
        *[("data_dir", wrong) for wrong in ("", None, 5, "~nobody-of-this-name/x")],
        *[("content", wrong) for wrong in ("/there/is/no/such/file", 5)],
        *[("geoip_database", wrong) for wrong in ("/there/is/no/such/file.mmdb", 5)],
    ],
)
def test_a_wrong_value_is_refused_with_every_spelling_of_the_option(option: str, wrong: object) -> None:
    (problem,) = problems_of(**{option: wrong})
    flag = "--" + option.replace("_", "-")
    assert problem.startswith(f"{option} ({flag}, NINETAILED_{option.upper()}): found {wrong!r}, expected ")


def test_a_folder_is_no_database_and_a_file_is_no_data_folder(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    first, second = problems_of(data_dir=file, geoip_database=tmp_path)
    assert " is a file" in first
    assert " is a folder" in second


def test_a_network_with_bits_beyond_its_mask_is_answered_with_the_network_that_was_meant() -> None:
    (problem,) = problems_of(trusted_proxies="10.1.2.3/8")
    assert "did you mean 10.0.0.0/8?" in problem


def test_what_is_no_network_at_all_is_answered_with_examples() -> None:
    (problem,) = problems_of(trusted_proxies="proxy.example.com")
    assert problem.endswith("such as 10.0.0.0/8, ::1, or unix for a proxy on a Unix socket")


def test_all_problems_come_at_once_wherever_they_are() -> None:
    problems = problems_of({"NINETAILED_WORKERS": "none", "NINETAILED_DATADIR": "x"}, bind="x", thread=1)
    assert [problem.split(":")[0] for problem in problems] == [
        "bind (--bind, NINETAILED_BIND)",
        "workers (--workers, NINETAILED_WORKERS)",
        "NINETAILED_DATADIR",
        "thread",
    ]


def test_an_unknown_variable_is_answered_with_the_nearest_known_one() -> None:
    assert problems_of({"NINETAILED_GEOIP_DB": "x"}) == (
        "NINETAILED_GEOIP_DB: no such environment variable; did you mean NINETAILED_GEOIP_DATABASE?",
    )


def test_a_variable_of_the_host_site_does_not_stop_the_start(caplog: pytest.LogCaptureFixture) -> None:
    assert Settings.from_env({"NINETAILED_CLIENT_ID": "abc", "NINETAILED_API_KEY": "x"}) == Settings()
    assert "NINETAILED_CLIENT_ID is not an option of ninetailed-wsgi and is ignored" in caplog.text


def test_an_unknown_keyword_is_answered_with_the_nearest_known_one() -> None:
    assert problems_of(data_folder="x") == ("data_folder: no such option; did you mean data_dir?",)


def test_a_very_long_wrong_value_does_not_fill_the_screen() -> None:
    (problem,) = problems_of(bind="x" * 100_000)
    assert len(problem) < 500


def test_the_environment_of_the_process_is_read_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("NINETAILED_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("NINETAILED_WORKERS", "7")
    assert Settings.from_env().workers == 7


# Redis


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ("redis://127.0.0.1", "redis://127.0.0.1:6379/0"),
        ("redis://127.0.0.1:7000/3", "redis://127.0.0.1:7000/3"),
        ("rediss://user:p%40ss@cache.example:7000/", "rediss://cache.example:7000/0"),
        ("redis://:pass@[::1]:7000/0", "redis://[::1]:7000/0"),
        ("redis+sentinel://a:1,b/profiles", "redis+sentinel://a:1,b:26379/profiles/0"),
        ("rediss+sentinel://a:1/profiles/2", "rediss+sentinel://a:1/profiles/2"),
        ("redis+cluster://:pass@a:1,b:2,c", "redis+cluster://a:1,b:2,c:6379"),
    ],
)
def test_an_address_of_redis_is_read_and_shown_without_its_password(given: str, read: str) -> None:
    settings = Settings(store=given)  # type: ignore[arg-type]
    assert str(settings.store) == read
    assert "pass@" not in repr(settings).replace("profiles", "")
    assert Settings(store=settings.store).store == settings.store


def test_user_and_password_may_hold_any_character() -> None:
    url = Settings(store="redis://us%3Aer:p%40s%2Fs@h").store  # type: ignore[arg-type]
    assert url is not None
    assert (url.username, url.password) == ("us:er", "p@s/s")


def test_no_store_means_the_data_folder() -> None:
    assert Settings(store="").store is None  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("redis:s3cret@host", "redis://HOST:PORT/DB"),
        ("http://s3cret@host", "redis://HOST:PORT/DB"),
        ("redis://:s3cret/4@host", "redis://HOST:PORT/DB"),
        ("redis://:s3cret@host:0", "hosts such as"),
        ("redis://:s3cret@host:65536", "hosts such as"),
        ("redis://:s3cret@a,b", "several are redis+sentinel:// or redis+cluster://"),
        ("redis://:s3cret@host/zero", "the number of a database"),
        ("redis+sentinel://:s3cret@host", "the name of the service"),
        ("redis+cluster://:s3cret@host/1", "a Cluster has one database"),
        ("redis+sentinal://:s3cret@host", "redis://HOST:PORT/DB"),
        ("s3cret", "redis://HOST:PORT/DB"),
    ],
)
def test_a_wrong_address_of_redis_is_refused_without_showing_a_password(given: str, expected: str) -> None:
    (problem,) = problems_of(store=given)
    assert problem.startswith("store (--store, NINETAILED_STORE): found ")
    assert expected in problem
    assert "s3cret" not in problem
