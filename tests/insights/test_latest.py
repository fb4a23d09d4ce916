"""The last computed results: who computes them, who may read them, and what a worker never loads."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from serving import page, serving, wait_until

from ninetailed_wsgi.api.validation.schemas import schemas
from ninetailed_wsgi.errors import StoreUnavailable
from ninetailed_wsgi.insights import latest
from ninetailed_wsgi.server.computation import repeat
from ninetailed_wsgi.testing import Harness, experience, metric
from ninetailed_wsgi.testing.client import Client

HERO = experience("hero", ["hero-b"], distribution=[0.5, 0.5], id="hero-test", metric="purchase")
CONTENT = [HERO, metric("purchase", name="purchase")]
PATH = "/experiences/hero-test/results"
PUBLISHED = {
    "experiences": [
        {
            "id": "hero-test",
            "name": "Hero",
            "type": "nt_experiment",
            "config": {
                "traffic": 1,
                "distribution": [0.5, 0.5],
                "components": [
                    {"type": "EntryReplacement", "baseline": {"id": "hero"}, "variants": [{"id": "hero-b"}]}
                ],
            },
        }
    ]
}


def compute(harness: Harness) -> None:
    latest.compute(harness.settings.data_dir, harness.service.store, harness.service.content, harness.clock)


@pytest.mark.ninetailed(content=CONTENT)
def test_the_last_results_are_answered_with_their_age(ninetailed: Harness) -> None:
    ninetailed.visitor("anna").views("/").sees(HERO)
    compute(ninetailed)
    ninetailed.clock.advance(minutes=10)
    document = ninetailed.client.get(PATH).document
    schemas().check("results-response", document)
    answer = document["data"]
    assert answer["ageSeconds"] == 600
    (result,) = answer["results"]
    assert result == {**ninetailed.results(HERO), "to": result["to"], "computedAt": result["computedAt"]}
    assert sum(variant["visitors"] for variant in result["variants"]) == 1


@pytest.mark.ninetailed(content=[experience("hero", ["hero-b"], id="hero-test")])
def test_results_of_content_without_a_metric_have_the_same_form(ninetailed: Harness) -> None:
    ninetailed.visitor("anna").views("/").sees("hero-test")
    compute(ninetailed)
    document = ninetailed.client.get(PATH).document
    schemas().check("results-response", document)
    assert document["data"]["results"][0]["metric"] is None


@pytest.mark.ninetailed(content=CONTENT)
def test_what_was_never_computed_is_404_in_words(ninetailed: Harness) -> None:
    answers = [ninetailed.client.get(PATH)]
    ninetailed.visitor("anna").views("/").sees(HERO)
    compute(ninetailed)
    answers.append(ninetailed.client.get("/experiences/another/results"))
    for answer in answers:
        assert (answer.status, answer.document["error"]["code"]) == (404, "ERR_NOT_FOUND")
        assert "--results-every" in answer.document["message"]


@pytest.mark.ninetailed(content=CONTENT)
def test_a_deleted_visitor_is_gone_from_the_next_results(ninetailed: Harness) -> None:
    ninetailed.visitor("anna").views("/").sees(HERO)
    compute(ninetailed)
    assert ninetailed.client.delete("/profiles/anna").status == 200
    compute(ninetailed)
    assert ninetailed.client.get(PATH).status == 404


@pytest.mark.ninetailed(content=CONTENT)
def test_a_damaged_file_is_as_none_and_the_next_computation_mends_it(ninetailed: Harness) -> None:
    ninetailed.visitor("anna").views("/").sees(HERO)
    compute(ninetailed)
    (file,) = (ninetailed.settings.data_dir / "results").iterdir()
    for damage in (b"", b"{", b"[]", b"5", b'{"results": []}'):
        file.write_bytes(damage)
        assert ninetailed.client.get(PATH).status == 404
    compute(ninetailed)
    assert ninetailed.client.get(PATH).status == 200


def test_only_keys_with_the_scope_admin_read_results() -> None:
    with Harness(CONTENT, access="guarded") as harness:
        statuses = [
            harness.client.get(PATH, headers=headers).status
            for headers in (
                {},
                {"Authorization": f"Bearer {harness.key('read')}"},
                {"Authorization": f"Bearer {harness.key('admin')}"},
            )
        ]
    assert statuses == [401, 403, 404]


def test_both_families_of_routes_answer() -> None:
    with Harness(CONTENT) as harness:
        harness.visitor("anna").views("/").sees(HERO)
        compute(harness)
        spaces = Client(harness.app, "/v3/spaces/default/environments/main")
        assert spaces.get(PATH).document["data"] == harness.client.get(PATH).document["data"]


def test_no_failure_ends_the_computation(caplog: pytest.LogCaptureFixture) -> None:
    now, done = [0.0], 0

    def sleep(seconds: float) -> None:
        now[0] += seconds

    def work() -> None:
        nonlocal done
        done += 1
        now[0] += 5
        if done == 1:
            raise StoreUnavailable("the disk is full")
        if done == 2:
            raise KeyError("a member that a record lacks")
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        repeat(60, work, sleep, lambda: now[0])
    assert now[0] == 185
    assert "the disk is full" in caplog.text
    assert "this is a bug" in caplog.text


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="reads what a process has loaded from /proc")
def test_serve_computes_in_a_process_of_its_own_that_ends_with_the_server(tmp_path: Path) -> None:
    content = tmp_path / "content.json"
    content.write_text(json.dumps(PUBLISHED), encoding="utf-8")
    options = ["--content", str(content), "--results-every", "1", "--workers", "1"]
    with serving(tmp_path, *options) as server:
        wait_until(lambda: len(server.workers()) == 2, "a worker and the computation run")
        computing = min(server.workers())  # it was started first
        prefix = "/v2/organizations/default/environments/main"
        first = page("m0")
        chosen = server.call("POST", f"{prefix}/profiles/anna", {"events": [first]}).json()["data"]["experiences"][0]
        index = chosen["variantIndex"]
        view = {
            **{name: first[name] for name in ("channel", "context")},
            "type": "component",
            "messageId": "m1",
            "componentType": "Entry",
            "componentId": ("hero", "hero-b")[index],
            "experienceId": "hero-test",
            "variantIndex": index,
        }
        body = [{"profile": {"id": "anna"}, "events": [view]}]
        assert server.call("POST", prefix.replace("/v2/", "/v1/") + "/events", body).status == 204
        wait_until(lambda: server.call("GET", prefix + PATH).status == 200, "the results are there", 120)
        for worker in server.workers() - {computing}:
            assert "scipy" not in Path(f"/proc/{worker}/maps").read_text()
        assert "scipy" in Path(f"/proc/{computing}/maps").read_text()
        server.process.kill()
        server.process.wait(60)
        wait_until(lambda: not Path(f"/proc/{computing}").exists(), "the computation has ended")


MOUNT = """
import sys
from ninetailed_wsgi import Ninetailed, visitor_of
from ninetailed_wsgi.testing import Client

HEAVY = ("scipy", "numpy", "ninetailed_wsgi.insights.statistics", "ninetailed_wsgi.insights.results")

def site(environ, start_response):
    visitor = visitor_of(environ)
    visitor.page()
    start_response("200 OK", [])
    return [visitor.variant("hero").encode()]

app = Ninetailed(site, content=sys.argv[1], data_dir=sys.argv[2], time_budget_ms=20_000)
client = Client(app, "")
assert client.get("/").status == 200
assert client.get("/ninetailed/health/ready").status == 200
assert not [name for name in (*HEAVY, "ninetailed_wsgi.insights.ingestion") if name in sys.modules]
path = "/ninetailed/v1/organizations/default/environments/main/events"
assert client.post(path, [{"profile": {"id": "nobody"}, "events": []}]).status == 204
assert "ninetailed_wsgi.insights.ingestion" in sys.modules
assert client.get(path.replace("/v1/", "/v2/").removesuffix("/events") + "/experiences/x/results").status == 401
assert not [name for name in HEAVY if name in sys.modules]
"""


def test_a_mount_loads_insights_at_the_first_report_and_never_what_results_need(tmp_path: Path) -> None:
    content = tmp_path / "content.json"
    content.write_text(json.dumps(PUBLISHED), encoding="utf-8")
    command = [sys.executable, "-c", MOUNT, str(content), str(tmp_path / "data")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
