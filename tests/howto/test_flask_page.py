"""How to test the personalized pages of your site: a Flask site, mounted on the harness."""

from __future__ import annotations

import pytest
from flask import Flask, request

from ninetailed_wsgi import visitor_of
from ninetailed_wsgi.testing import Harness, audience, experience, viewed

OFFER = experience("hero", ["offer"], audience=audience(viewed("/pricing", at_least=2), id="interested"))
HEROES = {"hero": "Tea for everyone", "offer": "Half price for you"}


def make_site() -> Flask:
    """Your site; in production it is ``app.wsgi_app = Ninetailed(app.wsgi_app, ...)``."""
    site = Flask("shop")

    @site.get("/pricing")
    def pricing() -> str:
        visitor = visitor_of(request)
        visitor.page()
        return HEROES[visitor.variant("hero")]

    return site


@pytest.mark.ninetailed(content=[OFFER])
def test_the_second_look_at_the_prices_brings_an_offer(ninetailed: Harness) -> None:
    site = make_site()
    site.wsgi_app = ninetailed.mount(site.wsgi_app)  # type: ignore[method-assign]
    browser = site.test_client()

    assert browser.get("/pricing").text == "Tea for everyone"
    assert browser.get("/pricing").text == "Half price for you"
    assert ninetailed.events[0].profile == browser.get_cookie("ntaid").value
