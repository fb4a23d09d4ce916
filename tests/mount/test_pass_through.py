"""What the site answers reaches the client as the site made it: bytes, headers, errors, files, streams."""

from __future__ import annotations

import hashlib
import io
import logging
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from wsgiref.util import FileWrapper

import pytest
from werkzeug.middleware.lint import LintMiddleware

from ninetailed_wsgi.site.visitor import KEY
from tests.mount.browser import App, Browser, Environ
from tests.mount.conftest import Mounted
from tests.mount.sites import Reply, below

MEBIBYTE = 1024 * 1024


class Body:
    """An iterable that knows whether it was closed."""

    def __init__(self, *chunks: bytes) -> None:
        self.chunks = iter(chunks)
        self.closed = 0

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        return next(self.chunks)

    def close(self) -> None:
        self.closed += 1


def around(bare: Mounted, site: App, **options: Any) -> App:
    """The middleware around a site, with lint between the two as well."""
    bare.make_site = lambda: LintMiddleware(site)
    return bare.app(lambda environ: Reply(), **options)


def start(environ: Environ, start_response: Any, *headers: tuple[str, str], status: str = "200 OK") -> Any:
    environ[KEY].page()
    return start_response(status, [("Content-Type", "text/plain"), *headers])


def test_an_iterable_of_the_site_is_handed_on_itself_and_closed(bare: Mounted) -> None:
    body = Body(b"a", b"", b"b")

    def site(environ: Environ, start_response: Any) -> Iterable[bytes]:
        start(environ, start_response)
        return body

    bare.make_site = lambda: site
    app = bare.app(lambda environ: Reply())
    assert app(environ(), lambda status, headers: None) is body
    assert Browser(app).get().status == 200
    assert body.closed == 1


def environ(**members: Any) -> Environ:
    return {"REQUEST_METHOD": "GET", "PATH_INFO": "/", "wsgi.input": io.BytesIO(), **members}


def test_a_stream_passes_piece_by_piece(bare: Mounted) -> None:
    made: list[int] = []

    def site(environ: Environ, start_response: Any) -> Iterator[bytes]:
        start(environ, start_response)
        for number in range(3):
            made.append(number)
            yield b"%d" % number

    bare.make_site = lambda: site
    stream = iter(bare.app(lambda environ: Reply())(environ(), lambda status, headers: None))
    assert next(stream) == b"0"
    assert made == [0]
    assert list(stream) == [b"1", b"2"]


def test_a_hundred_megabytes_pass_byte_for_byte(bare: Mounted) -> None:
    chunk = bytes(range(256)) * 4096

    def site(environ: Environ, start_response: Any) -> Iterator[bytes]:
        start(environ, start_response, ("Content-Length", str(100 * MEBIBYTE)))
        return (chunk for _ in range(100))

    bare.make_site = lambda: site
    sent, got = hashlib.sha256(), hashlib.sha256()
    for each in bare.app(lambda environ: Reply())(environ(), lambda status, headers: None):
        got.update(each)
    for _ in range(100):
        sent.update(chunk)
    assert got.digest() == sent.digest()


def test_the_servers_file_wrapper_sees_its_own_object(bare: Mounted) -> None:
    def site(environ: Environ, start_response: Any) -> Iterable[bytes]:
        start(environ, start_response)
        wrapped: Iterable[bytes] = environ["wsgi.file_wrapper"](io.BytesIO(b"a file"))
        return wrapped

    bare.make_site = lambda: site
    app = bare.app(lambda environ: Reply())
    answered = app(environ(**{"wsgi.file_wrapper": FileWrapper}), lambda status, headers: None)
    assert type(answered) is FileWrapper
    assert b"".join(answered) == b"a file"


def test_the_old_write_function_still_works(bare: Mounted) -> None:
    def site(environ: Environ, start_response: Any) -> Iterable[bytes]:
        write = start(environ, start_response)
        write(b"written ")
        return [b"returned"]

    assert Browser(around(bare, site)).get().text == "written returned"


@pytest.mark.parametrize(
    ("method", "status", "headers"),
    [
        ("HEAD", "200 OK", [("Content-Length", "5000")]),
        ("GET", "304 Not Modified", [("ETag", '"x"')]),
        ("GET", "204 No Content", []),
    ],
)
def test_an_answer_without_a_body_stays_without_one(
    bare: Mounted, method: str, status: str, headers: list[tuple[str, str]]
) -> None:
    def site(environ: Environ, start_response: Any) -> Iterable[bytes]:
        environ[KEY].page()
        start_response(status, headers)
        return []

    bare.make_site = lambda: site
    started: list[Any] = []
    body = bare.app(lambda environ: Reply())(environ(REQUEST_METHOD=method), lambda *given: started.append(given))
    assert b"".join(body) == b""
    assert started[0][0] == status
    assert started[0][1][: len(headers)] == headers
    added = [name for name, _ in started[0][1][len(headers) :]]
    sets_cookie = method != "HEAD" and not status.startswith("304")
    assert added == ["Cache-Control", "Vary", *["Set-Cookie"] * sets_cookie]


def test_chunked_framing_and_repeated_headers_are_left_alone_and_in_order(bare: Mounted) -> None:
    given = [
        ("Content-Type", "text/plain"),
        ("Set-Cookie", "session=1"),
        ("X-B", "1"),
        ("Transfer-Encoding", "chunked"),
        ("X-A", "2"),
        ("Set-Cookie", "theme=2"),
        ("X-B", "3"),
    ]

    def site(environ: Environ, start_response: Any) -> Iterable[bytes]:
        environ[KEY].page()
        start_response("200 OK", given)
        return [b"5\r\nhello\r\n0\r\n\r\n"]

    bare.make_site = lambda: site
    seen: list[list[tuple[str, str]]] = []
    body = bare.app(lambda environ: Reply())(environ(), lambda status, headers: seen.append(headers))
    assert b"".join(body) == b"5\r\nhello\r\n0\r\n\r\n"
    assert seen[0][:-3] == given
    assert seen[0][-1][0] == "Set-Cookie"


def test_a_page_without_the_visitor_hands_the_sites_own_list_of_headers_on(bare: Mounted) -> None:
    headers = [("Content-Type", "text/plain")]

    def site(environ: Environ, start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", headers)
        return []

    bare.make_site = lambda: site
    seen: list[Any] = []
    bare.app(lambda environ: Reply())(environ(), lambda status, headers: seen.append(headers))
    assert seen[0] is headers


def test_a_body_sent_to_the_site_is_not_touched(bare: Mounted) -> None:
    class Untouchable:
        def __getattr__(self, name: str) -> Any:
            raise AssertionError(f"the body was touched: {name}")

    body = Untouchable()

    def site(environ: Environ, start_response: Any) -> Iterable[bytes]:
        assert environ["wsgi.input"] is body
        start(environ, start_response)
        return []

    bare.make_site = lambda: site
    bare.app(lambda environ: Reply())(environ(**{"wsgi.input": body}), lambda status, headers: None)


def failing_at_once(environ: Environ, start_response: Any) -> Iterable[bytes]:
    environ[KEY].page()
    raise ZeroDivisionError("the site's own")


def failing_in_the_stream(environ: Environ, start_response: Any) -> Iterator[bytes]:
    start(environ, start_response)
    yield b"a"
    raise ZeroDivisionError("the site's own")


@pytest.mark.parametrize("site", [failing_at_once, failing_in_the_stream])
def test_an_error_of_the_site_is_the_sites_own_and_not_logged_as_ours(
    bare: Mounted, site: App, caplog: pytest.LogCaptureFixture
) -> None:
    bare.make_site = lambda: site
    with pytest.raises(ZeroDivisionError, match="the site's own"):
        b"".join(bare.app(lambda environ: Reply())(environ(), lambda status, headers: None))
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


def test_a_site_may_start_again_after_an_error(bare: Mounted) -> None:
    def site(environ: Environ, start_response: Any) -> Iterable[bytes]:
        start(environ, start_response)
        try:
            raise ZeroDivisionError
        except ZeroDivisionError as error:
            kind = ("Content-Type", "text/plain")
            start_response("500 Failed", [kind, ("X-Again", "1")], (type(error), error, None))
        return [b"sorry"]

    bare.make_site = lambda: site
    started: list[Any] = []
    body = bare.app(lambda environ: Reply())(environ(), lambda *given: started.append(given))
    assert b"".join(body) == b"sorry"
    assert [(status, len(rest)) for status, _, *rest in started] == [("200 OK", 0), ("500 Failed", 1)]
    assert [name for name, _ in started[1][1]] == ["Content-Type", "X-Again", "Cache-Control", "Vary", "Set-Cookie"]
    assert bare.store.writes == 1


@pytest.mark.parametrize("prefix", ["", "/outer", "/a/b"])
def test_the_api_sees_its_mount_point_in_script_name(bare: Mounted, prefix: str) -> None:
    seen: list[tuple[str, str, str]] = []
    app = bare.app(lambda environ: Reply())
    Browser(below(prefix, app), prefix).get("/ninetailed/health/live")
    process = app._here()
    assert process.engine is not None
    inner = process.engine.api

    def watched(environ: Environ, start_response: Any) -> Iterable[bytes]:
        seen.append((environ["SCRIPT_NAME"], environ["PATH_INFO"], type(environ).__name__))
        assert inner is not None
        return inner(environ, start_response)

    process.engine.api = watched
    Browser(below(prefix, app), prefix).get("/ninetailed/health/live")
    assert seen == [(prefix + "/ninetailed", "/health/live", "dict")]


@pytest.mark.parametrize("outermost", [True, False])
def test_a_dispatcher_may_be_outside_or_inside(bare: Mounted, outermost: bool) -> None:
    site: Callable[..., Any] = bare.make_site()
    bare.make_site = lambda: site if outermost else below("/shop", site)
    app: App = bare.app(lambda environ: Reply(f"{environ['SCRIPT_NAME']} {environ['PATH_INFO']}".encode()))
    answer = Browser(below("/shop", app) if outermost else app).get("/shop/shoes")
    assert answer.text == "/shop /shoes"
