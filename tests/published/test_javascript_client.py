"""Contentful's official JavaScript client reads the local space, so that the local space is no fantasy."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ninetailed_wsgi.testing import ContentfulSpace, audience, experience, viewed
from tests.sdk.client import install

FOLDER = Path(__file__).parent
SHOP = FOLDER.parents[1] / "fixtures" / "spaces" / "shop.json"
Ask = Callable[..., Any]


@pytest.fixture(scope="module")
def node() -> str:
    """The path of node, with the client installed beside its script."""
    missing = [program for program in ("node", "npm") if shutil.which(program) is None]
    if missing:
        reason = f"the official client needs {' and '.join(missing)}, which this machine does not have"
        if os.environ.get("CI", "").lower() in ("1", "true"):
            pytest.fail(f"{reason}; in CI these tests must run")
        pytest.skip(reason)
    install(FOLDER)
    return shutil.which("node") or "node"


@pytest.fixture
def space() -> Iterator[ContentfulSpace]:
    offer = experience("hero", ["hero-b"], id="offer", audience=audience(viewed("/x"), id="readers"))
    with ContentfulSpace([offer], page_size=2, locales=("en-US", "de")) as opened:
        yield opened


@pytest.fixture
def ask(node: str, space: ContentfulSpace) -> Iterator[Ask]:
    """Calls the client; gives its answer, or ``{"name", "message"}`` of what it threw."""
    order = {"url": space.url, "space": space.space, "environment": space.environment, "token": space.token}
    command = [node, "read_space.js", json.dumps(order)]
    with subprocess.Popen(command, cwd=FOLDER, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:

        def ask(call: str, **query: Any) -> Any:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(json.dumps([call, query]) + "\n")
            process.stdin.flush()
            said = json.loads(process.stdout.readline())
            return said.get("answer", said.get("error"))

        yield ask
        assert process.stdin is not None
        process.stdin.close()


def test_it_synchronizes_in_pages_and_then_asks_for_changes(space: ContentfulSpace, ask: Ask) -> None:
    space.publish(
        *[{"sys": {"id": f"p{n}", "contentType": "page"}, "fields": {"title": f"Page {n}"}} for n in range(3)]
    )
    whole = ask("sync", initial=True)
    assert whole["entries"] == ["offer", "p0", "p1", "p2", "readers"]
    assert whole["fields"]["p1"] == {"title": {"en-US": "Page 1"}}
    assert len([request for request in space.requests if "/sync?" in request]) == 3

    unchanged = ask("sync", nextSyncToken=whole["nextSyncToken"])
    assert (unchanged["entries"], unchanged["deletedEntries"]) == ([], [])

    space.publish(experience("hero", ["hero-c"], id="offer"))
    space.unpublish("p0")
    space.delete("p1")
    changes = ask("sync", nextSyncToken=unchanged["nextSyncToken"])
    assert (changes["entries"], changes["deletedEntries"]) == (["offer"], ["p0", "p1"])

    space.forget_tokens()
    assert "400" in ask("sync", nextSyncToken=changes["nextSyncToken"])["message"]


def test_it_reads_entries_with_what_they_link_to(ask: Ask) -> None:
    found = ask("entries", content_type="nt_experience")
    (offer,) = found["items"]

    assert found["total"] == 1
    assert offer["fields"]["nt_audience"]["fields"]["nt_name"] == "readers", "the link is resolved"
    assert ask("entry", id="readers")["fields"]["nt_audience_id"] == "readers"
    assert ask("contentTypes") == ["nt_audience", "nt_experience", "nt_mergetag"]
    assert ask("locales") == [["en-US", True, None], ["de", False, "en-US"]]


def test_it_reads_an_export_as_a_space(node: str) -> None:
    with ContentfulSpace(SHOP, locales=("en-US", "de")) as shop:
        order = {"url": shop.url, "space": shop.space, "environment": shop.environment, "token": shop.token}
        lines = '["entries", {"content_type": "nt_audience", "locale": "de"}]\n'
        command = [node, "read_space.js", json.dumps(order)]
        said = subprocess.run(command, cwd=FOLDER, text=True, input=lines, capture_output=True, check=True, timeout=120)
        assert json.loads(said.stdout)["answer"]["total"] == 11


def test_it_meets_limits_failures_and_refusals(node: str, space: ContentfulSpace, ask: Ask) -> None:
    space.limit(1, reset=1)
    assert ask("entries")["name"] == "RateLimitExceeded"
    space.fail(1, status=503)
    assert "503" in ask("entries")["message"]
    assert ask("entry", id="never-there")["message"] == "The resource could not be found."
    space.token = "another"
    assert ask("entries")["name"] == "AccessTokenInvalid"
