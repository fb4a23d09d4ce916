"""A site's tests that hold the time with freezegun or time-machine, beside the clock of the harness."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest
import time_machine
from freezegun import freeze_time

from ninetailed_wsgi import visitor_of
from ninetailed_wsgi.testing import Client, Harness

WHEN = "2026-12-24T12:00:00+00:00"
HOLDERS: dict[str, Callable[[str], AbstractContextManager[Any]]] = {
    "freezegun": freeze_time,
    "time-machine": time_machine.travel,
}


def site(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    visitor_of(environ).page()
    start_response("200 OK", [])
    return [b""]


@pytest.mark.parametrize("library", HOLDERS)
def test_a_time_that_is_held_beside_the_clock_is_told_once(library: str) -> None:
    with Harness() as harness, HOLDERS[library](WHEN), warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        browser = Client(harness.mount(site))
        browser.get("/")
        browser.get("/")
        harness.visitor().views("/")
    (warning,) = told
    assert str(warning.message) == (
        f"{library} shows the site 2026-12-24 12:00:00, but the harness' clock stands at 2026-01-05 12:00:00: "
        "set it with clock.at(...), or give the harness now=..."
    )


@pytest.mark.parametrize("library", HOLDERS)
def test_a_clock_that_agrees_is_no_reason_to_warn(library: str) -> None:
    with Harness(now=WHEN) as harness, HOLDERS[library](WHEN), warnings.catch_warnings():
        warnings.simplefilter("error")
        assert harness.visitor().views("/").session["count"] == 1


def test_without_either_nothing_is_compared() -> None:
    with Harness() as harness, warnings.catch_warnings():
        warnings.simplefilter("error")
        harness.visitor().views("/")
