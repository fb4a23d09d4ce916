"""The tests of a site itself, with the test client of its framework: ``python -m hosts.own`` runs those of HOST_SITE.

They know nothing of the middleware, so they must pass in each form.
"""

from __future__ import annotations

import os
from typing import Any

from hosts import sites

FRONT, STREAM = "<h1>banner</h1>", "".join(f"{number}," for number in range(100))


def test_flask() -> None:
    app = sites.flask_app()
    client = app.test_client()
    check(lambda path: client.get(path).text)
    assert client.post("/form", data={"name": "Anna"}).status_code == 201
    assert client.get("/fails").status_code == 500
    with app.test_request_context("/"):
        assert app.view_functions["front"]() == FRONT


def test_django() -> None:
    sites.set_django_up()
    from django.test import Client, RequestFactory
    from django.urls import resolve

    client = Client(raise_request_exception=False)
    check(lambda path: b"".join(client.get(path)).decode())
    assert client.post("/form", {"name": "Anna"}).status_code == 201
    assert client.get("/fails").status_code == 500
    assert resolve("/").func(RequestFactory().get("/")).content.decode() == FRONT


def test_pyramid() -> None:
    check_wsgi(sites.pyramid_site(), {"name": "Anna"})


def test_cherrypy() -> None:
    check_wsgi(sites.cherrypy_site(), {"name": "Anna"})


def test_fastapi() -> None:
    from fastapi.testclient import TestClient

    client = TestClient(sites.fastapi_app())
    check(lambda path: client.get(path).text)
    check_wsgi(sites.fastapi_site(), None)


def check(get: Any) -> None:
    for _ in range(2):
        assert get("/") == FRONT
        assert get("/stream").startswith(STREAM)


def check_wsgi(app: Any, form: dict[str, str] | None) -> None:
    from werkzeug.test import Client

    client = Client(app)
    check(lambda path: client.get(path).text)
    if form:
        assert client.post("/form", data=form).status_code == 201


if __name__ == "__main__":
    globals()[f"test_{os.environ['HOST_SITE']}"]()
    print("passed")
