"""Finds the visitor of a request, whatever framework made the request."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ninetailed_wsgi.site.browser_sdk import BrowserSdk
from ninetailed_wsgi.site.evaluation import Decision, Question
from ninetailed_wsgi.site.mount_options import MountOptions
from ninetailed_wsgi.site.previews import Previews
from ninetailed_wsgi.site.reports import Reports
from ninetailed_wsgi.site.visitor import KEY, Visitor

_NOT_SERVED = (
    "a page asked for its visitor where the middleware did not serve the request, so it gets baselines: wrap the WSGI "
    "app with Ninetailed(app); in a template, pass it the request (Jinja2: import macros 'with context')"
)


class _Nowhere:
    """The backend of pages that the middleware does not serve, as in a site's own unit tests: it knows nothing."""

    preflight = True
    time_budget = 0.0
    cookie_names: tuple[str, ...] = ()
    counts_served = False
    previews: Previews | None = None

    def __init__(self) -> None:
        self._reports = Reports()
        self.browser_sdk = BrowserSdk(MountOptions(), ())

    def consents(self, environ: Mapping[str, Any]) -> bool:
        return False

    def origin(self, environ: Mapping[str, Any]) -> tuple[str, str]:
        return "http", ""

    def evaluate(self, question: Question, seconds: float) -> Decision:
        return Decision()

    def forget(self, id: str, environ: Mapping[str, Any]) -> bool:
        return False

    def identity_token(self, user_id: str, seconds: int) -> str:
        return ""

    def visible(self, data: dict[str, Any]) -> dict[str, Any]:
        return data

    def report(self, kind: str, error: Exception) -> None:
        return None

    def hint(self, kind: str, text: str) -> None:
        self._reports.hint(kind, text)


_NOWHERE = _Nowhere()


def visitor_of(request: Any) -> Visitor:
    """Return the visitor of a request of Flask, Django, Pyramid, Falcon, CherryPy or Starlette, or of an environ.

    Where the middleware did not serve the request, the visitor gets baselines, defaults and empty lists, and the log
    says so once.

    Example: ``visitor_of(request).page()``
    """
    environ: Any = {}
    for environ in _environs(request):
        if isinstance(visitor := environ.get(KEY), Visitor):
            return visitor
    _NOWHERE.hint("nowhere", _NOT_SERVED)
    return Visitor(environ, _NOWHERE)


def _environs(request: Any) -> Iterator[Mapping[str, Any]]:
    """Yield the mappings in which a request of any framework may carry an environ."""
    if isinstance(request, Mapping):
        yield request
    for name in ("environ", "META", "env", "wsgi_environ"):
        if isinstance(environ := getattr(request, name, None), Mapping):
            yield environ
    if isinstance(scope := getattr(request, "scope", None), Mapping):  # Starlette and FastAPI below a2wsgi
        yield scope.get("wsgi_environ", scope)
