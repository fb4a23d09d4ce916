"""The API below a path of a Django site: ``path("ninetailed/", include(ninetailed_wsgi.django.urls))``."""

from __future__ import annotations

import sys
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.urls import re_path
from django.views.decorators.csrf import csrf_exempt

from ninetailed_wsgi.django.middleware import environ_of, site


@csrf_exempt
def api(request: HttpRequest, path: str) -> HttpResponse:
    """Answer a request to the API, whatever server Django runs under."""
    environ = environ_of(request)
    whole, rest = environ["PATH_INFO"], path.encode().decode("latin-1")
    mount = whole[: len(whole) - len(rest)].rstrip("/")
    environ |= {
        "SCRIPT_NAME": environ.get("SCRIPT_NAME", "") + mount,
        "PATH_INFO": f"/{rest}",
        "REQUEST_METHOD": request.method,
        "wsgi.input": request,
    }
    for name, value in (("SERVER_PROTOCOL", "HTTP/1.1"), ("wsgi.errors", sys.stderr)):
        environ.setdefault(name, value)
    started: list[Any] = []
    body = b"".join(site().api(environ, lambda status, headers, exc_info=None: started.append((status, headers))))
    status, headers = started[-1]
    code, _, reason = status.partition(" ")
    response = HttpResponse(body, status=int(code), reason=reason)
    del response["Content-Type"]
    for name, value in headers:
        response[name] = value
    return response


urlpatterns = [re_path(r"^(?P<path>.*)$", api, name="ninetailed")]
