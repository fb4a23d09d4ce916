"""How to test that your conversion is measured: the site must send the event that the metric counts."""

from __future__ import annotations

import pytest

from ninetailed_wsgi.testing import Harness, experience, metric

BOUGHT = metric("purchase", name="Bought")
HERO = experience("hero", ["hero-price"], distribution=[0.5, 0.5], id="hero-test", metric="Bought")


@pytest.mark.ninetailed(content=[HERO, BOUGHT])
def test_who_sees_the_hero_and_buys_is_a_conversion(ninetailed: Harness) -> None:
    ninetailed.force(HERO, 1)
    ninetailed.visitor("anna").views("/").sees(HERO).clicks(HERO).buys("green tea", total=12.5)
    ninetailed.visitor("ben").views("/").sees(HERO)

    control, price = ninetailed.results(HERO)["variants"]
    assert (price["visitors"], price["clicks"], price["conversions"]) == (2, 1, 1)
    assert control["visitors"] == 0
