"""Why the service cannot answer is for its operators: strangers get a text that says nothing of the inside."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from support import page

from ninetailed_wsgi.errors import StoreUnavailable
from ninetailed_wsgi.testing import Client, Harness

REASON = "the file /srv/data/003/cache.db on 10.1.2.3 is damaged; restore it"
FIXED = "the service cannot answer now; try again later"
ROUTES = [
    ("GET", "/health/ready", None),
    ("POST", "{prefix}/profiles", {"events": [page()]}),
    ("POST", "{prefix}/profiles?type=preflight", {"events": [page()]}),
    ("GET", "{prefix}/profiles/{id}", None),
    ("POST", "{prefix}/profiles/{id}", {"events": [page()]}),
]


class Broken:
    """A store that cannot serve, whatever it is asked."""

    def __getattr__(self, name: str) -> Any:
        def fail(*arguments: Any, **named: Any) -> Any:
            raise StoreUnavailable(REASON)

        return fail


@pytest.fixture
def harness() -> Iterator[Harness]:
    with Harness(access="guarded") as made:
        yield made


@pytest.mark.parametrize("way", ["app", "mount"])
@pytest.mark.parametrize(("method", "path", "body"), ROUTES, ids=[f"{method} {path}" for method, path, _ in ROUTES])
def test_only_an_admin_is_told_why_nothing_is_served(
    harness: Harness, monkeypatch: pytest.MonkeyPatch, way: str, method: str, path: str, body: Any
) -> None:
    keys = {"": "", "events": harness.key("events", "read", "delete"), "admin": harness.key("admin")}
    client, prefix = harness.client, ""
    if way == "mount":
        client, prefix = Client(harness.mount(lambda environ, start: [], prefix="/api")), "/api"
    created = harness.client.post("/profiles", {"events": [page()]})
    id = created.document["data"]["profile"]["id"]
    broken = Broken()
    for name in ("update", "read", "check"):
        monkeypatch.setattr(harness.service.store, name, getattr(broken, name))
    path = prefix + path.format(prefix=harness.client.prefix, id=id)
    for caller, key in keys.items():
        answer = client.call(method, path, body, headers={"Authorization": f"Bearer {key}"} if key else {})
        assert answer.status == 503
        assert answer.document["message"] == (REASON if caller == "admin" else FIXED)
        assert (REASON in answer.body.decode()) is (caller == "admin")
        assert answer.headers["retry-after"] == "1"
