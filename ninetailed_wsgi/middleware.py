"""The WSGI middleware: the API under a prefix of the host site, and the visitor in the environ of its own pages."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote

import orjson

from ninetailed_wsgi.errors import NinetailedError, SettingsError, StoreUnavailable
from ninetailed_wsgi.settings import Settings
from ninetailed_wsgi.visitor import Visitor

Environ = dict[str, Any]
StartResponse = Callable[..., Any]
WSGIApp = Callable[[Environ, StartResponse], Iterable[bytes]]

KEY = "ninetailed.visitor"
"""Where a page finds its visitor in the environ."""

COOKIES = ("ntaid", "ctfl-opt-aid")
"""The cookies that the SDKs keep the profile's id in; both are read (spec section 9)."""

_RETRY_AFTER = 5.0  # seconds until a service that could not start is tried again
_PAGES_AT_ONCE = 16  # pages that are personalized at the same time in one process; more get baselines at once
_SAME_SITE = ("Lax", "Strict", "None")

_log = logging.getLogger("ninetailed_wsgi.middleware")


@dataclass(frozen=True, slots=True)
class _Engine:
    """What one process serves with; made in the process that uses it."""

    pid: int
    api: WSGIApp
    service: Any
    address: Any
    pool: ThreadPoolExecutor
    free: threading.Semaphore


class Ninetailed:
    """Mounts the Experience API in a WSGI site and personalizes the site's own pages.

    Example::

        app = Ninetailed(app, content="content.json", data_dir="/var/lib/nt")

    Requests whose path begins with ``prefix`` go to the API. All others go to the site, untouched, with a
    :class:`~ninetailed_wsgi.visitor.Visitor` in ``environ["ninetailed.visitor"]``. No failure of personalization
    reaches the site: it is logged, once for each kind and minute, and the visitor answers baselines.

    Args:
        app: the site.
        settings: the settings of ``serve``; or as keywords in ``options``.
        organization, environment: whose visitors the site's pages ask for.
        prefix: where the API is mounted; whole path segments.
        preflight: pages only evaluate, since the browser SDK in them sends the real events.
        consent: says from the environ whether a visitor may be remembered; default: everyone. Without consent nothing
            is stored and no cookie set. A page may also set ``visitor.consent``.
        time_budget_ms: how long a page waits for personalization at most, milliseconds.
        cookie_name, cookie_domain, cookie_secure, cookie_samesite, cookie_max_age: of the cookie with the profile's id.
            ``cookie_secure`` None: where the page came over https. ``cookie_max_age`` in seconds.

    Raises:
        SettingsError: naming every bad option.
    """

    def __init__(
        self,
        app: WSGIApp,
        settings: Settings | None = None,
        *,
        organization: str = "default",
        environment: str = "main",
        prefix: str = "/ninetailed",
        preflight: bool = False,
        consent: Callable[[Mapping[str, Any]], bool] | None = None,
        time_budget_ms: float = 100,
        cookie_name: str = COOKIES[0],
        cookie_domain: str = "",
        cookie_secure: bool | None = None,
        cookie_samesite: str = "Lax",
        cookie_max_age: int = 365 * 24 * 60 * 60,
        **options: Any,
    ) -> None:
        # Everything that could be wrong is said now; everything that a fork would break is opened at the first request.
        self._settings = Settings.from_env(**options) if settings is None else replace(settings, **options)
        problems = [
            f"{name}: found {found!r}, expected {expected}"
            for name, found, right, expected in (
                ("prefix", prefix, prefix.startswith("/") and prefix.strip("/") != "", "a path such as /ninetailed"),
                ("time_budget_ms", time_budget_ms, time_budget_ms > 0, "a number of milliseconds above 0"),
                ("cookie_samesite", cookie_samesite, cookie_samesite in _SAME_SITE, " or ".join(_SAME_SITE)),
                ("cookie_name", cookie_name, _is_token(cookie_name), "the name of a cookie"),
                ("cookie_domain", cookie_domain, not cookie_domain or _is_token(cookie_domain), "the name of a host"),
            )
            if not right
        ]
        if problems:
            raise SettingsError(problems)
        self._app = app
        self._prefix = prefix.rstrip("/")
        self._where = (organization, environment)
        self._consent = consent
        self._budget = time_budget_ms / 1000
        self._cookie_name = cookie_name
        self._cookie_secure = cookie_secure
        self._cookie_end = f"; Path=/; Max-Age={cookie_max_age}; SameSite={cookie_samesite}"
        self._cookie_end += f"; Domain={cookie_domain}" if cookie_domain else ""
        self.preflight = preflight
        self.cookie_names = tuple(dict.fromkeys((cookie_name, *COOKIES)))
        self._engine: _Engine | None = None
        self._retry_at = 0.0
        self._logged: dict[str, float] = {}

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        if path.startswith(self._prefix) and path[len(self._prefix) :][:1] in ("", "/"):
            return self._call_api(environ, start_response, path[len(self._prefix) :])
        if KEY in environ:  # wrapped twice: the outer one has made the visitor and sets the cookie
            return self._app(environ, start_response)
        visitor = environ[KEY] = Visitor(environ, self)

        def start(status: str, headers: list[tuple[str, str]], *error: Any) -> Any:
            if visitor.used and (id := visitor.finish()) is not None:
                headers = [*headers, ("Set-Cookie", self._cookie(environ, id))]
            return start_response(status, headers, *error)

        return self._app(environ, start)

    # What a visitor asks; see visitor.Backend.

    def consents(self, environ: Mapping[str, Any]) -> bool:
        if self._consent is None:
            return True
        try:
            return bool(self._consent(environ))
        except Exception as error:
            self._report("consent", error)
            return False

    def evaluate(
        self, environ: Mapping[str, Any], name: str | None, events: list[dict[str, Any]], locale: str, preflight: bool
    ) -> dict[str, Any] | None:
        engine = self._running()
        if engine is None:
            return None
        if not engine.free.acquire(blocking=False):
            self._report("busy", StoreUnavailable(f"{_PAGES_AT_ONCE} pages are being personalized already"))
            return None

        def ask() -> dict[str, Any]:
            try:
                environment = engine.service.environment(*self._where)
                body = {"events": events, "options": {"features": ["location"]}}
                address = engine.address.of(environ)
                data: dict[str, Any] = engine.service.upsert(
                    environment, name, body, preflight=preflight, address=address, locale=locale
                )
                return data
            finally:
                engine.free.release()

        try:
            return engine.pool.submit(ask).result(self._budget)
        except TimeoutError:
            self._report("time", StoreUnavailable(f"the answer took longer than {self._budget * 1000:g} ms"))
        except Exception as error:
            self._report(type(error).__name__, error)
        return None

    def order(self, entry: str) -> tuple[str, ...]:
        engine = self._running()
        return engine.service.content(*self._where).entry_experiences.get(entry, ()) if engine else ()

    def fallback(self, merge_tag: str) -> str | None:
        engine = self._running()
        tag = engine.service.content(*self._where).merge_tags.get(merge_tag) if engine else None
        return tag.fallback if tag else None

    # Inside

    def _call_api(self, environ: Environ, start_response: StartResponse, path: str) -> Iterable[bytes]:
        engine = self._running()
        if engine is None:
            return _unavailable(start_response)
        inner = {**environ, "SCRIPT_NAME": environ.get("SCRIPT_NAME", "") + self._prefix, "PATH_INFO": path}
        return engine.api(inner, start_response)

    def _running(self) -> _Engine | None:
        engine = self._engine
        if engine is not None and engine.pid == os.getpid():
            return engine
        # Two threads may both come here: one engine more is made and forgotten, which does no harm.
        if engine is None and time.monotonic() < self._retry_at:
            return None
        try:
            self._engine = engine = _start(self._settings)
        except Exception as error:
            self._engine = None
            self._retry_at = time.monotonic() + _RETRY_AFTER
            self._report("start", error)
            return None
        return engine

    def _cookie(self, environ: Environ, id: str) -> str:
        secure = environ.get("wsgi.url_scheme") == "https" if self._cookie_secure is None else self._cookie_secure
        return f"{self._cookie_name}={quote(id)}{self._cookie_end}{'; Secure' if secure else ''}"

    def _report(self, kind: str, error: Exception) -> None:
        now = time.monotonic()
        if now - self._logged.get(kind, -60.0) < 60.0:
            return
        self._logged[kind] = now
        known = isinstance(error, NinetailedError)
        _log.error("this page is served without personalization: %s", error, exc_info=None if known else error)


def filter_app_factory(app: WSGIApp, global_conf: Mapping[str, str], **local_conf: str) -> Ninetailed:
    """For ``paste.filter_app_factory``: the options of :class:`Ninetailed` as text, as an ini file has them."""
    given: dict[str, Any] = dict(local_conf)
    problems = []
    for name, read in (
        ("time_budget_ms", float),
        ("cookie_max_age", int),
        ("preflight", _yes),
        ("cookie_secure", _yes),
    ):
        if name in given:
            try:
                given[name] = read(given[name])
            except ValueError:
                problems.append(
                    f"{name}: found {given[name]!r}, expected {'yes or no' if read is _yes else 'a number'}"
                )
    if problems:
        raise SettingsError(problems)
    return Ninetailed(app, **given)


def _yes(text: str) -> bool:
    if text.lower() not in ("yes", "true", "on", "1", "no", "false", "off", "0"):
        raise ValueError(text)
    return text.lower() in ("yes", "true", "on", "1")


def _is_token(text: str) -> bool:
    return text != "" and text.isascii() and text.isprintable() and not set(text) & set(' \t()<>@,;:\\"/[]?={}')


def _start(settings: Settings) -> _Engine:
    # Here, so that importing the middleware is cheap for processes that never serve.
    from ninetailed_wsgi.app import api
    from ninetailed_wsgi.client_ip import ClientAddress
    from ninetailed_wsgi.service import ExperienceService

    service = ExperienceService.from_settings(settings)
    return _Engine(
        pid=os.getpid(),
        api=api(service, settings),
        service=service,
        address=ClientAddress(settings.trusted_proxies),
        pool=ThreadPoolExecutor(_PAGES_AT_ONCE, thread_name_prefix="ninetailed"),
        free=threading.Semaphore(_PAGES_AT_ONCE),
    )


def _unavailable(start_response: StartResponse) -> list[bytes]:
    error = StoreUnavailable("the service could not be started; the log says why")
    body = orjson.dumps({"message": str(error), "data": {}, "error": {"code": error.code}})
    headers = [("Content-Type", "application/json"), ("Content-Length", str(len(body))), ("Retry-After", "5")]
    start_response("503 Service Unavailable", [*headers, ("Access-Control-Allow-Origin", "*")])
    return [body]
