"""The pytest plugin gives a harness, a live server and a visitor, and costs nothing where nobody asks for them."""

from __future__ import annotations

import configparser
import os
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

# A run of pytester forgets what it imported; imported here, the service is not read from disk again for each test.
from ninetailed_wsgi.testing import LiveServer

ROOT = Path(__file__).parent.parent.parent
PLUGIN = "ninetailed_wsgi.testing.plugin"
IMPORTED = LiveServer

CONTENT = """
from ninetailed_wsgi.testing import audience, experience, viewed
PRICING = audience(viewed("/pricing", at_least=2), id="pricing-visitors")
HERO = experience("hero", ["hero-b"], audience=PRICING)
"""


def run(pytester: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    return pytester.runpytest_inprocess("-p", PLUGIN, "-p", "no:cacheprovider", "--strict-markers", *arguments)


@pytest.fixture(autouse=True)
def no_other_plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plugins that happen to be installed would be loaded anew by each inner run, which takes seconds."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")


@pytest.fixture
def elsewhere(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """Pytest runs in processes of their own find the package, wherever they start."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return pytester


def test_a_test_gets_a_harness_a_server_and_a_visitor(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        CONTENT
        + """
import urllib.request

def test_harness(ninetailed, ninetailed_visitor):
    ninetailed.publish(HERO)
    assert ninetailed_visitor.views("/pricing").views("/pricing").variant("hero") == "hero-b"
    assert len(ninetailed.events) == 2

def test_of_its_own(ninetailed):
    assert ninetailed.events == []
    assert ninetailed.catalog.experience_list == ()

def test_server(ninetailed_server, ninetailed, ninetailed_visitor):
    assert ninetailed_server.harness is ninetailed
    ninetailed_visitor.views("/")
    urllib.request.urlopen(f"{ninetailed_server.api_url}/profiles/{ninetailed_visitor.id}").close()
"""
    )
    run(pytester).assert_outcomes(passed=3)


def test_overriding_fixtures_sets_the_harness_up(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(
        CONTENT
        + """
import pytest

@pytest.fixture(scope="session")
def ninetailed_content():
    return [HERO]

@pytest.fixture
def ninetailed_location():
    return {"203.0.113.0/24": "Berlin, DE"}

@pytest.fixture
def ninetailed_settings():
    return {"organization": "acme", "max_body_bytes": 5000, "now": "2026-02-03T04:05:06Z"}
"""
    )
    pytester.makepyfile(
        """
def test_it(ninetailed, ninetailed_visitor):
    visitor = ninetailed_visitor.from_address("203.0.113.7").views("/pricing").views("/pricing")
    assert (visitor.variant("hero"), visitor.location["city"]) == ("hero-b", "Berlin")
    assert ninetailed.client.prefix == "/v2/organizations/acme/environments/main"
    assert ninetailed.settings.max_body_bytes == 5000
    assert ninetailed.clock.now.isoformat() == "2026-02-03T04:05:06+00:00"
"""
    )
    run(pytester).assert_outcomes(passed=1)


def test_a_mark_wins_over_fixtures_and_the_nearest_mark_over_others(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        CONTENT
        + """
import pytest

pytestmark = pytest.mark.ninetailed(environment="staging", seed=5)

@pytest.fixture
def ninetailed_settings():
    return {"environment": "preview", "organization": "acme"}

@pytest.mark.ninetailed(content=[HERO], now="2026-02-03")
class TestMarked:
    def test_of_the_class(self, ninetailed):
        assert ninetailed.client.prefix == "/v2/organizations/acme/environments/staging"
        assert ninetailed.clock.now.isoformat() == "2026-02-03T00:00:00+00:00"
        assert [listed.id for listed in ninetailed.catalog.experience_list] == ["experience-hero"]

    @pytest.mark.ninetailed(environment="own", content=None)
    def test_of_its_own(self, ninetailed):
        assert ninetailed.client.prefix == "/v2/organizations/acme/environments/own"
        assert ninetailed.clock.now.isoformat() == "2026-02-03T00:00:00+00:00"
        assert ninetailed.catalog.experience_list == ()
"""
    )
    run(pytester).assert_outcomes(passed=2)


def test_a_mark_without_names_is_an_error_that_says_so(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
import pytest

@pytest.mark.ninetailed({})
def test_it(ninetailed):
    pass
"""
    )
    result = run(pytester)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*takes arguments by name*"])


def test_the_mark_is_listed(pytester: pytest.Pytester) -> None:
    run(pytester, "--markers").stdout.fnmatch_lines(["@pytest.mark.ninetailed(content=..., location=*"])


def test_a_failing_test_shows_what_the_visitor_did_and_why(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        CONTENT
        + """
import pytest

@pytest.mark.ninetailed(content=[HERO])
def test_offer(ninetailed_visitor):
    ninetailed_visitor.views("/pricing").identifies("user-1", plan="pro")
    assert ninetailed_visitor.variant("hero") == "hero-b"
"""
    )
    result = run(pytester)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "*Ninetailed: what each visitor did, and why they got what they got*",
            "visitor ????????*",
            "  2026-01-05 12:00:00  viewed /pricing",
            '  2026-01-05 12:00:00  identified as user-1 {"plan": "pro"}',
            "  no  pricing-visitors (pricing-visitors)",
            '*no  page events where context_page_path equal "/pricing": greaterThanInclusive 2; found 1',
            "  no  experience-hero (experience-hero): not shown",
        ]
    )


def test_a_harness_of_ones_own_fixture_is_told_too_and_each_only_once(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
import pytest
from ninetailed_wsgi.testing import Harness

@pytest.fixture(scope="module")
def api():
    with Harness() as harness:
        yield harness

@pytest.fixture
def broken(api, ninetailed):
    api.visitor("anna").views("/from-a-fixture")
    raise RuntimeError("setup fails")

def test_it(api, ninetailed, ninetailed_visitor):
    api.visitor("ben").views("/")
    assert False

def test_broken(broken):
    pass
"""
    )
    result = run(pytester)
    result.assert_outcomes(failed=1, errors=1)
    assert result.stdout.str().count("Ninetailed: what each visitor did") == 4
    result.stdout.fnmatch_lines(["visitor ben", "*viewed /from-a-fixture"], consecutive=False)


def test_a_report_that_cannot_be_made_hides_no_failure(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
def test_it(ninetailed, monkeypatch):
    monkeypatch.setattr(type(ninetailed), "report", lambda self: 1 / 0)
    assert "the test's own" == "failure"
"""
    )
    result = run(pytester)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["E*the test's own*", "*report failed: ZeroDivisionError*"])


def test_no_harness_outlives_its_test(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
import gc
import weakref

import pytest

KNOWN = []

@pytest.mark.parametrize("number", range(3))
def test_it(number, ninetailed):
    gc.collect()
    assert [known() for known in KNOWN] == [None] * number
    KNOWN.append(weakref.ref(ninetailed))
"""
    )
    run(pytester).assert_outcomes(passed=3)


def test_a_test_that_passes_says_nothing(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_it(ninetailed_visitor): ninetailed_visitor.views('/')")
    assert "Ninetailed" not in run(pytester, "-rA").stdout.str()


def test_tests_run_in_parallel_and_their_reports_arrive(elsewhere: pytest.Pytester) -> None:
    elsewhere.makepyfile(
        """
import pytest

@pytest.mark.parametrize("number", range(8))
def test_it(number, ninetailed, ninetailed_server, ninetailed_visitor):
    ninetailed_visitor.views(f"/{number}")
    assert len(ninetailed.events) == 1
    assert number != 5
"""
    )
    result = elsewhere.runpytest_subprocess("-p", PLUGIN, "-p", "xdist", "-n", "2")
    result.assert_outcomes(passed=7, failed=1)
    result.stdout.fnmatch_lines(["*Ninetailed: what each visitor did*", "*viewed /5"])


def test_loading_the_plugin_imports_nothing_that_takes_time() -> None:
    program = (
        "import sys\n"
        "import pytest\n"
        "before = set(sys.modules)\n"
        f"import {PLUGIN}\n"
        "print(*sorted(set(sys.modules) - before))\n"
    )
    run = subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, capture_output=True, text=True)
    assert run.stdout.split() == ["ninetailed_wsgi", "ninetailed_wsgi.testing", PLUGIN]


def test_a_run_without_its_fixtures_never_imports_the_service(elsewhere: pytest.Pytester) -> None:
    elsewhere.makepyfile(
        """
import sys

def test_it():
    heavy = {"falcon", "jsonschema", "jsonschema_rs", "ninetailed_wsgi.store.disk", "maxminddb", "orjson"}
    loaded = heavy | {"ninetailed_wsgi.service.service"}
    assert not loaded & set(sys.modules)

def test_failing():
    assert not {"falcon", "ninetailed_wsgi.testing.harness"} & set(sys.modules), "imported"
    raise RuntimeError("as meant")
"""
    )
    result = elsewhere.runpytest_subprocess("-p", PLUGIN)
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["E*RuntimeError: as meant"])


def test_pytest_finds_the_plugin_by_the_packages_entry_point() -> None:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    name, _, value = setup["options.entry_points"]["pytest11"].strip().partition(" = ")
    entry_point = EntryPoint(name, value, "pytest11")
    assert entry_point.module == PLUGIN
    assert entry_point.load().pytest_configure


@pytest.mark.parametrize("arguments", [(), ("-p", PLUGIN)], ids=["installed", "installed and named"])
def test_the_installed_plugin_is_there_without_being_named(
    elsewhere: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    installed = elsewhere.mkdir("installed")
    metadata = installed / "ninetailed_wsgi-0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: ninetailed-wsgi\nVersion: 0\n")
    (metadata / "entry_points.txt").write_text(f"[pytest11]\n{setup['options.entry_points']['pytest11']}\n")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(installed), str(ROOT)]))
    monkeypatch.delenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD")
    elsewhere.makepyfile("def test_it(ninetailed_visitor): assert ninetailed_visitor.views('/').audiences == []")
    without = [word for name in ("schemathesis", "hypothesispytest") for word in ("-p", f"no:{name}")]
    elsewhere.runpytest_subprocess(*without, *arguments).assert_outcomes(passed=1)
