"""The class for Django's MIDDLEWARE: the same visitor under the test client, ASGI, WSGI, and the wrapper."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import django.test
import pytest
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.test import AsyncClient, override_settings
from django.urls import include, path

import ninetailed_wsgi.django.urls
from ninetailed_wsgi import visitor_of
from ninetailed_wsgi.django import middleware
from ninetailed_wsgi.testing import Harness, audience, flag, performed
from tests.mount.browser import Browser
from tests.mount.sites import set_django_up

set_django_up()

PROFILE = "/ninetailed/v2/organizations/default/environments/main/profiles/anna"


def page(request: HttpRequest) -> HttpResponse:
    visitor_of(request).track("order")
    return HttpResponse(str(visitor_of(request).flag("limit", "none")))


async def async_page(request: HttpRequest) -> HttpResponse:
    visitor_of(request).page()
    return HttpResponse("async")


def unused(request: HttpRequest) -> HttpResponse:
    return HttpResponse("unused")


def stream(request: HttpRequest) -> StreamingHttpResponse:
    visitor_of(request).page()
    return StreamingHttpResponse(iter([b"a", b"b"]))


urlpatterns = [
    path("page/", page),
    path("async/", async_page),
    path("unused/", unused),
    path("stream/", stream),
    path("ninetailed/", include(ninetailed_wsgi.django.urls)),
]


@pytest.fixture
def harness() -> Iterator[Harness]:
    with Harness([flag("limit", control=50, variants=[30], audience=audience(performed("order")))]) as harness:
        options = {"settings": harness.settings, "service": harness.service, "time_budget_ms": 30_000}
        with override_settings(
            MIDDLEWARE=["django.middleware.cache.UpdateCacheMiddleware", "ninetailed_wsgi.django.Middleware"],
            ROOT_URLCONF=__name__,
            NINETAILED=options,
        ):
            yield harness


def test_the_test_client_has_its_visitor_and_keeps_the_cookie(harness: Harness) -> None:
    client = django.test.Client()
    answer = client.get("/page/?utm_source=mail")
    assert answer.content == b"30"
    assert (answer["Cache-Control"], answer["Vary"]) == ("private, no-store", "Cookie")
    client.get("/stream/")
    assert {event.profile for event in harness.events} == {client.cookies["ntaid"].value}
    assert harness.events[0].event["context"]["page"]["url"] == "http://testserver/page/?utm_source=mail"
    cookie = client.cookies["ntaid"]
    assert (cookie["path"], cookie["samesite"], cookie["max-age"]) == ("/", "Lax", "31536000")


def test_a_view_that_leaves_its_visitor_alone_answers_as_it_did(harness: Harness) -> None:
    answer = django.test.Client().get("/unused/")
    assert ("Vary" in answer, "Cache-Control" in answer, len(answer.cookies)) == (False, False, 0)


@pytest.mark.parametrize(("url", "body"), [("/async/", b"async"), ("/page/", b"30")])
def test_under_asgi_views_of_both_kinds_have_their_visitor(harness: Harness, url: str, body: bytes) -> None:
    async def visit() -> Any:
        return await AsyncClient().get(url + "café/".replace("café/", ""))

    answer = asyncio.run(visit())
    assert answer.content == body
    assert [event.profile for event in harness.events] == [answer.cookies["ntaid"].value]


def test_the_api_is_mounted_by_the_urls_of_the_site(harness: Harness) -> None:
    client = django.test.Client(enforce_csrf_checks=True)
    event = {"type": "track", "event": "order", "channel": "web", "messageId": "m", "properties": {},
             "context": {"library": {"name": "tests", "version": "7.0.0"}}}  # fmt: skip
    answer = client.post(PROFILE, json.dumps({"events": [event]}), content_type="text/plain")
    assert (answer.status_code, answer.json()["data"]["profile"]["id"]) == (200, "anna")
    assert client.get(PROFILE.replace("anna", "nobody")).json()["error"]["code"] == "ERR_PROFILE_NOT_FOUND"
    assert client.options(PROFILE).status_code == 204

    async def post() -> Any:
        return await AsyncClient().post(PROFILE, json.dumps({"events": [event]}), content_type="application/json")

    assert asyncio.run(post()).status_code == 200


def test_the_class_and_the_wrapper_together_are_one(harness: Harness) -> None:
    from django.core.handlers.wsgi import WSGIHandler

    browser = Browser(harness.mount(WSGIHandler()))
    answer = browser.get("/page/", HTTP_HOST="testserver")
    assert answer.text == "30"
    assert answer.set_cookie is not None  # one and no more
    assert answer.all("Vary") == ["Cookie"]
    assert len(harness.events) == 1
    assert browser.get("/ninetailed/health/live", HTTP_HOST="testserver").status == 200


def test_settings_that_contradict_the_wrapper_decide_about_consent(harness: Harness) -> None:
    from django.core.handlers.wsgi import WSGIHandler

    own = {"settings": harness.settings, "service": harness.service, "time_budget_ms": 30_000}
    with override_settings(NINETAILED={**own, "consent": lambda environ: False}):
        answer = Browser(harness.mount(WSGIHandler())).get("/page/", HTTP_HOST="testserver")
    assert (answer.status, answer.set_cookie, harness.events) == (200, None, [])


def test_wrong_options_stop_the_start(harness: Harness) -> None:
    from ninetailed_wsgi.errors import SettingsError

    with override_settings(NINETAILED={"cookie_samesite": "no"}), pytest.raises(SettingsError, match="cookie_samesite"):
        django.test.Client().get("/unused/")
    assert middleware.site().options.cookie_samesite == "Lax"
