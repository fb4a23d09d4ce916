"""The page about content from Contentful: its example runs, and what it says of a server holds."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from falcon import testing
from serving import Server, page, serving, wait_until

from ninetailed_wsgi import Ninetailed, create_app, visitor_of
from ninetailed_wsgi.commands.main import main
from ninetailed_wsgi.testing import ContentfulSpace, audience, experience, viewed

PAGE = (Path(__file__).parents[2] / "docs" / "contentful.md").read_text(encoding="utf-8")
(EXAMPLE,) = re.findall(r"<!-- tests/published/test_contentful_page.py -->\n```python\n(.*?)```", PAGE, re.DOTALL)
SPACE = "/v3/spaces/space1/environments/master"
SECRET = "a-secret-of-a-webhook"


def test_the_example_of_the_page_runs(tmp_path: Path) -> None:
    names: dict[str, Any] = {}
    exec(compile(EXAMPLE, "docs/contentful.md", "exec"), names)
    names["test_what_is_published_is_served"](tmp_path / "data")


@pytest.fixture
def space() -> Iterator[ContentfulSpace]:
    with ContentfulSpace([experience("hero", ["hero-b"], id="first")]) as opened:
        yield opened


@pytest.fixture(autouse=True)
def token(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, space: ContentfulSpace) -> Path:
    file = tmp_path / "token"
    file.write_text(f"{space.token}\n")
    return file


def decided(server: Server, prefix: str = SPACE, name: str = "anna") -> set[str]:
    """The experiences that a visitor of two pages gets."""
    body = {"events": [page(f"{time.monotonic_ns()}")]}
    answer = server.call("POST", f"{prefix}/profiles/{name}", body)
    assert answer.status == 200, answer.body
    return {item["experienceId"] for item in answer.json()["data"]["experiences"]}


def decides(server: Server, wanted: str) -> None:
    """Wait until every worker decides by what was published."""
    wait_until(lambda: all(wanted in decided(server) for _ in range(8)), f"{wanted} decides")


def test_a_changed_audience_decides_by_the_next_polls_and_long_before_one_where_a_refresh_tells_of_it(
    tmp_path: Path, space: ContentfulSpace, token: Path
) -> None:
    hook = tmp_path / "hook"
    hook.write_text(SECRET)
    options = ["--content", space.address, "--contentful-url", space.url, "--contentful-token-file", str(token)]
    options += ["--workers", "2", "--contentful-webhook-secret-file", str(hook)]
    with serving(tmp_path, *options, "--contentful-poll", "1.5") as server:
        assert decided(server) == {"first"}
        initial = [request for request in space.requests if "initial" in request]
        assert len(initial) == 1, "the look before the start and both workers share it"
        space.publish(experience("hero", ["c"], id="second", audience=audience(viewed("/"), id="visitors")))
        decides(server, "second")

        worker = min(server.workers())
        os.kill(worker, signal.SIGKILL)
        wait_until(lambda: worker not in server.workers() and len(server.workers()) == 2, "another worker is there")
        space.publish(experience("hero", ["d"], id="third"))
        decides(server, "third")
    assert "initial" not in "".join(space.requests[len(initial) + 1 :])

    with serving(tmp_path, *options, "--contentful-poll", "600", "--access", "guarded") as server:
        decides(server, "third")
        space.publish(experience("hero", ["e"], id="fourth"))
        assert server.call("POST", "/content/refresh").status == 401
        wrong = {"X-Ninetailed-Webhook-Secret": "another-secret-of-a-webhook"}
        assert server.call("POST", "/content/refresh", headers=wrong).status == 401
        assert "fourth" not in decided(server)
        answer = server.call("POST", "/content/refresh", b"{}", {"X-Ninetailed-Webhook-Secret": SECRET})
        assert (answer.status, answer.json()) == (200, {"data": {}, "error": None, "message": "ok"})
        decides(server, "fourth")
    assert space.token not in (tmp_path / "printed.txt").read_text()


def test_one_broken_experience_leaves_the_others_served_and_is_named(
    tmp_path: Path, space: ContentfulSpace, token: Path
) -> None:
    space.publish(experience("hero", ["b"], id="broken", traffic=7))
    options = ["--content", f"{space.address}=acme/main", "--contentful-url", space.url]
    with serving(tmp_path, *options, "--contentful-token-file", str(token), "--workers", "1") as server:
        assert decided(server, "/v2/organizations/acme/environments/main") == {"first"}
        assert decided(server) == {"first"}, "the routes of the space lead to the same"
        assert (
            server.call("GET", f"{SPACE}/profiles/anna").json()
            == server.call("GET", "/v2/organizations/acme/environments/main/profiles/anna").json()
        )
        assert "entry broken: nt_config.traffic: found 7" in server.printed.read_text()


def test_with_the_token_of_a_wrong_environment_a_person_reads_what_to_do(
    tmp_path: Path, space: ContentfulSpace, token: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    address = "contentful://space1/staging"
    options = ["--content", address, "--contentful-url", space.url, "--contentful-token-file", str(token)]
    for command in ("check", "serve"):
        bind = ["--bind", "127.0.0.1:0"] if command == "serve" else []
        assert main([command, *options, *bind, "--data-dir", str(tmp_path / "data")]) != 0
        told = "".join(capsys.readouterr())
        assert "knows no environment staging in the space space1 that this token may read" in told
        assert "allow it for the token under Settings > API keys" in told
        assert space.token not in told


def test_the_only_space_of_a_mount_is_the_environment_of_its_pages(tmp_path: Path, space: ContentfulSpace) -> None:
    seen = []

    def site(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        visitor = visitor_of(environ)
        visitor.page()
        seen.append(visitor.variant("hero"))
        start_response("200 OK", [("Content-Type", "text/html")])
        return [b"<p>"]

    from werkzeug.test import Client

    mounted = Ninetailed(
        site,
        content=space.address,
        contentful_url=space.url,
        contentful_token=space.token,
        data_dir=tmp_path / "data",
        time_budget_ms=30_000,
        access="open",
    )
    client = Client(mounted)
    client.get("/")
    body = {"events": [page("one")]}
    answer = client.post(f"/ninetailed{SPACE}/profiles", json=body)

    assert seen == ["hero-b"]
    assert [item["experienceId"] for item in answer.get_json()["data"]["experiences"]] == ["first"]


def test_drafts_beside_what_is_published_have_a_token_of_their_own(tmp_path: Path, space: ContentfulSpace) -> None:
    space.draft(experience("hero", ["hero-c"], id="next"))
    app = create_app(
        content=space.address,
        draft_content=space.preview_address,
        contentful_url=space.url,
        contentful_token=f"{space.token};{space.preview_address}={space.preview_token}",
        data_dir=tmp_path / "data",
        access="open",
    )
    client = testing.TestClient(app, headers={"Host": "localhost"})

    def experiences(content: str) -> list[str]:
        answer = client.simulate_get(f"{SPACE}/preview/entries", params={"content": content})
        return [entry["sys"]["id"] for entry in answer.json["data"]["experiences"]]

    assert (experiences("published"), experiences("draft")) == (["first"], ["first", "next"])
