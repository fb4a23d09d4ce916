"""What answers tell strangers: what is wrong with their request, and nothing about how this server is set up."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support import identify, page

from ninetailed_wsgi import errors, settings
from ninetailed_wsgi.service.keys import SCOPES
from ninetailed_wsgi.testing import Answer, Client, Harness, audience, experience, trait
from tests.tables import check_each

PACKAGE = Path(settings.__file__).parents[1]
ROOMS = ("api", "core", "enrichment", "insights", "server", "service", "site", "store")

OPTIONS = [name for name in settings.Settings.__dataclass_fields__ if "_" in name]
HINTS = re.compile(
    r"--[a-z]|\bserve\b --|ninetailed-wsgi|ninetailed_wsgi|pip install|\bscopes?\b|gunicorn|granian|falcon|[Tt]raceback"
    rf"|\.(?:py|json|key|db)\b|/(?:tmp|etc|var|srv|home|work)/|\b(?:{'|'.join(OPTIONS)})\b"
)
"""What strangers must not read: options, commands, scopes, modules, paths."""

REASONED = {name for name, error in vars(errors).items() if getattr(error, "status", 0) == 503} | {"SettingsError"}
"""Errors whose text only the log and admins get; see test_reasons.py. Errors of options end the startup."""

ERRORS = {name for name, error in vars(errors).items() if isinstance(error, type)} - REASONED

FOR_KEYS = {
    ("service/access.py", "Forbidden"): "the holder of a valid key, whose scope is missing",
    ("api/inspector/viewers.py", "Forbidden"): "the form asks for such a key, whatever the server is like",
    ("service/previews.py", "InvalidData"): "a person who may preview",
    ("api/resources.py", "RouteNotFound"): "a caller with an admin key, who asks for results",
}
"""Where errors name a scope or an option, and who reads them."""


def texts(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """The class and the literal parts of every error that a module raises or makes for an answer."""
    for call in ast.walk(tree):
        if not isinstance(call, ast.Call):
            continue
        name = call.func.id if isinstance(call.func, ast.Name) else ""
        if name in ERRORS or name in ("_ContextError", "_problem"):
            for part in ast.walk(call):
                if isinstance(part, ast.Constant) and isinstance(part.value, str):
                    yield name, part.value


def test_no_error_that_the_code_raises_for_a_request_names_an_option_a_scope_or_a_file() -> None:
    every = {
        (file.relative_to(PACKAGE).as_posix(), name, text)
        for room in ROOMS
        for file in sorted((PACKAGE / room).rglob("*.py"))
        for name, text in texts(ast.parse(file.read_text(encoding="utf-8")))
    }
    assert len(every) > 40
    assert {each for each in every if HINTS.search(each[2]) and each[:2] not in FOR_KEYS} == set()


def requests(prefix: str, id: str) -> Iterable[tuple[str, str, Any, dict[str, str]]]:
    """What a stranger may try: all routes, all methods, wrong bodies, foreign origins, keys that nobody made."""
    nobody = {"Authorization": "Bearer nt_nobody"}
    spaces = prefix.replace("v2/organizations", "v3/spaces")
    other = prefix.replace("/main", "/other")
    foreign = {"Origin": "https://evil.example"}
    bodies = ({"events": []}, {"events": [page()]}, [], b"", b"{", b"\xff", {"events": [{"type": "page"}]})
    paths = ["/profiles", f"/profiles/{id}", "/profiles/anna", "/profiles/", f"/profiles/{id}/explain", "/events"]
    paths += ["/import/events", "/experiences/e1/results", "/preview/entries", "/preview/entries?content=odd"]
    paths += ["/ofrep/v1/evaluate/flags", "/ofrep/v1/evaluate/flags/x", "/odd"]
    roots = ["/health/live", "/health/ready", "/metrics", "/openapi.json", "/content/refresh", "/odd", "/"]
    roots += [
        f"/inspector/{name}.json" for name in ("find", "state", "live", f"visitors/{id}", "experiences/e1", "odd")
    ]
    for method in ("GET", "POST", "DELETE", "PUT", "HEAD", "OPTIONS"):
        for path in [
            f"{each}{path}" for each in (prefix, spaces, other, spaces.replace("/main", "/joined")) for path in paths
        ]:
            for headers in ({}, nobody, foreign):
                yield method, path, {"events": [page()]} if method == "POST" else None, headers
        for path in roots:
            for headers in ({}, nobody, foreign, {"X-Ninetailed-Webhook-Secret": "x"}):
                yield method, path, None, headers
    for path in ("/profiles", f"/profiles/{id}", "/events", "/ofrep/v1/evaluate/flags", "/profiles?type=odd"):
        for body in bodies:
            yield "POST", prefix + path, body, {}
        yield "POST", prefix + path, b"{}", {"Content-Encoding": "gzip"}
        yield "POST", prefix + path, b"{}", {"Content-Length": "x"}
        yield "POST", prefix + path, b" " * 2_000_000, {}
    yield "POST", f"{prefix}/profiles/{'x' * 2000}", {"events": [page()]}, {}
    yield "GET", prefix + "/profiles/%FF", None, {}
    yield "GET", "/health/live", None, {"Host": "rebound.example"}


@pytest.fixture(params=["app", "mount"])
def stranger(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Client, str, str]]:
    """An API that is set up in an odd way, with a client that has no key."""
    rich = audience(trait("plan", "pro"), name="rich")
    secret = tmp_path / "webhook-secret"
    secret.write_text("s" * 40)
    odd = {
        "spaces": "default/joined=hidden-org/hidden-env",
        "inspector": True,
        "metrics": True,
        "rate_limit": "900/day",
    }
    odd |= {"contentful_webhook_secret_file": str(secret), "new_profiles_per_minute": "3"}
    with Harness([rich, experience("hero", ["hero-b"], audience=rich, id="e1")], access="guarded", **odd) as harness:
        client, before = harness.client, ""
        id = client.post("/profiles", {"events": [identify("", {"plan": "pro"})]}).document["data"]["profile"]["id"]
        if request.param == "mount":
            client, before = Client(harness.mount(lambda environ, start: [], prefix="/api")), "/api"
        yield client, before + harness.client.prefix, id


def test_no_answer_to_a_stranger_tells_how_the_server_is_set_up(stranger: tuple[Client, str, str]) -> None:
    client, prefix, id = stranger
    before = prefix[: prefix.index("/v2/")]
    statuses = set()

    def check(request: tuple[str, str, Any, dict[str, str]]) -> None:
        method, path, body, headers = request
        full = path if path.startswith(before) else before + path
        answer: Answer = client.call(method, full, body, headers=headers)
        statuses.add(answer.status)
        if answer.status < 400:
            return
        told = answer.body.decode().replace(path.partition("?")[0], "").replace(id, "")
        assert HINTS.search(told) is None, answer.body
        assert not re.search("hidden-|sssss|rich", told), answer.body

    check_each(
        [
            (f"{method} {path} {headers}", (method, path, body, headers))
            for method, path, body, headers in requests(prefix, id)
        ],
        check,
    )
    assert statuses >= {403, 404}


def test_a_refused_origin_or_host_is_explained_in_the_log_once(caplog: pytest.LogCaptureFixture) -> None:
    with Harness(access="guarded") as guarded, Harness() as local:
        for _ in range(3):
            guarded.client.post("/profiles", {"events": []}, headers={"Origin": "https://e\x1bvil.example"})
            local.client.post("/profiles", {"events": []}, headers={"Host": "rebound\u202e.example" + "x" * 9000})
    texts = [record.getMessage() for record in caplog.records]
    assert len(texts) == 2
    for text, parts in zip(
        texts,
        (("'https://e\\x1bvil.example'", "--cors-origins"), ("'rebound\\u202e.example", "--access guarded")),
        strict=True,
    ):
        assert all(part in text for part in parts), text
    assert max(map(len, texts)) < 400


def test_all_scopes_are_hints() -> None:
    assert all(HINTS.search(f"this key lacks the scope {scope}") for scope in SCOPES)
