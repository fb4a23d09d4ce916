"""The API keeps its own contract: in this process, inside a site, and standalone under gunicorn."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from wsgiref.types import WSGIApplication
from xml.etree import ElementTree

import pytest
from serving import ROOT, serving

from ninetailed_wsgi import Ninetailed
from ninetailed_wsgi.contract.cases import CLAIMS, Case
from tests.contract.servers import CASES, Told, breaches, run_of
from tests.tables import check_each


def test_each_case_holds_by_itself_in_this_process_and_leaves_nothing(api: WSGIApplication) -> None:
    def holds(case: Case) -> None:
        run = run_of(api)
        assert breaches([*run.results([case])]) == []
        assert run.names() == []

    check_each([(case.id, case) for case in CASES], holds)


def test_every_case_holds_inside_a_site(tmp_path: Path) -> None:
    def site(environ: object, start_response: object) -> list[bytes]:
        raise AssertionError("the site was asked")

    mounted = Ninetailed(site, prefix="/shop/ninetailed", data_dir=str(tmp_path), store_shards=2, access="open")
    assert breaches([*run_of(mounted, "/shop/ninetailed").results(CASES)]) == []


@pytest.mark.parametrize(
    ("cors", "options"),
    [
        ([], ["--routes", "spaces"]),
        (
            ["--cors-origins", "https://shop.example"],
            ["--origin", "https://shop.example", "--routes", "organizations"],
        ),
    ],
)
def test_every_case_holds_standalone_and_nothing_is_left(tmp_path: Path, cors: list[str], options: list[str]) -> None:
    with serving(tmp_path, "--geoip-database", str(ROOT / "fixtures" / "geo" / "demo.mmdb"), *cors) as server:
        told = Told(server.url, tmp_path, *options)
    assert (told.status, told.failed(), told.err) == (0, [], "")
    assert told.report["totals"] == {"passed": len(CASES), "failed": 0, "skipped": 0}
    assert told.report["server"]["claims"] == list(CLAIMS)
    assert told.report["profiles"]["left"] == []
    assert told.report["profiles"]["deleted"] > 200
    assert all(f"ok    {case.area}/{case.id}: {case.name}\n" in told.out for case in CASES)
    assert re.search(rf"^total +{len(CASES)} +0 +0$", told.out, re.MULTILINE)
    suites = ElementTree.parse(told.xml).getroot().findall("testsuite")
    assert sum(int(suite.attrib["tests"]) for suite in suites) == len(CASES)


def test_each_case_has_its_own_id_and_sentence_and_a_claim_that_exists() -> None:
    for member in ("id", "name"):
        assert [text for text, times in Counter(getattr(case, member) for case in CASES).items() if times > 1] == []
    assert {case.claim for case in CASES} == {"", *CLAIMS}


def test_the_contract_covers_what_clients_rely_on() -> None:
    areas = Counter(case.area for case in CASES if not case.claim)
    assert set(areas) >= {"envelope", "media", "cors", "limits", "preflight", "profiles", "batch", "import", "trace"}
    assert sum(areas.values()) >= 150
