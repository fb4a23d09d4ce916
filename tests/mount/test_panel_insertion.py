"""The panel in pages of a site: who gets it, and that every other byte and header stays as the site made it."""

from __future__ import annotations

import gzip
import io
import json
import logging
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import django.test
import pytest
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.test import override_settings
from django.urls import include, path, set_script_prefix
from werkzeug.middleware.lint import LintMiddleware

import ninetailed_wsgi.django.urls
from ninetailed_wsgi import Ninetailed, visitor_of
from ninetailed_wsgi.django.middleware import site as django_mount
from ninetailed_wsgi.errors import SettingsError
from ninetailed_wsgi.site.insertion import Stream
from ninetailed_wsgi.site.visitor import KEY
from tests.mount.browser import Answer, App, Browser, Environ
from tests.mount.conftest import SHOP, Mounted
from tests.mount.sites import Reply, set_django_up
from tests.mount.test_previewed_pages import link, opened

set_django_up()
PAGE = b"<!doctype html><title>Tea</title><body><h1>hero-entry</h1></body></html>"
END = b"</body></html>"
SCRIPT = b'<script type="application/json" id="ninetailed-panel">'


def page(environ: Environ) -> Reply:
    visitor = environ[KEY]
    visitor.page()
    return Reply(PAGE.replace(b"hero-entry", visitor.variant("hero").encode()), kind="text/html")


def without_panel(answer: Answer) -> bytes:
    """The page as the site made it, with the markup of the panel taken out, which is there once."""
    whole, count = re.subn(
        rb'<script type="application/json" id="ninetailed-panel">.*?</script><script [^>]*></script>', b"", answer.body
    )
    assert count == 1, answer.body
    return whole


def document(answer: Answer) -> dict[str, Any]:
    """What the panel of a page shows."""
    found = re.search(rb'id="ninetailed-panel">(.*?)</script>', answer.body)
    assert found is not None, answer.body
    read: dict[str, Any] = json.loads(found[1])
    return read


def test_a_page_in_a_preview_ends_with_the_panel_in_every_framework(mounted: Mounted, secret: Path) -> None:
    browser = mounted.browser(page, identity_secret_file=secret, panel=True)
    answer = opened(browser, link("/pricing"))
    assert without_panel(answer) == PAGE.replace(b"hero-entry", b"hero-offer")
    assert answer.all("Content-Length") in ([], [str(len(answer.body))])
    assert answer.all("Cache-Control") == ["private, no-store"]
    assert f'src="{mounted.prefix}/ninetailed/panel.js"'.encode() in answer.body
    assert answer.body.index(SCRIPT) < answer.body.index(END)
    assert mounted.store.writes == 0
    (offer,) = [each for each in document(answer)["experiences"] if each["id"] == "pricing-offer"]
    assert (offer["shown"], offer["natural"], offer["forced"]) == (1, None, 1)
    assert offer["asked"] == [["entry", "hero", True]]


def test_a_page_outside_of_a_preview_is_the_sites_own_object(bare: Mounted, secret: Path) -> None:
    body: list[bytes] = [PAGE]

    def site(environ: Environ, start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", headers)
        return body

    headers = [("Content-Type", "text/html"), ("ETag", '"1"')]
    bare.make_site = lambda: site
    app = bare.app(page, identity_secret_file=secret, panel=True)
    started: list[Any] = []
    environ = {"REQUEST_METHOD": "GET", "PATH_INFO": "/", "wsgi.input": io.BytesIO(), "HTTP_ACCEPT_ENCODING": "gzip"}
    assert app(environ, lambda *given: started.extend(given)) is body
    assert started[1] is headers
    assert environ["HTTP_ACCEPT_ENCODING"] == "gzip"


def test_every_page_outside_of_a_preview_is_the_same_with_the_option_and_without(
    mounted: Mounted,
    secret: Path,
) -> None:
    def respond(environ: Environ) -> Reply:
        return Reply(PAGE, headers=(("ETag", '"1"'), ("Cache-Control", "public, max-age=60")), kind="text/html")

    answers = [
        mounted.browser(respond, identity_secret_file=secret, data_dir=mounted.folder / str(panel), panel=panel).get()
        for panel in (False, True, lambda environ: False)
    ]
    assert answers[0].body == PAGE
    assert answers[0] == answers[1] == answers[2]


def test_people_whom_the_site_trusts_get_the_panel_without_a_preview(bare: Mounted, secret: Path) -> None:
    browser = bare.browser(page, identity_secret_file=secret, panel=lambda environ: environ["REMOTE_ADDR"] == "8.8.8.8")
    answer = browser.get("/")
    assert document(answer)["preview"] is False
    assert answer.all("Cache-Control") == ["private, no-store"]
    assert bare.store.writes == 1, "it is a visit all the same"
    assert SCRIPT not in browser.get("/", REMOTE_ADDR="9.9.9.9").body


def test_a_function_that_fails_trusts_nobody(
    bare: Mounted,
    secret: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fails(environ: Environ) -> bool:
        raise ZeroDivisionError

    browser = bare.browser(page, identity_secret_file=secret, panel=fails)
    assert SCRIPT not in browser.get("/").body
    assert "ZeroDivisionError" in caplog.text


def test_a_page_that_never_asks_for_its_visitor_has_a_panel_that_says_so(
    bare: Mounted,
    secret: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    browser = bare.browser(lambda environ: Reply(PAGE, kind="text/html"), identity_secret_file=secret, panel=True)
    with caplog.at_level(logging.WARNING):
        answer = opened(browser, link())
    assert [each["asked"] for each in document(answer)["experiences"] if each["asked"]] == []
    assert answer.all("Cache-Control") == ["private, no-store"]
    assert caplog.records == []


UNTOUCHED = {
    "text": Reply(PAGE),
    "JSON": Reply(b'{"html": "</body>"}', kind="application/json"),
    "XHTML": Reply(PAGE, kind="application/xhtml+xml"),
    "a fragment": Reply(b"<p>a part of a page</p>", kind="text/html"),
    "compressed": Reply(gzip.compress(PAGE), headers=(("Content-Encoding", "gzip"),), kind="text/html"),
    "a part": Reply(PAGE, 206, (("Content-Range", "bytes 0-71/72"),), "text/html"),
    "a download": Reply(PAGE, headers=(("Content-Disposition", 'attachment; filename="a.html"'),), kind="text/html"),
    "UTF-16": Reply(PAGE.decode().encode("utf-16"), kind="text/html; charset=utf-16"),
}


@pytest.mark.parametrize("kind", UNTOUCHED)
def test_what_is_no_whole_page_keeps_each_byte_also_in_a_preview(bare: Mounted, secret: Path, kind: str) -> None:
    browser = bare.browser(lambda environ: UNTOUCHED[kind], identity_secret_file=secret, panel=True)
    answer = opened(browser, link())
    assert answer.body == UNTOUCHED[kind].body
    assert answer.all("Content-Length") == [str(len(answer.body))]


@pytest.mark.parametrize("destination", ["iframe", "image", "frame", "object"])
def test_a_page_inside_of_another_one_has_no_panel(bare: Mounted, secret: Path, destination: str) -> None:
    browser = bare.browser(page, identity_secret_file=secret, panel=True)
    opened(browser, link())
    assert SCRIPT not in browser.get("/", HTTP_SEC_FETCH_DEST=destination).body
    for whole in ("document", "empty"):  # the latter of a service worker, or of a script that loads pages
        assert SCRIPT in browser.get("/", HTTP_SEC_FETCH_DEST=whole).body


def test_the_site_is_asked_for_a_whole_page_without_compression(bare: Mounted, secret: Path) -> None:
    def respond(environ: Environ) -> Reply:
        names = ("HTTP_ACCEPT_ENCODING", "HTTP_IF_NONE_MATCH", "HTTP_IF_MODIFIED_SINCE", "HTTP_RANGE", "HTTP_IF_RANGE")
        assert not environ.keys() & set(names)
        return Reply(PAGE, headers=(("ETag", '"1"'), ("Last-Modified", "x")), kind="text/html")

    browser = bare.browser(respond, identity_secret_file=secret, panel=lambda environ: True)
    asked = {"HTTP_ACCEPT_ENCODING": "br", "HTTP_IF_NONE_MATCH": '"1"', "HTTP_RANGE": "bytes=0-1"}
    for answer in (browser.get("/", **asked), opened(browser, link()), browser.get("/", **asked)):
        assert without_panel(answer) == PAGE


def test_a_head_has_the_headers_of_the_page_but_no_length(bare: Mounted, secret: Path) -> None:
    def site(environ: Environ, start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Type", "text/html"), ("Content-Length", "500"), ("ETag", '"1"')])
        return []

    bare.make_site = lambda: site
    browser = bare.browser(page, identity_secret_file=secret, panel=True)
    browser.get(link())
    answer = browser.send("HEAD")
    assert (answer.status, answer.body) == (200, b"")
    assert sorted(answer.headers) == [
        ("Cache-Control", "private, no-store"),
        ("Content-Type", "text/html"),
        ("Vary", "Cookie"),
    ]


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
def test_an_answer_without_a_body_stays_without_one(bare: Mounted, secret: Path, status: str) -> None:
    def site(environ: Environ, start_response: Any) -> Iterable[bytes]:
        start_response(status, [])
        return []

    bare.make_site = lambda: site
    browser = bare.browser(page, identity_secret_file=secret, panel=True)
    browser.get(link())
    assert browser.get("/").body == b""


class Body:
    """A body that knows whether it was closed."""

    def __init__(self, *chunks: bytes) -> None:
        self.chunks = iter(chunks)
        self.closed = 0

    def __iter__(self) -> Iterator[bytes]:
        return self.chunks

    def close(self) -> None:
        self.closed += 1


def previewed(bare: Mounted, site: App, secret: Path) -> Browser:
    bare.make_site = lambda: LintMiddleware(site)
    browser = bare.browser(page, identity_secret_file=secret, panel=True)
    assert browser.get(link()).status == 303
    return browser


@pytest.mark.parametrize("length", [True, False], ids=["with its length", "as a stream"])
def test_a_body_is_closed_once_whatever_it_is_made_of(bare: Mounted, secret: Path, length: bool) -> None:
    bodies: list[Body] = []

    def site(environ: Environ, start_response: Any) -> Iterable[bytes]:
        sized = [("Content-Length", str(len(PAGE) + 4))] if length else []
        write = start_response("200 OK", [("Content-Type", "text/html; charset=utf-8"), *sized])
        write(b"\n\n")
        write(PAGE[:40])
        bodies.append(Body(b"", PAGE[40:-10], PAGE[-10:], b"\n\n"))
        return bodies[0]

    browser = previewed(bare, site, secret)
    answer = browser.get("/")
    assert without_panel(answer) == b"\n\n" + PAGE + b"\n\n"
    assert answer.all("Content-Length") == ([str(len(answer.body))] if length else [])
    assert bodies[0].closed == 1


def test_a_stream_passes_piece_by_piece_up_to_its_end(bare: Mounted, secret: Path) -> None:
    made: list[int] = []

    def site(environ: Environ, start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [("Content-Type", "text/html")])
        environ[KEY].page()
        for number in range(3):
            made.append(number)
            yield b"<p>%d</p>" % number
        yield b"</body>"
        yield environ[KEY].variant("hero").encode()

    bare.make_site = lambda: site
    app = bare.app(page, identity_secret_file=secret, panel=True)
    browser = Browser(app)
    browser.get(link())
    environ = {"REQUEST_METHOD": "GET", "PATH_INFO": "/", "wsgi.input": io.BytesIO()}
    environ["HTTP_COOKIE"] = f"nt_preview={browser.cookies['nt_preview']}"
    started: list[Any] = []
    body = app(environ, lambda *given: started.append(given))
    stream = iter(body)
    assert next(stream) == b"<p>0</p>"
    assert (made, len(started)) == ([0], 1)
    rest = b"".join(stream)
    assert rest.startswith(b"<p>1</p><p>2</p>" + SCRIPT)
    assert rest.endswith(b"</script></body>hero-offer")


def test_a_stream_that_is_given_up_is_closed(bare: Mounted, secret: Path) -> None:
    closed: list[bool] = []

    def site(environ: Environ, start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [("Content-Type", "text/html")])
        try:
            yield b"a"
            yield b"b"
        finally:
            closed.append(True)

    bare.make_site = lambda: site
    app = bare.app(page, identity_secret_file=secret, panel=lambda environ: True)
    environ = {"REQUEST_METHOD": "GET", "PATH_INFO": "/", "wsgi.input": io.BytesIO()}
    body: Any = app(environ, lambda *given: None)
    assert next(iter(body)) == b"a"
    body.close()
    assert closed == [True]


def test_a_page_that_fails_and_begins_again_has_one_panel(bare: Mounted, secret: Path) -> None:
    def site(environ: Environ, start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Type", "text/html"), ("Content-Length", "5")])
        try:
            raise ZeroDivisionError
        except ZeroDivisionError as error:
            kind = [("Content-Type", "text/html"), ("Content-Length", str(len(PAGE)))]
            start_response("500 Failed", kind, (type(error), error, None))
        return [PAGE]

    answer = previewed(bare, site, secret).get("/")
    assert (answer.status, without_panel(answer)) == (500, PAGE)
    assert answer.all("Content-Length") == [str(len(answer.body))]


def test_a_site_that_is_wrapped_twice_has_one_panel(bare: Mounted, secret: Path) -> None:
    inner = bare.app(page, identity_secret_file=secret, panel=True)
    options = {"data_dir": bare.folder / "data", "content": SHOP, "identity_secret_file": secret, "panel": True}
    browser = Browser(Ninetailed(inner, access="open", time_budget_ms=20_000, store_shards=2, **options))
    assert without_panel(opened(browser, link())) == PAGE.replace(b"hero-entry", b"hero-offer")


ENDS = [
    b"a</body>b",
    b"a</BODY >b",
    b"a</body\n>b",
    b"<!-- </body> -->a</body></html>\n",
    b"a</bod</body></html>",
    b"a<</body/></body  x>",
]


@pytest.mark.parametrize("text", ENDS)
def test_a_stream_is_changed_before_its_last_end_of_body_however_it_is_cut(text: bytes) -> None:
    at = max(match.start() for match in re.finditer(rb"(?i)</body[\s/>]", text))
    whole = text[:at] + b"PANEL" + text[at:]
    for size in range(1, len(text) + 1):
        stream = Stream(lambda: b"PANEL")
        fed = [stream.feed(text[begin : begin + size]) for begin in range(0, len(text), size)]
        assert b"".join(fed) + stream.end() == whole


@pytest.mark.parametrize(
    "text", [b"", b"a", b"</bod", b"</body", b"</bodyguard>", b"<body>", b"</body>" + b"x" * 70_000]
)
def test_a_stream_without_an_end_of_body_stays_as_it_is(text: bytes) -> None:
    for size in (1, 3, 1000, len(text) + 1):
        stream = Stream(lambda: b"PANEL")
        fed = [stream.feed(text[begin : begin + size]) for begin in range(0, len(text), size)]
        assert b"".join(fed) + stream.end() == text


@pytest.mark.parametrize(
    ("headers", "environ", "nonce"),
    [
        ([], {}, ""),
        ([("Content-Security-Policy", "default-src 'none'; script-src 'self' 'nonce-aB3+/_-=='")], {}, "aB3+/_-=="),
        ([("Content-Security-Policy", "style-src 'nonce-of-styles'; script-src 'self'")], {}, ""),
        ([("Content-Security-Policy", "script-src 'nonce-b'; script-src-elem 'nonce-c'")], {}, "c"),
        ([("Content-Security-Policy-Report-Only", "default-src 'nonce-d'")], {}, "d"),
        ([("Content-Security-Policy", "script-src 'nonce-b'")], {"ninetailed.nonce": "e"}, "e"),
        ([], {"ninetailed.nonce": 'f"><script>'}, "f&quot;&gt;&lt;script&gt;"),
    ],
)
def test_the_script_has_the_nonce_of_the_page(
    bare: Mounted,
    secret: Path,
    headers: Any,
    environ: dict[str, str],
    nonce: str,
) -> None:
    def respond(given: Environ) -> Reply:
        return Reply(PAGE, headers=tuple(headers), kind="text/html")

    browser = bare.browser(respond, identity_secret_file=secret, panel=lambda given: True)
    attribute = f' nonce="{nonce}"' if nonce else ""
    assert f'<script src="/ninetailed/panel.js"{attribute} defer></script>'.encode() in browser.get("/", **environ).body


def test_a_panel_that_cannot_be_made_costs_the_page_nothing(
    bare: Mounted,
    secret: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    browser = bare.browser(page, identity_secret_file=secret, panel=True)
    browser.get(link())
    monkeypatch.setattr("ninetailed_wsgi.site.panel.view", lambda *_: 1 / 0)
    answer = browser.get("/")
    assert answer.body == PAGE.replace(b"hero-entry", b"hero-offer")
    assert answer.all("Content-Length") == [str(len(answer.body))]


def test_a_store_that_fails_leaves_a_panel_that_says_so(bare: Mounted, secret: Path) -> None:
    browser = bare.browser(page, identity_secret_file=secret, panel=True)
    browser.get(link())

    def fails() -> None:
        raise OSError

    bare.stores or browser.get("/")
    bare.store.hook = fails
    answer = browser.get("/")
    assert document(answer)["failed"] is True
    assert without_panel(answer) == PAGE.replace(b"hero-entry", b"hero")


def test_the_option_needs_the_secret_of_previews_and_takes_text(bare: Mounted, secret: Path) -> None:
    with pytest.raises(SettingsError, match="identity_secret_file: found nothing, expected the secret of previews"):
        bare.app(page, panel=True)
    with pytest.raises(SettingsError, match="panel: found 'perhaps', expected yes, no, a function"):
        bare.app(page, panel="perhaps", identity_secret_file=secret)
    named = bare.browser(page, panel=f"{__name__}:everybody", identity_secret_file=secret)
    assert SCRIPT in named.get("/").body
    assert SCRIPT not in bare.browser(page, panel="no", data_dir=bare.folder / "other").get("/").body


def everybody(environ: Environ) -> bool:
    return True


def _django_page(request: HttpRequest) -> HttpResponse:
    visitor = visitor_of(request)
    visitor.page()
    response = HttpResponse(PAGE.replace(b"hero-entry", visitor.variant("hero").encode() * 100))  # worth compressing
    response["Content-Length"] = str(len(response.content))
    return response


def _django_stream(request: HttpRequest) -> StreamingHttpResponse:
    visitor_of(request).page()
    return StreamingHttpResponse(iter([PAGE[:30], PAGE[30:]]))


async def _django_async_stream(request: HttpRequest) -> StreamingHttpResponse:
    async def pieces() -> Any:
        yield PAGE[:30]
        yield PAGE[30:]

    return StreamingHttpResponse(pieces())


urlpatterns = [
    path("page/", _django_page),
    path("stream/", _django_stream),
    path("async/", _django_async_stream),
    path("ninetailed/", include(ninetailed_wsgi.django.urls)),
]


def test_django_s_own_middleware_puts_the_panel_into_pages_and_streams(tmp_path: Path, secret: Path) -> None:
    mount = {
        "data_dir": tmp_path / "data",
        "content": SHOP,
        "identity_secret_file": secret,
        "time_budget_ms": 20_000,
        "panel": True,
    }
    middleware = ["django.middleware.gzip.GZipMiddleware", "ninetailed_wsgi.django.Middleware"]
    with override_settings(ROOT_URLCONF=__name__, NINETAILED=mount, MIDDLEWARE=middleware):
        set_script_prefix("/")  # another test of this thread may have served a site below a prefix
        client = django.test.Client(headers={"accept-encoding": "gzip"})
        assert client.get("/page/")["Content-Encoding"] == "gzip"
        client.get(link("/page/"))
        answer = client.get("/page/")
        assert SCRIPT in answer.content
        assert b'src="/ninetailed/panel.js"' in answer.content
        assert answer["Content-Length"] == str(len(answer.content))
        assert answer["Cache-Control"] == "private, no-store"
        assert SCRIPT in client.get("/stream/").getvalue()
        assert client.get("/ninetailed/panel.js").status_code == 200
        assert client.get("/ninetailed/panel").status_code == 403
        django_mount().close()


async def _body(response: Any) -> bytes:
    return b"".join([piece async for piece in response])


def test_django_s_asynchronous_pages_have_the_panel(tmp_path: Path, secret: Path) -> None:
    import asyncio

    mount = {"data_dir": tmp_path / "data", "content": SHOP, "identity_secret_file": secret, "panel": True}

    async def look() -> bytes:
        client = django.test.AsyncClient()
        await client.get(link("/async/"))
        return await _body(await client.get("/async/"))

    with override_settings(ROOT_URLCONF=__name__, NINETAILED=mount, MIDDLEWARE=["ninetailed_wsgi.django.Middleware"]):
        assert SCRIPT in asyncio.run(look())
        django_mount().close()
