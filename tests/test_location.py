from __future__ import annotations

import importlib.util
import json
import logging
import os
import sys
import tempfile
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import pytest
from mmdb_writer import MMDBWriter
from netaddr import IPSet
from serving import wait_until

from ninetailed_wsgi.enrichment import maxmind
from ninetailed_wsgi.enrichment.geoip import LocationDatabase
from ninetailed_wsgi.errors import SettingsError
from ninetailed_wsgi.server.checks import check_location
from ninetailed_wsgi.settings import Settings

GEO = Path(__file__).parent.parent / "fixtures" / "geo"
DEMO = GEO / "demo.mmdb"

BERLIN, TOKYO, UNITED_STATES, PRISTINA, SALVADOR = (
    "127.0.0.1",
    "192.0.2.7",
    "198.51.100.7",
    "203.0.113.7",
    "203.0.113.200",
)
MONTREAL, ONLY_CONTINENT, NOWHERE = "2001:db8::7", "2001:db8:ffff::7", "8.8.8.8"


@pytest.fixture(scope="module")
def demo() -> LocationDatabase:
    return LocationDatabase(DEMO)


def write_database(
    path: Path,
    record: Any,
    *,
    network: str = "192.0.2.0/24",
    database_type: str = "Test-City",
    ip_version: int = 6,
) -> Path:
    writer = MMDBWriter(
        ip_version=ip_version,
        ipv4_compatible=ip_version == 6,
        database_type=database_type,
        languages=["en"],
        description="made by a test",
    )
    writer.insert_network(IPSet([network]), record)
    new = path.with_suffix(".new")
    writer.to_db_file(str(new))
    new.replace(path)
    return path


def city(name: str) -> dict[str, Any]:
    return {"city": {"names": {"en": name}}}


def looked_up(path: Path, record: Any) -> dict[str, Any]:
    return LocationDatabase(write_database(path, record)).lookup("192.0.2.1", "en")[0]


# What an address is answered with


@pytest.mark.parametrize("ip", [BERLIN, "127.255.0.9", "::1", "::ffff:127.0.0.1", "0:0:0:0:0:0:0:1"])
def test_this_machine_is_in_berlin(demo: LocationDatabase, ip: str) -> None:
    assert demo.lookup(ip, "en")[0] == {
        "coordinates": {"latitude": 52.5244, "longitude": 13.4105},
        "city": "Berlin",
        "postalCode": "10115",
        "region": "Land Berlin",
        "regionCode": "BE",
        "country": "Germany",
        "countryCode": "DE",
        "continent": "EU",
        "timezone": "Europe/Berlin",
    }


def test_names_come_in_the_asked_language_and_in_english(demo: LocationDatabase) -> None:
    german, english = demo.lookup(TOKYO, "de")

    assert (german["city"], german["region"], german["country"]) == ("Tokio", "Präfektur Tokio", "Japan")
    assert (english["city"], english["region"], english["country"]) == ("Tokyo", "Tokyo", "Japan")
    assert {**german, "city": "", "region": ""} == {**english, "city": "", "region": ""}


def test_names_in_other_scripts_are_answered(demo: LocationDatabase) -> None:
    assert demo.lookup(TOKYO, "ja")[0]["city"] == "東京"


def test_members_that_the_database_does_not_know_are_absent(demo: LocationDatabase) -> None:
    assert demo.lookup(UNITED_STATES, "en")[0] == {
        "coordinates": {"latitude": 37.751, "longitude": -97.822},
        "country": "United States",
        "countryCode": "US",
        "continent": "NA",
        "timezone": "America/Chicago",
    }
    assert demo.lookup(ONLY_CONTINENT, "de") == ({"continent": "EU"}, {"continent": "EU"})


def test_kosovo_keeps_its_code_and_has_no_region(demo: LocationDatabase) -> None:
    pristina, _ = demo.lookup(PRISTINA, "en")

    assert pristina["countryCode"] == "XK"
    assert "region" not in pristina
    assert "regionCode" not in pristina


def test_the_region_is_the_first_and_largest_subdivision(demo: LocationDatabase) -> None:
    montreal, _ = demo.lookup(MONTREAL, "fr")

    assert (montreal["region"], montreal["regionCode"]) == ("Québec", "QC")


@pytest.mark.parametrize("ip", [NOWHERE, "2001:4860:4860::8888", "0.0.0.0", "::", "fe80::1%eth0", "255.255.255.255"])
def test_an_address_that_the_database_does_not_know_is_nowhere(demo: LocationDatabase, ip: str) -> None:
    assert demo.lookup(ip, "en") == ({}, {})


@pytest.mark.parametrize(
    "ip",
    [
        "",
        " ",
        "localhost",
        "127.1",
        "127.0.0.1 ",
        "127.0.0.01",
        "256.0.0.1",
        "1.2.3",
        "1.2.3.4:80",
        "[::1]",
        ":::",
        "::1\0",
        "127.0.0.1\0",
        "\ud800",
        "9" * 10_000,
        ":" * 10_000,
        None,
        5,
    ],
)
def test_text_that_is_no_address_is_nowhere_and_says_nothing_about_the_file(
    demo: LocationDatabase, caplog: pytest.LogCaptureFixture, ip: Any
) -> None:
    assert demo.lookup(ip, "en") == ({}, {})
    assert caplog.records == []


# Languages


@pytest.mark.parametrize(
    ("locale", "country", "salvador"),
    [
        ("pt-BR", "Brasil", "Salvador da Bahia"),
        ("pt-br", "Brasil", "Salvador da Bahia"),
        ("pt_BR.UTF-8", "Brasil", "Salvador da Bahia"),
        ("pt", "Brasil", "Salvador da Bahia"),
        ("pt-PT", "Brasil", "Salvador da Bahia"),
        ("de", "Brasilien", "Salvador"),
        ("de-AT", "Brasilien", "Salvador"),
        ("de-Latn-AT-1996", "Brasilien", "Salvador"),
        ("DE", "Brasilien", "Salvador"),
        ("fr-CA", "Brésil", "Salvador"),
        ("en-GB", "Brazil", "Salvador"),
        ("tlh", "Brazil", "Salvador"),
    ],
)
def test_a_locale_falls_back_to_its_language_then_to_english_name_by_name(
    demo: LocationDatabase, locale: str, country: str, salvador: str
) -> None:
    found, english = demo.lookup(SALVADOR, locale)

    assert (found["country"], found["city"]) == (country, salvador)
    assert (english["country"], english["city"]) == ("Brazil", "Salvador")


@pytest.mark.parametrize("locale", ["zh", "zh-TW", "zh-Hans-CN", "ZH-hans"])
def test_chinese_without_a_country_finds_the_chinese_that_there_is(demo: LocationDatabase, locale: str) -> None:
    assert demo.lookup(TOKYO, locale)[0]["city"] == "东京"


def test_a_database_without_german_answers_english_to_germans(demo: LocationDatabase) -> None:
    found, english = demo.lookup(MONTREAL, "de-DE")

    assert found == english
    assert found["city"] == "Montreal"


@pytest.mark.parametrize(
    "locale", ["", " ", "-", "_", "*", "../../etc/passwd", "\0", "\ud800", "💥", "x" * 100_000, "-" * 9999, None, 7, []]
)
def test_a_locale_that_is_none_gives_english(demo: LocationDatabase, locale: Any) -> None:
    assert demo.lookup(TOKYO, locale)[0]["city"] == "Tokyo"


def test_the_language_counts_even_where_the_locale_never_ends(demo: LocationDatabase) -> None:
    assert demo.lookup(TOKYO, "de-" + "x" * 100_000)[0]["city"] == "Tokio"


# Records of a strange shape


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ({"location": {"latitude": 1.5}}, {}),
        ({"location": {"latitude": 1.5, "longitude": "2"}}, {}),
        ({"location": {"latitude": True, "longitude": False}}, {}),
        ({"location": {"latitude": float("nan"), "longitude": 2.0}}, {}),
        ({"location": {"latitude": 1.5, "longitude": float("inf")}}, {}),
        ({"location": {"latitude": 0.0, "longitude": 0.0}}, {"coordinates": {"latitude": 0.0, "longitude": 0.0}}),
        ({"location": "Berlin", "city": "Berlin", "country": "DE", "subdivisions": "BE", "postal": 10115}, {}),
        ({"city": {"names": "Berlin"}, "subdivisions": ["BE"], "postal": {"code": 10115}}, {}),
        ({"city": {"names": {"en": "", "de": "Berlin"}}, "postal": {"code": ""}}, {}),
        ({"city": {"names": {"en": 5}}, "subdivisions": []}, {}),
        ({"country": {"iso_code": "Germany"}, "continent": {"code": "Europe"}}, {}),
        ({"country": {"iso_code": "D1"}, "continent": {"code": "ÄÖ"}}, {}),
        ({"registered_country": {"iso_code": "DE", "names": {"en": "Germany"}}}, {}),
        ("Berlin", {}),
        ([1, 2], {}),
    ],
)
def test_a_member_of_the_wrong_shape_is_left_out(tmp_path: Path, record: Any, expected: dict[str, Any]) -> None:
    assert looked_up(tmp_path / "odd.mmdb", record) == expected


def test_a_name_that_exists_only_in_another_language_is_answered_to_its_speakers_alone(tmp_path: Path) -> None:
    database = LocationDatabase(write_database(tmp_path / "a.mmdb", {"city": {"names": {"de": "Köln"}}}))

    assert database.lookup("192.0.2.1", "de") == ({"city": "Köln"}, {})
    assert database.lookup("192.0.2.1", "fr") == ({}, {})


@pytest.mark.parametrize("ip", ["2001:db8::1", "::1", "fe80::1%eth0"])
def test_an_ipv6_address_is_nowhere_in_a_database_of_ipv4_addresses(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, ip: str
) -> None:
    database = LocationDatabase(write_database(tmp_path / "v4.mmdb", city("Here"), ip_version=4))

    assert database.lookup(ip, "en") == ({}, {})
    assert database.lookup("::ffff:192.0.2.1", "en")[0] == {"city": "Here"}
    assert caplog.records == []


# Opening


def test_the_database_tells_its_type_and_when_it_was_built(demo: LocationDatabase) -> None:
    assert demo.database_type == "ninetailed-wsgi-Demo-City"
    assert demo.built == datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    "database_type",
    ["GeoLite2-City", "GeoIP2-City-Europe", "GeoIP2-Enterprise", "GeoLite2-Country", "DBIP-City-Lite"],
)
def test_databases_with_city_records_are_accepted(tmp_path: Path, database_type: str) -> None:
    path = write_database(tmp_path / "a.mmdb", city("Here"), database_type=database_type)

    assert LocationDatabase(str(path)).lookup("192.0.2.1", "en")[0] == {"city": "Here"}


@pytest.mark.parametrize("database_type", ["GeoIP2-ISP", "GeoLite2-ASN", "GeoIP2-Anonymous-IP", ""])
def test_a_database_of_another_type_is_refused_by_file_type_and_what_is_expected(
    tmp_path: Path, database_type: str
) -> None:
    path = write_database(tmp_path / "isp.mmdb", {"isp": "Somebody"}, database_type=database_type)

    with pytest.raises(SettingsError) as refusal:
        LocationDatabase(path)

    (problem,) = refusal.value.problems
    assert str(path) in problem
    assert f'"{database_type}"' in problem
    assert "GeoLite2-City" in problem


def nothing(path: Path) -> None:
    """Leave the name unused."""


def empty(path: Path) -> None:
    path.write_bytes(b"")


def a_page_of_html(path: Path) -> None:
    path.write_text("<html>Please log in to download</html>")


def first_half(path: Path) -> None:
    path.write_bytes(DEMO.read_bytes()[: DEMO.stat().st_size // 2])


def only_the_metadata(path: Path) -> None:
    path.write_bytes(DEMO.read_bytes()[DEMO.read_bytes().rindex(b"\xab\xcd\xefMaxMind.com") :])


def a_map_with_a_number_for_a_key(path: Path) -> None:
    """Write what ends the process inside the C extension of maxminddb 3.2.0, were it ever looked up."""
    content = write_database(path, {"city": {"names": {"en": "Here"}}}).read_bytes()
    # A text of two letters becomes a whole number of two bytes.
    path.write_bytes(content.replace(b"\x42en\x44Here", b"\xa2en\x44Here"))


def a_description_with_a_number_for_a_key(path: Path) -> None:
    content = write_database(path, city("Here")).read_bytes()
    path.write_bytes(content.replace(b"\xe1\x42en", b"\xe1\xa2en"))


def only_the_marker_of_the_metadata(path: Path) -> None:
    path.write_bytes(b"\xab\xcd\xefMaxMind.com")


def folder(path: Path) -> None:
    path.mkdir()


def pipe(path: Path) -> None:
    os.mkfifo(path)


def built_at_an_impossible_time(path: Path) -> None:
    with mock.patch("time.time", return_value=10**17):
        write_database(path, city("Here"))


@pytest.mark.parametrize(
    "spoil",
    [
        nothing,
        empty,
        a_page_of_html,
        first_half,
        only_the_metadata,
        only_the_marker_of_the_metadata,
        a_map_with_a_number_for_a_key,
        a_description_with_a_number_for_a_key,
        folder,
        pipe,
        built_at_an_impossible_time,
    ],
)
def test_a_file_that_cannot_be_used_is_refused_by_name(tmp_path: Path, spoil: Callable[[Path], None]) -> None:
    path = tmp_path / "city.mmdb"
    spoil(path)

    with pytest.raises(SettingsError) as refusal:
        LocationDatabase(path)

    (problem,) = refusal.value.problems
    assert problem.startswith("geoip_database: ")
    assert str(path) in problem


def test_a_large_database_is_opened_after_a_sample_of_it_was_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maxmind, "SMALL_DATABASE", 0)
    damaged_in_the_middle(tmp_path / "torn.mmdb")

    assert LocationDatabase(DEMO).lookup(BERLIN, "en")[0]["city"] == "Berlin"
    with pytest.raises(SettingsError, match="damaged"):
        LocationDatabase(tmp_path / "torn.mmdb")


def test_a_name_that_no_file_can_have_is_refused() -> None:
    with pytest.raises(SettingsError, match="geoip_database: "):
        LocationDatabase("a\0b.mmdb")


def test_a_database_that_cannot_be_copied_is_refused_with_the_folder_to_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "absent"))

    with pytest.raises(SettingsError, match="TMPDIR"):
        LocationDatabase(DEMO)


def test_no_temporary_file_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    database = LocationDatabase(DEMO)

    assert list(tmp_path.iterdir()) == []
    assert database.lookup(BERLIN, "en")[0]["city"] == "Berlin"


def test_without_the_c_extension_the_same_is_answered_after_one_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fast = LocationDatabase(DEMO)
    monkeypatch.setattr(maxmind, "HAS_C_EXTENSION", False)

    slow = LocationDatabase(DEMO)

    for ip in (BERLIN, "::1", "::ffff:127.0.0.1", MONTREAL, NOWHERE, "rubbish"):
        assert slow.lookup(ip, "de") == fast.lookup(ip, "de")
    (warning,) = caplog.records
    assert "C extension" in warning.getMessage()
    monkeypatch.setattr("ninetailed_wsgi.enrichment.geoip.HAS_C_EXTENSION", False)
    told = check_location(Settings(geoip_database=DEMO)).text
    assert told.endswith(warning.getMessage()), "check and the log say the same of it"


# A file that changes while it is in use


def test_a_file_that_is_cut_or_overwritten_in_place_harms_nobody(tmp_path: Path) -> None:
    path = tmp_path / "city.mmdb"
    path.write_bytes(DEMO.read_bytes())
    database = LocationDatabase(path)
    before = database.lookup(BERLIN, "de")

    for size in (path.stat().st_size // 2, 0):
        os.truncate(path, size)
        for last in range(256):
            database.lookup(f"203.0.113.{last}", "en")
        assert database.lookup(BERLIN, "de") == before
    path.write_bytes(b"\xff" * DEMO.stat().st_size)
    assert database.lookup(BERLIN, "de") == before


def test_a_new_version_is_served_after_a_look_at_the_file(tmp_path: Path) -> None:
    path = write_database(tmp_path / "city.mmdb", city("Old"))
    database = LocationDatabase(path)
    write_database(path, city("New"), database_type="New-City")

    assert database.lookup("192.0.2.1", "en")[0] == {"city": "Old"}  # a look-up never opens a file
    database.look()
    assert database.lookup("192.0.2.1", "en")[0] == {"city": "New"}
    assert database.database_type == "New-City"


def test_after_follow_a_thread_opens_a_new_version_without_any_request(tmp_path: Path) -> None:
    path = write_database(tmp_path / "city.mmdb", city("Old"))
    database = LocationDatabase(path, check_every=0.01)
    database.follow()
    write_database(path, city("New"), database_type="New-City")

    wait_until(lambda: database.database_type == "New-City", "the new version is served")


def test_a_file_overwritten_in_place_is_picked_up_as_well(tmp_path: Path) -> None:
    path = tmp_path / "city.mmdb"
    path.write_bytes(DEMO.read_bytes())
    database = LocationDatabase(path)
    path.write_bytes(write_database(tmp_path / "other.mmdb", city("New")).read_bytes())

    database.look()

    assert database.lookup("192.0.2.1", "en")[0] == {"city": "New"}


def test_a_file_named_from_the_working_folder_is_found_after_the_folder_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_database(tmp_path / "city.mmdb", city("Old"))
    database = LocationDatabase("city.mmdb")
    monkeypatch.chdir("/")
    write_database(tmp_path / "city.mmdb", city("New"), network="192.0.2.0/25")

    database.look()

    assert database.lookup("192.0.2.1", "en")[0] == {"city": "New"}


def wrong_type(path: Path) -> None:
    write_database(path, {"isp": "Somebody"}, database_type="GeoIP2-ISP")


def vanished(path: Path) -> None:
    path.unlink()


def damaged_in_the_middle(path: Path) -> None:
    """Write a database of all addresses whose one record is overwritten: metadata and search tree are in order."""
    content = write_database(path, city("Anywhere"), network="0.0.0.0/0").read_bytes()
    path.write_bytes(content.replace(b"Anywhere", b"\xff" * 8))


@pytest.mark.parametrize(
    "spoil",
    [
        wrong_type,
        vanished,
        empty,
        a_page_of_html,
        first_half,
        damaged_in_the_middle,
        a_map_with_a_number_for_a_key,
    ],
)
def test_while_the_new_version_is_bad_the_old_one_serves_and_the_log_says_so_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, spoil: Callable[[Path], None]
) -> None:
    path = write_database(tmp_path / "city.mmdb", city("Old"))
    database = LocationDatabase(path)
    spoil(path)

    for _ in range(5):
        database.look()
        assert database.lookup("192.0.2.1", "en")[0] == {"city": "Old"}
    (warning,) = caplog.records
    assert warning.name == "ninetailed_wsgi.location"
    assert warning.levelno == logging.WARNING
    assert str(path) in warning.getMessage()

    write_database(path, city("A good one"))
    database.look()
    assert database.lookup("192.0.2.1", "en")[0] == {"city": "A good one"}
    assert len(caplog.records) == 1


def test_a_second_accident_is_logged_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write_database(tmp_path / "city.mmdb", city("Old"))
    away = tmp_path / "away.mmdb"
    database = LocationDatabase(path)

    for _ in range(2):
        path.rename(away)
        database.look()
        database.lookup("192.0.2.1", "en")
        away.rename(path)
        database.look()
        database.lookup("192.0.2.1", "en")

    assert len(caplog.records) == 2


def test_a_version_that_could_not_be_copied_is_tried_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_database(tmp_path / "city.mmdb", city("Old"))
    database = LocationDatabase(path)
    write_database(path, city("A new one"))

    with monkeypatch.context() as no_room:
        no_room.setattr(tempfile, "tempdir", str(tmp_path / "absent"))
        for _ in range(3):
            database.look()
            assert database.lookup("192.0.2.1", "en")[0] == {"city": "Old"}
    database.look()

    assert database.lookup("192.0.2.1", "en")[0] == {"city": "A new one"}
    assert len(caplog.records) == 1


def test_a_damaged_record_gives_no_location_and_one_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maxmind, "MOST_RECORDS", 0)  # as in a file so large that the sample misses the record
    content = write_database(tmp_path / "a.mmdb", city("Somewhere")).read_bytes()
    (tmp_path / "b.mmdb").write_bytes(content.replace(b"Somewhere", b"\xff" * 9))
    database = LocationDatabase(tmp_path / "b.mmdb")

    for _ in range(3):
        assert database.lookup("192.0.2.1", "en") == ({}, {})
    (warning,) = caplog.records
    assert "b.mmdb is damaged" in warning.getMessage()


def test_no_damage_anywhere_in_the_file_raises_from_a_look_up(tmp_path: Path) -> None:
    content = DEMO.read_bytes()
    path = tmp_path / "city.mmdb"
    for place in range(0, len(content), 61):
        path.write_bytes(content[:place] + bytes([content[place] ^ 0xFF]) + content[place + 1 :])
        try:
            database = LocationDatabase(path)
        except SettingsError:
            continue
        for ip in (BERLIN, TOKYO, UNITED_STATES, PRISTINA, SALVADOR, MONTREAL, ONLY_CONTINENT, NOWHERE):
            localized, english = database.lookup(ip, "de")
            json.dumps([localized, english], allow_nan=False)


def test_threads_see_the_old_version_or_the_new_one_while_it_is_swapped(tmp_path: Path) -> None:
    path = write_database(tmp_path / "city.mmdb", city("0"))
    database = LocationDatabase(path)
    problems: list[object] = []
    done = threading.Event()

    def visit() -> None:
        while not done.wait(0.001):
            found = database.lookup("192.0.2.1", "en")[0]
            if not found.get("city", "").isdigit():
                problems.append(found)

    threads = [threading.Thread(target=visit) for _ in range(4)]
    for thread in threads:
        thread.start()
    for version in range(1, 30):
        write_database(path, city(str(version)))
        database.look()
    done.set()
    for thread in threads:
        thread.join()

    assert problems == []
    assert database.lookup("192.0.2.1", "en")[0] == {"city": "29"}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_process_looks_up_in_what_its_parent_opened(demo: LocationDatabase) -> None:
    child = os.fork()
    if child == 0:
        os._exit(0 if demo.lookup(BERLIN, "en")[0].get("city") == "Berlin" else 1)

    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


# The demo database


def build_script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("demo_build", GEO / "build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_the_demo_database_is_what_its_readable_source_says(tmp_path: Path) -> None:
    source = json.loads((GEO / "demo.json").read_text(encoding="utf-8"))

    build_script().build(source, tmp_path / "rebuilt.mmdb")

    assert (tmp_path / "rebuilt.mmdb").read_bytes() == DEMO.read_bytes()
