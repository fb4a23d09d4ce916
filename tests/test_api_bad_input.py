"""What bad input gets: a refusal that says what and where, in bounded memory, and never a failure of the service."""

from __future__ import annotations

import json
import shutil
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from falcon.testing import StartResponseMock, create_environ
from mmdb_writer import MMDBWriter
from netaddr import IPSet
from support import (
    BERLIN,
    DEMO_GEO,
    NOWHERE,
    TOKYO,
    UNITED_STATES,
    Api,
    Server,
    data,
    error,
    event,
    having,
    identify,
    of,
    page,
    refusal,
    track,
    without,
)

from ninetailed_wsgi.errors import SettingsError

MakeServer = Callable[..., Server]
POSTS = ["/profiles", "/profiles/visitor", "/events", "/import/events"]


# What is no JSON request


@pytest.mark.parametrize("path", POSTS)
@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "body: found nothing"),
        (b" \r\n\t", "body: found nothing"),
        (b"events", "body: not valid JSON at line 1 column 1"),
        (b'{"events": [\n}', "body: not valid JSON at line 2 column 1"),
        (b'{"events": []', "body: not valid JSON"),
        (b"\xef\xbb\xbf", "body: found nothing"),
        (b"\xef\xbb\xbf{}", "events: found nothing, expected a list"),
        (b"\xef\xbb\xbf\xef\xbb\xbf{}", "body: not valid JSON at line 1 column 1"),
        (b"{}{}", "body: not valid JSON at line 1 column 3"),
        (b"{'events': []}", "body: not valid JSON at line 1 column 2"),
        (b'{"events": [], "a": NaN}', "body: not valid JSON at line 1 column 21: NaN is not a JSON value"),
        (b'{"events": [], "a": -Infinity}', "-Infinity is not a JSON value"),
        (b'{"a": "\xff"}', "body: not UTF-8 at byte 8"),
        ('{"a": "é"}'.encode("latin-1"), "body: not UTF-8 at byte 8"),
        ('{"events": []}'.encode("utf-16"), "body: not UTF-8 at byte 1"),
        (b'{"a": "\\ud800"}', "body: not valid JSON"),
        (b"[]", "body: found an empty list, expected an object"),
        (b'[{"type": "page"}]', "body: found a list of 1 member, expected an object"),
        (b"null", "body: found null, expected an object"),
        (b"5", "body: found the number 5, expected an object"),
        (b'"events"', 'body: found the text "events", expected an object'),
        (b"{}", "events: found nothing, expected a list"),
        (b'{"events": {}}', "events: found an empty object, expected a list"),
        (b'{"events": null}', "events: found null, expected a list"),
        (b'{"events": [null]}', "events[0]: found null, expected an object"),
        (b'{"events": [[]]}', "events[0]: found an empty list, expected an object"),
        (b'{"events": [{}]}', "events[0].type: found nothing, expected one of"),
    ],
)
def test_a_body_that_is_no_request_is_refused_saying_what_and_where(
    api: Api, path: str, body: bytes, said: str
) -> None:
    assert said in refusal(api.send(path, body))
    assert not api.knows("visitor")


@pytest.mark.parametrize("path", POSTS)
@pytest.mark.parametrize(
    "opening", [b"[", b'{"a":', b'{"events":[{"traits":', b'{"events":[{"type":"page","context":{"a":']
)
def test_nesting_10_000_deep_is_refused(api: Api, path: str, opening: bytes) -> None:
    closing = b"".join({b"[": b"]", b"{": b"}"}.get(bytes([byte]), b"") for byte in reversed(opening))
    for body in (opening * 10_000 + b"1" + closing * 10_000, opening * 10_000):
        assert refusal(api.send(path, body)).startswith("body: n")
    assert api.create(page())


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = {"a": value}
    return value


def test_nesting_as_deep_as_allowed_is_stored_and_answered(api: Api) -> None:
    sent = identify(traits={"deep": nested(96)})
    assert api.update("visitor", sent)["profile"]["traits"] == {"deep": nested(96)}
    assert api.profile("visitor")["traits"] == {"deep": nested(96)}
    assert "nested too deeply" in refusal(api.update_answer("visitor", identify(traits={"deep": nested(97)})))


@pytest.mark.parametrize("number", ["1e400", "-1e400", "1" * 400, "1" + "0" * 400 + ".5", "0." + "0" * 400 + "1", "-0"])
def test_numbers_of_any_size_are_stored_or_refused(api: Api, number: str) -> None:
    sent = json.dumps({"events": [identify(traits={"n": "NUMBER"})]}).replace('"NUMBER"', number).encode()
    answer = api.send("/profiles/visitor", sent)
    assert answer.status_code in (200, 400)
    assert api.knows("visitor") is (answer.status_code == 200)


@pytest.mark.parametrize("path", POSTS)
def test_a_body_that_begins_with_a_byte_order_mark_is_read(api: Api, path: str) -> None:
    body = json.dumps({"events": [{**page(), "anonymousId": "visitor"}]}).encode("utf-8-sig")
    assert api.send(path, body).status_code == 200


# The length of a body


class Unreadable:
    """A body that nobody may read."""

    def read(self, size: int = -1) -> bytes:
        raise AssertionError("the body was read")


def call(server: Server, body: Any, **environ: Any) -> tuple[int, dict[str, Any]]:
    """Call the app with an environ as a server might hand it over, which the test client would not."""
    called = create_environ("/v2/organizations/o/environments/e/profiles", method="POST")
    called.update({"wsgi.input": body, **{key: value for key, value in environ.items() if value is not None}})
    for missing in (key for key, value in environ.items() if value is None):
        called.pop(missing, None)
    response = StartResponseMock()
    text = b"".join(server.app(called, response))
    assert dict(response.headers)["traceparent"]
    return int(response.status[:3]), json.loads(text)


def test_a_body_over_the_limit_is_refused_without_being_read(shared_server: Server) -> None:
    status, answer = call(shared_server, Unreadable(), CONTENT_LENGTH=str(2 * 1024 * 1024))
    assert status == 413
    assert answer["error"]["code"] == "ERR_INVALID_DATA"
    assert answer["message"] == "body: found 2097152 bytes, expected at most 1048576"
    status, _ = call(shared_server, Unreadable(), CONTENT_LENGTH="9" * 30)
    assert status == 413


def test_a_body_of_exactly_the_limit_is_accepted_and_one_byte_more_is_not(api: Api) -> None:
    body = json.dumps({"events": [track(properties={"a": "PADDING"})]})
    padded = body.replace("PADDING", "x" * (1_048_576 - len(body) + len("PADDING"))).encode()
    assert len(padded) == 1_048_576
    assert data(api.send("/profiles", padded))
    assert error(api.send("/profiles", padded + b" "), 413) == "ERR_INVALID_DATA"


@pytest.mark.parametrize(
    "route",
    [
        "/v2/organizations/o/environments/e/profiles",
        "/v2/organizations/o/environments/e/ofrep/v1/evaluate/flags",
        "/v3/spaces/s/environments/e/events",
        "/v1/organizations/o/environments/e/events",
    ],
)
def test_a_compressed_body_is_refused_without_being_read_or_unpacked(shared_server: Server, route: str) -> None:
    environ = {"PATH_INFO": route, "CONTENT_LENGTH": "90", "HTTP_CONTENT_ENCODING": "gzip"}
    status, answer = call(shared_server, Unreadable(), **environ)
    assert status == 415
    text = answer.get("errorDetails") or answer["message"]
    assert text == "body: found Content-Encoding gzip, expected none: leave the body uncompressed"


def test_the_limit_of_a_body_is_a_setting(make_server: MakeServer) -> None:
    api = make_server(max_body_bytes=1024).environment()
    assert api.create(page())
    assert error(api.send("/profiles", {"events": [identify(traits={"a": "x" * 1024})]}), 413) == "ERR_INVALID_DATA"


def test_refusing_bodies_that_are_too_long_takes_no_memory(shared_server: Server) -> None:
    call(shared_server, Unreadable(), CONTENT_LENGTH="2097152")
    tracemalloc.start()
    try:
        for _ in range(50):
            call(shared_server, Unreadable(), CONTENT_LENGTH="2097152")
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_a_chunked_body_without_a_length_is_refused(shared_server: Server) -> None:
    status, answer = call(shared_server, Unreadable(), CONTENT_LENGTH=None, HTTP_TRANSFER_ENCODING="chunked")
    assert status == 400
    assert "Content-Length" in answer["message"]


class Chunks:
    """A body as a server hands it out that ends it itself, at most three bytes at once; ``broken``: then it fails."""

    def __init__(self, body: bytes, *, broken: bool = False) -> None:
        self.left = body
        self.broken = broken

    def read(self, size: int) -> bytes:
        if self.broken and not self.left:
            raise ValueError("no chunk")
        part, self.left = self.left[: min(size, 3)], self.left[min(size, 3) :]
        return part


TERMINATED = {"CONTENT_LENGTH": None, "wsgi.input_terminated": True}


@pytest.mark.parametrize("headers", [{"HTTP_TRANSFER_ENCODING": "chunked"}, {}], ids=["chunked", "HTTP/2"])
def test_a_body_that_the_server_ends_itself_is_read(shared_server: Server, headers: dict[str, str]) -> None:
    body = json.dumps({"events": [page()]}).encode()
    assert call(shared_server, Chunks(body), **TERMINATED, **headers)[0] == 200


def test_a_body_that_the_server_ends_itself_is_read_up_to_the_limit(make_server: MakeServer) -> None:
    server = make_server(max_body_bytes=1000)
    body = json.dumps({"events": [page()]}).encode()
    assert call(server, Chunks(body.ljust(1000)), **TERMINATED)[0] == 200
    endless = Chunks(b" " * 10_000)
    assert call(server, endless, **TERMINATED)[0] == 413
    assert len(endless.left) >= 10_000 - 1003


def test_chunks_that_cannot_be_read_are_refused(shared_server: Server) -> None:
    status, answer = call(shared_server, Chunks(b'{"events"', broken=True), **TERMINATED)
    assert (status, answer["message"]) == (400, "body: cannot be read after 9 bytes, expected chunks as of HTTP/1.1")


def test_a_request_that_states_no_length_has_no_body(shared_server: Server) -> None:
    for length in (None, ""):
        status, answer = call(shared_server, Unreadable(), CONTENT_LENGTH=length)
        assert (status, answer["message"]) == (400, "body: found nothing, expected JSON")


class Ending:
    """A body whose sender goes away in the middle: by an end, or by an error of the connection."""

    def __init__(self, *parts: bytes, then: OSError | None = None) -> None:
        self._parts = [*parts]
        self._then = then

    def read(self, size: int = -1) -> bytes:
        if self._parts:
            return self._parts.pop(0)
        if self._then:
            raise self._then
        return b""


@pytest.mark.parametrize("then", [None, ConnectionResetError("reset by peer"), TimeoutError("timed out")])
def test_a_body_shorter_than_its_content_length_is_refused_saying_how_much_came(
    shared_server: Server, then: OSError | None
) -> None:
    whole = json.dumps({"events": [page()]}).encode()
    status, answer = call(shared_server, Ending(whole[:10], whole[10:20], then=then), CONTENT_LENGTH=str(len(whole)))
    assert status == 400
    assert answer["error"]["code"] == "ERR_INVALID_DATA"
    assert f"20 of {len(whole)} bytes" in answer["message"]


def test_a_body_that_comes_in_parts_is_put_together(shared_server: Server) -> None:
    whole = json.dumps({"events": [page()]}).encode()
    status, _ = call(shared_server, Ending(whole[:10], whole[10:11], whole[11:]), CONTENT_LENGTH=str(len(whole)))
    assert status == 200


@pytest.mark.parametrize("length", ["-1", "abc", "1.5", "0x10", "1 2"])
def test_a_content_length_that_is_none_is_refused(shared_server: Server, length: str) -> None:
    status, answer = call(shared_server, Unreadable(), CONTENT_LENGTH=length)
    assert (status, answer["error"]["code"]) == (400, "ERR_INVALID_DATA")


# Members of events

LACKING: list[tuple[dict[str, Any], tuple[str, ...], str]] = [
    (page(), ("type",), "type"),
    (page(), ("channel",), "channel"),
    (page(), ("messageId",), "messageId"),
    (page(), ("context",), "context"),
    (page(), ("context", "library"), "context.library"),
    (page(), ("context", "library", "version"), "context.library.version"),
    (page(), ("properties",), "properties"),
    (page(), ("properties", "path"), "properties.path"),
    (page(), ("properties", "referrer"), "properties.referrer"),
    (page(), ("properties", "search"), "properties.search"),
    (page(), ("properties", "url"), "properties.url"),
    (track(), ("event",), "event"),
    (identify(), ("traits",), "traits"),
]


@pytest.mark.parametrize(("whole", "path", "said"), LACKING, ids=lambda value: value if isinstance(value, str) else "")
def test_an_event_that_lacks_what_it_needs_is_refused_by_its_path(
    api: Api, whole: dict[str, Any], path: tuple[str, ...], said: str
) -> None:
    bad = without(whole, *path)
    for endpoint in POSTS:
        message = refusal(api.send(endpoint, {"events": [of("visitor", page()), of("visitor", bad)]}))
        assert f"events[1].{said}: found nothing, expected" in message
    assert not api.knows("visitor")


WRONG: list[tuple[dict[str, Any], str, Any]] = [
    (page(), "type", "unknown"),
    (page(), "type", "Page"),
    (page(), "type", 5),
    (page(), "type", None),
    (page(), "channel", "tv"),
    (page(), "messageId", 5),
    (page(), "messageId", ""),
    (page(), "messageId", None),
    (page(), "context", []),
    (page(), "context.library", "name"),
    (page(), "context.library.version", 3.14),
    (page(), "context.userAgent", 5),
    (page(), "context.location", 5),
    (page(), "context.location", "Berlin"),
    (page(), "context.location", None),
    (page(), "context.location.city", 5),
    (page(), "context.location.coordinates", [1, 2]),
    (page(), "context.page", "page"),
    (page(), "context.page.url", 5),
    (page(), "context.campaign.name", 5),
    (page(), "properties", []),
    (page(), "properties.url", None),
    (page(), "properties.path", 5),
    (page(), "properties.query", "a=b"),
    (page(), "timestamp", {}),
    (page(), "timestamp", True),
    (page(), "originalTimestamp", []),
    (page(), "anonymousId", 5),
    (track(), "event", 5),
    (track(), "event", None),
    (track(), "properties", "none"),
    (identify(), "traits", []),
    (identify(), "traits", None),
    (identify(), "userId", False),
    (identify(), "userId", 5),
    (event("component"), "experienceId", 5),
    (event("component"), "variantIndex", "1"),
    (event("component"), "variantIndex", -1),
]


@pytest.mark.parametrize(("whole", "path", "value"), WRONG)
def test_a_member_of_a_wrong_type_is_refused_by_its_path(
    api: Api, whole: dict[str, Any], path: str, value: Any
) -> None:
    bad = having(of("visitor", whole), value, *path.split("."))
    for endpoint in POSTS:
        message = refusal(api.send(endpoint, {"events": [of("visitor", page()), bad]}))
        assert f"events[1].{path}: found " in message
        assert ", expected " in message
    assert not api.knows("visitor")


@pytest.mark.parametrize(
    "timestamp",
    [
        "yesterday",
        "12:00",
        "2024-13-01T00:00:00Z",
        "2024-02-30",
        "1e3",
        -1,
        "1969-12-31T23:59:59Z",
        "0001-01-01T00:00:00Z",
        "\0",
        "x" * 100_000,
    ],
)
@pytest.mark.parametrize("member", ["timestamp", "originalTimestamp", "sentAt"])
def test_a_time_that_is_none_is_refused_by_its_path(api: Api, member: str, timestamp: str | int) -> None:
    message = refusal(api.update_answer("visitor", page(), {**page(), member: timestamp}))
    assert message.startswith(f"events[1].{member}: found ")
    assert "ISO 8601" in message
    assert len(message) < 500
    assert not api.knows("visitor")


@pytest.mark.parametrize("timestamp", [1e300, -1e300, 2**63, 2**64 + 1, 1e17, 253402300800000])
def test_a_time_as_a_huge_number_never_fails(api: Api, timestamp: float) -> None:
    answer = api.send("/profiles/visitor", json.dumps({"events": [page(timestamp=timestamp)]}).encode())
    assert answer.status_code == (200 if timestamp > 0 else 400)


def test_the_first_ten_problems_are_said_and_that_there_are_more(api: Api) -> None:
    message = refusal(api.send("/profiles", {"events": [without(page(), "channel") for _ in range(15)]}))
    problems = message.split("; ")
    assert len(problems) == 11
    assert problems[9].startswith("events[9].channel: ")
    assert "more" in problems[10]


@pytest.mark.parametrize(
    "options",
    [5, [], "location", {"features": "location"}, {"features": ["unknown"]}, {"features": [5]}, {"features": None}],
)
def test_wrong_options_are_refused_by_their_path(api: Api, options: Any) -> None:
    for path in ("/profiles", "/profiles/visitor"):
        assert "options" in refusal(api.send(path, {"events": [page()], "options": options}))
    assert not api.knows("visitor")


@pytest.mark.parametrize("anonymous_id", ["MISSING", "", None, 5, {}])
def test_a_batch_event_without_an_anonymous_id_is_refused(api: Api, anonymous_id: Any) -> None:
    bad = page() if anonymous_id == "MISSING" else page(anonymousId=anonymous_id)
    for path in ("/events", "/import/events"):
        assert "events[1].anonymousId" in refusal(api.send(path, {"events": [of("visitor", page()), bad]}))
    assert not api.knows("visitor")


def test_a_refusal_repeats_only_the_beginning_of_what_was_sent(api: Api) -> None:
    message = refusal(api.send("/profiles", {"events": [{**page(), "type": "x" * 500_000}]}))
    assert len(message) < 1000


# The path


@pytest.mark.parametrize("name", [b"\xff", b"\xc3(", b"a\x80b", "é".encode("latin-1"), b"\xed\xa0\x80"])
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_an_id_in_the_path_that_is_not_utf_8_is_refused(shared_server: Server, method: str, name: bytes) -> None:
    path = f"/v2/organizations/o/environments/e/profiles/{name.decode('latin-1')}"
    status, answer = call(shared_server, Unreadable(), REQUEST_METHOD=method, PATH_INFO=path)
    assert (status, answer["error"]["code"]) == (400, "ERR_INVALID_DATA")
    assert "UTF-8" in answer["message"]


# The location database


def test_a_location_database_that_is_missing_refuses_the_start(make_server: MakeServer, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="does not exist"):
        make_server(geo=tmp_path / "none.mmdb")


def test_a_location_database_of_another_type_refuses_the_start(make_server: MakeServer, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="Test-ISP"):
        make_server(geo=write_database(tmp_path / "isp.mmdb", {"isp": "Example"}, "Test-ISP"))


@pytest.mark.parametrize("content", [b"", b"no database", b"\0" * 100_000])
def test_a_location_database_that_is_none_refuses_the_start(
    make_server: MakeServer, tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "bad.mmdb").write_bytes(content)
    with pytest.raises(SettingsError, match=r"bad\.mmdb"):
        make_server(geo=tmp_path / "bad.mmdb")


def test_a_location_database_that_vanishes_while_running_never_fails_a_request(
    make_server: MakeServer, tmp_path: Path
) -> None:
    copied = Path(shutil.copy(DEMO_GEO, tmp_path / "geo.mmdb"))
    api = make_server(geo=copied).environment()
    copied.unlink()
    assert "profile" in api.create(page(), features=["location"], remote_addr=BERLIN)
    copied.write_bytes(b"rubbish")
    assert "profile" in api.create(page(), features=["location"], remote_addr=BERLIN)


def test_a_location_database_with_damaged_records_refuses_the_start(make_server: MakeServer, tmp_path: Path) -> None:
    path = write_database(tmp_path / "geo.mmdb", {"city": {"names": {"en": "MARK" * 200}}}, "Test-City")
    path.write_bytes(path.read_bytes().replace(b"MARK" * 200, b"\xff" * 800))
    with pytest.raises(SettingsError, match="damaged"):
        make_server(geo=path)


def write_database(path: Path, record: Any, database_type: str) -> Path:
    writer = MMDBWriter(ip_version=6, ipv4_compatible=True, database_type=database_type, languages=["en"])
    writer.insert_network(IPSet(["192.0.2.0/24"]), record)
    writer.to_db_file(str(path))
    return path


def test_without_a_location_database_there_is_no_location_and_no_error(make_server: MakeServer) -> None:
    api = make_server(geo=None).environment()
    assert api.create(page(), features=["location"], remote_addr=BERLIN)["profile"]["location"] == {}


# Headers that name an address


def city(api: Api, *, remote: str = TOKYO, **headers: str) -> str | None:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    answered = api.create(page(), features=["location"], remote_addr=remote, headers=sent)
    country: str | None = answered["profile"]["location"].get("country")
    return country


RUBBISH = [
    "",
    " ",
    "rubbish",
    "999.1.1.1",
    "1.2.3",
    "1.2.3.4.5",
    "01.02.03.04",
    "192.0.2.7/24",
    "[::1]",
    "192.0.2.7:80",
    "::g",
    "%eth0",
    "127.0.0.1, 192.0.2.7",
    "http://192.0.2.7",
    '"192.0.2.7',
    "1" * 10_000,
    "::1%" + "z" * 10_000,
    ",,,,",
    "for=",
    ";;;",
    "é",
    "-1",
    "0x7f.1",
    "2130706433",
]


@pytest.mark.parametrize("rubbish", RUBBISH)
def test_a_forced_address_that_is_none_leaves_the_address_of_the_client(api: Api, rubbish: str) -> None:
    assert city(api, X_Force_IP=rubbish) == "Japan"


def test_a_forced_address_counts_before_the_address_of_the_client(api: Api) -> None:
    assert city(api, X_Force_IP=UNITED_STATES) == "United States"
    assert city(api, X_Force_IP=" 198.51.100.7 ") == "United States"
    assert city(api, X_Force_IP="2001:db8::7") == "Canada"
    assert city(api, X_Force_IP="2001:db8::7%eth0") == "Canada"
    assert city(api, X_Force_IP="::ffff:198.51.100.7") == "United States"


@pytest.fixture(scope="module")
def behind_proxies(tmp_path_factory: pytest.TempPathFactory) -> Api:
    server = Server(tmp_path_factory.mktemp("proxies"), trusted_proxies=("10.0.0.0/8",))
    return server.environment()


def test_a_forwarding_header_counts_only_where_a_trusted_proxy_wrote_it(api: Api, behind_proxies: Api) -> None:
    assert city(api, X_Forwarded_For=UNITED_STATES) == "Japan"
    assert city(behind_proxies, X_Forwarded_For=UNITED_STATES) == "Japan"
    assert city(behind_proxies, remote="10.0.0.1", X_Forwarded_For=UNITED_STATES) == "United States"
    assert (
        city(behind_proxies, remote="10.0.0.1", Forwarded=f'for="{UNITED_STATES}:443";proto=https') == "United States"
    )
    assert city(behind_proxies, remote="10.0.0.1", X_Forwarded_For=f"{BERLIN}, {UNITED_STATES}") == "United States"


@pytest.mark.parametrize("header", ["X_Forwarded_For", "Forwarded"])
@pytest.mark.parametrize("rubbish", RUBBISH)
def test_a_forwarding_header_of_rubbish_never_fails(behind_proxies: Api, header: str, rubbish: str) -> None:
    city(behind_proxies, remote="10.0.0.1", **{header: rubbish})


@pytest.mark.parametrize(
    "listed",
    [
        "rubbish, 198.51.100.7",
        "198.51.100.7, rubbish",
        "198.51.100.7:8080",
        "127.0.0.1, 198.51.100.7, 10.0.0.7:443, 10.0.0.9",
        ", ".join(["127.0.0.1"] * 100 + ["198.51.100.7", "10.1.1.1"]),
        "x" * 20_000 + ", 198.51.100.7",
    ],
)
def test_a_forwarding_header_is_read_part_by_part_from_the_right(behind_proxies: Api, listed: str) -> None:
    assert city(behind_proxies, remote="10.0.0.1", X_Forwarded_For=listed) == "United States"


def test_an_ipv6_address_with_brackets_port_or_zone_is_an_address(behind_proxies: Api) -> None:
    for hop in ("2001:db8::7", "[2001:db8::7]", "[2001:db8::7]:443", "2001:db8::7%eth0"):
        assert city(behind_proxies, remote="10.0.0.1", X_Forwarded_For=f"{BERLIN}, {hop}") == "Canada"


def test_an_address_that_nobody_knows_gives_no_location(api: Api) -> None:
    assert city(api, remote=NOWHERE) is None
    assert city(api, remote="") is None
