"""What `/metrics` tells, in the text form of Prometheus."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from falcon.testing import TestClient
from prometheus_client.parser import text_string_to_metric_families
from serving import wait_until
from support import Api, Server, identify, of, page, track

from ninetailed_wsgi.api.app import create_app
from ninetailed_wsgi.errors import SettingsError
from ninetailed_wsgi.settings import Settings
from ninetailed_wsgi.site.middleware import Ninetailed

MakeServer = Callable[..., Server]
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]

PROFILE = "/v2/organizations/{organization}/environments/{environment}/profiles/{name:path}"


def scrape(server: Server) -> Samples:
    answer = TestClient(server.app).simulate_get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain")
    families = text_string_to_metric_families(answer.text)
    return {(each.name, frozenset(each.labels.items())): each.value for family in families for each in family.samples}


def value(samples: Samples, name: str, **labels: str) -> float:
    return samples.get((name, frozenset(labels.items())), 0.0)


def growth(server: Server, act: Callable[[], Any]) -> Callable[..., float]:
    """How much each sample grows by what is done; processes count for all apps in them."""
    before = scrape(server)
    act()
    after = scrape(server)
    return lambda name, **labels: value(after, name, **labels) - value(before, name, **labels)


@pytest.fixture
def server(make_server: MakeServer) -> Server:
    return make_server(metrics=True)


@pytest.fixture
def api(server: Server) -> Api:
    return server.environment()


def test_requests_are_counted_by_route_method_and_status_and_never_by_path(server: Server, api: Api) -> None:
    def act() -> None:
        api.update("anna@example.com", page())
        api.knows("nobody@example.com")
        api.send("/profiles/anna@example.com", b"{")
        api.request("TRACE", "/nowhere/anna@example.com", whole_path=True)

    grown = growth(server, act)
    for method, route, status in (("POST", PROFILE, "200"), ("GET", PROFILE, "404"), ("POST", PROFILE, "400")):
        assert grown("ninetailed_requests_total", method=method, route=route, status=status) == 1
    assert grown("ninetailed_requests_total", method="other", route="other", status="404") == 1
    assert grown("ninetailed_request_duration_seconds_count", route=PROFILE) == 3
    assert grown("ninetailed_request_duration_seconds_bucket", route=PROFILE, le="+Inf") == 3
    assert 0 < grown("ninetailed_request_duration_seconds_sum", route=PROFILE) < 10
    assert "anna" not in str(scrape(server))


def test_events_are_counted_by_type_when_they_were_stored_and_repeated_ones_apart(server: Server, api: Api) -> None:
    seen = track()

    def act() -> None:
        api.update("visitor", page(), seen, identify(traits={"age": 5}))
        api.update("visitor", seen)
        api.batch(of("one", page()), of("two", page()))
        api.send("/profiles?type=preflight", {"events": [page()]})

    grown = growth(server, act)
    assert grown("ninetailed_events_applied_total", type="page", environment="") == 3
    assert grown("ninetailed_events_applied_total", type="track", environment="") == 1
    assert grown("ninetailed_events_applied_total", type="identify", environment="") == 1
    assert grown("ninetailed_events_repeated_total") == 1
    assert grown("ninetailed_evaluations_total") == 5


def test_events_are_counted_by_environment_only_where_the_environments_are_configured(make_server: MakeServer) -> None:
    server = make_server(metrics=True, environments=["acme/main"])
    grown = growth(server, lambda: server.environment("acme", "main").update("visitor", page()))
    assert grown("ninetailed_events_applied_total", type="page", environment="acme/main") == 1


def test_refusals_are_counted_by_their_reason(server: Server, api: Api) -> None:
    grown = growth(server, lambda: (api.knows("nobody"), api.send("/profiles", b"{")))
    assert grown("ninetailed_errors_total", error="ProfileNotFound") == 1
    assert grown("ninetailed_errors_total", error="InvalidData") == 1


def test_the_content_served_is_told_by_version_and_a_version_that_is_refused_as_errors(make_server: MakeServer) -> None:
    server = make_server(metrics=True, content={"audiences": [], "experiences": []})
    samples = scrape(server)
    version = server.service.content("any", "where").version
    assert value(samples, "ninetailed_content_info", environment="*/*", version=version) == 1
    assert value(samples, "ninetailed_content_loaded_timestamp_seconds", environment="*/*") > 1_700_000_000
    assert value(samples, "ninetailed_content_errors") == 0


def test_a_broken_content_file_shows_without_a_request_of_a_visitor(tmp_path: Path) -> None:
    file = tmp_path / "content.json"
    file.write_text(json.dumps({"audiences": [], "experiences": []}))
    app = create_app(Settings(data_dir=tmp_path / "data", content=file, metrics=True, access="open"))
    file.write_text("{")
    os.utime(file, (1, 1))

    def errors() -> float:
        text = TestClient(app).simulate_get("/metrics").text
        families = {family.name: family for family in text_string_to_metric_families(text)}
        return families["ninetailed_content_errors"].samples[0].value

    wait_until(lambda: errors() == 1, "the error is told")


def test_the_age_of_the_location_database_can_be_told_and_that_a_new_one_is_refused(make_server: MakeServer) -> None:
    samples = scrape(make_server(metrics=True, access="open"))
    assert value(samples, "ninetailed_location_database_build_timestamp_seconds") == 1767225600  # 2026-01-01
    assert ("ninetailed_location_database_refused", frozenset()) in samples
    without = scrape(make_server(metrics=True, geo=None))
    assert ("ninetailed_location_database_refused", frozenset()) not in without


def test_the_import_queue_is_told_as_it_is_now(tmp_path: Path) -> None:
    app = create_app(Settings(data_dir=tmp_path / "data", metrics=True, access="open"))
    text = TestClient(app).simulate_get("/metrics").text
    told = {family.name: family.samples[0].value for family in text_string_to_metric_families(text) if family.samples}
    assert told["ninetailed_import_queue_batches"] == 0
    assert told["ninetailed_import_queue_oldest_seconds"] == 0
    assert told["ninetailed_import_aside_batches"] == 0


def test_the_process_is_told(server: Server) -> None:
    samples = scrape(server)
    assert value(samples, "ninetailed_workers") == 1
    assert value(samples, "process_resident_memory_bytes", pid=str(os.getpid())) > 10_000_000
    assert any(name == "ninetailed_build_info" for name, _ in samples)


def test_no_page_of_another_site_may_read_metrics(server: Server) -> None:
    answer = TestClient(server.app).simulate_get("/metrics", headers={"Origin": "https://elsewhere.example"})
    assert "access-control-allow-origin" not in answer.headers


def test_without_the_option_there_is_no_such_route(api: Api, make_server: MakeServer) -> None:
    assert TestClient(make_server().app).simulate_get("/metrics").status_code == 404


@pytest.mark.parametrize(
    ("option", "package", "extra"), [("metrics", "prometheus_client", "metrics"), ("rate_limit", "limits", "limits")]
)
def test_a_start_that_lacks_an_extra_is_refused_in_one_line_that_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, option: str, package: str, extra: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)  # as if it were not installed
    given = {"metrics": "yes", "rate_limit": "100/second"}[option]
    with pytest.raises(SettingsError) as refused:
        Settings(**{option: given})
    (line,) = refused.value.problems
    assert line.startswith(option)
    assert f"requires an extra: pip install 'ninetailed-wsgi[{extra}]'" in line


def test_in_a_site_they_are_under_the_prefix_of_the_api_and_count_what_its_pages_say(tmp_path: Path) -> None:
    def shop(environ: Any, start_response: Any) -> list[bytes]:
        environ["ninetailed.visitor"].page()
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"shop"]

    site = TestClient(Ninetailed(shop, data_dir=tmp_path / "data", metrics=True, access="open", time_budget_ms=10_000))

    def pages() -> float:
        text = site.simulate_get("/ninetailed/metrics").text
        samples = [each for family in text_string_to_metric_families(text) for each in family.samples]
        return sum(each.value for each in samples if each.name == "ninetailed_events_applied_total")

    before = pages()
    assert site.simulate_get("/", headers={"User-Agent": "Mozilla/5.0"}).text == "shop"
    assert pages() == before + 1
    assert site.simulate_get("/metrics").text == "shop"
