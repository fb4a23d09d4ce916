"""The official OFREP providers run unchanged: of Python, of Node, and in a browser on another origin."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any
from wsgiref.types import StartResponse, WSGIEnvironment

import pytest
from openfeature.contrib.provider.ofrep import OFREPProvider
from openfeature.evaluation_context import EvaluationContext
from openfeature.exception import (
    FlagNotFoundError,
    GeneralError,
    OpenFeatureError,
    TargetingKeyMissingError,
    TypeMismatchError,
)
from openfeature.flag_evaluation import Reason

from ninetailed_wsgi.testing import Harness, flag
from ninetailed_wsgi.testing.live import LiveServer
from tests.flags.conftest import skip

FOLDER = Path(__file__).parent
PRO = EvaluationContext("anna", {"plan": "pro"})
TYPES = {".js": "text/javascript", ".html": "text/html; charset=utf-8"}


# Python


@pytest.fixture
def python(ninetailed_server: LiveServer) -> OFREPProvider:
    return OFREPProvider(ninetailed_server.api_url, timeout=60)


def test_the_python_provider_reads_flags_of_each_type(python: OFREPProvider) -> None:
    assert python.resolve_boolean_details("checkout", False, PRO).value is True
    assert python.resolve_string_details("banner", "", PRO).value == "sale"
    assert python.resolve_integer_details("limit", 0, PRO).value == 25
    assert python.resolve_float_details("ratio", 0.0, PRO).value == 0.5
    assert python.resolve_object_details("layout", {}, PRO).value == {"columns": 3}


def test_the_python_provider_reads_reason_variant_and_metadata(python: OFREPProvider) -> None:
    details = python.resolve_boolean_details("checkout", False, PRO)
    assert (details.reason, details.variant) == (Reason.TARGETING_MATCH, "for-pro:1")
    assert details.flag_metadata["audienceId"] == "pro"
    unselected = python.resolve_boolean_details("checkout", False, EvaluationContext("anna"))
    assert (unselected.value, unselected.reason) == (False, Reason.UNKNOWN)


def test_the_python_provider_understands_each_refusal(python: OFREPProvider) -> None:
    with pytest.raises(FlagNotFoundError, match="nothing"):
        python.resolve_string_details("nothing", "", PRO)
    with pytest.raises(TypeMismatchError):
        python.resolve_integer_details("banner", 0, PRO)
    with pytest.raises(TargetingKeyMissingError, match="targetingKey"):
        python.resolve_string_details("banner", "", EvaluationContext())
    with pytest.raises(OpenFeatureError, match="65536"):
        python.resolve_string_details("banner", "", EvaluationContext("anna", {"note": "x" * 70_000}))


@pytest.mark.ninetailed(rate_limit="1/hour")
def test_the_python_provider_waits_as_long_as_a_429_says(python: OFREPProvider) -> None:
    python.resolve_string_details("banner", "", PRO)
    with pytest.raises(GeneralError, match="Rate limited"):
        python.resolve_string_details("banner", "", PRO)
    assert python.retry_after is not None
    with pytest.raises(GeneralError, match="paused"):
        python.resolve_string_details("banner", "", PRO)


# Node and a browser


def test_the_node_provider_reads_flags_and_refusals(ninetailed_server: LiveServer, modules: Path) -> None:
    command = ["node", "providers.js", ninetailed_server.api_url]
    done = subprocess.run(command, cwd=FOLDER, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    expect_values(told)
    assert told["keyless"]["errorCode"] == "TARGETING_KEY_MISSING"
    assert told["unselected"]["value"] is False


@pytest.mark.ninetailed(rate_limit="1/hour")
def test_the_node_provider_waits_as_long_as_a_429_says(ninetailed_server: LiveServer, modules: Path) -> None:
    command = ["node", "limited.js", ninetailed_server.api_url]
    done = subprocess.run(command, cwd=FOLDER, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert [each["value"] for each in told["values"]] == ["sale", "fallback", "fallback"]
    assert told["requests"] == 2  # the third was not sent
    assert 0 < told["waits"] <= 3600


@pytest.mark.ninetailed(rate_limit="1/second")
def test_the_node_provider_asks_again_once_the_wait_of_a_429_is_over(
    ninetailed_server: LiveServer, modules: Path
) -> None:
    command = ["node", "patient.js", ninetailed_server.api_url]
    done = subprocess.run(command, cwd=FOLDER, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    requests = json.loads(done.stdout)
    expect_patience(requests)
    assert {request["status"] for request in requests} == {200, 429}
    assert requests[-1]["status"] == 200


def test_the_browser_provider_on_another_origin_reads_flags_and_sends_its_tag(
    ninetailed_server: LiveServer, modules: Path, tmp_path: Path
) -> None:
    told = open_page("page.html", ninetailed_server, tmp_path)
    expect_values(told)
    assert told["unselected"]["value"] is False
    first, second = told["polled"][:2]
    assert (first["status"], first["asked"]) == (200, None)
    assert (second["status"], second["asked"]) == (304, first["tag"])


@pytest.mark.ninetailed(rate_limit="3/minute")
def test_the_browser_provider_keeps_its_values_and_waits_as_long_as_a_429_says(
    ninetailed_server: LiveServer, modules: Path, tmp_path: Path
) -> None:
    told = open_page("limited.html", ninetailed_server, tmp_path, seconds=150)
    assert [request["status"] for request in told["requests"][:4]] == [200, 304, 304, 429]
    assert len(told["requests"]) == 5  # once the wait was over, and no sooner
    expect_patience(told["requests"])
    assert (told["paused"]["stale"], told["paused"]["value"]) == (1, "sale")


def expect_patience(requests: list[dict[str, Any]]) -> None:
    """After each 429, no request came before its wait was over."""
    for refused, following in pairwise(requests):
        if refused["status"] == 429:
            assert refused["waits"] > 0
            assert following["at"] - refused["at"] >= refused["waits"] * 1000


def expect_values(told: dict[str, Any]) -> None:
    """What every JavaScript provider is told."""
    assert {name: told[name]["value"] for name in ("boolean", "string", "number", "object")} == {
        "boolean": True,
        "string": "sale",
        "number": 25,
        "object": {"columns": 3},
    }
    assert {name: told[name]["reason"] for name in ("boolean", "string", "number")} == {
        "boolean": "TARGETING_MATCH",
        "string": "STATIC",
        "number": "SPLIT",
    }
    assert told["boolean"]["variant"] == "for-pro:1"
    assert told["boolean"]["flagMetadata"]["audienceId"] == "pro"
    assert (told["unknown"]["value"], told["unknown"]["errorCode"]) == ("fallback", "FLAG_NOT_FOUND")
    assert (told["mismatch"]["value"], told["mismatch"]["errorCode"]) == (13, "TYPE_MISMATCH")


def open_page(name: str, server: LiveServer, profile: Path, seconds: int = 60) -> dict[str, Any]:
    """Open a page of this folder, which is another origin than the server's, and return what it was told.

    So many seconds pass for the page, at once.
    """
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        skip("a real browser needs chromium, which this machine does not have")
    with Harness() as other, LiveServer(other, files) as pages:
        told = visit(str(chromium), f"{pages.url}/{name}?api={server.api_url}", profile, seconds)
    assert "error" not in told, told
    return told


def visit(chromium: str, url: str, profile: Path, seconds: int) -> dict[str, Any]:
    """Open a page in a real browser and return what it wrote into the element ``told``."""
    flags = (
        "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
        f"--disable-component-update --disable-sync --virtual-time-budget={seconds}000 --dump-dom"
    )
    command = [chromium, *flags.split(), f"--user-data-dir={profile}", url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=180)
    match = re.search(r'<pre id="told">(.*?)</pre>', done.stdout, re.DOTALL)
    assert match, done.stderr[-2000:]
    told: dict[str, Any] = json.loads(html.unescape(match[1]))
    return told


def files(environ: WSGIEnvironment, start_response: StartResponse) -> Iterator[bytes]:
    """Serve the page and the packages of this folder."""
    path = (FOLDER / environ["PATH_INFO"].lstrip("/")).resolve()
    found = path.is_file() and path.is_relative_to(FOLDER)
    kind = TYPES.get(path.suffix, "application/octet-stream")
    start_response("200 OK" if found else "404 Not Found", [("Content-Type", kind)])
    yield path.read_bytes() if found else b""


def test_the_live_server_serves_flags_published_by_its_controls(ninetailed_server: LiveServer) -> None:
    provider = OFREPProvider(ninetailed_server.api_url, timeout=60)
    ninetailed_server.harness.publish(flag("new", control=0, variants=[1]))
    assert provider.resolve_integer_details("new", 9, PRO).value == 1
