"""How many requests one client address may make."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from support import Api, Server, data, error, page

from ninetailed_wsgi.errors import SettingsError
from ninetailed_wsgi.settings import Settings

MakeServer = Callable[..., Server]


@pytest.fixture
def limited(make_server: MakeServer) -> Callable[..., Api]:
    return lambda rate="3/day", **options: make_server(rate_limit=rate, **options).environment()


def get(api: Api, address: str | None, **headers: str) -> Any:
    return api.request("GET", "/profiles/nobody", remote_addr=address, headers=headers)


def test_an_address_that_asks_too_often_is_429_and_told_when_to_come_back(limited: Callable[..., Api]) -> None:
    api = limited()
    for _ in range(3):
        assert get(api, "192.0.2.1").status_code == 404
    refused = get(api, "192.0.2.1")
    assert error(refused, 429) == "ERR_PROFILE_OVERLOAD"
    assert refused.json["message"] == "too many requests from this address"
    assert "192.0.2.1" not in refused.text
    assert 0 < int(refused.headers["retry-after"]) <= 86_400
    assert refused.headers["access-control-allow-origin"] == "*"  # or a browser could not read it
    assert get(api, "192.0.2.2").status_code == 404


def test_requests_by_the_routes_of_a_space_count_as_well(limited: Callable[..., Api]) -> None:
    api = limited("2/day")
    space = api.prefix.replace("/v2/organizations", "/v3/spaces") + "/profiles/nobody"
    assert get(api, "192.0.2.1").status_code == 404
    statuses = [api.request("GET", space, whole_path=True, remote_addr="192.0.2.1").status_code for _ in range(2)]
    assert statuses == [404, 429]


def test_nothing_of_a_refused_request_is_stored(limited: Callable[..., Api]) -> None:
    api = limited("1/day")
    data(api.send("/profiles/one", {"events": [page()]}))
    assert error(api.send("/profiles/two", {"events": [page()]}), 429) == "ERR_PROFILE_OVERLOAD"
    assert get(api, "192.0.2.9").status_code == 404
    assert api.request("GET", "/profiles/two", remote_addr="192.0.2.8").status_code == 404


def test_the_addresses_of_one_ipv6_network_count_as_one(limited: Callable[..., Api]) -> None:
    api = limited()
    for last in range(3):
        assert get(api, f"2001:db8:1:2::{last}").status_code == 404
    assert get(api, "2001:db8:1:2:ffff::1").status_code == 429
    assert get(api, "2001:db8:1:3::1").status_code == 404


def test_a_client_cannot_hide_behind_addresses_that_it_makes_up(limited: Callable[..., Api]) -> None:
    api = limited()
    for last in range(3):
        assert get(api, "192.0.2.1", **{"X-Force-IP": f"198.51.100.{last}"}).status_code == 404
    assert get(api, "192.0.2.1", **{"X-Force-IP": "198.51.100.9"}).status_code == 429
    assert get(api, "192.0.2.1", **{"X-Forwarded-For": "198.51.100.9"}).status_code == 429


def test_behind_a_trusted_proxy_it_is_the_visitors_address_that_counts(limited: Callable[..., Api]) -> None:
    api = limited(trusted_proxies=["10.0.0.0/8"])
    for _ in range(3):
        assert get(api, "10.0.0.1", **{"X-Forwarded-For": "198.51.100.1"}).status_code == 404
    assert get(api, "10.0.0.1", **{"X-Forwarded-For": "198.51.100.1"}).status_code == 429
    assert get(api, "10.0.0.1", **{"X-Forwarded-For": "198.51.100.2"}).status_code == 404


def test_health_metrics_and_cors_preflights_are_never_refused(limited: Callable[..., Api]) -> None:
    api = limited("1/day", metrics=True)
    get(api, "192.0.2.1")
    assert get(api, "192.0.2.1").status_code == 429
    for path in ("/health/live", "/health/ready"):
        assert api.request("GET", path, whole_path=True, remote_addr="192.0.2.1").status_code == 200
    assert api.request("OPTIONS", "/profiles", remote_addr="192.0.2.1").status_code == 204
    assert api._client.simulate_get("/metrics", remote_addr="192.0.2.1").status_code == 200


def test_several_rates_hold_at_once(limited: Callable[..., Api]) -> None:
    api = limited("100/second;2/day")
    assert [get(api, "192.0.2.1").status_code for _ in range(3)] == [404, 404, 429]


def test_without_the_option_nobody_is_counted(make_server: MakeServer) -> None:
    api = make_server().environment()
    assert {get(api, "192.0.2.1").status_code for _ in range(50)} == {404}


@pytest.mark.parametrize("wrong", ["100", "100/fortnight", "0/second", "many", "-1/second", 5, "1/second;x"])
def test_a_rate_that_is_none_stops_the_start_and_says_what_one_looks_like(wrong: object) -> None:
    with pytest.raises(SettingsError) as refused:
        Settings(rate_limit=wrong)  # type: ignore[arg-type]
    (line,) = refused.value.problems
    assert line.startswith("rate_limit (--rate-limit, NINETAILED_RATE_LIMIT): found")
    assert "such as 100/second" in line
