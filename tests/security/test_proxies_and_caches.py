"""Between a visitor and the service: proxies that say which host was asked, and caches that are shared by visitors."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from proxies import behind_nginx
from serving import Server

from ninetailed_wsgi import visitor_of
from ninetailed_wsgi.testing import Client, Harness
from ninetailed_wsgi.testing.live import LiveServer

# Which host was asked


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"X-Forwarded-Host": "localhost:5173"}, 200),  # a development server's own proxy
        ({"Forwarded": "for=127.0.0.1;host=localhost"}, 200),
        ({"X-Forwarded-Host": "www.example.com"}, 403),
        ({"X-Forwarded-Host": "localhost, www.example.com"}, 403),
        ({"X-Forwarded-Host": "www.example.com, localhost"}, 403),
        ({"Forwarded": "for=203.0.113.9;host=www.example.com"}, 403),
        ({"Forwarded": 'host="www.example.com:443", host=localhost'}, 403),
        ({"X-Forwarded-Host": "127.0.0.1.example.com"}, 403),
        ({"Host": "www.example.com", "X-Forwarded-Host": "localhost"}, 403),
    ],
)
@pytest.mark.parametrize("path", ["/health/live", "/control/clock"])
def test_an_open_server_and_its_controls_refuse_what_came_for_another_host(
    path: str, headers: dict[str, str], status: int
) -> None:
    with Harness() as harness, LiveServer(harness) as live:
        client = Client(live._server.get_app())
        assert client.call("GET", path, headers=headers).status == status


@pytest.mark.parametrize(
    ("peer", "origin", "forwarded", "status"),
    [
        ("10.0.0.1", "https://www.example.com", {"X-Forwarded-Host": "www.example.com"}, 400),
        ("10.0.0.1", "https://www.example.com", {"Forwarded": "for=203.0.113.9;host=www.example.com;proto=https"}, 400),
        ("10.0.0.1", "https://evil.example", {"X-Forwarded-Host": "www.example.com"}, 403),
        ("10.0.0.1", "http://site.internal", {"X-Forwarded-Host": "www.example.com"}, 403),
        # Not from the proxy: an attacker's page cannot set these headers, but its author's own program can.
        ("203.0.113.9", "https://www.example.com", {"X-Forwarded-Host": "www.example.com"}, 403),
        ("203.0.113.9", "http://site.internal", {}, 400),
    ],
)
def test_behind_a_trusted_proxy_a_mounted_api_knows_the_sites_own_pages(
    peer: str, origin: str, forwarded: dict[str, str], status: int
) -> None:
    with Harness(access="guarded", trusted_proxies="10.0.0.1") as harness:
        client = Client(harness.mount(lambda environ, start_response: []))
        path = f"/ninetailed{harness.client.prefix}/profiles"
        headers = {"Host": "site.internal", "Origin": origin, **forwarded}
        assert client.call("POST", path, {"events": []}, address=peer, headers=headers).status == status


# Shared caches

CACHE = """proxy_cache_path FOLDER/cache keys_zone=shared:1m;
add_header X-Cache $upstream_cache_status;
upstream site {"""
HEADERS = {
    "/": [],
    "/public": [("Cache-Control", "public, max-age=600")],
    "/cdn": [("Cache-Control", "private"), ("X-Accel-Expires", "600"), ("Surrogate-Control", "max-age=600")],
    "/old": [("Expires", "Thu, 31 Dec 2099 23:59:59 GMT")],
    "/plain": [("Cache-Control", "public, max-age=600")],
}


@pytest.fixture(scope="module")
def cached(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A site behind nginx as examples/deploy/nginx-mount.conf has it, with a cache that keeps what it may."""

    def site(environ: Any, start_response: Any) -> list[bytes]:
        path = environ["PATH_INFO"]
        visitor = None if path == "/plain" else visitor_of(environ)
        if visitor:
            visitor.page()
        start_response("200 OK", [("Content-Type", "text/plain"), *HEADERS[path]])
        return [str(visitor.id if visitor else "everybody").encode()]

    folder = tmp_path_factory.mktemp("cache")
    changes = (
        ("upstream site {", CACHE.replace("FOLDER", str(folder))),
        ("proxy_pass http://site;", "proxy_cache shared; proxy_cache_valid 200 10m; proxy_pass http://site;"),
    )
    with Harness(access="guarded") as harness, LiveServer(harness, harness.mount(site)) as live:
        port = int(live.url.rpartition(":")[2])
        with behind_nginx(folder, "nginx-mount.conf", port, *changes) as proxy:
            yield proxy


@pytest.mark.parametrize("path", [path for path in HEADERS if path != "/plain"])
def test_a_personalized_page_is_never_shared_between_two_visitors(cached: Server, path: str) -> None:
    answers = [cached.call("GET", path) for _ in range(3)]
    ids = [answer.body.decode() for answer in answers]
    assert len(set(ids)) == 3
    assert [answer.headers["x-cache"] for answer in answers] == ["MISS"] * 3
    again = cached.call("GET", path, headers={"Cookie": f"ntaid={ids[0]}"})
    assert again.body.decode() == ids[0]
    assert again.headers["x-cache"] == "MISS"


def test_a_page_that_asked_for_no_visitor_is_cached(cached: Server) -> None:
    assert [cached.call("GET", "/plain").headers["x-cache"] for _ in range(3)] == ["MISS", "HIT", "HIT"]
    assert "set-cookie" not in cached.call("GET", "/plain").headers


def test_an_answer_of_the_mounted_api_is_never_cached(cached: Server) -> None:
    path = "/ninetailed/v2/organizations/default/environments/main/profiles/nobody"
    assert {cached.call("GET", path).headers["cache-control"] for _ in range(2)} == {"no-store"}


# Planted cookies


def id_site(environ: Any, start_response: Any) -> list[bytes]:
    """A site whose page shows the visitor's id."""
    visitor = visitor_of(environ)
    visitor.page()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(visitor.id).encode()]


def test_ten_thousand_planted_cookies_cost_two_hundred_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    with Harness(access="guarded") as harness:
        client = Client(harness.mount(id_site))
        own = client.call("GET", "/").body.decode()
        certifies, looks = harness.service.certifies, count()
        monkeypatch.setattr(harness.service, "certifies", lambda *named: next(looks) >= 0 and certifies(*named))
        for planted, id in ((100, own), (10_000, None)):
            sent = "; ".join(f"ntaid={number:064x}" for number in range(planted)) + f"; ntaid={own}"
            answered = client.call("GET", "/", headers={"Cookie": sent}).body.decode()
            assert (answered == own) is (id is not None)
        assert next(looks) < 350


OWN, OTHER = "{own}", "{other}"


@pytest.mark.parametrize(
    ("cookie", "who"),
    [
        (f"ntaid={OWN}", "own"),
        (f'ntaid="{OWN}"', "own"),
        (f"ntaid={OWN}; ntaid={OTHER}", "own"),  # as scripts of the page see it
        (f"ntaid={OTHER}; ntaid={OWN}", "other"),
        (f"Ntaid={OTHER}; ntaid={OWN}", "own"),
        (f"ntaid= {OWN} ", "own"),
        (f"ntaid=%61{OWN}", "fresh"),
        (f"ntaid={OWN}%00", "fresh"),
        (f"ntaid={OWN}{OWN}", "fresh"),
        ("ntaid=" + "a" * 8000, "fresh"),
        ("ntaid=%", "fresh"),
        ("ntaid=%ff%fe", "fresh"),
        ("ntaid=../../etc/passwd", "fresh"),
        ("ntaid=anna%40example.com", "fresh"),
        ("ntaid", "fresh"),
        (f"$Version=1; ntaid={OWN}; $Path=/", "own"),
        ("ntaid=" + "0" * 64, "fresh"),
    ],
)
def test_a_cookie_is_believed_only_as_an_issued_id_however_it_is_written(cookie: str, who: str) -> None:
    with Harness(access="guarded") as harness:
        client = Client(harness.mount(id_site))
        key = harness.key("events")
        trusted = {"Authorization": f"Bearer {key}"}
        for user in ("anna@example.com", "0" * 63 + "1"):
            body = {"events": [{**_identify(harness, user)}]}
            assert harness.client.post("/profiles", body, headers=trusted).status == 200
        ids = {name: client.call("GET", "/").body.decode() for name in ("own", "other")}
        sent = cookie.replace(OWN, ids["own"]).replace(OTHER, ids["other"])
        answer = client.call("GET", "/", headers={"Cookie": sent})
        id = answer.body.decode()
        assert id == ids[who] if who != "fresh" else id not in ids.values()
        assert re.fullmatch("[0-9a-f]{64}", id)
        assert harness.service.certifies(harness.environment, id)
        assert len({event.profile for event in harness.events}) == (4 if who != "fresh" else 5)


def _identify(harness: Harness, user: str) -> dict[str, Any]:
    library = {"library": {"name": "tests", "version": "4.0.0"}}
    message = f"m-{user}"
    return {
        "type": "identify",
        "channel": "server",
        "messageId": message,
        "context": library,
        "userId": user,
        "traits": {},
    }


@pytest.mark.parametrize("example", ["nginx.conf", "nginx-mount.conf"])
def test_the_examples_for_nginx_name_every_header_that_is_believed(example: str) -> None:
    text = (Path(__file__).parents[2] / "examples/deploy" / example).read_text()
    for header in ("X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "Forwarded", "X-Force-IP"):
        assert f"proxy_set_header {header} " in text
