"""A Contentful that lies, redirects, never ends, or holds hostile entries: nothing hangs, leaks, or is lost."""

from __future__ import annotations

import gzip
import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from falcon import testing

from ninetailed_wsgi import create_app
from ninetailed_wsgi.content.contentful.content import ContentfulContent
from ninetailed_wsgi.content.contentful.space_state import FIELDS
from ninetailed_wsgi.errors import SettingsError
from ninetailed_wsgi.settings.contentful import SpaceAddress, Tokens
from ninetailed_wsgi.testing import ContentfulSpace, audience, experience, trait, viewed

TOKEN = "tok-that-nobody-may-see"
LOCALES = {"items": [{"code": "en-US", "default": True, "fallbackCode": None}]}
NEXT = "https://cdn.contentful.com/spaces/space1/environments/master/sync?sync_token=next"
Answer = tuple[int, dict[str, str], bytes | Iterator[bytes]]


class Liar:
    """A server that answers what a test wants; ``asked`` has the path and the token of each request."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []
        self.answer: Callable[[str], Answer] = lambda path: (404, {}, b"{}")
        liar = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                liar.asked.append((self.path, self.headers.get("Authorization", "")))
                status, headers, body = liar.answer(self.path)
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                try:
                    for part in [body] if isinstance(body, bytes) else body:
                        self.wfile.write(part)
                except OSError:
                    pass  # whoever asked has had enough

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def answers(self, sync: Any, locales: Any = LOCALES, types: Any = ()) -> None:
        """Answer these documents, JSON or bytes, each by its path."""

        def answer(path: str) -> Answer:
            document = locales if "/locales" in path else types if "/content_types" in path else sync
            body = document if isinstance(document, bytes) else json.dumps(document).encode()
            return 200, {"Content-Length": str(len(body))}, body

        self.answer = answer

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def liar() -> Iterator[Liar]:
    liar = Liar()
    yield liar
    liar.close()


def source(url: str, folder: Path | None, address: str = "contentful://space1/master", **options: Any) -> Any:
    now = [time.time()]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    return ContentfulContent(
        [SpaceAddress.parse(address)],
        Tokens.parse(options.pop("token", TOKEN)),
        url=url,
        folder=folder,
        wall_clock=options.pop("wall_clock", lambda: now[0]),
        sleep=sleep,
        **options,
    )


def started(url: str, folder: Path | None, **options: Any) -> ContentfulContent:
    read: ContentfulContent = source(url, folder, **options)
    read.load()
    return read


def refusal(url: str, **options: Any) -> str:
    with pytest.raises(SettingsError) as refused:
        started(url, None, **options)
    assert TOKEN not in str(refused.value)
    return str(refused.value)


def entry(id: str, kind: str, **fields: Any) -> dict[str, Any]:
    sys = {"id": id, "type": "Entry", "contentType": {"sys": {"id": kind}}}
    return {"sys": sys, "fields": fields}


def rules(key: str) -> dict[str, Any]:
    return dict(audience(trait(key))["rules"])


GOOD = entry("good", "nt_audience", nt_rules={"en-US": rules("plan")}, nt_audience_id={"en-US": "good"})


def served(read: ContentfulContent) -> list[str]:
    return [listed.id for listed in read.catalogs()["space1/master"].audience_list]


# A server that leads elsewhere


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://127.0.0.1/x", "data:,{}", "//host", "private", "same"])
def test_a_redirect_is_not_followed(liar: Liar, status: int, target: str) -> None:
    private = Liar()
    location = {"private": f"{private.url}/meta-data", "same": "/elsewhere"}.get(target, target)
    liar.answer = lambda path: (status, {"Location": location, "Content-Length": "0"}, b"")
    said = refusal(liar.url)
    private.close()

    assert f"answered {status}, a redirect, which is not followed: is --contentful-url" in said
    assert private.asked == []
    assert len(liar.asked) == 1


@pytest.mark.parametrize(
    "following",
    [5, None, "", [], {"a": 1}, "http://[", "no address", "https://x.example/?sync_token=", "\x00", "https://x:y/?a=b"],
)
@pytest.mark.parametrize("member", ["nextPageUrl", "nextSyncUrl"])
def test_a_next_address_that_is_none_is_a_reason_in_words(liar: Liar, member: str, following: Any) -> None:
    liar.answers({"items": [], member: following})
    assert "without nextPageUrl and nextSyncUrl" in refusal(liar.url)


@pytest.mark.parametrize("host", ["http://evil.example", "file://", "//evil.example", "http://evil.example@127.0.0.1"])
def test_a_next_address_elsewhere_is_asked_for_at_the_same_host(liar: Liar, host: str, tmp_path: Path) -> None:
    liar.answers({"items": [GOOD], "nextSyncUrl": f"{host}/sync?sync_token=a%26b%0d%0aX:%20y"})
    read = started(liar.url, tmp_path)
    read.refresh()
    read.look()

    assert served(read) == ["good"]
    assert liar.asked[-1] == (
        "/spaces/space1/environments/master/sync?sync_token=a%26b%0D%0AX%3A+y",
        f"Bearer {TOKEN}",
    )


# Bodies


def endless() -> Iterator[bytes]:
    while True:
        yield b" " * 1000
        time.sleep(0.001)


WHOLE = json.dumps({"items": [], "nextSyncUrl": NEXT}).encode()
BODIES: dict[str, tuple[dict[str, str], Callable[[], bytes | Iterator[bytes]], str]] = {
    "another encoding": ({"Content-Encoding": "br"}, lambda: WHOLE, "a Content-Encoding that was not asked for"),
    "no gzip": ({"Content-Encoding": "gzip"}, lambda: WHOLE, "a Content-Encoding that its content does not have"),
    "damaged": ({"Content-Encoding": "gzip"}, lambda: gzip.compress(WHOLE)[:-8] + b"x" * 8, "Content-Encoding that"),
    "cut gzip": ({"Content-Encoding": "gzip"}, lambda: gzip.compress(WHOLE)[:-9], "broke off after"),
    "a bomb": ({"Content-Encoding": "gzip"}, lambda: gzip.compress(b" " * 3_000_000), "is larger than"),
    "more behind": ({"Content-Encoding": "gzip"}, lambda: gzip.compress(WHOLE) + WHOLE, "has data after the end"),
    "cut": ({"Content-Length": "100000"}, lambda: WHOLE, "broke off after"),
    "no length": ({"Content-Length": "-5"}, lambda: b"", "did not answer JSON"),
    "UTF-16": ({"Content-Type": "application/json; charset=utf-16"}, lambda: WHOLE.decode().encode("utf-16"), "JSON"),
    "Latin-1": ({}, lambda: '{"items": ["ä"]}'.encode("latin-1"), "did not answer JSON"),
    "HTML": ({"Content-Type": "text/html"}, lambda: b"<html>", "did not answer JSON"),
    "nothing": ({}, lambda: b"", "did not answer JSON"),
    "a list": ({}, lambda: b"[]", "did not answer a JSON object"),
    "no items": ({}, lambda: b'{"items": {"a": 1}}', "answered no list of items"),
    "too deep": ({}, lambda: b"[" * 100_000, "did not answer JSON"),
    "NaN": ({}, lambda: b'{"items": [NaN]}', "did not answer JSON"),
    "no end": ({}, endless, "did not arrive completely in time"),
}


@pytest.mark.parametrize(("headers", "body", "told"), BODIES.values(), ids=BODIES.keys())
def test_a_body_that_is_wrong_is_a_reason_in_words(
    liar: Liar,
    headers: dict[str, str],
    body: Callable[[], bytes | Iterator[bytes]],
    told: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("ninetailed_wsgi.content.web.LARGEST", 1_000_000)
    monkeypatch.setattr("ninetailed_wsgi.content.contentful.delivery.WHOLE_WITHIN", 0.1)
    liar.answer = lambda path: (200, headers, body())

    assert told in refusal(liar.url)


def test_a_refusal_that_is_compressed_is_understood(liar: Liar, tmp_path: Path) -> None:
    big = json.dumps({"message": "Response size too big. Maximum allowed response size: 7340032B."}).encode()
    liar.answers({"items": [GOOD], "nextSyncUrl": NEXT})
    small = liar.answer

    def answer(path: str) -> Answer:
        return (400, {"Content-Encoding": "gzip"}, gzip.compress(big)) if "limit=500" in path else small(path)

    liar.answer = answer
    assert served(started(liar.url, tmp_path)) == ["good"]


def test_half_a_character_in_a_text_costs_nothing_else(liar: Liar, tmp_path: Path) -> None:
    page = entry("p", "page", title={"en-US": "cut \ud83d"})
    named = entry("a", "nt_audience", nt_name={"en-US": "x\udc00 \\\ud83d 😀 \\ud83d"}, nt_rules={"en-US": rules("x")})
    liar.answers({"items": [page, GOOD, named], "nextSyncUrl": NEXT})
    read = started(liar.url, tmp_path)

    assert served(read) == ["a", "good"]
    assert read.catalogs()["space1/master"].audience_list[0].name == "x\ufffd \\\ufffd 😀 \\ud83d"


# Lists that are wrong


@pytest.mark.parametrize("code", [5, None, {"a": 1}, ["en"], "", "x" * 10_000])
def test_odd_locales_take_nothing_down(liar: Liar, code: Any, tmp_path: Path) -> None:
    rows = [*LOCALES["items"], {"code": code, "default": code, "fallbackCode": code}, 5, None, {}]
    liar.answers({"items": [GOOD], "nextSyncUrl": NEXT}, {"items": rows})
    read = started(liar.url, tmp_path, locale="de")
    german = entry("other", "nt_audience", nt_rules={"de": rules("x"), "en-US": rules("y")})
    liar.answers({"items": [german], "nextSyncUrl": NEXT}, {"items": rows})
    read.refresh()
    read.look()

    assert served(read) == ["good", "other"]


@pytest.mark.parametrize("fields", [5, "text", {"id": "x"}, [5, None, {"id": ["x"]}], None, True])
def test_odd_content_types_take_nothing_down(liar: Liar, fields: Any) -> None:
    types = {"items": [{"sys": {"id": "page"}, "fields": fields}, {"sys": 5}, {"sys": {"id": {}}}, 5, None]}
    liar.answers({"items": [], "nextSyncUrl": NEXT}, types=types)
    for address in ("contentful://space1/master", "contentful-preview://space1/master"):
        assert "space1/master" in started(liar.url, None, address=address).catalogs()


@pytest.mark.parametrize("pages", ["the same page", "a new page each time"])
def test_pages_of_drafts_that_do_not_end_are_refused(liar: Liar, pages: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ninetailed_wsgi.content.contentful.delivery.MOST_PAGES", 20)
    liar.answers({}, types={"items": []})
    honest = liar.answer

    def answer(path: str) -> Answer:
        if "/entries" not in path:
            return honest(path)
        id = "same" if pages == "the same page" else f"draft-{len(liar.asked)}"
        return 200, {}, json.dumps({"items": [entry(id, "nt_audience")], "total": 10**9}).encode()

    liar.answer = answer
    said = refusal(liar.url, address="contentful-preview://space1/master")
    assert said.endswith("answered an endless series of pages of entries")
    assert len([path for path, _ in liar.asked if "/entries" in path]) <= (2 if pages == "the same page" else 20)


@pytest.mark.parametrize("total", [None, "many", -5, True, {}])
def test_a_total_that_is_none_ends_the_pages_of_drafts(liar: Liar, total: Any) -> None:
    liar.answers({"items": [GOOD], "total": total}, types={"items": []})
    assert served(started(liar.url, None, address="contentful-preview://space1/master")) == ["good"]


# Entries


def nested(levels: int) -> Any:
    value: Any = "x"
    for level in range(levels):
        value = [value] if level % 2 else {"any": value}
    return value


SELF = {"sys": {"type": "Link", "linkType": "Entry", "id": "nt_experience-nt_audience-0"}}
VALUES: dict[str, Any] = {
    "null": None,
    "true": True,
    "a number": 5,
    "a huge number": 10**300,
    "nothing": "",
    "a long text": "x" * 300_000,
    "control characters": "\x00\x1b[31m\u202e</script>",
    "a list": [],
    "a list of lists": [[[]]],
    "an object": {},
    "odd names": {"": {"__proto__": {"constructor": 1}}},
    "a link": SELF,
    "links": [SELF, SELF],
    "deep": nested(230),
    "very deep": nested(900),
}


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES.keys())
def test_a_wrong_type_in_any_member_costs_that_entry_alone(liar: Liar, value: Any, tmp_path: Path) -> None:
    sound = {"nt_rules": rules("x"), "nt_type": "nt_experiment", "nt_config": {}, "nt_mergetag_id": "traits.x"}
    odd = []
    for kind, names in FIELDS.items():
        for name in (*names, "nt_experiences"):
            for form, wrong in enumerate(({"en-US": value}, value)):
                fields = {other: {"en-US": sound[other]} for other in names if other in sound} | {name: wrong}
                odd.append(entry(f"{kind}-{name}-{form}", kind, **fields))
    odd += [entry("page-0", "page", nt_experiences={"en-US": value}), entry("page-1", "page", nt_experiences=value)]
    odd += [{**GOOD, "sys": {**GOOD["sys"], "id": value}}, {"sys": value, "fields": value}, {**odd[0], "fields": value}]
    liar.answers({"items": [*odd, GOOD, value], "nextSyncUrl": NEXT})
    read = started(liar.url, tmp_path)
    assert "good" in served(read)

    liar.answers({"items": [], "nextSyncUrl": NEXT})
    again = started(liar.url, tmp_path)
    version = read.catalogs()["space1/master"].version
    assert again.catalogs()["space1/master"].version == version, "from the copy"


def test_what_is_too_deep_is_named(liar: Liar, tmp_path: Path) -> None:
    liar.answers({"items": [GOOD, entry("deep", "nt_audience", nt_rules={"en-US": nested(900)})], "nextSyncUrl": NEXT})
    read = started(liar.url, tmp_path)

    assert served(read) == ["good"]
    told = [str(problem) for problem in read.problems()]
    assert "contentful://space1/master: entry deep: nt_rules: is nested deeper than 200 levels" in told


def test_of_two_entries_with_one_id_every_process_serves_the_same(liar: Liar, tmp_path: Path) -> None:
    def twin(id: str, key: str) -> dict[str, Any]:
        return entry(id, "nt_audience", nt_rules={"en-US": rules(key)}, nt_audience_id={"en-US": "twin"})

    liar.answers({"items": [twin("b", "second"), twin("a", "first")], "nextSyncUrl": NEXT})
    first = started(liar.url, tmp_path)
    liar.answers({"items": [], "nextSyncUrl": NEXT})
    second = started(liar.url, tmp_path)

    for read in (first, second):
        assert [listed.entry for listed in read.catalogs()["space1/master"].audience_list] == ["a"]
        (told,) = [str(problem) for problem in read.problems() if problem.severity == "left out"]
        assert told.startswith("contentful://space1/master: entry b: ")
        assert 'has the id "twin" of entry a' in told


def test_an_entry_that_comes_twice_counts_as_it_comes_last(liar: Liar, tmp_path: Path) -> None:
    changed = entry("good", "nt_audience", nt_rules={"en-US": rules("x")}, nt_audience_id={"en-US": "changed"})
    liar.answers({"items": [GOOD, changed], "nextSyncUrl": NEXT})
    assert served(started(liar.url, tmp_path)) == ["changed"]


def test_thousands_of_audiences_are_served(tmp_path: Path) -> None:
    with ContentfulSpace([audience(viewed(f"/{number}"), id=f"a{number}") for number in range(2000)]) as space:
        read = started(space.url, tmp_path, token=space.token)
        assert len(served(read)) == 2000


# Who asks for a refresh


def test_a_flood_of_refreshes_asks_contentful_once_for_each_look(tmp_path: Path) -> None:
    with ContentfulSpace([experience("hero", ["b"])]) as space:
        read = started(space.url, tmp_path, token=space.token)
        asked = len(space.requests)
        for _ in range(500):
            read.refresh()
        read.look()
        assert len(space.requests) == asked + 1


@pytest.mark.parametrize("configured", [True, False], ids=["with a webhook", "without one"])
@pytest.mark.parametrize("secret", [None, "", "wrong-secret-of-a-webhook", "ä" * 30, "x" * 5000, "None"])
def test_a_refresh_without_the_secret_is_refused(configured: bool, secret: str | None, tmp_path: Path) -> None:
    hook = tmp_path / "hook"
    hook.write_text("the-right-secret-of-a-webhook")
    with ContentfulSpace([experience("hero", ["b"])]) as space:
        app = create_app(
            content=space.address,
            contentful_url=space.url,
            contentful_token=space.token,
            contentful_poll=600,
            contentful_webhook_secret_file=hook if configured else None,
            data_dir=tmp_path / "data",
            access="guarded",
        )
        client = testing.TestClient(app, headers={"Host": "localhost"})
        headers = {} if secret is None else {"X-Ninetailed-Webhook-Secret": secret}
        asked = len(space.requests)
        for _ in range(20):
            assert client.simulate_post("/content/refresh", headers=headers).status_code == 401
        time.sleep(0.3)
        assert len(space.requests) == asked
