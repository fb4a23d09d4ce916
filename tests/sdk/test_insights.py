"""The SDK's plugin for Insights, unchanged, against the live server of the harness: views, beacons, deletion."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ninetailed_wsgi.testing import Harness, LiveServer, experience
from tests.sdk.client import FOLDER

INSIGHTS = "experience.js-plugin-insights 7.26"
HERO = experience("hero", ["hero-b"], id="hero-test", distribution=[0, 1])

Moment = Callable[[Any], dict[str, Any]]


@pytest.fixture
def harness() -> Iterator[Harness]:
    with Harness([HERO]) as made:
        yield made


@pytest.fixture
def moment(node: str, harness: Harness) -> Iterator[Moment]:
    """Plays the next moment of a page: it is seen, then hidden."""
    with (
        LiveServer(harness) as server,
        subprocess.Popen(
            [node, "insights.js"], cwd=FOLDER, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as process,
    ):

        def play(order: Any = "again") -> dict[str, Any]:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(json.dumps(order) + "\n")
            process.stdin.flush()
            line = process.stdout.readline()
            assert line, f"insights.js ended with status {process.wait(60)}"
            told: dict[str, Any] = json.loads(line)
            assert told["errors"] == []
            return told

        organization, environment = harness.environment
        play.__defaults__ = (
            {"url": server.url, "clientId": organization, "environment": environment, "experience": "hero-test"},
        )
        yield play
        assert process.stdin is not None
        process.stdin.close()


def exposure(harness: Harness, id: str) -> dict[str, Any]:
    [phase] = harness.service.record(harness.environment, id)["exposures"]["hero-test"].values()
    return dict(phase)


@pytest.mark.client(INSIGHTS, "create", "insights", how="client")
def test_the_beginning_and_the_end_of_a_view_are_one_view_and_arrive_as_the_page_is_hidden(
    moment: Moment, harness: Harness
) -> None:
    told = moment()
    assert told["sent"][-1][0] == "beacon"
    assert told["sent"][-1][2:] == ["text/plain", 204]
    seen = exposure(harness, told["id"])
    assert (seen["index"], seen["views"]) == (told["index"], 1)
    assert seen["longest"] >= 30
    assert seen["clicks"] == 1
    assert "inconsistent" not in seen
    moment("again")
    assert exposure(harness, told["id"])["views"] == 2


@pytest.mark.client(INSIGHTS, "insights", how="client")
def test_a_late_beacon_of_a_deleted_visitor_makes_nobody(moment: Moment, harness: Harness) -> None:
    id = moment()["id"]
    harness.service.delete(harness.environment, id)
    told = moment("again")
    assert told["id"] == id
    assert [status for _, _, _, status in told["sent"][-1:]] == [204]
    assert harness.client.get(f"/profiles/{id}").status == 404
