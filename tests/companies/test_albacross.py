"""Companies by Albacross: asked beside requests, kept under a hash, paused when refused, erased with the visitor."""

from __future__ import annotations

import io
import itertools
import json
import logging
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, cast

import httpx
import pytest

from ninetailed_wsgi import Settings, create_app
from ninetailed_wsgi.commands import expire
from ninetailed_wsgi.commands.console import Console
from ninetailed_wsgi.core.names import Environment
from ninetailed_wsgi.enrichment import albacross
from ninetailed_wsgi.enrichment.albacross import Albacross
from ninetailed_wsgi.enrichment.company_cache import FILE, CompanyCache
from ninetailed_wsgi.errors import SettingsError
from ninetailed_wsgi.service.expiry import Expiry
from ninetailed_wsgi.service.service import ExperienceService
from ninetailed_wsgi.service.sources import albacross_key
from ninetailed_wsgi.store.protocol import KeptStore
from ninetailed_wsgi.testing import Client
from tests.companies.fake_albacross import ACME, FakeAlbacross

ADDRESS, OTHER = "81.2.69.142", "81.2.69.143"
DAY = 86_400


class Time:
    """Seconds since the epoch, moved by a test."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def fake() -> Iterator[FakeAlbacross]:
    fake = FakeAlbacross()
    yield fake
    fake.close()


@pytest.fixture
def clock() -> Time:
    return Time()


@pytest.fixture
def source(fake: FakeAlbacross, clock: Time, tmp_path: Path) -> Albacross:
    return Albacross(
        fake.url, "secret-key", CompanyCache(tmp_path, clock), lambda: b"k" * 32, wall_clock=clock, within=60.0
    )


def known(source: Albacross, address: str = ADDRESS, *, asks: bool = True) -> dict[str, Any]:
    """What is known at the second sight of an address."""
    source.company(address, asks=asks)
    assert source.settle(60)
    return dict(source.company(address, asks=False))


# What it answers


def test_the_first_sight_asks_and_the_next_one_knows(source: Albacross, fake: FakeAlbacross) -> None:
    fake.companies[ADDRESS] = ACME
    assert source.company(ADDRESS, asks=True) == {}
    assert source.settle(60)
    assert source.company(ADDRESS, asks=True) == ACME
    assert fake.asked == [ADDRESS]
    assert fake.keys == ["Api-Key secret-key"]


def test_a_preflight_reads_what_is_kept_and_asks_nothing(source: Albacross, fake: FakeAlbacross) -> None:
    assert known(source, asks=False) == {}
    assert fake.asked == []


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "10.1.2.3", "192.168.0.9", "169.254.1.1", "224.0.0.1", "2001:4860::8888", "unix", "", "1.2.3"],
)
def test_only_public_ipv4_addresses_are_asked_about(address: str, source: Albacross, fake: FakeAlbacross) -> None:
    assert known(source, address) == {}
    assert fake.asked == []


def test_an_ipv4_address_within_an_ipv6_one_is_one(source: Albacross, fake: FakeAlbacross) -> None:
    fake.companies[ADDRESS] = ACME
    assert known(source, f"::ffff:{ADDRESS}") == ACME
    assert source.company(ADDRESS, asks=False) == ACME


@pytest.mark.parametrize(
    ("answer", "seconds"),
    [(200, 30 * DAY), (204, 7 * DAY), (400, 300), (500, 300), (302, 300), ("cut", 300), ("odd", 300)],
)
def test_each_answer_is_kept_for_its_time(
    answer: int | str, seconds: int, source: Albacross, fake: FakeAlbacross, clock: Time
) -> None:
    if answer in (200, "cut"):
        fake.companies[ADDRESS] = ACME
    if answer == "cut":
        fake.mode = "cut"
    elif answer == "odd":
        fake.body = b"<html>"
    elif isinstance(answer, int) and answer >= 300:
        fake.status = answer
    assert known(source) == (ACME if answer == 200 else {})
    clock.now += seconds - 1
    known(source)
    assert len(fake.asked) == 1
    clock.now += 1
    known(source)
    assert len(fake.asked) == 2


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b'{"name": 5}',
        b'{"name": ""}',
        b'{"name": "x", "a": NaN}',
        b'{"name": "' + b"x" * 20_000 + b'"}',
        b'{"name": "x", "a": ' + b"[" * 50 + b"]" * 50 + b"}",
        b'{"name": "x", "a": ' + b"[" * 5000 + b"]" * 5000 + b"}",
        b'{"name": "\xff"}',
    ],
    ids=["nothing", "null", "list", "empty", "number", "no name", "NaN", "huge", "deep", "very deep", "no UTF-8"],
)
def test_an_odd_answer_is_a_failure(body: bytes, source: Albacross, fake: FakeAlbacross) -> None:
    fake.body = body
    assert known(source) == {}
    assert fake.asked == [ADDRESS]


def test_a_hostile_name_is_a_text_like_any_other(source: Albacross, fake: FakeAlbacross) -> None:
    hostile = {
        "name": "</script><script>alert(1)</script>\x1b[31m\u202e{{ 7*7 }}",
        "country": "x",
        "__proto__": {"a": 1},
    }
    fake.companies[ADDRESS] = hostile
    assert known(source) == hostile


def test_what_hangs_ends_after_its_time(fake: FakeAlbacross, clock: Time, tmp_path: Path) -> None:
    fake.mode = "slow"
    source = Albacross(fake.url, "k", CompanyCache(tmp_path, clock), lambda: b"k", wall_clock=clock, within=1.0)
    assert known(source) == {}
    clock.now += 299
    known(source)
    assert len(fake.asked) <= 1  # 0 where the request itself took longer than that


def test_at_most_four_are_asked_at_once_by_one_thread(source: Albacross, fake: FakeAlbacross) -> None:
    fake.mode = "slow"
    before = set(threading.enumerate())
    for number in range(12):
        source.company(f"81.2.69.{number}", asks=True)
        source.company(f"81.2.69.{number}", asks=True)
    new = set(threading.enumerate()) - before
    threads = [thread for thread in new if thread.name == "ninetailed-companies"]
    fake.released.set()
    assert source.settle(60)
    assert len(threads) == 1
    assert fake.most_in_flight <= 4
    assert sorted(fake.asked) == sorted(f"81.2.69.{number}" for number in range(12))


def test_only_so_many_addresses_wait(source: Albacross, fake: FakeAlbacross, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(albacross, "MOST_WAITING", 5)
    fake.mode = "slow"
    for number in range(50):
        source.company(f"81.2.69.{number}", asks=True)
    fake.released.set()
    assert source.settle(60)
    assert len(fake.asked) <= 10


# Refusals


@pytest.mark.parametrize("status", [401, 403, 429])
def test_a_refusal_pauses_everything_longer_each_time_and_is_said_once(
    status: int, source: Albacross, fake: FakeAlbacross, clock: Time, caplog: pytest.LogCaptureFixture
) -> None:
    fake.status = status
    asked_after = []
    began = clock.now
    for number in range(400):
        before = len(fake.asked)
        known(source, f"81.2.{number // 200}.{number % 200}")
        if len(fake.asked) > before:
            asked_after.append(clock.now - began)
        clock.now += 450
    gaps = [later - earlier for earlier, later in itertools.pairwise(asked_after)]
    assert gaps == [900, 1800, 3600, 7200, 14400, 28800, 57600]
    assert [record.message for record in caplog.records if "Albacross" in record.message][1:] == []
    assert f"({status}): no company is asked for during 15 minutes" in caplog.text
    assert "81.2." not in caplog.text
    assert "secret-key" not in caplog.text


def test_a_pause_is_at_most_a_day_and_ends_with_an_answer(source: Albacross, fake: FakeAlbacross, clock: Time) -> None:
    fake.status = 429
    for number in range(10):
        known(source, f"81.2.69.{number}")
        clock.now += DAY
    assert len(fake.asked) == 10
    fake.status = 200
    fake.companies[ADDRESS] = ACME
    assert known(source) == ACME
    fake.status = 429
    known(source, "81.2.70.1")
    clock.now += 900
    known(source, "81.2.70.2")
    assert len(fake.asked) == 13


# The cache


def test_the_cache_holds_no_address_and_is_its_owners_alone(
    source: Albacross, fake: FakeAlbacross, tmp_path: Path
) -> None:
    fake.companies[ADDRESS] = ACME
    known(source)
    for file in tmp_path.iterdir():
        assert file.stat().st_mode & 0o077 == 0
        content = file.read_bytes()
        assert ADDRESS.encode() not in content
        assert bytes(map(int, ADDRESS.split("."))) not in content
    assert b"Acme" in b"".join(file.read_bytes() for file in tmp_path.iterdir())


def test_what_is_erased_leaves_nothing_in_the_file(
    source: Albacross, fake: FakeAlbacross, clock: Time, tmp_path: Path
) -> None:
    fake.companies[ADDRESS] = ACME
    known(source)
    digest = albacross.digest_of(lambda: b"k" * 32, ADDRESS)
    CompanyCache(tmp_path, clock).forget([digest])
    assert source.company(ADDRESS, asks=False) == {}
    assert b"Acme" not in b"".join(file.read_bytes() for file in tmp_path.iterdir())


def test_a_damaged_cache_is_begun_anew(
    source: Albacross, fake: FakeAlbacross, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fake.companies[ADDRESS] = ACME
    (tmp_path / FILE).write_bytes(b"this is no database" * 100)
    assert known(source) == ACME
    assert "company cache cannot be used" in caplog.text


@pytest.mark.parametrize("document", [b"{", b"[]", b"5", b"\xff", "text", 5, None], ids=repr)
def test_a_damaged_row_of_the_cache_is_begun_anew(
    document: object, source: Albacross, fake: FakeAlbacross, clock: Time, tmp_path: Path
) -> None:
    fake.companies[ADDRESS] = ACME
    known(source)
    with CompanyCache(tmp_path, clock)._writer() as database:
        database.execute("UPDATE company SET document = ?", (document,))
    assert source.company(ADDRESS, asks=False) == {}
    assert known(source) == ACME


def test_a_cache_that_cannot_be_written_harms_nobody(
    fake: FakeAlbacross, clock: Time, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fake.companies[ADDRESS] = ACME
    missing = CompanyCache(tmp_path / "nowhere", clock)
    source = Albacross(fake.url, "k", missing, lambda: b"k", wall_clock=clock)
    assert known(source) == {}
    assert "company cache cannot be used" in caplog.text


def test_only_so_many_answers_are_kept(clock: Time, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ninetailed_wsgi.enrichment.company_cache.MOST_KEPT", 3)
    cache = CompanyCache(tmp_path, clock)
    for number in range(6):
        cache.keep(str(number), {"name": "x"}, 100 + number)
    assert [cache.get(str(number)) is not None for number in range(6)] == [False] * 3 + [True] * 3


# In the service


def event(type: str = "page", **context: Any) -> dict[str, Any]:
    page = {"path": "/", "query": {}, "referrer": "", "search": "", "url": "https://shop.example/"}
    return {
        "type": type,
        "channel": "web",
        "messageId": str(time.perf_counter_ns()),
        "context": {"library": {"name": "t", "version": "4.0.0"}, **context},
        **({"properties": page} if type == "page" else {"traits": {}}),
    }


def body(*features: str, **context: Any) -> dict[str, Any]:
    return {"events": [event(**context)], "options": {"features": list(features)}}


class Site:
    """An app with Albacross, its data folder and what asks."""

    def __init__(self, fake: FakeAlbacross, folder: Path, **options: Any) -> None:
        key = folder / "albacross-key"
        key.write_text("secret-key\n")
        key.chmod(0o600)
        self.data = folder / "data"
        app = create_app(
            albacross_key_file=key, albacross_url=fake.url, data_dir=self.data, access="open", store_shards=2, **options
        )
        self.client = Client(app, "/v2/organizations/acme/environments/main")

    def post(self, path: str, document: dict[str, Any]) -> dict[str, Any]:
        answer = self.client.post(path, document, address=ADDRESS)
        assert answer.status == 200, answer.document
        data: dict[str, Any] = answer.document["data"]
        return data


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not two seconds for a look-up, which a busy machine may need."""
    monkeypatch.setitem(Albacross.__init__.__kwdefaults__, "within", 60.0)


@pytest.fixture
def site(fake: FakeAlbacross, tmp_path: Path) -> Site:
    fake.companies[ADDRESS] = ACME
    return Site(fake, tmp_path)


def kept(file: Path) -> int:
    """How many answers a cache keeps. Looking at a new file before its log is there would lock its writer out."""
    if not file.exists() or file.read_bytes()[18:20] != bytes([2, 2]):  # WAL, as SQLite's file format says
        return 0
    with closing(sqlite3.connect(file)) as database, suppress(sqlite3.OperationalError):  # it has no table yet
        return int(database.execute("SELECT count(*) FROM company").fetchone()[0])
    return 0


def settled(fake: FakeAlbacross, site: Site, times: int = 1) -> None:
    """Wait until so many answers are kept."""
    end, file = time.monotonic() + 60, site.data / FILE
    while time.monotonic() < end:
        if len(fake.asked) >= times and not fake.in_flight and kept(file) >= times:
            return
        threading.Event().wait(0.01)
    raise AssertionError("no answer was kept")


@pytest.mark.parametrize(
    "features", [("ip-enrichment",), ("location", "ip-enrichment")], ids=["alone", "with location"]
)
def test_a_visitor_has_the_company_from_the_next_request_on(
    features: tuple[str, ...], site: Site, fake: FakeAlbacross
) -> None:
    created = site.post("/profiles", body(*features))["profile"]
    assert created["traits"] == {}
    settled(fake, site)
    updated = site.post(f"/profiles/{created['id']}", body(*features))["profile"]
    assert updated["traits"] == {"albacross": ACME}
    other = site.post("/profiles", body(*features))["profile"]
    assert other["traits"] == {"albacross": ACME}
    assert fake.asked == [ADDRESS]


def test_nobody_is_asked_without_the_feature_or_consent_in_preflights_or_batches(
    site: Site, fake: FakeAlbacross
) -> None:
    enriched = ["location", "ip-enrichment"]
    site.post("/profiles", body())
    site.post("/profiles", {"events": [event()], "options": {}})
    site.post("/profiles", {"events": [event()]})
    assert site.client.post("/profiles", body("ip-enrichment", "weather"), address=ADDRESS).status == 400
    site.post("/profiles", body(*enriched, gdpr={"isConsentGiven": False}))
    site.post("/profiles?type=preflight", body(*enriched))
    batch = {"events": [{**event(), "anonymousId": "anna"}], "options": {"features": enriched}}
    site.post("/events", batch)
    site.post("/import/events", batch)
    other = site.client.post("/profiles", body(*enriched), address=OTHER)  # who is asked about after all of them
    assert other.status == 200
    settled(fake, site)
    assert fake.asked == [OTHER]


def test_a_preflight_has_the_company_that_is_kept_and_consent_stops_it(site: Site, fake: FakeAlbacross) -> None:
    site.post("/profiles", body("ip-enrichment"))
    settled(fake, site)
    preflight = site.post("/profiles?type=preflight", body("ip-enrichment"))
    assert preflight["profile"]["traits"] == {"albacross": ACME}
    denied = body("ip-enrichment", gdpr={"isConsentGiven": False})
    assert site.post("/profiles", denied)["profile"]["traits"] == {}
    assert fake.asked == [ADDRESS]


def test_no_request_waits_for_a_look_up(fake: FakeAlbacross, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The look-up does not end before every request is answered, however long it would take."""
    answered = threading.Event()

    async def never(self: Albacross, transport: httpx.AsyncBaseTransport, address: str) -> Any:
        import asyncio

        while not answered.is_set():
            await asyncio.sleep(0.001)
        return albacross._CompanyLookup(ACME, albacross.KNOWN_FOR)

    monkeypatch.setattr(Albacross, "_answer", never)
    site = Site(fake, tmp_path)
    first = site.post("/profiles", body("ip-enrichment"))["profile"]
    assert site.post(f"/profiles/{first['id']}", body("ip-enrichment"))["profile"]["traits"] == {}
    assert not (site.data / FILE).exists()
    answered.set()


def test_an_address_is_stored_nowhere_and_logged_nowhere(
    site: Site, fake: FakeAlbacross, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    with caplog.at_level(logging.INFO):
        profile = site.post("/profiles", body("location", "ip-enrichment"))["profile"]
        settled(fake, site)
        site.post(f"/profiles/{profile['id']}", body("location", "ip-enrichment"))
    files = [file for file in site.data.rglob("*") if file.is_file()]
    assert any(b"Acme" in file.read_bytes() for file in files)
    for file in files:
        content = file.read_bytes()
        assert ADDRESS.encode() not in content, file
        assert bytes(map(int, ADDRESS.split("."))) not in content, file
    assert ADDRESS not in caplog.text
    assert ADDRESS not in "".join(capfd.readouterr())


def test_erasure_reaches_what_is_kept_of_the_company(site: Site, fake: FakeAlbacross) -> None:
    profile = site.post("/profiles", body("ip-enrichment"))["profile"]
    settled(fake, site)
    site.post(f"/profiles/{profile['id']}", body("ip-enrichment"))
    assert site.client.delete(f"/profiles/{profile['id']}").status == 200
    assert_nothing_is_kept(site)


def assert_nothing_is_kept(site: Site) -> None:
    with CompanyCache(site.data, time.time)._writer() as database:
        assert database.execute("SELECT count(*) FROM company").fetchone() == (0,)
    assert b"Acme" not in (site.data / FILE).read_bytes()


@pytest.mark.parametrize("how", ["the command expire", "--expire-after"])
def test_what_is_kept_of_the_company_goes_with_a_visitor_who_was_not_seen_for_long(
    site: Site, fake: FakeAlbacross, how: str, tmp_path: Path
) -> None:
    site.post("/profiles/anna", body("ip-enrichment"))
    settled(fake, site)
    site.post("/profiles/anna", body("ip-enrichment"))
    service = ExperienceService.from_settings(Settings(data_dir=site.data, store_shards=2))
    store = cast("KeptStore", service.store)
    later = time.time_ns() // 1_000_000 + 3 * DAY * 1000
    if how == "--expire-after":
        with (tmp_path / "lock").open("wb") as lock:
            Expiry(
                store, 2, lock, lambda: False, addresses=service.addresses, clock=lambda: later, seconds=lambda: 0.0
            ).step()
    else:
        console = Console(io.StringIO(), io.StringIO())
        where = Environment("acme", "main")
        expire.expire(store, where, 2, later, console, dry_run=False, addresses=service.addresses)
    assert site.client.get("/profiles/anna").status == 404
    assert_nothing_is_kept(site)


# Options


@pytest.mark.parametrize("content", ["", "two\nlines", "käse", "with space", "x" * 501])
def test_a_key_file_without_a_key_is_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "key").write_text(content)
    with pytest.raises(SettingsError, match=r"albacross_key_file: .* must hold the API key of Albacross"):
        albacross_key(tmp_path / "key")


def test_a_key_file_that_is_missing_or_unreadable_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"albacross_key_file .*there is no .*/nowhere"):
        Settings(albacross_key_file=tmp_path / "nowhere")
    with pytest.raises(SettingsError, match=r"albacross_key_file: .*cannot be read: No such file"):
        albacross_key(tmp_path / "gone")


def test_a_key_that_everybody_can_read_is_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    key = tmp_path / "key"
    key.write_text("secret-key")
    key.chmod(0o604)
    assert albacross_key(key) == "secret-key"
    assert "every user of this machine can read" in caplog.text
    assert "secret-key" not in caplog.text


def test_the_package_for_it_is_named_where_it_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "key").write_text("secret-key")
    monkeypatch.setattr("ninetailed_wsgi.service.sources.find_spec", lambda name: None)
    with pytest.raises(SettingsError, match=r"requires an extra: pip install 'ninetailed-wsgi\[companies\]'"):
        albacross_key(tmp_path / "key")


@pytest.mark.parametrize(
    "url",
    [
        "http://albacross.example",
        "ftp://x.example",
        "https://",
        "https://u:p@x.example",
        "https://x.example/?a=b",
        "x",
        "https://x y",
    ],
)
def test_a_key_is_sent_over_tls_alone(url: str) -> None:
    with pytest.raises(SettingsError, match="albacross_url"):
        Settings(albacross_url=url)


@pytest.mark.parametrize(
    "url", ["https://api.albacross.com/reveal/", "http://127.0.0.1:9000", "http://localhost/reveal"]
)
def test_an_address_of_the_service_is_taken(url: str) -> None:
    assert Settings(albacross_url=url).albacross_url == url.rstrip("/")


def test_the_answer_is_json_that_the_profile_keeps(site: Site, fake: FakeAlbacross) -> None:
    profile = site.post("/profiles", body("ip-enrichment"))["profile"]
    settled(fake, site)
    site.post(f"/profiles/{profile['id']}", body("ip-enrichment"))
    stored = site.client.get(f"/profiles/{profile['id']}").document["data"]["profile"]
    assert json.loads(json.dumps(stored["traits"])) == {"albacross": ACME}
