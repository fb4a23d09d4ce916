"""The fixtures for sites that have tests already: Django's client on the harness, and one for longer scopes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import django.test
import pytest
from django.http import HttpRequest, HttpResponse
from django.test import override_settings
from django.urls import path

from ninetailed_wsgi import visitor_of
from ninetailed_wsgi.testing import Harness, flag
from tests.mount.sites import set_django_up

set_django_up()


def page(request: HttpRequest) -> HttpResponse:
    visitor_of(request).page()
    return HttpResponse(str(visitor_of(request).flag("limit", "none")))


urlpatterns = [path("page/", page)]


@pytest.fixture
def site() -> Iterator[None]:
    with override_settings(ROOT_URLCONF=__name__, NINETAILED={"cookie_path": "/page", "content": "elsewhere.json"}):
        yield


@pytest.mark.ninetailed(content=[flag("limit", control=50, variants=[30])])
def test_the_pages_of_a_django_site_have_their_visitor_on_the_harness(
    site: None, ninetailed_django_client: Any, ninetailed: Harness
) -> None:
    assert isinstance(ninetailed_django_client, django.test.Client)
    assert ninetailed_django_client.get("/page/").content == b"30"
    cookie = ninetailed_django_client.cookies["ntaid"]
    assert [event.profile for event in ninetailed.events] == [cookie.value]
    assert cookie["path"] == "/page", "the site's own options of the mount hold"


def test_a_mount_can_be_undone(ninetailed_session: Harness) -> None:
    def app(environ: Any, start_response: Any) -> list[bytes]:
        return []

    assert ninetailed_session.unmount(ninetailed_session.mount(app)) is app
    assert ninetailed_session.unmount(app) is app


@pytest.fixture(scope="module")
def visitors_of_the_module(ninetailed_session: Harness) -> Harness:
    ninetailed_session.visitor("anna").views("/")
    return ninetailed_session


def test_a_fixture_of_a_longer_scope_has_a_harness(visitors_of_the_module: Harness) -> None:
    assert len(visitors_of_the_module.events) == 1
    visitors_of_the_module.reset()
    assert visitors_of_the_module.events == []
