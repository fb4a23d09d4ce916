"""How to test what visitors of a place see: addresses get their places from a dict."""

from __future__ import annotations

import pytest

from ninetailed_wsgi.testing import Harness, audience, experience, located


@pytest.fixture
def ninetailed_location() -> dict[str, str]:
    return {"203.0.113.0/24": "Berlin, DE", "198.51.100.0/24": "Paris, FR"}


def test_germans_see_the_german_shipping_costs(ninetailed: Harness) -> None:
    ninetailed.publish(experience("shipping", ["shipping-de"], audience=audience(located(country="DE"))))

    anna = ninetailed.visitor("anna").from_address("203.0.113.7").views("/")
    luc = ninetailed.visitor("luc").from_address("198.51.100.7").views("/")

    assert anna.location == {"city": "Berlin", "countryCode": "DE"}
    assert (anna.variant("shipping"), luc.variant("shipping")) == ("shipping-de", "shipping")
