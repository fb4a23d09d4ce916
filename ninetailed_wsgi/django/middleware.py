"""The middleware as a class for Django's ``MIDDLEWARE``, with the options in ``settings.NINETAILED``."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING, Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction, sync_to_async
from django.conf import settings
from django.core.signals import setting_changed
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.urls import NoReverseMatch, reverse

from ninetailed_wsgi.site.browser_sdk import BrowserSdk
from ninetailed_wsgi.site.conversation import PANEL
from ninetailed_wsgi.site.insertion import AnswerKind, Stream, inserted, kind_of
from ninetailed_wsgi.site.middleware import Ninetailed
from ninetailed_wsgi.site.visitor import KEY, Visitor

if TYPE_CHECKING:
    from ninetailed_wsgi.site.panel import Panel


class Middleware:
    """Gives each request its visitor, under WSGI, ASGI, Django's test client and its live server.

    List it in ``MIDDLEWARE`` below ``UpdateCacheMiddleware``, so that Django's cache sees the cookie and ``Vary``.
    Where `Ninetailed` wraps the WSGI application too, its visitor is used, unless ``settings.NINETAILED`` says
    something else: then the class, as the inner of the two, decides. In an async view, use the visitor in
    ``sync_to_async``: its methods wait for the store.
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        self._get_response = get_response
        site()  # invalid options stop startup
        self._is_async = iscoroutinefunction(get_response)
        if self._is_async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        if self._is_async:
            return self._answer_later(request)
        if (answer := _previewed(request)) is not None:
            return answer
        visitor = _visitor(request)
        return _personal(request, visitor, self._get_response(request))

    async def _answer_later(self, request: HttpRequest) -> HttpResponseBase:
        if (answer := _previewed(request)) is not None:
            return answer
        visitor = _visitor(request)
        response = await self._get_response(request)
        return await sync_to_async(_personal, thread_sensitive=False)(request, visitor, response)


class _BrowserSdk(BrowserSdk):
    """The SDK in a Django site, whose API is where ``urls.py`` mounts it."""

    def path(self, root: str) -> str:
        with suppress(NoReverseMatch):  # a site whose WSGI application is wrapped needs no URL for it
            url: str = reverse("ninetailed", kwargs={"path": ""})
            return url.rstrip("/")
        return super().path(root)


@cache
def site() -> Ninetailed:
    """Return the middleware that ``settings.NINETAILED`` describes, the same one for the whole process."""
    middleware = Ninetailed(**getattr(settings, "NINETAILED", {}))
    middleware.browser_sdk = _BrowserSdk(middleware.options, middleware.settings.spaces, middleware.hint)
    return middleware


def environ_of(request: HttpRequest) -> dict[str, Any]:
    """Return the WSGI environ of a request, or one that is made like it under ASGI."""
    if hasattr(request, "environ"):
        environ: dict[str, Any] = {**request.environ, "wsgi.url_scheme": request.scheme}
        return environ
    path = request.META.get("PATH_INFO", request.path_info)
    as_wsgi = path.encode().decode("latin-1")  # PEP 3333
    return {**request.META, "PATH_INFO": as_wsgi, "wsgi.url_scheme": request.scheme}


def _previewed(request: HttpRequest) -> HttpResponse | None:
    """Return the answer to a preview link; during a preview, remove the conditions from the request."""
    owner = site()
    if owner.previews is None or KEY in request.META:  # `Ninetailed` around the application has done it
        return None
    answer = owner.previews.answer(environ_of(request))
    if answer is None:
        owner.previews.make_unconditional(request.META)
        return None
    response = HttpResponse(answer.body, status=int(answer.status.split()[0]))
    for name, value in answer.headers:
        if name == "Set-Cookie":
            response.cookies.load(value)
        else:
            response[name] = value
    return response


def _visitor(request: HttpRequest) -> Visitor:
    visitor = request.META.get(KEY)
    if not isinstance(visitor, Visitor) or _decides(visitor):
        if (panel := site().panel) is not None and panel.is_due(environ_of(request)):
            panel.prepare(request.META)
        visitor = request.META[KEY] = Visitor(environ_of(request), site())
    return visitor


def _decides(visitor: Visitor) -> bool:
    """Return whether the site's own settings contradict those of `Ninetailed` around its WSGI application."""
    outer, inner = visitor.backend, site()
    if not getattr(settings, "NINETAILED", None) or not isinstance(outer, Ninetailed):
        return False
    # A harness around the application stands for the site's service.
    return not inner.is_like(outer) and (outer.service is None or inner.service is not None)


def _personal(request: HttpRequest, visitor: Visitor, response: Any) -> Any:
    """Write what the page recorded, and give the response the headers of a page that used its visitor."""
    panel = site().panel if visitor.backend is site() and PANEL in request.META else None
    kind = kind_of(request.META, str(response.status_code), list(response.items())) if panel else AnswerKind.UNTOUCHED
    if kind is not AnswerKind.UNTOUCHED:
        visitor.attend()
    response = _headed(visitor, response)
    return response if panel is None or kind is AnswerKind.UNTOUCHED else _with_panel(request, visitor, response, panel)


def _with_panel(request: HttpRequest, visitor: Visitor, response: Any, panel: Panel) -> Any:
    """Put the panel into a page."""

    # Read the nonce now: a policy that is made later names only a nonce that was used.
    nonce, root = _nonce_of(request), request.META.get("SCRIPT_NAME", "")

    def markup() -> bytes:
        return panel.markup(visitor, root, list(response.items()), nonce)

    if not response.streaming:
        response.content = inserted(response.content, markup)
        if "Content-Length" in response:
            response["Content-Length"] = str(len(response.content))
        return response
    stream, pieces = Stream(markup), response.streaming_content

    def following() -> Iterator[bytes]:
        yield from map(stream.feed, pieces)
        yield stream.end()

    async def following_later() -> AsyncIterator[bytes]:
        async for piece in pieces:
            yield stream.feed(piece)
        yield await sync_to_async(stream.end, thread_sensitive=False)()

    response.streaming_content = following_later() if response.is_async else following()
    del response["Content-Length"]
    return response


def _nonce_of(request: HttpRequest) -> str:
    """Return the nonce of the page's policy, as django-csp, and Django from version 6 on, make it; empty without."""
    nonce = getattr(request, "csp_nonce", None)
    if nonce is None:
        nonce = getattr(request, "_csp_nonce", None)
    try:
        return "" if nonce is None else str(nonce)
    except Exception:  # the policy is made already, and its header has the nonce
        return ""


def _headed(visitor: Visitor, response: Any) -> Any:
    """Write what the page recorded; return the response with the headers of a page that used its visitor."""
    cookies = [("Set-Cookie", morsel.OutputString()) for morsel in response.cookies.values()]
    before = [*response.items(), *cookies]
    backend = visitor.backend
    owner = backend if isinstance(backend, Ninetailed) else site()
    after = owner.finish(visitor, str(response.status_code), before)
    if after is before:
        return response
    for name in {name for name, _ in before} - {name for name, _ in after}:
        del response[name]
    for name, value in after:
        if name != "Set-Cookie":
            response[name] = value
        elif (name, value) not in cookies:
            response.cookies.load(value)
    return response


def _forget(*, setting: str, **_: object) -> None:
    if setting == "NINETAILED":
        site.cache_clear()


setting_changed.connect(_forget)
