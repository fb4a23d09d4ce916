"""Credentials in addresses: which values are emptied before an event is stored."""

from __future__ import annotations

from typing import Any

import pytest

from ninetailed_wsgi.core.url_masks import UrlMask
from ninetailed_wsgi.testing import Harness


@pytest.mark.parametrize(
    ("address", "masked"),
    [
        ("https://a.example/?token=x&q=1", "https://a.example/?token=&q=1"),
        ("?q=1&PASSWORD=x", "?q=1&PASSWORD="),
        ("api_key=x;sig=y", "api_key=;sig="),
        ("/#access_token=x&state=1", "/#access_token=&state=1"),
        ("/?%74oken=x", "/?%74oken="),
        ("/?next=%2Fa%3Fjwt%3Dx%26b%3D1", "/?next=%2Fa%3Fjwt%3D%26b%3D1"),
        ("/?tokens=x&my_token=y", "/?tokens=x&my_token=y"),
        ("/?token=", "/?token="),
        ("/token=x/", "/token=x/"),
        ("", ""),
        ("?=&==&&", "?=&==&&"),
    ],
)
def test_values_of_these_parameters_are_emptied_wherever_they_stand(address: str, masked: str) -> None:
    assert UrlMask().text(address) == masked


def test_an_event_without_credentials_stays_the_same_object() -> None:
    event: dict[str, Any] = {"context": {"page": {"url": "/?q=1", "query": {"q": "1"}}}, "properties": {}}
    assert UrlMask().event(event) is event
    assert UrlMask(()).event({"properties": {"url": "/?token=x"}})["properties"]["url"] == "/?token=x"


@pytest.mark.parametrize(
    "event", [{}, {"context": None}, {"context": {"page": 5}, "properties": {"query": 5, "url": 5}}]
)
def test_whatever_a_client_sends_in_their_place_is_left_alone(event: dict[str, Any]) -> None:
    assert UrlMask().event(event) == event


def test_events_of_clients_are_masked_too_by_the_names_of_the_settings() -> None:
    page = {
        "path": "/",
        "query": {"pin": "1", "token": "2"},
        "referrer": "?pin=1",
        "search": "?pin=1",
        "url": "/?pin=1",
    }
    event = {
        "type": "page",
        "channel": "web",
        "messageId": "m",
        "context": {"library": {"name": "t", "version": "7.0.0"}, "page": page},
        "properties": page,
    }
    with Harness(masked_query_parameters=["PIN"]) as harness:
        answer = harness.client.post("/profiles", {"events": [event]})
        landing = answer.document["data"]["profile"]["session"]["landingPage"]
        masked = {"query": {"pin": "", "token": "2"}, "referrer": "?pin=", "search": "?pin=", "url": "/?pin="}
        assert landing == {**page, **masked}
        assert harness.events[0].event["context"]["page"]["url"] == "/?pin="
