"""How to test a site that asks the Experience API over HTTP, in any language: the live server stands in for the API."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable
from urllib.request import Request, urlopen
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

import pytest

from ninetailed_wsgi.testing import Client, LiveServer, audience, experience, viewed

OFFER = experience("hero", ["offer"], audience=audience(viewed("/pricing", at_least=2), id="interested"))
HEROES = {"hero": b"<h1>Tea for everyone</h1>", "offer": b"<h1>Half price for you</h1>"}


def make_site(api_url: str) -> WSGIApplication:
    """Your site: tells the API of each page view and renders the hero that it chooses."""

    def site(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        page = {"path": path, "query": {}, "referrer": "", "search": "", "url": f"https://shop.example{path}"}
        library = {"name": "shop", "version": "4.0.0"}
        event = {"type": "page", "channel": "server", "messageId": str(uuid.uuid4())}
        events = [{**event, "context": {"library": library}, "properties": page}]
        request = Request(f"{api_url}/profiles/{environ['HTTP_X_VISITOR']}", json.dumps({"events": events}).encode())
        with urlopen(request) as response:
            experiences = json.load(response)["data"]["experiences"]
        variants = {baseline: chosen for one in experiences for baseline, chosen in one["variants"].items()}
        start_response("200 OK", [("Content-Type", "text/html")])
        return [HEROES[variants.get("hero", "hero")]]

    return site


@pytest.mark.ninetailed(content=[OFFER])
def test_the_second_look_at_the_prices_brings_an_offer(ninetailed_server: LiveServer) -> None:
    browser = Client(make_site(ninetailed_server.api_url))

    assert b"Tea for everyone" in browser.get("/pricing", headers={"X-Visitor": "anna"}).body
    assert b"Half price for you" in browser.get("/pricing", headers={"X-Visitor": "anna"}).body
    assert [captured.event["type"] for captured in ninetailed_server.harness.events] == ["page", "page"]
