"""The pytest plugin: a harness, a live server and a visitor as fixtures; reports that say what visitors did and why.

Every pytest run in an environment with this package loads this module, so imports wait until a fixture is used.

Fixtures: ``ninetailed`` (a :class:`~ninetailed_wsgi.testing.harness.Harness`), ``ninetailed_server`` (the same behind a
port), ``ninetailed_visitor`` (a new visitor), ``ninetailed_django_client`` (Django's test client on the harness),
``ninetailed_session`` (a harness for fixtures of module and session scope). Configure them by overriding
``ninetailed_content``, ``ninetailed_location``, ``ninetailed_companies`` and ``ninetailed_settings``, or by the marker
``ninetailed``, whose arguments are those of the harness and take precedence.
"""

from __future__ import annotations

import sys
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from ninetailed_wsgi.testing.harness import Harness
    from ninetailed_wsgi.testing.live import LiveServer
    from ninetailed_wsgi.testing.visitor import Visitor

_MARKER = (
    "ninetailed(content=..., location=..., companies=..., now=..., organization=..., environment=..., seed=..., "
    "**settings): "
    "the harness of this test; the mark of a test wins over those of its class and module, and over fixtures."
)
_SECTION = "Ninetailed: what each visitor did, and why they got what they got"

_OWN = pytest.StashKey[Any]()


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker of the fixtures; called by pytest."""
    config.addinivalue_line("markers", _MARKER)


@pytest.fixture
def ninetailed_content() -> Any:
    """Return what is published at first; override it to return what ``Harness(content=...)`` takes."""
    return None


@pytest.fixture
def ninetailed_location() -> Any:
    """Return the places of addresses; override it to return what ``Harness(location=...)`` takes."""
    return None


@pytest.fixture
def ninetailed_companies() -> Any:
    """Return the companies of addresses; override it to return what ``Harness(companies=...)`` takes."""
    return None


@pytest.fixture
def ninetailed_settings() -> dict[str, Any]:
    """Return further arguments of ``Harness``; override it to set them."""
    return {}


@pytest.fixture
def ninetailed(
    request: pytest.FixtureRequest,
    ninetailed_content: Any,
    ninetailed_location: Any,
    ninetailed_companies: Any,
    ninetailed_settings: dict[str, Any],
) -> Iterator[Harness]:
    """Yield a real Experience API for one test, without visitors."""
    from ninetailed_wsgi.testing.harness import Harness

    options = {
        "content": ninetailed_content,
        "location": ninetailed_location,
        "companies": ninetailed_companies,
        **ninetailed_settings,
    }
    for marker in reversed(list(request.node.iter_markers("ninetailed"))):
        if marker.args:
            pytest.fail("the marker ninetailed takes arguments by name: ninetailed(content=...)", pytrace=False)
        options.update(marker.kwargs)
    with Harness(**options) as harness:
        # If a fixture fails, the test's list of fixtures is incomplete.
        request.node.stash[_OWN] = harness
        yield harness
        del request.node.stash[_OWN]  # tests outlive their fixtures


@pytest.fixture
def ninetailed_server(ninetailed: Harness) -> Iterator[LiveServer]:
    """Yield the harness of the fixture ``ninetailed`` behind a free port."""
    from ninetailed_wsgi.testing.live import LiveServer

    with LiveServer(ninetailed) as server:
        yield server


@pytest.fixture
def ninetailed_visitor(ninetailed: Harness) -> Visitor:
    """Return a new visitor."""
    return ninetailed.visitor()


@pytest.fixture
def ninetailed_django_client(ninetailed: Harness) -> Iterator[Any]:
    """Yield Django's test client; the pages of the site have their visitor on the fixture ``ninetailed``."""
    from ninetailed_wsgi.django.testing import client_of

    with client_of(ninetailed) as client:
        yield client


@pytest.fixture(scope="session")
def ninetailed_session() -> Iterator[Harness]:
    """Yield one Experience API for fixtures of module and session scope; ``reset()`` empties it between tests."""
    from ninetailed_wsgi.testing.harness import Harness

    with Harness() as harness:
        yield harness


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add to a failed test's report what the harnesses among its fixtures know."""
    report = yield
    if report.failed and report.when != "teardown":
        report.sections += [(_SECTION, text) for text in _reports(item)]
    return report


def _reports(item: pytest.Item) -> Iterator[str]:
    module = sys.modules.get("ninetailed_wsgi.testing.harness")
    if module is None:  # then no fixture can be a harness
        return
    fixtures = [item.stash.get(_OWN, None), *getattr(item, "funcargs", {}).values()]
    harnesses = {id(value): value for value in fixtures if isinstance(value, module.Harness)}
    for harness in harnesses.values():
        try:
            yield harness.report()
        except Exception as error:  # always show the test's own failure
            yield f"report failed: {error!r}"
