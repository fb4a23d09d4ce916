"""Content that all servers read from one address: a web server of the test's own, or a Redis server."""

from __future__ import annotations

import gzip
import hashlib
import http.server
import json
import logging
import os
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
import redis
from serving import PROFILES, Server, free_port, page, serving, wait_until

from ninetailed_wsgi.commands.main import main
from ninetailed_wsgi.content import Catalog
from ninetailed_wsgi.content.remote import WebDocument
from ninetailed_wsgi.content.shared import SharedContent
from ninetailed_wsgi.content.web import LARGEST, Unfetched
from ninetailed_wsgi.errors import SettingsError
from ninetailed_wsgi.service.service import ExperienceService
from ninetailed_wsgi.settings import Settings
from ninetailed_wsgi.settings.masking import masked


def content(version: int | str) -> dict[str, Any]:
    """Content whose every part names its version."""
    name = f"v{version}"
    flag = {"type": "InlineVariable", "key": "version", "valueType": "String"}
    component = {**flag, "baseline": {"value": name}, "variants": [{"value": name}]}
    config = {"traffic": 1, "distribution": [0, 1], "components": [component]}
    rules = {"any": [{"all": [{"type": "identify", "key": "plan", "operator": "equal", "value": name}]}]}
    return {
        "audiences": [{"id": "people", "name": name, "rules": rules}],
        "experiences": [{"id": "test", "name": name, "type": "nt_personalization", "config": config}],
        "mergeTags": [{"id": "traits.name", "fallback": name}],
    }


def versions(catalog: Catalog) -> set[str | None]:
    """The versions that the parts of a catalogue come from: one, where it was swapped as a whole."""
    named = {audience.name for audience in catalog.audience_list} | {listed.name for listed in catalog.experience_list}
    return named | {tag.fallback for tag in catalog.merge_tags.values()}


def served(source: SharedContent, environment: str = "*/*") -> set[str | None]:
    """The versions that are served; unlike `SharedContent.catalog` this starts no thread."""
    return versions(source.catalogs()[environment])


class Host:
    """A web server with one document, which answers as it is told to."""

    def __init__(self) -> None:
        self.answered: list[int] = []
        self.asked: list[dict[str, str]] = []
        self.headers: dict[str, str] = {}
        self.etag = True
        self.redirects: dict[str, str] = {}
        self.goes_on = threading.Event()
        self.goes_on.set()
        self.publish(content(1))
        self.listen(0)

    def listen(self, port: int, tls: ssl.SSLContext | None = None) -> None:
        host = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                host.answer(self)

            def log_message(self, *_: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
        if tls:
            self.server.socket = tls.wrap_socket(self.server.socket, server_side=True)
        self.port = self.server.server_port
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}/shop.json"
        self._thread = threading.Thread(target=self.server.serve_forever, args=(0.005,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        self.goes_on.set()
        self.server.shutdown()
        self.server.server_close()
        self._thread.join()

    def publish(self, document: object) -> None:
        self.document = document if isinstance(document, bytes) else json.dumps(document).encode()

    def answer(self, request: http.server.BaseHTTPRequestHandler) -> None:
        self.asked.append({"path": request.path, **{name.lower(): value for name, value in request.headers.items()}})
        self.goes_on.wait(60)
        headers = dict(self.headers)
        if self.etag:
            headers["ETag"] = f'"{hashlib.sha256(self.document).hexdigest()[:8]}"'
        if request.path in self.redirects:
            status, headers = 302, {"Location": self.redirects[request.path]}
        else:
            known = request.headers["If-None-Match"], request.headers["If-Modified-Since"]
            status = 304 if {headers.get("ETag"), headers.get("Last-Modified")} & {*known} - {None} else 200
        self.answered.append(status)
        request.send_response(status)
        for name, value in {"Content-Length": str(len(self.document) if status == 200 else 0), **headers}.items():
            request.send_header(name, value)
        request.end_headers()
        if status == 200:
            request.wfile.write(self.document)


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    listening = Host()
    yield listening
    listening.close()


def started(address: str, **options: Any) -> SharedContent:
    source = SharedContent(address, **{"check_every": 3600.0, **options})
    source.load()
    return source


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]


def refusal(address: str, **options: Any) -> str:
    with pytest.raises(SettingsError) as refused:
        started(address, **options)
    return str(refused.value)


BROKEN = {
    "half written": json.dumps(content(2)).encode()[:100],
    "empty": b"",
    "of an unknown form": b'{"something": "else"}',
    "with a list that is none": b'{"audiences": {"id": "a", "rules": {"any": []}}}',
    "with environments that are none": b'{"environments": []}',
    "with an environment without a name": b'{"environments": {"main": {"audiences": []}}}',
    "with one broken environment": json.dumps({"environments": {"a/b": content(2), "a/c": 5}}).encode(),
}


# Following a document


def test_a_changed_document_is_served_as_a_whole_and_an_unchanged_one_is_not_sent_again(host: Host) -> None:
    source = started(host.url)
    before = source.catalogs()["*/*"]
    source.look()
    assert source.catalogs()["*/*"] is before
    host.publish(content(2))
    source.look()
    source.look()

    assert served(source) == {"v2"}
    assert host.answered == [200, 304, 200, 304]


def test_it_is_known_when_content_was_swapped_and_when_the_server_was_last_seen(host: Host) -> None:
    seconds = iter(range(100, 200))
    source = started(host.url, wall_clock=lambda: float(next(seconds)))
    loaded, seen = source.loaded_at()["*/*"], source.seen_at or 0
    source.look()
    assert source.loaded_at() == {"*/*": loaded}
    assert (source.seen_at or 0) > seen
    host.publish(content(2))
    source.look()

    assert source.loaded_at()["*/*"] > (source.seen_at or 0) > seen


def test_a_document_without_etag_and_time_is_followed_too(host: Host) -> None:
    host.etag = False
    source = started(host.url)
    before = source.catalogs()["*/*"]
    source.look()
    assert source.catalogs()["*/*"] is before
    host.publish(content(2))
    source.look()

    assert served(source) == {"v2"}


def test_a_second_change_within_the_same_second_is_noticed(host: Host) -> None:
    host.headers = {"Last-Modified": formatdate(time.time(), usegmt=True), "ETag": '"of-time-and-size"'}
    host.etag = False
    source = started(host.url)
    host.publish(content(2))
    source.look()

    assert served(source) == {"v2"}


def test_a_document_with_a_time_only_is_asked_for_by_it(host: Host) -> None:
    host.headers = {"Last-Modified": formatdate(time.time() - 7200, usegmt=True)}
    host.etag = False
    source = started(host.url)
    source.look()

    assert host.answered == [200, 304]
    assert source.origin().endswith("2 hours old")


@pytest.mark.parametrize("raw", BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_version_is_reported_once_and_the_old_one_stays_until_a_sound_one_comes(
    host: Host, caplog: pytest.LogCaptureFixture, raw: bytes
) -> None:
    source = started(host.url)
    host.publish(raw)
    for _ in range(3):
        source.look()
        assert served(source) == {"v1"}

    (line,) = errors(caplog)
    assert line.startswith(f"{host.url}: ")
    assert line.endswith("; the previous version stays live")
    assert {problem.severity for problem in source.problems()} == {"error"}

    host.publish(content(3))
    source.look()
    assert served(source) == {"v3"}
    assert source.problems() == ()


def test_while_the_server_is_down_the_old_content_stays_and_that_is_reported_once(
    host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    source = started(host.url, wall_clock=iter(range(100)).__next__)
    seen = source.seen_at
    host.close()
    for _ in range(3):
        source.look()
        assert served(source) == {"v1"}
    assert errors(caplog) == [f"{host.url}: cannot be fetched: Connection refused; the previous version stays live"]
    assert source.seen_at == seen

    host.publish(content(2))
    host.listen(host.port)
    source.look()
    assert served(source) == {"v2"}
    assert source.problems() == ()
    assert source.seen_at != seen


def test_a_slow_server_never_delays_a_request(host: Host) -> None:
    source = started(host.url, check_every=0.01)
    host.publish(content(2))
    host.goes_on.clear()
    asked = len(host.asked)
    source.follow()
    wait_until(lambda: len(host.asked) > asked, "the thread waits for the server")
    for _ in range(1000):
        assert versions(source.catalog("acme", "main")) == {"v1"}
    assert len(host.answered) == asked

    host.goes_on.set()
    wait_until(lambda: versions(source.catalog("acme", "main")) == {"v2"}, "the new version is served")


def test_two_sources_agree_after_a_change(host: Host) -> None:
    sources = [started(host.url, check_every=0.01) for _ in range(2)]
    for source in sources:
        source.follow()
    host.publish(content(2))
    wait_until(lambda: all(versions(one.catalog("a", "b")) == {"v2"} for one in sources), "both serve the new version")

    assert len({one.catalog("a", "b").version for one in sources}) == 1
    assert sources[0].origin() == sources[1].origin()


def test_after_a_fork_the_child_follows_too(host: Host) -> None:
    source = started(host.url, check_every=0.01)
    source.follow()
    child = os.fork()
    if child == 0:
        try:
            wait_until(lambda: versions(source.catalog("acme", "main")) == {"v2"}, "the child serves the new version")
            os._exit(0)
        finally:
            os._exit(1)
    host.publish(content(2))

    assert os.waitpid(child, 0)[1] == 0


def test_a_source_that_nobody_holds_ends_its_thread(host: Host) -> None:
    source = started(host.url, check_every=0.01)
    before = set(threading.enumerate())
    source.follow()
    (thread,) = [thread for thread in threading.enumerate() if thread not in before and "content" in thread.name]
    del source
    thread.join(60)

    assert not thread.is_alive()


def test_an_error_of_our_own_does_not_end_the_thread(
    host: Host, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = started(host.url, check_every=0.01)
    monkeypatch.setattr("ninetailed_wsgi.content.shared.parse", lambda raw: 1 // 0)
    host.publish(content(2))
    source.follow()
    wait_until(lambda: bool(errors(caplog)), "the defect is reported")
    monkeypatch.undo()

    wait_until(lambda: versions(source.catalog("acme", "main")) == {"v2"}, "the new version is served")


# Several environments in one document


def test_each_environment_has_its_own_content_beside_what_is_for_all(host: Host) -> None:
    environments = {"*/*": {"mergeTags": [{"id": "all"}]}, "acme/main": content(1), "acme/dev": content(2)}
    host.publish({"environments": environments})
    source = started(host.url)

    assert served(source, "acme/main") == {"v1", None}
    assert served(source, "acme/dev") == {"v2", None}
    assert list(source.catalogs()["*/*"].merge_tags) == ["all"]


def test_an_environment_that_is_left_out_of_a_new_version_is_gone_with_it(host: Host) -> None:
    host.publish({"environments": {"acme/main": content(1), "acme/dev": content(1)}})
    source = started(host.url)
    kept = source.catalogs()["acme/main"]
    host.publish({"environments": {"acme/main": content(1)}})
    source.look()

    assert source.catalogs().keys() == {"*/*", "acme/main"}
    assert source.catalogs()["acme/main"] is kept
    assert versions(source.catalog("acme", "dev")) == set()


def test_a_broken_environment_is_named_in_the_report(host: Host) -> None:
    host.publish({"environments": {"acme/main": content(1), "acme/dev": {"audiences": 5}}})

    assert refusal(host.url).startswith(f"content: {host.url}: acme/dev: audiences: found 5, expected a list")


# The copy for a start while the document cannot be had


@pytest.fixture
def kept(host: Host, tmp_path: Path) -> Path:
    """A data folder in which a server has kept its content."""
    source = started(host.url, folder=tmp_path)
    source.look()
    return tmp_path


def test_a_start_while_the_server_is_down_is_refused_where_there_is_no_copy(host: Host, tmp_path: Path) -> None:
    host.close()

    assert refusal(host.url, folder=tmp_path) == f"content: {host.url}: cannot be fetched: Connection refused"


def test_a_start_while_the_server_is_down_serves_the_last_sound_version_and_says_so(
    host: Host, kept: Path, caplog: pytest.LogCaptureFixture
) -> None:
    host.close()
    source = started(host.url, folder=kept)

    assert served(source) == {"v1"}
    (line,) = caplog.messages
    assert line.startswith(f"{host.url}: cannot be fetched: Connection refused; the copy of 20")

    host.publish(content(2))
    host.listen(host.port)
    source.look()
    assert served(source) == {"v2"}


def test_a_start_with_a_broken_version_serves_the_last_sound_one(host: Host, kept: Path) -> None:
    host.publish(b"{")
    source = started(host.url, folder=kept)
    source.look()

    assert served(source) == {"v1"}
    assert "is not JSON" in str(source.problems()[0])


def test_a_copy_of_another_address_or_a_damaged_one_is_not_served(host: Host, kept: Path) -> None:
    file = kept / ".shared-content"
    host.close()
    assert "Connection refused" in refusal(f"{host.url}?other", folder=kept)

    file.write_bytes(file.read_bytes()[:-1])
    assert "Connection refused" in refusal(host.url, folder=kept)


def test_the_copy_is_for_its_owner_only_and_a_broken_version_does_not_replace_it(host: Host, tmp_path: Path) -> None:
    source = started(host.url, folder=tmp_path)
    source.look()
    before = (tmp_path / ".shared-content").read_bytes()
    host.publish(b"{")
    source.look()

    assert (tmp_path / ".shared-content").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == [".shared-content"]
    assert (tmp_path / ".shared-content").stat().st_mode & 0o077 == 0


def test_where_no_copy_can_be_kept_the_content_is_served_all_the_same_and_that_is_said_once(
    host: Host, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / ".shared-content").mkdir()
    source = started(host.url, folder=tmp_path)
    for version in (2, 3):
        host.publish(content(version))
        source.look()

    assert served(source) == {"v3"}
    assert len([line for line in caplog.messages if "no copy of the shared content can be kept" in line]) == 1


# What a web server may do


def fetched(url: str, **options: Any) -> bytes:
    found = WebDocument(url, **options).fetch(None)
    assert found is not None
    return found.document


def unfetched(url: str, **options: Any) -> str:
    with pytest.raises(Unfetched) as refused:
        WebDocument(url, **options).fetch(None)
    return str(refused.value)


def test_a_document_may_be_sent_as_gzip(host: Host) -> None:
    host.publish(gzip.compress(b'{"audiences": []}'))
    host.headers = {"Content-Encoding": "gzip"}

    assert fetched(host.url) == b'{"audiences": []}'


def test_a_document_behind_which_more_is_sent_as_gzip_is_refused_not_cut(host: Host) -> None:
    host.publish(gzip.compress(b'{"audiences": []}') + gzip.compress(b"more"))
    host.headers = {"Content-Encoding": "gzip"}

    assert unfetched(host.url) == "has data after the end of the compressed content"


@pytest.mark.parametrize("encoding", ["identity", "gzip"])
def test_a_document_that_is_too_large_is_refused(host: Host, encoding: str) -> None:
    large = bytes(LARGEST + 1)
    host.publish(gzip.compress(large, 1) if encoding == "gzip" else large)
    host.headers = {"Content-Encoding": encoding}

    assert unfetched(host.url) == "is larger than 64 MiB"


@pytest.mark.parametrize(
    ("headers", "message"),
    [
        ({"Content-Length": "999"}, "broke off after 2 bytes"),
        ({"Content-Encoding": "br"}, "is sent with a Content-Encoding that was not asked for, expected gzip or none"),
        (
            {"Content-Encoding": "gzip, gzip"},
            "is sent with a Content-Encoding that was not asked for, expected gzip or none",
        ),
        ({"Content-Encoding": "gzip"}, "is sent with a Content-Encoding that its content does not have"),
    ],
)
def test_a_damaged_answer_is_refused(host: Host, headers: dict[str, str], message: str) -> None:
    host.publish(b"{}")
    host.headers = headers

    assert unfetched(host.url) == message


def test_a_server_that_does_not_answer_is_not_waited_for_without_end(host: Host) -> None:
    host.goes_on.clear()

    assert unfetched(host.url, timeout=0.02) == "cannot be fetched: its server does not answer in time"


def test_a_document_that_takes_too_long_as_a_whole_is_given_up(host: Host) -> None:
    assert unfetched(host.url, whole_within=0) == "did not arrive completely in time: its server is too slow"


def test_an_answer_that_is_no_document_is_refused(host: Host) -> None:
    host.redirects = {"/shop.json": "/shop.json"}

    assert unfetched(host.url) == "is answered 302 after 5 redirects, expected 200"


def test_a_name_that_no_host_can_have_is_refused() -> None:
    assert unfetched("http://a..b/shop.json") == "cannot be fetched: UnicodeError"


def test_what_answers_but_is_no_web_server_is_refused(caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def answer() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b"-ERR wrong number of arguments\r\n")

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        assert unfetched(f"http://127.0.0.1:{listening.getsockname()[1]}/") == "cannot be fetched: BadStatusLine"
        thread.join()


def test_a_login_is_sent_to_its_own_host_and_never_logged(host: Host, caplog: pytest.LogCaptureFixture) -> None:
    host.redirects = {"/start?token=hidden": f"http://localhost:{host.port}/shop.json"}
    with caplog.at_level(logging.DEBUG):
        source = started(f"http://ann:p%40ss@127.0.0.1:{host.port}/start?token=hidden")
        host.publish(b"{")
        source.look()

    first, second = host.asked[:2]
    assert first["authorization"] == "Basic YW5uOnBAc3M="
    assert "authorization" not in second
    said = [*caplog.messages, *map(str, source.problems()), source.name, source.origin()]
    assert errors(caplog)
    assert not any(secret in line for line in said for secret in ("ann", "p%40ss", "p@ss", "hidden"))


@pytest.mark.skipif(not shutil.which("openssl"), reason="makes its certificate with openssl")
def test_a_certificate_must_be_trusted_and_https_is_not_left(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=test -days 1"
    files = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", "key.pem", "-out", "cert.pem"]
    subprocess.run([*command.split(), *files], cwd=tmp_path, check=True, capture_output=True)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    plain = host.url
    host.close()
    host.listen(0, tls)
    assert unfetched(host.url).startswith("cannot be fetched: its server's certificate is not trusted, self")

    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "cert.pem"))
    assert fetched(host.url) == host.document
    host.redirects = {"/shop.json": plain}
    assert unfetched(host.url) == "redirects from https to an address without TLS"


# Redis


@pytest.fixture(scope="module")
def redis_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    if not (command := shutil.which("redis-server") or shutil.which("valkey-server")):
        pytest.skip("needs redis-server or valkey-server")
    port = free_port()
    options = ["--bind", "127.0.0.1", "--port", str(port), "--save", "", "--requirepass", "se/cret"]
    folder = tmp_path_factory.mktemp("redis")
    with subprocess.Popen([command, *options], cwd=folder, stdout=subprocess.DEVNULL) as process:
        try:
            client = redis.Redis(port=port, password="se/cret")
            wait_until(lambda: answers(client), "the Redis server answers")
            yield port
        finally:
            process.terminate()


def answers(client: Any) -> bool:
    try:
        return bool(client.ping())
    except redis.ConnectionError:
        return False


class Publisher:
    """Publishes content in Redis, under a key of the test's own."""

    def __init__(self, port: int, key: str) -> None:
        self.client = redis.Redis(port=port, password="se/cret")
        self.key = key
        self.url = f"redis://:se%2Fcret@127.0.0.1:{port}/0?key={key}"

    def publish(self, version: str, document: object) -> None:
        self.client.hset(self.key, mapping={"version": version, "content": json.dumps(document)})

    def transfers(self) -> int:
        """How often the content itself was asked for."""
        return int(self.client.info("commandstats").get("cmdstat_hmget", {"calls": 0})["calls"])


@pytest.fixture
def publisher(redis_port: int, request: pytest.FixtureRequest) -> Publisher:
    return Publisher(redis_port, request.node.name)


def test_content_in_redis_is_served_and_sent_again_only_when_its_version_is_another(publisher: Publisher) -> None:
    publisher.publish("one", content(1))
    source = started(publisher.url)
    assert served(source) == {"v1"}
    before = publisher.transfers()
    source.look()
    assert publisher.transfers() == before
    publisher.publish("two", content(2))
    source.look()

    assert served(source) == {"v2"}
    assert "version two, " in source.origin()


def test_content_in_redis_of_another_length_is_noticed_though_its_version_is_the_same(publisher: Publisher) -> None:
    publisher.publish("one", content(1))
    source = started(publisher.url)
    publisher.publish("one", content("-two"))
    source.look()

    assert served(source) == {"v-two"}


def test_what_is_no_content_in_redis_is_refused_with_what_is_expected(publisher: Publisher) -> None:
    expected = f"expected a hash {publisher.key} with the fields version and content"
    assert refusal(publisher.url).endswith(f"key={publisher.key}: is not there: {expected}")
    publisher.client.set(publisher.key, "text")
    assert "WRONGTYPE" in refusal(publisher.url)
    publisher.client.delete(publisher.key)
    publisher.client.hset(publisher.key, mapping={"version": "1", "content": bytes(LARGEST + 1)})
    assert refusal(publisher.url).endswith("is larger than 64 MiB")
    publisher.client.delete(publisher.key)


def test_a_wrong_password_of_redis_is_said_without_it(publisher: Publisher, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        text = refusal(publisher.url.replace("se%2Fcret", "wrong"))

    assert text.startswith(f"content: redis://***@127.0.0.1:{publisher.client.get_connection_kwargs()['port']}/0?key=")
    assert not any("wrong:" in line or ":wrong" in line for line in [text, *caplog.messages])


def test_without_the_package_for_redis_the_start_is_refused_with_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "redis", None)

    assert "pip install 'ninetailed-wsgi[redis]'" in refusal("redis://127.0.0.1:1/0?key=shop")


def test_connections_that_redis_closed_are_opened_anew(publisher: Publisher, caplog: pytest.LogCaptureFixture) -> None:
    publisher.publish("one", content(1))
    source = started(publisher.url)
    publisher.client.client_kill_filter(_type="normal", skipme=True)
    publisher.publish("two", content(2))
    source.look()

    assert served(source) == {"v2"}
    assert errors(caplog) == []


# Settings and commands


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("https://cdn.example/shop.json", "https://cdn.example/shop.json"),
        ("https://ann:secret@cdn.example:8443/a?sig=secret#x", "https://***@cdn.example:8443/a?..."),
        ("https://cdn.example/@scope/shop.json", "https://cdn.example/@scope/shop.json"),
        ("rediss://ann:secret@db:6379/2?ssl_ca_certs=/ca&key=shop&x=secret", "rediss://***@db:6379/2?key=shop"),
        ("redis://:sec/ret@db/0?key=shop", "redis://***@db/0?key=shop"),
    ],
)
def test_an_address_is_shown_without_what_may_be_secret(given: str, shown: str) -> None:
    assert masked(given) == shown


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("ftp://ann:secret@h/a", "an address that begins with http://, https://, redis://, rediss://"),
        ("https://", "https://HOST[:PORT]/..."),
        ("https://ann:sec ret@h/a", "what is special in a name or password percent-encoded"),
        ("redis://:sec/ret@h/0?key=a", "what is special in a name or password percent-encoded"),
        ("redis://ann:secret@h/0", "the key of a hash: redis://HOST[:PORT]/DB?key=NAME"),
    ],
)
def test_a_wrong_address_is_refused_without_showing_its_login(given: str, expected: str) -> None:
    with pytest.raises(SettingsError) as refused:
        Settings(content=given)

    assert expected in str(refused.value)
    assert not any(secret in str(refused.value) for secret in ("secret", "sec ret", "sec/ret"))


def check(capsys: pytest.CaptureFixture[str], url: str, folder: Path) -> tuple[int, str]:
    status = main(["check", "--data-dir", str(folder), "--content", url])
    lines = capsys.readouterr().out.splitlines()
    return status, next(line for line in lines if line[6:].startswith("content"))


def test_check_shows_the_address_the_version_and_what_a_start_would_do(
    host: Host, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "data"
    digest = hashlib.sha256(host.document).hexdigest()
    status, line = check(capsys, host.url, folder)
    assert status == 0
    assert line == f'ok    content       {host.url} (document {digest[:16]}, ETag "{digest[:8]}")'
    assert not folder.exists()

    folder.mkdir(mode=0o700)
    started(host.url, folder=folder).look()
    host.publish(b"{")
    status, line = check(capsys, host.url, folder)
    assert (status, line.split()[0]) == (0, "warn")
    assert line.endswith(f"cannot be served; until it can, the copy kept in {folder} is:")

    (folder / ".shared-content").unlink()
    status, line = check(capsys, host.url, folder)
    assert (status, line.split()[0]) == (1, "fail")


def test_a_server_starts_while_the_host_is_down_and_follows_it_once_it_is_up(host: Host, tmp_path: Path) -> None:
    def flag(server: Server) -> str:
        answer = server.call("POST", PROFILES, {"events": [page("visit")]})
        return str(answer.json()["data"]["changes"][0]["value"])

    url = f"http://localhost:{host.port}/shop.json"
    settings = Settings(data_dir=tmp_path / "data", content=url, store_shards=1)
    ExperienceService.from_settings(settings).store.close()
    started(url, folder=settings.data_dir).look()
    host.close()
    with serving(tmp_path, "--workers", "1", "--content", url) as server:
        assert flag(server) == "v1"
        assert "the copy kept in" in server.printed.read_text()
        host.publish(content(2))
        host.listen(host.port)
        wait_until(lambda: flag(server) == "v2", "it serves the new version")
