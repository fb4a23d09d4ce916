"""What an attacker sends costs time in proportion to its length and bounded memory, and leads to no 500."""

from __future__ import annotations

import contextlib
import json
import pkgutil
import re
import time
import tracemalloc
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from support import Api, Server, data, error, identify, of, page, profile_path, track

import ninetailed_wsgi
from ninetailed_wsgi import Ninetailed
from ninetailed_wsgi.api.app import _CommonHeaders
from ninetailed_wsgi.api.validation.json_body import read_json
from ninetailed_wsgi.api.validation.schemas import schemas
from ninetailed_wsgi.content import ContentFolder
from ninetailed_wsgi.core.events import EventTimeError, event_time, is_before_3_14
from ninetailed_wsgi.core.operators import compile_test
from ninetailed_wsgi.enrichment.client_ip import ClientAddress
from ninetailed_wsgi.enrichment.device import device_type
from ninetailed_wsgi.errors import InvalidData
from ninetailed_wsgi.site.answer_headers import PRIVATE
from ninetailed_wsgi.site.page_view import Visit, cookie_values, locale_of, page_of

MakeServer = Callable[..., Server]

# Time. Wall-clock says nothing on a busy machine; that eight times the text takes about eight times as long, does.

SHORT, LONG = 2_000, 16_000
PIECES = ("1", "a", "-", ".", ":", "\\", '"', "[", ";", "=", ",", " ", "/", "%", "1.", "a-", "1e", ";=", '\\"', "%2",
          "é", "Mobile ", "for=", "\n")  # fmt: skip


def attacks(length: int) -> Iterator[tuple[str, str]]:
    for piece in PIECES:
        for begin in ("", "00-", 'for="['):
            for end in ("", "!"):
                yield f"{begin}{piece}...{end}", begin + piece * (length // len(piece)) + end


def seconds(work: Callable[[str], object], text: str) -> float:
    began = time.thread_time()
    work(text)
    return time.thread_time() - began


def grows_with_the_text_alone(work: Callable[[str], object]) -> None:
    for (name, short), (_, long) in zip(attacks(SHORT), attacks(LONG), strict=True):
        longs, shorts = [seconds(work, long)], list[float]()
        while min(longs) > max(0.005, 3 * (LONG / SHORT) * min(shorts, default=0)):  # below 5 ms it is no attack
            assert len(longs) < 10, f"{name}: {min(shorts)} s became {min(longs)} s"
            longs.append(seconds(work, long))
            shorts.append(seconds(work, short))


def patterns() -> dict[str, re.Pattern[str]]:
    """Every regular expression of the package, and those of its schemas."""
    found = {}
    for module in pkgutil.walk_packages(ninetailed_wsgi.__path__, "ninetailed_wsgi."):
        if not module.name.startswith(
            ("ninetailed_wsgi.testing", "ninetailed_wsgi.django", "ninetailed_wsgi.__main__")
        ):
            for name, value in vars(import_module(module.name)).items():
                if isinstance(value, re.Pattern) and isinstance(value.pattern, str):
                    found[f"{module.name}.{name}"] = value
    for name, document in schemas().documents.items():
        for pattern in re.findall(r'"pattern": "((?:[^"\\]|\\.)*)"', json.dumps(document)):
            found[f"{name}: {pattern}"] = re.compile(json.loads(f'"{pattern}"'))
    return found


@pytest.mark.parametrize("pattern", patterns().values(), ids=patterns())
def test_no_regular_expression_takes_longer_than_its_text_is_long(pattern: re.Pattern[str]) -> None:
    def work(text: str) -> None:
        pattern.fullmatch(text)
        pattern.match(text)

    grows_with_the_text_alone(work)


def _time(text: str) -> None:
    with contextlib.suppress(EventTimeError):
        event_time({"timestamp": text}, 0)


def _refused(text: str) -> None:
    for body in (text.encode(), json.dumps({text: text, "events": [{text: text, "type": text}]}).encode()):
        with contextlib.suppress(InvalidData):
            schemas().check("batch-request", read_json(body))


BEHIND_PROXIES = ClientAddress(["0.0.0.0/0", "::/0"])
READERS: dict[str, Callable[[str], object]] = {
    "X-Force-IP": lambda text: BEHIND_PROXIES.of({"HTTP_X_FORCE_IP": text, "REMOTE_ADDR": "127.0.0.1"}),
    "X-Forwarded-For": lambda text: BEHIND_PROXIES.of({"HTTP_X_FORWARDED_FOR": text, "REMOTE_ADDR": "127.0.0.1"}),
    "Forwarded": lambda text: BEHIND_PROXIES.of({"HTTP_FORWARDED": text, "REMOTE_ADDR": "127.0.0.1"}),
    "traceparent": _CommonHeaders(("*",))._traceparent,
    "Cookie": lambda text: cookie_values(
        Visit({"HTTP_COOKIE": text.encode().decode("latin-1")}, lambda _: ("http", "")).cookies(("ntaid", "a", "1")),
        ("ntaid", "a", "1"),
    ),
    "Accept-Language": lambda text: locale_of({"HTTP_ACCEPT_LANGUAGE": text}),
    "path and query": lambda text: page_of(
        {"PATH_INFO": text, "QUERY_STRING": text, "HTTP_REFERER": text}, ("https", text)
    ),
    "userAgent": device_type,
    "timestamp": _time,
    "library.version": is_before_3_14,
    "a trait compared as a number": compile_test("greaterThan", "5"),
    "a trait searched": compile_test("matches", "(a+)+(1|1)*$"),
    "a trait that contains": compile_test("contains", "1" * 200 + "a" + "1" * 200),
    "a body that is refused": _refused,
}


@pytest.mark.parametrize("reader", READERS.values(), ids=READERS)
def test_no_reader_of_what_is_sent_takes_longer_than_it_is_long(reader: Callable[[str], object]) -> None:
    grows_with_the_text_alone(reader)


def test_a_long_text_of_digits_that_is_no_number_does_not_hang_a_rule(make_server: MakeServer) -> None:
    rule = {"type": "identify", "key": "age", "operator": "greaterThan", "value": "17"}
    audience = {"id": "adults", "name": "adults", "rules": {"any": [{"all": [rule]}]}}
    api = make_server(content={"audiences": [audience], "experiences": []}).environment()
    began = time.process_time()
    assert api.update("visitor", identify(traits={"age": "1" * 60_000 + "x"}))["profile"]["audiences"] == []
    assert time.process_time() - began < 20  # it took over a minute
    assert api.update("visitor", identify(traits={"age": "18."}))["profile"]["audiences"] == ["adults"]


# Memory


def worst_bodies() -> dict[str, bytes]:
    """Bodies of a mebibyte that become as many objects as can be."""
    size, event = 1_000_000, json.dumps(of("a", track(properties="HERE")))
    fill = {
        "empty objects": "[" + "{}," * (size // 3) + "{}]",
        "members": "{" + ",".join(f'"{number:x}":{{}}' for number in range(size // 11)) + "}",
    }
    bodies = {name: f'{{"events":[{event}]}}'.replace('"HERE"', f'{{"a":{part}}}') for name, part in fill.items()}
    return {name: body.encode() for name, body in bodies.items()}


@pytest.mark.parametrize("body", worst_bodies().values(), ids=worst_bodies())
def test_the_worst_body_of_a_mebibyte_takes_less_than_100_mb(api: Api, body: bytes) -> None:
    assert 900_000 < len(body) <= 1_048_576
    tracemalloc.start()
    try:
        assert api.send("/events", body).status_code in (200, 400)
        assert tracemalloc.get_traced_memory()[1] < 100_000_000
    finally:
        tracemalloc.stop()


# What JSON allows and nobody expects

ODD = {
    "byte order mark": b'\xef\xbb\xbf{"events":[EVENT]}',
    "UTF-16": '{"events":[]}'.encode("utf-16"),
    "invalid UTF-8": b'{"events":[EVENT],"a":"\xff\xfe"}',
    "overlong UTF-8": b'{"events":[EVENT],"a":"\xc0\xaf"}',
    "raw surrogate": b'{"events":[EVENT],"a":"\xed\xa0\x80"}',
    "escaped half of a pair": b'{"events":[EVENT],"a":"\\ud800"}',
    "half of a pair as a name": b'{"events":[EVENT],"\\udfff":1}',
    "raw NUL": b'{"events":[EVENT],"a":"\0"}',
    "escaped NUL": b'{"events":[EVENT],"a\\u0000":"\\u0000"}',
    "a number of 5,000 digits": b'{"events":[EVENT],"a":' + b"9" * 5_000 + b"}",
    "an exponent of 5,000 digits": b'{"events":[EVENT],"a":1e' + b"9" * 5_000 + b"}",
    "two bodies": b'{"events":[EVENT]}{"events":[EVENT]}',
    "a comment": b'{"events":[EVENT]/**/}',
    "a comma too many": b'{"events":[EVENT,]}',
    "nothing but white space": b" " * 100_000,
    "100,000 members": b'{"events":[EVENT],' + b",".join(b'"%d":0' % number for number in range(100_000)) + b"}",
}


@pytest.mark.parametrize("path", ["/profiles", "/profiles/visitor", "/events", "/import/events"])
@pytest.mark.parametrize("body", ODD.values(), ids=ODD)
def test_odd_json_is_taken_or_refused(api: Api, path: str, body: bytes) -> None:
    sent = body.replace(b"EVENT", json.dumps(of("visitor", track())).encode())
    answer = api.send(path, sent)
    assert answer.status_code == 200 or error(answer, 400) == "ERR_INVALID_DATA"


def test_of_two_members_of_one_name_the_last_counts_as_in_javascript(api: Api) -> None:
    event = json.dumps(identify(traits={"a": 1})).replace('"traits"', '"traits": {"a": 2, "a": 3, "b": 4}, "traits"')
    assert data(api.send("/profiles/visitor", f'{{"events":[{event}]}}'.encode()))["profile"]["traits"] == {"a": 1}


# Names are no paths

NAMES = ["..", "../..", "../../../../etc/passwd", "a/b", "/", "//", "/a", "a/", ".", "%2e%2e", "%2F", "a\nb",
         "a\r\nX: y", "a\0b", "~", "a;b", "a?b#c", "é" * 300, "💥", "x" * 1_000, "'; DROP", "d"]  # fmt: skip


def test_any_text_is_an_id_of_its_own_and_nothing_is_written_outside_the_data_folder(
    make_server: MakeServer, tmp_path: Path
) -> None:
    server = make_server()
    api = server.environment("..", "..")
    for name in NAMES:
        assert api.update(name, track(), identify(traits={"name": name}))["profile"]["id"] == name
        api.update("user of " + name[:50], identify(name + "-alias"))
    for name in NAMES:
        assert api.profile(name)["traits"] == {"name": name}
        assert api.profile(name + "-alias")["id"] == "user of " + name[:50]
        api.delete(name)
        assert not api.knows(name)
    assert {path.name for path in server.folder.rglob("*") if path.is_file()} <= {
        "ids.key",
        "store.json",
        "files.txt",
        "cache.db",
        "cache.db-wal",
        "cache.db-shm",
    }
    assert [path.name for path in tmp_path.iterdir()] == [server.folder.parent.name]
    assert [path.name for path in server.folder.parent.iterdir()] == ["data"]


def test_names_in_a_path_lead_to_no_content_of_others(tmp_path: Path) -> None:
    content = {"audiences": [{"id": "a", "name": "a", "rules": None}], "experiences": []}
    for file in (tmp_path / "content" / "org" / "main.json", tmp_path / "secret.json"):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(content))
    source = ContentFolder(tmp_path / "content")
    source.load()
    assert source.catalog("org", "main").audience_list
    for organization, environment in (("..", "secret"), ("org/..", "../secret"), (".", "org/main"), ("org", "./main")):
        assert not source.catalog(organization, environment).audience_list
    assert not source.catalog("org", "main.json").audience_list


# Cookies and headers

COOKIES = ["ntaid=a\r\nSet-Cookie: b=c", "ntaid=a%0d%0aX:%20y", 'ntaid="a; b"', "ntaid=a;ntaid=b", "ntaid=é",
           "ntaid=" + "x" * 1_000_000, "ntaid=%00", "ntaid=%ff%fe", "ntaid=%ed%a0%80", "ntaid=", "=", ";;;",
           "ntaid=;ctfl-opt-aid=%0a", "\0", "ntaid=../..", 'ntaid="', "ntaid=%", "ntaid=<script>"]  # fmt: skip


@pytest.mark.parametrize("cookie", COOKIES, ids=lambda cookie: cookie[:30])
def test_no_cookie_breaks_a_page_or_the_cookie_that_it_sets(shared_server: Server, cookie: str) -> None:
    def shop(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        environ["ninetailed.visitor"].page()
        assert environ["ninetailed.visitor"].profile["id"]
        start_response("200 OK", [])
        return [b"shop"]

    site = Ninetailed(shop, service=shared_server.service, data_dir=shared_server.folder, time_budget_ms=20_000)
    sent = cookie.encode().decode("latin-1")
    environ = {
        "REQUEST_METHOD": "GET",
        "PATH_INFO": "/",
        "SERVER_NAME": "shop",
        "SERVER_PORT": "80",
        "HTTP_COOKIE": sent,
    }
    started: list[Any] = []
    assert list(site({**environ, "wsgi.url_scheme": "http"}, lambda *given: started.append(given))) == [b"shop"]
    [(_, headers)] = started
    assert headers[:-1] == [("Cache-Control", PRIVATE), ("Vary", "Cookie")]
    name, value = headers[-1]
    assert name == "Set-Cookie"
    assert re.fullmatch(r"ntaid=[A-Za-z0-9_.~%-]{1,4096}; Path=/; Max-Age=31536000; SameSite=Lax", value), value[:200]


TRACE = "-" + "a" * 32 + "-" + "b" * 16 + "-01"
TRACES = [f"00{TRACE}\r\nX: y", "x" * 100_000, "\0", "é", f"01{TRACE}-\n", f"00{TRACE},00{TRACE}"]
HEADERS = ["traceparent", "Origin", "X-Force-IP", "X-Forwarded-For", "Forwarded", "Content-Type", "Cookie"]


@pytest.mark.parametrize("trace", TRACES, ids=lambda trace: trace[:20])
@pytest.mark.parametrize("header", HEADERS)
def test_no_header_comes_back_as_it_was_sent(api: Api, header: str, trace: str) -> None:
    sent = trace.encode().decode("latin-1")
    answer = api.send(profile_path("visitor"), {"events": [page()]}, headers={header: sent})  # which checks traceparent
    assert answer.status_code == 200
    assert not any(sent[:50] in value for value in answer.headers.values())


def test_content_with_a_locale_that_is_no_text_is_read_without_it(tmp_path: Path) -> None:
    # Found by the fuzzer: it ended the start with a traceback.
    for code in ({}, [], None, 5):
        file = tmp_path / "content.json"
        file.write_text(json.dumps({"entries": [], "locales": [{"code": code, "default": True, "fallbackCode": code}]}))
        ContentFolder(file).load()
