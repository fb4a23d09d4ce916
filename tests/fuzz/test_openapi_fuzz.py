"""Whatever can be made from the OpenAPI document is answered as the document says: in this process and over HTTP.

``FUZZ_EXAMPLES`` sets how much is tried; ``make fuzz`` tries a lot.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from serving import ROOT, serving

from ninetailed_wsgi import create_app
from ninetailed_wsgi.api.openapi import document
from ninetailed_wsgi.api.validation.schemas import schemas

from . import hooks as hooks

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "0"))
BOUNDED = settings(
    max_examples=EXAMPLES or 4,
    stateful_step_count=6,
    deadline=None,
    derandomize=not EXAMPLES,
    database=None,
    suppress_health_check=[*HealthCheck],
    # Where something is wrong, any example of it will do.
    phases=[Phase.explicit, Phase.generate] if not EXAMPLES else [*Phase],
)


HEADERS = (
    {"X-Forwarded-For": "203.0.113.9, " * 900, "Forwarded": 'for="[' * 500},
    {"X-Forwarded-For": "\xff\xfe", "Forwarded": 'for=;for="\\"', "Cookie": "ntaid=%00; =;;"},
    {"X-Force-IP": "::ffff:1.2.3.4%eth0", "traceparent": "00-" + "f" * 4000, "Origin": "null"},
    {"Content-Encoding": "identity", "Accept": "*/*;q=x", "Range": "bytes=0-", "Authorization": "Basic ="},
    {
        "X-HTTP-Method-Override": "DELETE",
        "X-Original-URL": "/health/live",
        "Host": "[::1",
        "Accept-Language": "-;q=1e9",
    },
)


@schemathesis.hook
def map_headers(context: schemathesis.HookContext, headers: dict[str, str] | None) -> dict[str, str]:
    """Requests in this process have headers that the document does not name; a server would refuse a few."""
    known = headers or {}
    return {**HEADERS[sum(map(len, known.values())) % len(HEADERS)], **known}


@pytest.fixture(scope="module")
def described(tmp_path_factory: pytest.TempPathFactory) -> schemathesis.BaseSchema:
    app = create_app(
        data_dir=str(tmp_path_factory.mktemp("data")),
        content=str(ROOT / "fixtures" / "spaces" / "shop.json"),
        geoip_database=str(ROOT / "fixtures" / "geo" / "demo.mmdb"),
        store_shards=2,
        explain=True,
        access="open",
    )
    return schemathesis.openapi.from_wsgi("/openapi.json", app)


@pytest.mark.parametrize("path", document(schemas(), explain=True)["paths"])
def test_each_operation_answers_as_the_document_says(described: schemathesis.BaseSchema, path: str) -> None:
    for method in sorted({"delete", "get", "options", "post"} & {*described.raw_schema["paths"][path]}):
        operation = described[path][method]

        @BOUNDED
        @given(case=operation.as_strategy())
        def answers(case: schemathesis.Case) -> None:
            case.call_and_validate()

        answers()


def test_ids_that_were_answered_lead_on_as_the_document_says(described: schemathesis.BaseSchema) -> None:
    described.as_state_machine().run(settings=BOUNDED)


def test_a_server_answers_as_its_document_says(tmp_path: Path) -> None:
    options = ["--phases", "examples,coverage,fuzzing,stateful" if EXAMPLES else "examples,stateful"]
    options += ["--max-examples", str(EXAMPLES or 4), "--generation-database", "none", "--continue-on-failure"]
    options += [] if EXAMPLES else ["--seed", "1", "--no-shrink"]
    with serving(tmp_path, "--explain", "--content", str(ROOT / "fixtures" / "spaces" / "shop.json")) as server:
        run = subprocess.run(
            [sys.executable, "-m", "schemathesis.cli", "run", f"{server.url}/openapi.json", *options],
            cwd=tmp_path,
            env={**os.environ, "SCHEMATHESIS_HOOKS": "hooks", "PYTHONPATH": str(Path(__file__).parent)},
            capture_output=True,
            text=True,
            timeout=3600,
        )
    assert run.returncode == 0, run.stdout[-6000:] + run.stderr[-2000:]
    assert " Stateful" in run.stdout
