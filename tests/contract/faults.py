"""Servers with one fault each: the API behind a WSGI wrapper that does one thing wrong."""

from __future__ import annotations

import io
import itertools
import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, TypeAlias
from urllib.parse import parse_qs
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

PREFLIGHT = "type=preflight"
_BATCHES = ("/events", "/import/events")


@dataclass(frozen=True)
class Request:
    """A request as it came; ``path`` is what follows the environment."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: Any

    @property
    def name(self) -> str:
        """The profile in the path; empty where there is none."""
        return self.path.removeprefix("/profiles/") if self.path.startswith("/profiles/") else ""

    @property
    def events(self) -> list[Any]:
        events = self.body.get("events") if isinstance(self.body, dict) else None
        return events if isinstance(events, list) else []

    def with_events(self, events: Iterable[Any]) -> Request:
        return replace(self, body={**self.body, "events": [*events]})


@dataclass(frozen=True)
class Reply:
    """What is answered; ``body`` is JSON, or None for nothing."""

    status: int
    headers: dict[str, str]
    body: Any

    @property
    def ok(self) -> bool:
        return self.status == 200

    def with_headers(self, **changed: str | None) -> Reply:
        """With other values; None: without the header."""
        headers = {**self.headers, **{name.replace("_", "-"): value for name, value in changed.items()}}
        return replace(self, headers={name: value for name, value in headers.items() if value is not None})


Ask: TypeAlias = Callable[[Request], Reply]
Fault: TypeAlias = Callable[[Ask], Ask]


def with_fault(app: WSGIApplication, fault: Fault) -> WSGIApplication:
    """The app with a fault between it and whoever asks."""

    def broken(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        raw = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        came = _request(environ, raw)
        inner: Ask = lambda request: _asked(app, environ, request, raw)  # noqa: E731
        # What the server claims stays readable.
        answer = (inner if came.path == "/openapi.json" else fault(inner))(came)
        body = b"" if answer.body is None else json.dumps(answer.body).encode()
        headers = [(name, value) for name, value in answer.headers.items() if name != "content-length"]
        start_response(f"{answer.status} -", [*headers, ("content-length", str(len(body)))])
        return [body]

    return broken


def _request(environ: WSGIEnvironment, raw: bytes) -> Request:
    path = re.sub("^/v2/organizations/[^/]+/environments/[^/]+", "", environ["PATH_INFO"])
    headers = {name[5:].lower().replace("_", "-"): value for name, value in environ.items() if name.startswith("HTTP_")}
    headers["content-type"] = environ.get("CONTENT_TYPE", "")
    return Request(environ["REQUEST_METHOD"], path, environ.get("QUERY_STRING", ""), headers, _json(raw))


def _json(raw: bytes) -> Any:
    try:
        return json.loads(raw)
    except ValueError:
        return None


def _asked(app: WSGIApplication, environ: WSGIEnvironment, request: Request, raw: bytes) -> Reply:
    """What the API answers to a request that may be another than the one that came."""
    asked = _request(environ, raw)
    sent = raw if request.body == asked.body else json.dumps(request.body).encode()
    before = environ["PATH_INFO"].removesuffix(asked.path)
    started: list[Any] = []
    inner = {
        **environ,
        "REQUEST_METHOD": request.method,
        "PATH_INFO": before + request.path,
        "QUERY_STRING": request.query,
        "CONTENT_LENGTH": str(len(sent)),
        "wsgi.input": io.BytesIO(sent),
    }
    body = b"".join(app(inner, lambda status, headers, _=None: started.extend((status, headers))))
    headers = {name.lower(): value for name, value in started[1]}
    return Reply(int(started[0].split()[0]), headers, _json(body) if body else None)


# The faults. Each is named for what a person would say is wrong with the server.


def in_answer(change: Callable[[Request, Reply], Reply]) -> Fault:
    """A fault that only spoils answers."""
    return lambda ask: lambda request: change(request, ask(request))


def in_request(change: Callable[[Request], Request]) -> Fault:
    """A fault that only misreads requests."""
    return lambda ask: lambda request: ask(change(request))


def refusing(when: Callable[[Request], bool], status: int = 400) -> Fault:
    """A fault that refuses what should be accepted."""
    body = {"message": "refused", "data": {}, "error": {"code": "ERR_INVALID_DATA"}}
    return in_answer(lambda request, reply: replace(reply, status=status, body=body) if when(request) else reply)


def _in_success(**members: Any) -> Fault:
    return in_answer(lambda request, reply: replace(reply, body={**reply.body, **members}) if reply.ok else reply)


def _in_data(change: Callable[[dict[str, Any]], None]) -> Fault:
    def changed(request: Request, reply: Reply) -> Reply:
        if reply.ok and reply.body["data"]:
            change(reply.body["data"])
        return reply

    return in_answer(changed)


def _null_member(data: dict[str, Any]) -> None:
    for profile in data.get("profiles", [data.get("profile")]):
        profile["location"].setdefault("city", None)


def _without_changes(data: dict[str, Any]) -> None:
    data.pop("changes", None)


def _other_random() -> Fault:
    numbers = itertools.count()

    def change(data: dict[str, Any]) -> None:
        for profile in data.get("profiles", [data.get("profile")]):
            profile["random"] = next(numbers) / 1e9

    return _in_data(change)


def _no_upsert(ask: Ask) -> Ask:
    def asked(request: Request) -> Reply:
        if request.method == "POST" and request.name:
            known = ask(replace(request, method="GET", query="", body=None))
            if not known.ok:
                return known
        return ask(request)

    return asked


def _aliases_forgotten(ask: Ask) -> Ask:
    def asked(request: Request) -> Reply:
        reply = ask(request)
        if (
            request.method == "GET"
            and request.name
            and reply.ok
            and reply.body["data"]["profile"]["id"] != request.name
        ):
            return ask(replace(request, path="/profiles/nobody"))
        return reply

    return asked


def _delete_leaves_aliases() -> Fault:
    kept: dict[str, Reply] = {}

    def spoilt(ask: Ask) -> Ask:
        def asked(request: Request) -> Reply:
            reply = ask(request)
            for user_id in (event.get("userId") for event in request.events if isinstance(event, dict)):
                if reply.ok and user_id and PREFLIGHT not in request.query and request.name != user_id:
                    kept[str(user_id)] = reply
            return (
                kept[request.name]
                if request.method == "GET" and reply.status == 404 and request.name in kept
                else reply
            )

        return asked

    return spoilt


def _seen_anew() -> Fault:
    numbers = itertools.count()

    def change(request: Request) -> Request:
        events = [
            {**event, "messageId": f"{next(numbers)}"} if isinstance(event, dict) and event.get("messageId") else event
            for event in request.events
        ]
        return request.with_events(events) if events else request

    return in_request(change)


def _stores_the_valid_rest(ask: Ask) -> Ask:
    def asked(request: Request) -> Reply:
        reply = ask(request)
        if reply.status == 400 and request.method == "POST":
            for event in request.events:
                ask(request.with_events([event]))
        return reply

    return asked


def _cut_to(limit: int, kind: str | None = None) -> Fault:
    """Takes what is one over the limit, by leaving out what is behind it."""

    def change(request: Request) -> Request:
        of_kind = [event for event in request.events if isinstance(event, dict) and kind in (None, event.get("type"))]
        return request.with_events(of_kind[:limit]) if len(of_kind) == limit + 1 else request

    return in_request(change)


def _more_profiles(request: Request) -> Request:
    names = {event.get("anonymousId") for event in request.events if isinstance(event, dict)}
    return request.with_events(request.events[:50]) if len(names) == 51 else request


def _names(request: Request) -> int:
    return len({event.get("anonymousId") for event in request.events if request.path in _BATCHES})


def _identifies(request: Request) -> int:
    return sum(event.get("type") == "identify" for event in request.events if isinstance(event, dict))


def _other_type(request: Request) -> Request:
    return (
        replace(request, query="") if parse_qs(request.query).get("type", ["preflight"]) != ["preflight"] else request
    )


def _status(found: int, given: int) -> Fault:
    return in_answer(lambda request, reply: replace(reply, status=given) if reply.status == found else reply)


def _other_envelope(request: Request, reply: Reply) -> Reply:
    return replace(reply, body={"title": "404 Not Found"}) if reply.status == 404 else reply


def _import_answers(request: Request, reply: Reply) -> Reply:
    return (
        replace(reply, body={**reply.body, "data": {"profiles": []}})
        if reply.ok and "import" in request.path
        else reply
    )


def _batch_answers_experiences(request: Request, reply: Reply) -> Reply:
    if reply.ok and request.path == "/events":
        reply.body["data"] |= {"experiences": [], "changes": []}
    return reply


def _no_delete_from_pages(request: Request, reply: Reply) -> Reply:
    asked = request.method == "OPTIONS"
    return reply.with_headers(access_control_allow_methods="GET, POST") if asked else reply


def _type_is(*types: str) -> Callable[[Request], bool]:
    return lambda request: request.method == "POST" and request.headers["content-type"].lower() in types


FAULTS: dict[str, tuple[Fault, str]] = {
    # what is wrong: (the fault, a case that has to notice)
    "an error object on success": (_in_success(error={}), "envelope-create"),
    "another message on success": (_in_success(message="done"), "envelope-get"),
    "a further member in the envelope": (_in_success(status=200), "envelope-delete"),
    "changes missing": (_in_data(_without_changes), "envelope-update"),
    "a null location member": (_in_data(_null_member), "profiles-features"),
    "another random each time": (_other_random(), "profiles-create"),
    "no CORS header": (
        in_answer(lambda request, reply: reply.with_headers(access_control_allow_origin=None)),
        "cors-read-create",
    ),
    "no leave to delete from pages": (in_answer(_no_delete_from_pages), "cors-leave-profile"),
    "traceparent hidden from pages": (
        in_answer(lambda request, reply: reply.with_headers(access_control_expose_headers=None)),
        "cors-read-refusal",
    ),
    "no traceparent": (in_answer(lambda request, reply: reply.with_headers(traceparent=None)), "trace-profile"),
    "404 on an unknown POST": (_no_upsert, "profiles-upsert"),
    "a preflight that stores": (in_request(lambda request: replace(request, query="")), "preflight-update"),
    "200 for an unknown type": (in_request(_other_type), "preflight-other-type"),
    "199 events at most": (refusing(lambda request: len(request.events) >= 200), "limits-update-events"),
    "201 events at most": (_cut_to(200), "limits-create-events-more"),
    "49 identify events at most": (refusing(lambda request: _identifies(request) >= 50), "limits-batch-identify"),
    "51 identify events at most": (_cut_to(50, "identify"), "limits-update-identify-more"),
    "49 profiles at most": (refusing(lambda request: _names(request) >= 50), "limits-batch-profiles"),
    "51 profiles at most": (in_request(_more_profiles), "limits-import-profiles-more"),
    "text/plain refused": (refusing(_type_is("text/plain"), 415), "media-text"),
    "a charset refused": (refusing(_type_is("text/plain;charset=utf-8"), 415), "media-text-charset"),
    "aliases not followed": (_aliases_forgotten, "profiles-alias"),
    "a deletion that leaves the alias": (_delete_leaves_aliases(), "profiles-delete-alias"),
    "another envelope on 404": (in_answer(_other_envelope), "envelope-unknown-profile"),
    "404 where it should be 405": (_status(405, 404), "envelope-wrong-method"),
    "200 on refusals": (_status(400, 200), "envelope-invalid"),
    "the same event applied twice": (_seen_anew(), "repeated-rest"),
    "the rest of a refused batch stored": (_stores_the_valid_rest, "batch-invalid"),
    "experiences in the answer to a batch": (in_answer(_batch_answers_experiences), "envelope-batch"),
    "profiles in the answer to an import": (in_answer(_import_answers), "import-new"),
    "JSON that is called HTML": (
        in_answer(lambda request, reply: reply.with_headers(content_type="text/html") if reply.body else reply),
        "media-json",
    ),
}
