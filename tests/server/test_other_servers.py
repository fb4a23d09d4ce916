"""The same statements hold under gunicorn, waitress, Python's own server, and werkzeug's check of the WSGI rules."""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from werkzeug.middleware.lint import LintMiddleware
from werkzeug.test import Client, EnvironBuilder

from ninetailed_wsgi import create_app
from tests.serving import PREFIX, PROFILES, Answer, page, running, serving, track

Call = Callable[..., Answer]

LIMIT = 100_000  # bytes of a body


@pytest.fixture(scope="module", params=["gunicorn", "waitress", "wsgiref", "lint"])
def call(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Call]:
    """Sends a request and gives the answer: ``call(method, path, body, headers)``."""
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "gunicorn":
        with serving(folder, "--max-body-bytes", str(LIMIT)) as server:
            yield server.call
    elif request.param == "lint":
        yield linted(folder)
    else:
        script = Path(__file__).with_name("other_server.py")
        with running([sys.executable, str(script), request.param, str(folder / "data")], folder) as server:
            yield server.call


def linted(folder: Path) -> Call:
    client = Client(LintMiddleware(create_app(data_dir=folder / "data", max_body_bytes=LIMIT)))

    def call(method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None) -> Answer:
        sent = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        given = {"Content-Type": "application/json", **(headers or {})}
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            # RFC 9110, sections 8.6 and 9.3.2: a 204 has no Content-Length, and that of a HEAD is the one of its GET.
            warnings.filterwarnings("ignore", "204 responses must have an empty content length")
            if method == "HEAD":
                warnings.filterwarnings("ignore", "Content-Length and the number of bytes sent")
            with client.open(EnvironBuilder(path=path, method=method, data=sent, headers=given)) as response:
                raw = response.get_data()
        return Answer(response.status_code, {name.lower(): value for name, value in response.headers}, raw)

    return call


def test_a_profile_is_created_updated_read_and_deleted(call: Call) -> None:
    created = call("POST", PROFILES, {"events": [page("first", "/tea")]})
    assert created.status == 200
    answer = created.json()
    assert (answer["error"], answer["message"]) == (None, "ok")
    profile = answer["data"]["profile"]
    assert profile["session"]["landingPage"]["path"] == "/tea"
    path = f"{PROFILES}/{profile['id']}"
    identify = {**track("second"), "type": "identify", "userId": "", "traits": {"name": "Zoë"}}
    updated = call("POST", path, {"events": [identify]}).json()["data"]["profile"]
    assert (updated["id"], updated["traits"]) == (profile["id"], {"name": "Zoë"})
    assert call("GET", path).json()["data"]["profile"] == updated
    assert call("DELETE", path).json()["data"] == {}
    assert call("GET", path).status == 404


@pytest.mark.parametrize("name", ["a b", "jane@shop.example", "Zoë", "狐狸", "a/b", "a%2Fb", "..", "100%", "?x=1#y"])
def test_an_id_of_any_characters_is_the_same_in_the_path_and_in_the_answer(call: Call, name: str) -> None:
    path = f"{PROFILES}/{quote(name, safe='')}"
    assert call("POST", path, {"events": [page("first")]}).json()["data"]["profile"]["id"] == name
    assert call("GET", path).json()["data"]["profile"]["id"] == name


def test_a_batch_answers_a_profile_for_each_visitor(call: Call) -> None:
    events = [{**track(f"message-{index}"), "anonymousId": f"visitor-{index % 3}"} for index in range(200)]
    answer = call("POST", PREFIX + "/events", {"events": events})
    assert answer.status == 200
    profiles = answer.json()["data"]["profiles"]
    assert [profile["id"] for profile in profiles] == ["visitor-0", "visitor-1", "visitor-2"]


def test_plain_text_is_read_as_json(call: Call) -> None:
    headers = {"Content-Type": "text/plain;charset=UTF-8"}
    assert call("POST", PROFILES, {"events": [page("first")]}, headers).status == 200


def test_a_preflight_stores_nothing(call: Call) -> None:
    answer = call("POST", PROFILES + "?type=preflight&locale=de", {"events": [page("first")]})
    assert answer.status == 200
    assert call("GET", f"{PROFILES}/{answer.json()['data']['profile']['id']}").status == 404


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "body: "),
        (b"{", "body: "),
        (b"\xff", "body: "),
        (b"[]", "body: "),
        (b'{"events": []}', "events: "),
        (json.dumps({"events": [{**page("first"), "messageId": 5}]}).encode(), "events[0].messageId: found the number"),
    ],
)
def test_a_body_that_is_no_valid_request_is_400_and_says_where(call: Call, body: bytes, message: str) -> None:
    answer = call("POST", PROFILES, body)
    assert answer.status == 400
    assert answer.json()["message"].startswith(message)
    assert answer.json()["data"] == {}
    assert answer.json()["error"] == {"code": "ERR_INVALID_DATA"}


def test_a_body_over_the_limit_is_413(call: Call) -> None:
    answer = call("POST", PROFILES, b" " * (LIMIT + 1))
    assert answer.status == 413
    assert answer.json()["message"] == f"body: found {LIMIT + 1} bytes, expected at most {LIMIT}"


def test_a_body_of_exactly_the_limit_is_read(call: Call) -> None:
    body = json.dumps({"events": [page("first")]}).encode()
    assert call("POST", PROFILES, body + b" " * (LIMIT - len(body))).status == 200


def test_an_unknown_route_is_404_and_a_wrong_method_405_in_the_envelope(call: Call) -> None:
    unknown = call("GET", PREFIX + "/nowhere")
    wrong = call("PUT", PROFILES, {"events": []})
    assert (unknown.status, wrong.status) == (404, 405)
    assert set(unknown.json()) == set(wrong.json()) == {"message", "data", "error"}


def test_a_browser_may_ask_and_gets_no_body(call: Call) -> None:
    answer = call("OPTIONS", PROFILES, None, {"Origin": "https://shop.example"})
    assert (answer.status, answer.body) == (204, b"")
    assert answer.headers["access-control-allow-origin"] == "*"
    assert "content-type" not in answer.headers


def test_head_answers_the_headers_of_get_without_a_body(call: Call) -> None:
    answer = call("HEAD", "/health/live")
    assert (answer.status, answer.body) == (200, b"")


def test_every_answer_carries_a_trace_of_the_request(call: Call) -> None:
    trace = "0af7651916cd43dd8448eb211c80319c"
    for path in (PROFILES + "/nobody", "/nowhere", "/health/live"):
        answer = call("GET", path, None, {"traceparent": f"00-{trace}-b7ad6b7169203331-01"})
        assert answer.headers["traceparent"].split("-")[1] == trace


def test_the_openapi_document_is_served(call: Call) -> None:
    assert call("GET", "/openapi.json").json()["openapi"].startswith("3.1")
