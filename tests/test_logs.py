"""What the logs hold of a request, and what they never hold: traits, ids, aliases and addresses of visitors."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from support import BERLIN, Api, Server, data, error, identify, of, page, profile_path

from ninetailed_wsgi.core.names import Key
from ninetailed_wsgi.errors import InvalidData, StoreUnavailable
from ninetailed_wsgi.operations.logs import FORMATS, JsonFormat, TextFormat, hide_requests
from ninetailed_wsgi.service.imports import MAX_TRIES, Consumer
from ninetailed_wsgi.site.middleware import Ninetailed
from ninetailed_wsgi.store.disk.queue import ImportQueue
from ninetailed_wsgi.store.disk.store import DiskStore
from ninetailed_wsgi.store.protocol import Fold, OutcomeT, StoreEntry

MakeServer = Callable[..., Server]

EMAIL, TRAIT, ADDRESS = "anna.secret@example.com", "trait-that-nobody-may-read", "198.51.100.77"
PRIVATE = (EMAIL, "anna.secret", TRAIT, ADDRESS, "trait_name")
PROFILE = "/v2/organizations/{organization}/environments/{environment}/profiles/{name:path}"


class Lines:
    """What is logged at INFO and above, in both forms."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        self._caplog = caplog

    @property
    def _records(self) -> list[logging.LogRecord]:
        ours = ("ninetailed_wsgi", "gunicorn")
        return [each for each in self._caplog.records if each.name.startswith(ours) and each.levelno >= logging.INFO]

    def of(self, form: logging.Formatter) -> list[str]:
        return [form.format(record) for record in self._records]

    def hold_nothing_private(self) -> bool:
        text = "\n".join(line for form in FORMATS.values() for line in self.of(form()))
        # Other loggers' formatters print the text of exceptions, so no record may carry one.
        return not any(record.exc_info for record in self._records) and not [word for word in PRIVATE if word in text]


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Iterator[Lines]:
    with caplog.at_level(logging.DEBUG):
        yield Lines(caplog)


class Broken(DiskStore):
    """A store that fails with what a bug might say."""

    reason: Exception | None = None

    def update(self, keys: Any, fold: Fold[OutcomeT]) -> dict[Key, OutcomeT]:
        if self.reason:
            raise self.reason from KeyError(EMAIL)
        return super().update(keys, fold)

    def read(self, key: Key) -> StoreEntry:
        if self.reason:
            raise self.reason from KeyError(EMAIL)
        return super().read(key)


def requests_of_every_kind(api: Api, store: Broken) -> list[int]:
    """Requests with traits, an e-mail address as alias and an address, answered with every status; the statuses."""
    secret = identify(EMAIL, {"trait_name": TRAIT})
    headers = {"X-Force-IP": ADDRESS}

    def all_of(path: str) -> list[int]:
        return [
            api.send(path, {"events": [secret, page()]}, remote_addr=ADDRESS, headers=headers).status_code,
            api.send("/events", {"events": [of(EMAIL, secret)]}, remote_addr=ADDRESS).status_code,
            api.request("GET", path, remote_addr=ADDRESS, headers=headers).status_code,
        ]

    path = profile_path(EMAIL)
    wrong = {**secret, "channel": TRAIT, "traits": EMAIL}
    statuses = all_of(path)
    statuses += [
        api.send(path, {"events": [wrong]}, remote_addr=ADDRESS).status_code,
        api.send(path, f'{{"{EMAIL}": {TRAIT}'.encode(), remote_addr=ADDRESS).status_code,
        api.request("GET", f"/nowhere/{EMAIL}", whole_path=True, remote_addr=ADDRESS).status_code,
        api.request("PUT", path, remote_addr=ADDRESS).status_code,
        api.request("DELETE", path, remote_addr=ADDRESS).status_code,
        api.request("GET", path, remote_addr=ADDRESS).status_code,
    ]
    store.reason = RuntimeError(f"{TRAIT} of {EMAIL} at {ADDRESS}")
    statuses += all_of(path)
    store.reason = StoreUnavailable("the disk is full")
    return statuses + all_of(path)


@pytest.mark.parametrize("access_log", [False, True])
def test_no_log_line_holds_traits_aliases_or_addresses_whatever_the_answer(
    make_server: MakeServer, tmp_path: Path, lines: Lines, access_log: bool
) -> None:
    store = Broken(tmp_path / "broken", shards=2)
    api = make_server(store=store, access_log=access_log, metrics=True, rate_limit="100/day").environment()
    statuses = requests_of_every_kind(api, store)
    assert set(statuses) == {200, 400, 404, 405, 500, 503}
    assert len(lines.of(TextFormat())) >= (len(statuses) if access_log else 2)
    assert lines.hold_nothing_private()


def test_a_line_of_the_access_log_says_what_was_asked_and_how_it_went(make_server: MakeServer, lines: Lines) -> None:
    api = make_server(access_log=True).environment()
    answer = api.update_answer(EMAIL, page())
    (logged,) = [json.loads(line) for line in lines.of(JsonFormat())]
    assert 0 < logged.pop("seconds") < 30
    assert logged.pop("time").endswith("+00:00")
    assert logged.pop("process") > 0
    traceparent = answer.headers["traceparent"]
    assert logged.pop("message").startswith(f"POST {PROFILE} 200 in ")
    assert logged == {
        "level": "INFO",
        "logger": "ninetailed_wsgi.access",
        "method": "POST",
        "route": PROFILE,
        "status": 200,
        "bytes": len(answer.content),
        "traceparent": traceparent,
    }
    (text,) = lines.of(TextFormat())
    assert f"[INFO] ninetailed_wsgi.access: POST {PROFILE} 200 in 0." in text
    assert traceparent in text


def test_without_the_option_a_request_leaves_no_line(make_server: MakeServer, lines: Lines) -> None:
    api = make_server().environment()
    api.update("visitor", page())
    assert not api.knows("nobody")
    assert lines.of(TextFormat()) == []


def test_a_failure_is_logged_with_its_route_trace_class_and_place(
    make_server: MakeServer, tmp_path: Path, lines: Lines
) -> None:
    store = Broken(tmp_path / "broken", shards=2)
    store.reason = RuntimeError(TRAIT)
    answer = make_server(store=store).environment().update_answer(EMAIL, page())
    assert error(answer, 500) == "ERR_INTERNAL_SERVER_ERROR"
    (logged,) = [json.loads(line) for line in lines.of(JsonFormat())]
    assert (logged["level"], logged["route"]) == ("ERROR", PROFILE)
    assert logged["traceparent"] == answer.headers["traceparent"]
    assert "builtins.KeyError" in logged["raised"]  # the cause
    assert f'{Path(__file__).name}", line' in logged["raised"]


def test_a_page_that_is_served_without_personalization_tells_nothing_of_its_visitor(
    tmp_path: Path, lines: Lines
) -> None:
    site = Ninetailed(lambda environ, start_response: [], data_dir=tmp_path / "data")
    site.report("bug", RuntimeError(TRAIT))
    site.report("invalid", InvalidData(f'events[0].traits.trait_name: found "{EMAIL}", expected a number'))
    site.report("disk", StoreUnavailable("the disk is full"))
    said = lines.of(TextFormat())
    assert len(said) == 3
    assert "RuntimeError" in said[0]
    assert "InvalidData" in said[1]
    assert said[2].endswith("the disk is full")
    assert lines.hold_nothing_private()


def test_an_import_that_fails_tells_nothing_of_its_visitors(tmp_path: Path, lines: Lines) -> None:
    DiskStore(tmp_path, shards=1).close()
    queue = ImportQueue(tmp_path)

    def apply(number: int, batch: bytes) -> None:
        raise RuntimeError(batch.decode())

    consumer = Consumer(queue, apply)
    queue.put(orjson.dumps({"traits": TRAIT, "userId": EMAIL}))
    for _ in range(MAX_TRIES):
        consumer.drain()
    queue.close()
    assert sum("an imported batch failed" in line for line in lines.of(TextFormat())) == MAX_TRIES
    assert lines.hold_nothing_private()


def test_a_damaged_location_database_is_reported_without_the_address(make_server: MakeServer, lines: Lines) -> None:
    api = make_server().environment()
    location = api.server.service.addresses._location
    assert location is not None
    location._current.reader.close()  # as if the file were damaged: every look-up fails
    data(api.send("/profiles", {"events": [page()], "options": {"features": ["location"]}}, remote_addr=BERLIN))
    assert len(lines.of(TextFormat())) == 1
    assert BERLIN not in lines.of(TextFormat())[0]


# Forms


def raised(error: Exception) -> Any:
    try:
        raise error
    except Exception:
        return sys.exc_info()


@pytest.mark.parametrize("form", FORMATS.values())
def test_the_text_of_an_exception_is_left_out_of_whatever_logs_one(form: Callable[[], logging.Formatter]) -> None:
    record = logging.LogRecord("other", logging.ERROR, "x.py", 1, "it broke", None, raised(ValueError(EMAIL)))
    text = form().format(record)
    assert EMAIL not in text
    assert "ValueError" in text
    assert "test_logs.py" in text


@pytest.mark.parametrize(
    "said",
    [
        f"Invalid request from ip={ADDRESS}: Invalid HTTP request line: 'GE T /{EMAIL}'",
        f"Error handling request GET /profiles/{EMAIL}",
    ],
)
def test_gunicorns_own_lines_lose_address_and_path(said: str) -> None:
    record = logging.LogRecord("gunicorn.error", logging.WARNING, "x.py", 1, said, None, raised(ValueError(EMAIL)))
    assert hide_requests(record)
    text = TextFormat().format(record)
    assert not [word for word in PRIVATE if word in text]
    assert "ValueError" in text


def test_every_json_line_is_one_line_of_json() -> None:
    odd = {"route": "/\n\x00\ud800", "path": Path("/x"), "number": 2**70}
    record = logging.LogRecord("other", logging.INFO, "x.py", 1, "several\nlines %(number)d", (odd,), None)
    line = JsonFormat().format(record)
    assert "\n" not in line
    assert json.loads(line)["message"].startswith("several\nlines")
