"""A start says who may do what, and is refused where the files that decide it cannot be used."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from ninetailed_wsgi import Settings
from ninetailed_wsgi.api.app import api
from ninetailed_wsgi.server.checks import check_access, hosting_of
from ninetailed_wsgi.service.access import Access
from ninetailed_wsgi.service.service import ExperienceService
from ninetailed_wsgi.testing import Client
from tests.serving import page


@pytest.mark.parametrize(
    ("bind", "access", "status", "text"),
    [
        ("127.0.0.1:0", "", "ok", "open, for loopback hosts"),
        ("[::1]:0", "", "ok", "open, for loopback hosts"),
        ("localhost:0", "guarded", "ok", "guarded"),
        ("0.0.0.0:0", "", "ok", "guarded"),
        ("[::]:0", "", "ok", "guarded"),
        ("0.0.0.0:0", "open", "warn", "delete every profile"),
    ],
)
def test_the_mode_is_that_of_the_place_and_an_open_network_is_warned_of(
    bind: str, access: str, status: str, text: str
) -> None:
    finding = check_access(Settings(bind=bind, access=access))
    assert finding.status == status
    assert text in finding.text


BINDS = {
    "open": ["127.0.0.1:80", "127.8.9.10:80", "[::1]:80", "localhost:80"],
    "guarded": [
        *("0.0.0.0:80", "[::]:80", "10.0.0.5:80", "192.0.2.1:80", "[2001:db8::1]:80"),
        *("host.example:80", "localhost.example:80", "127.0.0.1.example:80", "[::ffff:127.0.0.1]:80", "0:80"),
    ],
}


@pytest.mark.parametrize("bind", [*BINDS["open"], *BINDS["guarded"]])
def test_whoever_asks_a_server_that_listens_on_a_network_is_a_stranger(bind: str, tmp_path: Path) -> None:
    settings = Settings(bind=bind, data_dir=tmp_path, store_shards=1)
    service = ExperienceService.from_settings(settings)
    with contextlib.closing(service.store):
        client = Client(api(service, settings, Access.of(settings, hosting_of(settings.bind))))
        service.upsert(service.environment("acme", "main"), "anna", {"events": [page("a")]})
        path = "/v2/organizations/acme/environments/main"
        statuses = [
            client.call("GET", f"{path}/profiles/anna").status,
            client.call("DELETE", f"{path}/profiles/anna").status,
            client.call("POST", f"{path}/events", {"events": [{**page("b"), "anonymousId": "anna"}]}).status,
            client.call("GET", "/openapi.json").status,
            client.call("GET", "/health/live", headers={"Host": "www.example.com"}).status,
            client.call("GET", f"{path}/profiles/anna", headers={"Host": "www.example.com"}).status,
        ]
    assert statuses == ([404, 401, 401, 401, 200, 404] if bind in BINDS["guarded"] else [200, 200, 200, 200, 403, 403])


def test_missing_keys_and_a_short_secret_refuse_the_start(tmp_path: Path) -> None:
    assert "ninetailed-wsgi key new" in check_access(Settings(keys_file=tmp_path / "keys.json")).text
    (tmp_path / "secret").write_text("short")
    finding = check_access(Settings(identity_secret_file=tmp_path / "secret"))
    assert (finding.status, "32 bytes" in finding.text) == ("fail", True)
