"""Requests and content files that a fuzzer makes, guided by which of our code they reach: ``make fuzz-guided``.

Never a 500 or an exception, an answer that breaks HTTP, more than 10 seconds or 800 MB. An input is JSON:
``{"request": ...}``, ``{"page": ...}`` (of a host site) or ``{"content": ...}``; what is no JSON is the body of a
request. One that fails is kept in ``fuzz-findings/``, and ``python tests/fuzz/guided.py FILE`` runs it again.
"""

from __future__ import annotations

import copy
import io
import json
import logging
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import atheris

with atheris.instrument_imports(include=["ninetailed_wsgi"], enable_loader_override=False):
    from ninetailed_wsgi import Ninetailed
    from ninetailed_wsgi.api.app import api
    from ninetailed_wsgi.content import ContentFolder
    from ninetailed_wsgi.errors import SettingsError
    from ninetailed_wsgi.service.service import ExperienceService
    from ninetailed_wsgi.settings import Settings
    from ninetailed_wsgi.store.disk.store import DiskStore
    from ninetailed_wsgi.store.overlay import Overlay

ROOT = Path(__file__).parent.parent.parent
SPACES = ROOT / "fixtures" / "spaces"
PREFIX = "/v2/organizations/acme/environments/main"
RENEWED_AFTER = 5_000  # runs, so that the data folder stays small

HOSTILE: list[Any] = [
    None, True, -1, 0, 2**63, 2**64, 1e308, -1e308, 1e-320, float("inf"), float("nan"), "", " ", "\0", "\r\nX: y",
    "a/b", "../../../etc/passwd", "%2e%2e%2f", "\ud800", "\ufeff", "é", "💥", "x" * 70_000, "1" * 70_000 + "x",
    "a-" * 5_000, '"' * 5_000, "\\" * 5_000, "(a+)+$", "(?P<n>x){1000}", "1e400", "9" * 5_000, "2024-13-45T99:99:99Z",
    "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", [], {}, [[]] * 1_000, {"": ""}, [None] * 300,
]  # fmt: skip
KNOWN = """
    type traits userId messageId context location page query properties rules any all conditions key value operator
    count traffic distribution components variants nt_config nt_rules sys fields items entries includes matches identify
    track component days X-Force-IP X-Forwarded-For Forwarded traceparent Content-Type Cookie
""".split()


class Parties:
    """An app, a site with the middleware, and a service for content, over one data folder."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
        options: dict[str, Any] = {"trusted_proxies": "127.0.0.0/8", "explain": True, "store_shards": 1}
        options |= {"data_dir": self.folder / "data", "content": SPACES / "shop.json"}
        self.settings = Settings(access="open", **options, geoip_database=ROOT / "fixtures" / "geo" / "demo.mmdb")
        self.service = ExperienceService.from_settings(self.settings)
        self.api = api(self.service, self.settings)
        self.site = Ninetailed(self._page, self.settings, service=self.service, time_budget_ms=9_000)
        self.store = self.service.store
        self.runs = 0

    def close(self) -> None:
        if isinstance(self.store, DiskStore):
            self.store.close()
        shutil.rmtree(self.folder)

    @staticmethod
    def _page(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        visitor = environ["ninetailed.visitor"]
        visitor.page()
        visitor.track(str(environ.get("HTTP_X_EVENT", "seen")))
        visitor.handoff()
        start_response("200 OK", [])
        return [visitor.profile["id"].encode("utf-8", "surrogatepass")]


_parties: list[Parties] = []


def parties() -> Parties:
    if _parties and _parties[0].runs >= RENEWED_AFTER:
        _parties.pop().close()
    if not _parties:
        _parties.append(Parties())
    _parties[0].runs += 1
    return _parties[0]


def call(app: Callable[..., Any], environ: dict[str, Any]) -> None:
    started: list[tuple[str, list[tuple[str, str]]]] = []
    answer = b"".join(app(environ, lambda status, headers, exc_info=None: started.append((status, headers))))
    [(status, headers)] = started
    assert int(status[:3]) < 500, f"{status}: {answer[:2000]!r}"
    for name, value in [("status", status), *headers]:
        assert type(name) is str
        assert type(value) is str
        assert (name + value).isprintable(), f"{name}: {value!r}"
        value.encode("latin-1")


def environ_of(given: dict[str, Any]) -> dict[str, Any]:
    """A WSGI environ as a server makes one of what came over a socket: each text is Latin-1, without line breaks."""
    body = given.get("body")
    raw = b"" if body is None else body.encode("utf-8", "surrogatepass") if isinstance(body, str) else as_json(body)
    environ: dict[str, Any] = {
        "REQUEST_METHOD": _line(given.get("method", "POST"))[:20] or "GET",
        "SCRIPT_NAME": "",
        "PATH_INFO": PREFIX + _line(given.get("path", "/profiles")),
        "QUERY_STRING": _line(given.get("query", "")),
        "SERVER_PROTOCOL": "HTTP/1.1",
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "80",
        "REMOTE_ADDR": _line(given.get("address", "127.0.0.1")),
        "CONTENT_LENGTH": str(len(raw)),
        "wsgi.input": io.BytesIO(raw),
        "wsgi.errors": sys.stderr,
        "wsgi.url_scheme": "http",
    }
    headers = given.get("headers")
    for name, value in headers.items() if isinstance(headers, dict) else ():
        name = "".join(letter for letter in _line(name).upper() if letter.isalnum() or letter == "-").replace("-", "_")
        environ[name if name in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{name}"] = _line(value)
    return environ


def _line(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text.encode("utf-8", "surrogatepass").decode("latin-1").translate({0: "", 10: "", 13: ""})


def as_json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")


def try_content(here: Parties, content: Any, events: Any) -> None:
    """Content is refused with its problems, or decides about a visitor."""
    file = here.folder / "content.json"
    file.write_bytes(content.encode("utf-8", "surrogatepass") if isinstance(content, str) else as_json(content))
    source = ContentFolder(file)
    try:
        source.load()
    except SettingsError:
        return
    service = ExperienceService(store=Overlay(here.store), content=source)
    where = service.environment("acme", "main")
    service.upsert(where, "visitor", {"events": events if isinstance(events, list) and events else EVENTS})
    service.explain(where, "visitor")


def one_input(data: bytes) -> None:
    here = parties()
    try:
        given = json.loads(data)
    except (ValueError, RecursionError):
        given = {"request": {"body": data.decode("latin-1")}}
    if not isinstance(given, dict):
        given = {"request": {"body": given}}
    for kind, app in (("request", here.api), ("page", here.site)):
        if isinstance(given.get(kind), dict):
            environ = environ_of(given[kind])
            environ["PATH_INFO"] = (
                environ["PATH_INFO"] if kind == "request" else environ["PATH_INFO"][len(PREFIX) :] or "/"
            )
            if kind == "page" and environ["PATH_INFO"].startswith("/ninetailed"):
                environ["PATH_INFO"] = "/"
            call(app, environ)
    if "content" in given:
        try_content(here, given["content"], EVENTS)


# Inputs from other inputs


def mutated(data: bytes, most: int, seed: int) -> bytes:
    """Change a node of the JSON as often as some bytes."""
    chance = random.Random(seed)
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict | list) or chance.random() < 0.2:
        return bytes(atheris.Mutate(data, most))
    for _ in range(chance.choice((1, 1, 1, 2, 5))):
        _change(document, chance)
    try:
        changed = json.dumps(document).encode()
    except RecursionError:
        return data
    return changed if len(changed) <= most else data


def _change(document: Any, chance: random.Random) -> None:
    holders = [holder for holder in _holders(document) if holder]
    if not holders:
        return
    holder = chance.choice(holders)
    place: Any = chance.choice(list(holder)) if isinstance(holder, dict) else chance.randrange(len(holder))
    other = chance.choice(holders)
    # Copies: nothing may hold itself, and a later change may not reach the list of hostile values.
    value = copy.deepcopy(chance.choice(list(other.values()) if isinstance(other, dict) else other))
    hostile = copy.deepcopy(chance.choice(HOSTILE))
    match chance.randrange(6):
        case 0:
            holder[place] = hostile
        case 1:
            holder[place] = value
        case 2 if isinstance(holder, dict):
            holder[chance.choice(KNOWN)] = chance.choice([hostile, value])
        case 3 if isinstance(holder[place], str):
            text = bytes(atheris.Mutate(holder[place].encode("utf-8", "surrogatepass"), 200))
            holder[place] = text.decode("utf-8", "replace")
        case 4 if isinstance(holder, list):
            holder.insert(place, value)
        case 5:
            del holder[place]
        case _:
            holder[place] = chance.choice(KNOWN)


def _holders(node: Any) -> Iterator[Any]:
    if isinstance(node, dict | list):
        yield node
        for child in list(node.values() if isinstance(node, dict) else node)[:50]:
            yield from _holders(child)


def _event(kind: str, **members: Any) -> dict[str, Any]:
    context = {
        "library": {"name": "sdk", "version": "3.1.0"},
        "page": {"path": "/pricing", "query": {"a": "b"}, "url": "/"},
        "campaign": {"name": "c"},
        "location": {"city": "Bern"},
        "userAgent": "Mozilla/5.0 (iPad)",
    }
    return {"type": kind, "channel": "web", "messageId": kind, "context": context, "anonymousId": "visitor", **members}


_SEEN = {
    "path": "/pricing",
    "query": {"a": "1"},
    "referrer": "",
    "search": "?a=1",
    "url": "https://shop.example/pricing",
}
EVENTS = [
    _event("page", properties=_SEEN, timestamp="2024-05-06T07:00:00Z"),
    _event("track", event="bought", properties={"price": "12.50", "many": [1, "2", None]}),
    _event("identify", userId="user", traits={"plan": "gold", "age": "42", "nested": {"deep": [1]}}),
    _event("component", componentId="hero", experienceId="e", variantIndex=1),
]


def seeds() -> list[Any]:
    headers = {
        "Content-Type": "text/plain; charset=utf-8",
        "X-Force-IP": "192.0.2.7",
        "X-Forwarded-For": "203.0.113.9, 127.0.0.1",
        "Forwarded": 'for="[2001:db8::1]:443";proto=https, for=127.0.0.1',
        "Origin": "https://shop.example",
        "Cookie": "ntaid=abc",
        "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "Accept-Language": "de-AT,en;q=0.5",
    }
    body = {"events": EVENTS, "options": {"features": ["location"]}}
    paths = ["/profiles", "/profiles/visitor", "/events", "/import/events", "/profiles/visitor/explain"]
    found: list[Any] = [
        {"request": {"path": path, "query": "locale=de", "headers": headers, "body": body}} for path in paths
    ]
    found += [{"request": {"method": method, "path": "/profiles/a%2Fb", "headers": {}}} for method in ("GET", "DELETE")]
    found += [{"page": {"method": "GET", "path": "/pricing", "query": "a=b", "headers": headers}}]
    contents = [file for file in sorted(SPACES.glob("*.json")) if file.stat().st_size < 60_000]
    found += [{"content": json.loads(file.read_bytes())} for file in contents]
    for file in sorted((ROOT / "fixtures" / "cases" / "audiences").glob("*.json")):
        found += [{"content": case["content"]} for case in json.loads(file.read_bytes())["cases"][:6]]
    return found


def main() -> None:
    logging.disable(logging.CRITICAL)
    arguments = sys.argv[1:]
    if arguments and not arguments[0].startswith("-"):
        for file in arguments:
            one_input(Path(file).read_bytes())
        return
    findings = ROOT / "fuzz-findings"
    findings.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="fuzz-corpus-") as corpus:
        for number, seed in enumerate(seeds()):
            Path(corpus, str(number)).write_bytes(json.dumps(seed).encode())
        limits = ["-timeout=10", "-rss_limit_mb=800", "-max_len=200000", f"-artifact_prefix={findings}/"]
        atheris.Setup([sys.argv[0], *limits, *arguments, corpus], one_input, custom_mutator=mutated)
        atheris.Fuzz()


if __name__ == "__main__":
    began = time.monotonic()
    try:
        main()
    finally:
        sys.stderr.write(f"{time.monotonic() - began:.0f} s, process {os.getpid()}\n")
