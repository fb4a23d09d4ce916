"""What tests through the app need: an app with a clock and ids of its own, and a client that checks every answer."""

from __future__ import annotations

import itertools
import json
import re
import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import orjson
from falcon.testing import Result, TestClient

from ninetailed_wsgi.api.app import api
from ninetailed_wsgi.api.validation.schemas import Schemas
from ninetailed_wsgi.content import ContentFolder
from ninetailed_wsgi.core.names import Environment
from ninetailed_wsgi.enrichment.geoip import LocationDatabase
from ninetailed_wsgi.operations.metrics import process_metrics
from ninetailed_wsgi.service.merge_turns import MergeTurns
from ninetailed_wsgi.service.service import ExperienceService
from ninetailed_wsgi.service.turns import Turns
from ninetailed_wsgi.settings import Settings
from ninetailed_wsgi.store.disk.store import DiskStore
from ninetailed_wsgi.store.protocol import Store
from tests.clients.generations import refusals

ROOT = Path(__file__).parent.parent
DEMO_GEO = ROOT / "fixtures" / "geo" / "demo.mmdb"
START = "2024-05-06T07:00:00Z"
SECOND, MINUTE, HOUR, DAY = 1000, 60_000, 3_600_000, 86_400_000

BERLIN, TOKYO, UNITED_STATES, NOWHERE = "127.0.0.1", "192.0.2.7", "198.51.100.7", "8.8.8.8"

_SCHEMAS = Schemas()
_TRACEPARENT = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


def milliseconds(moment: str) -> int:
    """An ISO 8601 time as milliseconds since the epoch."""
    parsed = datetime.fromisoformat(moment)
    return round((parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp() * 1000)


class Clock:
    """The time that it is: it stands still until a test moves it."""

    def __init__(self, moment: str = START) -> None:
        self.now = milliseconds(moment)

    def __call__(self) -> int:
        return self.now

    def is_at(self, moment: str) -> None:
        self.now = milliseconds(moment)

    def pass_(self, ms: int) -> None:
        self.now += ms


Once = Callable[[str, Callable[[Path], Any]], Any]
"""The fixture `once`."""


class Server:
    """An app over a new store; what is not named is as a user's own service would have it.

    Args:
        folder: for the data.
        content: a document in the generic form, or where content lies.
        store: instead of the store in ``folder``.
        environments: each ``org/env``; empty: any.
        merges: instead of those that the settings describe.
        settings: further settings, by name.
    """

    def __init__(
        self,
        folder: Path,
        *,
        content: Mapping[str, Any] | Path | None = None,
        geo: Path | None = DEMO_GEO,
        store: Store | None = None,
        environments: Sequence[str] = (),
        clock: Clock | None = None,
        new_id: Callable[[], str] | None = None,
        merges: MergeTurns | None = None,
        **settings: Any,
    ) -> None:
        self.clock = clock or Clock()
        self.folder = folder / "data"
        self.store = store or DiskStore(self.folder, shards=2, timeout=0.2, clock=self.clock)
        source = None
        if isinstance(content, Path):
            source = content
        elif content is not None:
            source = folder / "content.json"
            source.write_text(json.dumps(content))
        contents = ContentFolder(source)
        contents.load()
        ids, sessions = itertools.count(1), itertools.count(1)
        options = Settings(environments=tuple(environments), **{"access": "open", **settings})
        self.turns = Turns(options.profile_concurrency, options.store_timeout)
        self.merges = merges or MergeTurns(options.threads, options.store_timeout)
        self.service = ExperienceService(
            store=self.store,
            content=contents,
            location=LocationDatabase(geo) if geo else None,
            environments=[Environment.parse(pair) for pair in environments],
            max_traits_bytes=settings.get("max_traits_bytes", 65_536),
            metrics=process_metrics() if options.metrics else None,
            turns=self.turns,
            merges=self.merges,
            clock=self.clock,
            new_id=new_id or (lambda: f"{next(ids):064x}"),
            new_session_id=lambda: str(uuid.UUID(int=next(sessions))),
            id_key=self.store.id_key if options.access == "guarded" else None,  # type: ignore[attr-defined]
        )
        self.app = api(self.service, options)
        self._environments = itertools.count(1)

    def environment(self, organization: str = "org", environment: str | None = None) -> Api:
        """A client of one environment; of one that nobody used yet when it is not named."""
        return Api(self, organization, environment or f"env-{next(self._environments)}")

    def close(self) -> None:
        self.store.close()


class Api:
    """A client of one environment. Each answer is held to its schema, and to what every answer must have."""

    def __init__(self, server: Server, organization: str, environment: str) -> None:
        self.server, self.clock = server, server.clock
        self.prefix = f"/v2/organizations/{quote(organization, safe='')}/environments/{quote(environment, safe='')}"
        self._client = TestClient(server.app)

    def request(self, method: str, path: str, *, whole_path: bool = False, **options: Any) -> Result:
        """Any request, ``path`` percent-encoded and below the environment; ``options`` as of ``simulate_request``."""
        options.setdefault("remote_addr", NOWHERE)
        answer = self._client.simulate_request(method, path if whole_path else self.prefix + path, **options)
        check_answer(method, path, answer)
        return answer

    def send(self, path: str, body: Any, *, media_type: str | None = "application/json", **options: Any) -> Result:
        """POST a body: bytes as they are, anything else as JSON."""
        raw = body if isinstance(body, bytes) else orjson.dumps(body)
        headers = {**({"Content-Type": media_type} if media_type else {}), **options.pop("headers", {})}
        return self.request("POST", path, body=raw, headers=headers, **options)

    def create(self, *events: Any, **options: Any) -> dict[str, Any]:
        return self._upsert("/profiles", events, options)

    def update(self, name: str, *events: Any, **options: Any) -> dict[str, Any]:
        return self._upsert(profile_path(name), events, options)

    def batch(self, *events: Any) -> list[dict[str, Any]]:
        profiles: list[dict[str, Any]] = data(self.send("/events", {"events": [*events]}))["profiles"]
        return profiles

    def get(self, name: str) -> dict[str, Any]:
        return data(self.request("GET", profile_path(name)))

    def profile(self, name: str) -> dict[str, Any]:
        profile: dict[str, Any] = self.get(name)["profile"]
        return profile

    def knows(self, name: str) -> bool:
        """Whether there is a profile with this id or alias."""
        answer = self.request("GET", profile_path(name))
        assert answer.status_code == 200 or error(answer, 404) == "ERR_PROFILE_NOT_FOUND"
        return answer.status_code == 200

    def delete(self, name: str) -> None:
        assert data(self.request("DELETE", profile_path(name))) == {}

    def update_answer(self, name: str, *events: Any, **options: Any) -> Result:
        """An update that need not succeed."""
        return self.send(profile_path(name), {"events": [*events]}, **options)

    def _upsert(self, path: str, events: Collection[Any], options: dict[str, Any]) -> dict[str, Any]:
        features = options.pop("features", None)
        body = {"events": [*events], **({} if features is None else {"options": {"features": features}})}
        return data(self.send(path, body, **options))


def profile_path(name: str) -> str:
    return "/profiles/" + quote(name, safe="")


def data(answer: Result) -> dict[str, Any]:
    """The data of an answer that succeeded."""
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json["data"]
    return found


def error(answer: Result, status: int) -> str:
    """The code of an answer that refused with this status."""
    assert answer.status_code == status, f"{answer.status_code}: {answer.text[:300]}"
    code: str = answer.json["error"]["code"]
    return code


def refusal(answer: Result, status: int = 400) -> str:
    """The message of a request that was refused as invalid."""
    assert error(answer, status) == "ERR_INVALID_DATA"
    message: str = answer.json["message"]
    return message


def check_answer(method: str, path: str, answer: Result) -> None:
    """What holds for every answer of the API, whatever was asked."""
    assert _TRACEPARENT.fullmatch(answer.headers["traceparent"]), answer.headers
    assert answer.headers["access-control-expose-headers"] == "traceparent, ETag, Retry-After"
    if method == "OPTIONS":
        assert (answer.status_code, answer.content) == (204, b"")
        return
    assert answer.headers["content-type"] == "application/json"
    if method != "HEAD" and path != "/openapi.json":
        schema = _schema_of(method, path, answer.status_code)
        _SCHEMAS.check(schema, answer.json)
        assert refusals("organizations", method, path, answer.status_code, answer.json) == []
        # The schema does not say in which form; SDKs tell success from failure by these members.
        assert set(answer.json) == {"data", "error", "message"}


def _schema_of(method: str, path: str, status: int) -> str:
    if status != 200:
        return "error-response"
    if path == "/events":
        return "batch-response"
    if path.endswith("/explain"):
        return "explain-response"
    if path.endswith("/results"):
        return "results-response"
    return "profile-response" if path.startswith("/profiles") and method != "DELETE" else "empty-response"


# Events as a client sends them. Each has a message id of its own; keywords name further members.

_message_ids = itertools.count(1)
URL = "https://shop.example"


def event(kind: str, *, context: Mapping[str, Any] | None = None, **members: Any) -> dict[str, Any]:
    """An event with nothing but what each event needs."""
    return {
        "type": kind,
        "channel": "web",
        "messageId": f"message-{next(_message_ids)}",
        "context": {"library": {"name": "tests", "version": "7.26.0"}, **(context or {})},
        **members,
    }


def page(path: str = "/", **members: Any) -> dict[str, Any]:
    """A page event; ``properties`` are added to those of a page at ``path``."""
    seen = {"path": path, "query": {}, "referrer": "", "search": "", "url": URL + path}
    return event("page", **{**members, "properties": {**seen, **members.get("properties", {})}})


def track(name: str = "click", **members: Any) -> dict[str, Any]:
    return event("track", event=name, **members)


def identify(user_id: str = "", traits: Mapping[str, Any] | None = None, **members: Any) -> dict[str, Any]:
    return event("identify", userId=user_id, traits=dict(traits or {}), **members)


def component(experience_id: str, variant_index: int, **members: Any) -> dict[str, Any]:
    """A view of a variant."""
    return event("component", componentId="hero", experienceId=experience_id, variantIndex=variant_index, **members)


def of(anonymous_id: str, sent: dict[str, Any]) -> dict[str, Any]:
    """An event of a batch: whose it is."""
    return {**sent, "anonymousId": anonymous_id}


def without(document: Mapping[str, Any], *path: str) -> dict[str, Any]:
    """A copy that lacks the member at this path."""
    copied: dict[str, Any] = orjson.loads(orjson.dumps(document))
    parent = copied
    for step in path[:-1]:
        parent = parent[step]
    del parent[path[-1]]
    return copied


def having(document: Mapping[str, Any], value: Any, *path: str | int) -> dict[str, Any]:
    """A copy with another value at this path."""
    copied: Any = orjson.loads(orjson.dumps(document))
    parent = copied
    for step in path[:-1]:
        parent = parent[step] if isinstance(step, int) else parent.setdefault(step, {})
    parent[path[-1]] = value
    return dict(copied)
