"""A page decides by one version of the content: also its priorities, though another version is published meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from werkzeug.test import Client

from ninetailed_wsgi import visitor_of
from ninetailed_wsgi.authoring import audience, entry, experience, merge_tag, trait
from ninetailed_wsgi.testing import Harness

FIRST = experience("banner", ["banner-first"], id="first")
SECOND = experience("banner", ["banner-second"], id="second")
FIRST_BEFORE_SECOND = entry("banner", [FIRST, SECOND])
SECOND_BEFORE_FIRST = entry("banner", [SECOND, FIRST])
HERE = {"REMOTE_ADDR": "198.51.100.7"}


def banner(visitor: Any) -> object:
    return visitor.variant("banner")


def parts_of_a_page(
    harness: Harness, change: Callable[[], object], *uses: Callable[[Any], object], exposures: str = "seen"
) -> list[object]:
    """What each use of the visitor returns, in one page; the content changes after the first one."""
    parts: list[object] = []

    def site(environ: Any, start_response: Any) -> list[bytes]:
        visitor = visitor_of(environ)
        for number, use in enumerate(uses):
            if number == 1:
                change()
            parts.append(use(visitor))
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b""]

    assert (
        Client(harness.mount(site, exposures=exposures, time_budget_ms=20_000))
        .get("/", environ_overrides=HERE)
        .status_code
        == 200
    )
    return parts


@pytest.mark.parametrize("exposures", ["seen", "served"])
def test_priorities_are_those_of_the_content_that_decided_though_others_are_published_meanwhile(
    ninetailed: Harness, exposures: str
) -> None:
    ninetailed.publish(FIRST, SECOND, FIRST_BEFORE_SECOND)
    reverse = lambda: ninetailed.publish(SECOND_BEFORE_FIRST)  # noqa: E731
    assert parts_of_a_page(ninetailed, reverse, banner, banner, exposures=exposures) == ["banner-first", "banner-first"]
    assert parts_of_a_page(ninetailed, lambda: None, banner) == ["banner-second"]


def test_what_is_taken_back_while_a_page_is_made_is_on_that_page_alone(ninetailed: Harness) -> None:
    ninetailed.publish(FIRST, SECOND, FIRST_BEFORE_SECOND)
    withdraw = lambda: ninetailed.unpublish("first")  # noqa: E731
    assert parts_of_a_page(ninetailed, withdraw, banner, banner) == ["banner-first", "banner-first"]
    assert parts_of_a_page(ninetailed, lambda: None, banner) == ["banner-second"]


def test_an_event_that_asks_anew_takes_decision_and_priorities_of_the_newer_content(ninetailed: Harness) -> None:
    """Experiences that the first version did not have: with its priorities, none of them would be seen."""
    readers = audience(trait("plan", "pro"), id="pro", name="Pro")
    third = experience("banner", ["banner-third"], id="third", audience=readers)
    ninetailed.publish(readers, FIRST, SECOND, FIRST_BEFORE_SECOND)

    def change() -> None:
        ninetailed.publish(third, entry("banner", [third, SECOND, FIRST]))

    def identified(visitor: Any) -> object:
        visitor.identify(plan="pro")
        return visitor.variant("banner")

    assert parts_of_a_page(ninetailed, change, banner, identified) == [
        "banner-first",
        "banner-third",
    ]


def test_fallbacks_of_merge_tags_are_those_of_the_content_that_decided(ninetailed: Harness) -> None:
    def plan(visitor: Any) -> object:
        return visitor.merge_tag("traits.plan")

    ninetailed.publish(merge_tag("traits.plan", fallback="free"))
    change = lambda: ninetailed.publish(merge_tag("traits.plan", fallback="none"))  # noqa: E731
    assert parts_of_a_page(ninetailed, change, plan, plan) == ["free", "free"]
    assert parts_of_a_page(ninetailed, lambda: None, plan) == ["none"]


class PublishingPlaces:
    """A location database that somebody publishes content beside: it changes in the middle of a decision."""

    change: Callable[[], object] = bool

    def lookup(self, ip: str, locale: str) -> tuple[dict[str, Any], dict[str, Any]]:
        self.change()
        return {"city": "Berlin", "countryCode": "DE"}, {"city": "Berlin", "countryCode": "DE"}


def test_priorities_and_decision_are_of_one_version_though_another_is_published_in_the_middle_of_it() -> None:
    """By either version alone a variant is seen; by the decision of one and the priorities of the other none is."""
    places = PublishingPlaces()
    aside = experience("aside", ["aside-b"], id="aside")
    with Harness(location=places) as harness:
        harness.publish(FIRST, entry("banner", [FIRST]))

        def change() -> None:
            harness.publish(aside, SECOND, entry("banner", [SECOND]))
            harness.unpublish("first")

        places.change = change
        assert parts_of_a_page(harness, lambda: None, banner) == ["banner-first"]
        places.change = bool
        assert parts_of_a_page(harness, lambda: None, banner) == ["banner-second"]
