"""A service with traffic of made-up visitors, for looking at it in the inspector."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ninetailed_wsgi.insights import population
from ninetailed_wsgi.insights.replay import what_if
from ninetailed_wsgi.testing import Harness

SHOP = Path(__file__).parents[2] / "fixtures" / "spaces" / "shop.json"
PATHS = ("/", "/pricing", "/pricing/business", "/journal")


def busy(**settings: Any) -> Harness:
    """Return the tea shop with forty visitors, whose audiences were counted."""
    harness = Harness(SHOP, **{"inspector": True, "draft_content": SHOP, **settings})
    for number in range(40):
        visitor = harness.visitor()
        for page in range(1 + number % 7):
            visitor.views(PATHS[(number + page) % 4]).waits(minutes=7 * (number % 5))
        if number % 3 == 0:
            visitor.tracks("add_to_cart", tea="sencha")
        if number % 4 == 0:
            visitor.identifies(plan="member", firstname=f"Visitor {number}")
    count(harness)
    return harness


def count(harness: Harness) -> None:
    """Count as the process for results does."""
    where, now = harness.environment, harness.clock()
    draft = harness.service.previews.draft(*where)
    found, _ = what_if(harness.service.store, where, harness.catalog, draft, now)
    population.keep(harness.settings.data_dir, where, found, now)


def profile_id(harness: Harness) -> str:
    """Return the id of a visitor who did much."""
    return max(harness.events, key=lambda event: sum(each.profile == event.profile for each in harness.events)).profile
