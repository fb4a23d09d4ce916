"""The WSGI middleware: the API under a prefix of the host site, and the visitor in the environ of its own pages."""

from __future__ import annotations

import logging
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import orjson

from ninetailed_wsgi.errors import SettingsError, StoreUnavailable
from ninetailed_wsgi.operations.logs import failure
from ninetailed_wsgi.settings import Settings
from ninetailed_wsgi.site.mount_options import read_mount_options
from ninetailed_wsgi.site.visitor import KEY, Visitor

if TYPE_CHECKING:
    from ninetailed_wsgi.service.service import ExperienceService

Environ = dict[str, Any]
StartResponse = Callable[..., Any]
WSGIApp = Callable[[Environ, StartResponse], Iterable[bytes]]

COOKIES = ("ntaid", "ctfl-opt-aid")
"""The cookies that the SDKs keep the profile's id in; both are read (spec section 9)."""

_RETRY_AFTER = 5.0  # seconds until a service that could not start is tried again
_REPORT_EVERY = 60.0  # seconds between two log lines about the same kind of failure
_PAGES_AT_ONCE = 8  # evaluations that run at the same time in one process; more wait, within their time budget

_log = logging.getLogger("ninetailed_wsgi.middleware")


@dataclass(slots=True)
class _Engine:
    """What answers, from the first request of a process on.

    Attributes:
        api: made when the API is first called, which takes longer than a page should wait.
        content: the published content as of the latest evaluation.
    """

    service: Any
    address: Any
    content: Any = None
    api: WSGIApp | None = None


@dataclass(slots=True)
class _Process:
    """What belongs to one process: threads, locks and open files, which do not survive a fork."""

    pid: int = field(default_factory=os.getpid)
    pool: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(_PAGES_AT_ONCE, thread_name_prefix="ninetailed")
    )
    free: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(_PAGES_AT_ONCE))
    starting: threading.Lock = field(default_factory=threading.Lock)
    reporting: threading.Lock = field(default_factory=threading.Lock)
    reported: dict[str, float] = field(default_factory=dict)
    engine: _Engine | None = None
    retry_at: float = 0.0


class Ninetailed:
    """Mounts the Experience API in a WSGI site and personalizes the site's own pages.

    Example::

        app = Ninetailed(app, content="content.json", data_dir="/var/lib/nt")

    Requests whose path begins with ``prefix`` go to the API. All others go to the site, untouched, with a
    :class:`~ninetailed_wsgi.site.visitor.Visitor` in ``environ["ninetailed.visitor"]``. No failure of personalization
    reaches the site: it is logged, once for each kind and minute, and the visitor answers baselines.

    Args:
        app: the site.
        settings: the options of the service; without it, the ``NINETAILED_*`` environment variables.
        options: options of the service by name, which win over ``settings`` and variables. Those that only ``serve``
            has, such as ``workers``, are refused.
        organization, environment: whose visitors the site's pages ask for.
        prefix: where the API is mounted; whole path segments.
        preflight: ``visitor.page()`` is only evaluated, since the browser SDK in the page sends the real event.
        consent: says from the environ whether a visitor may be remembered; default: everyone. Without consent nothing
            is stored and no cookie set. A page may also set ``visitor.consent``.
        time_budget_ms: how long a page waits for personalization at most, milliseconds; all it says and asks together.
        cookie_name, cookie_domain, cookie_secure, cookie_samesite, cookie_max_age: of the cookie with the profile's id.
            ``cookie_secure`` None: where the page came over https, and with ``cookie_samesite="None"``, which browsers
            take from secure cookies only. ``cookie_max_age`` in seconds.
        service: one that is there already, such as that of a test harness; it is not opened again after a fork.

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
        service: ExperienceService | None = None,
        **options: Any,
    ) -> None:
        # Everything that could be wrong is said now; files are opened by the first request of each process, after any
        # fork and as the user that serves. Paths are resolved now, in case the working folder changes until then.
        mount, problems = read_mount_options(
            {
                "organization": organization,
                "environment": environment,
                "prefix": prefix,
                "preflight": preflight,
                "consent": consent,
                "time_budget_ms": time_budget_ms,
                "cookie_name": cookie_name,
                "cookie_domain": cookie_domain,
                "cookie_secure": cookie_secure,
                "cookie_samesite": cookie_samesite,
                "cookie_max_age": cookie_max_age,
            }
        )
        merged = _merged(settings, options, problems)
        where = f"{organization}/{environment}"
        if merged.environments and where not in merged.environments:
            problems.append(f"environment: found {where!r}, expected one of {', '.join(merged.environments)}")
        if problems:
            raise SettingsError(problems)
        self._settings = _with_whole_paths(merged)
        _import_service()
        self._app = app
        self._prefix = mount["prefix"].rstrip("/").encode().decode("latin-1")  # as WSGI hands over a path (PEP 3333)
        self._where = (organization, environment)
        self._consent = mount["consent"]
        self._cookie_name = mount["cookie_name"]
        self._cookie_secure = True if mount["cookie_samesite"] == "None" else mount["cookie_secure"]
        self._cookie_end = f"; Path=/; Max-Age={mount['cookie_max_age']}; SameSite={mount['cookie_samesite']}"
        self._cookie_end += f"; Domain={mount['cookie_domain']}" if mount["cookie_domain"] else ""
        self.preflight = mount["preflight"]
        self.time_budget = mount["time_budget_ms"] / 1000
        self.cookie_names = tuple(dict.fromkeys((self._cookie_name, *COOKIES)))
        self._service = service
        self._process: _Process | None = None

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        if path.startswith(self._prefix) and path[len(self._prefix) :][:1] in ("", "/"):  # whole path segments
            return self._call_api(environ, start_response, path[len(self._prefix) :])
        if KEY in environ:  # wrapped twice: the outer one has made the visitor and sets the cookie
            return self._app(environ, start_response)
        visitor = environ[KEY] = Visitor(environ, self)

        def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
            if (id := visitor.finish()) is not None:
                headers = [*headers, ("Set-Cookie", self._cookie(environ, id))]
            if exc_info is None:
                return start_response(status, headers)
            return start_response(status, headers, exc_info)

        return self._app(environ, start)

    # What a visitor asks; see visitor.Backend.

    def consents(self, environ: Mapping[str, Any]) -> bool:
        if self._consent is None:
            return True
        try:
            return bool(self._consent(environ))
        except Exception as error:
            self.report("consent", error)
            return False

    def evaluate(
        self,
        environ: Mapping[str, Any],
        name: str | None,
        events: list[dict[str, Any]],
        *,
        locale: str,
        preflight: bool,
        seconds: float,
    ) -> dict[str, Any] | None:
        process, until = self._here(), time.monotonic() + seconds
        if seconds <= 0 or not process.free.acquire(timeout=seconds):
            self.report("time", StoreUnavailable(f"no answer within {self.time_budget * 1000:g} ms"))
            return None

        # A copy of the environ, as an answer that comes too late may be worked on after the request.
        ask = partial(self._ask, process, dict(environ), name, events, locale, preflight)
        try:
            asked = process.pool.submit(ask)
        except RuntimeError as error:  # no thread can be started, or the process is ending
            process.free.release()
            self.report("threads", error)
            return None
        try:
            return asked.result(max(0.0, until - time.monotonic()))
        except TimeoutError:
            self.report("time", StoreUnavailable(f"no answer within {self.time_budget * 1000:g} ms"))
        except Exception as error:
            self.report(type(error).__name__, error)
        return None

    def order(self, entry: str) -> tuple[str, ...]:
        content = self._content()
        return content.entry_experiences.get(entry, ()) if content else ()

    def fallback(self, merge_tag: str) -> str | None:
        content = self._content()
        tag = content.merge_tags.get(merge_tag) if content else None
        return tag.fallback if tag else None

    def report(self, kind: str, error: Exception) -> None:
        process, now = self._here(), time.monotonic()
        with process.reporting:
            if now - process.reported.get(kind, now - _REPORT_EVERY) < _REPORT_EVERY:
                return
            process.reported[kind] = now
        _log.error("pages are served without personalization: %s", failure(error))
        _log.debug("the failure in full", exc_info=error)

    # Inside

    def _ask(
        self,
        process: _Process,
        environ: Environ,
        name: str | None,
        events: list[dict[str, Any]],
        locale: str,
        preflight: bool,
    ) -> dict[str, Any] | None:
        """In a thread of the pool: the page meanwhile waits, but no longer than it may."""
        try:
            engine = self._running(process)
            if engine is None:
                return None
            engine.content = engine.service.content(*self._where)
            environment = engine.service.environment(*self._where)
            body = {"events": events, "options": {"features": ["location"]}}
            address = engine.address.of(environ)
            answer = engine.service.upsert(environment, name, body, preflight=preflight, address=address, locale=locale)
            # A copy, as parts of an answer are shared by all visitors, and a page may change what it gets.
            data: dict[str, Any] = orjson.loads(orjson.dumps(answer))
            return data
        finally:
            process.free.release()

    def _call_api(self, environ: Environ, start_response: StartResponse, path: str) -> Iterable[bytes]:
        engine = self._running(self._here())
        if engine is None:
            return _unavailable(start_response)
        if engine.api is None:
            from ninetailed_wsgi.api.app import api

            engine.api = api(engine.service, self._settings)
        inner = {**environ, "SCRIPT_NAME": environ.get("SCRIPT_NAME", "") + self._prefix, "PATH_INFO": path}
        return engine.api(inner, start_response)

    def _here(self) -> _Process:
        process = self._process
        if process is None or process.pid != os.getpid():
            # Two threads may both come here: one process object more is made and forgotten, which does no harm.
            process = self._process = _Process()
        return process

    def _running(self, process: _Process) -> _Engine | None:
        if process.engine is not None:
            return process.engine
        with process.starting:
            if process.engine is None and time.monotonic() >= process.retry_at:
                try:
                    process.engine = _start(self._settings, self._service)
                except Exception as error:
                    process.retry_at = time.monotonic() + _RETRY_AFTER
                    self.report("start", error)
            return process.engine

    def _content(self) -> Any:
        engine = self._here().engine
        return engine.content if engine else None

    def _cookie(self, environ: Environ, id: str) -> str:
        secure = environ.get("wsgi.url_scheme") == "https" if self._cookie_secure is None else self._cookie_secure
        value = quote(id, safe="", errors="replace")
        return f"{self._cookie_name}={value}{self._cookie_end}{'; Secure' if secure else ''}"


def filter_app_factory(app: WSGIApp, global_conf: Mapping[str, str], **local_conf: str) -> Ninetailed:
    """For ``paste.filter_app_factory``: the options of :class:`Ninetailed` as text, as an ini file has them.

    ``consent`` names the callable, as ``package.module:function``.
    """
    return Ninetailed(app, **local_conf)  # type: ignore[arg-type]  # each option reads text


def _merged(settings: Settings | None, options: Mapping[str, Any], problems: list[str]) -> Settings:
    """Merge the service's options; what is wrong with them comes together with the mount's own ``problems``."""
    try:
        return Settings.for_app(settings, options)
    except SettingsError as error:
        raise SettingsError([*problems, *error.problems]) from None


def _with_whole_paths(settings: Settings) -> Settings:
    content, database = settings.content, settings.geoip_database
    return replace(
        settings,
        data_dir=settings.data_dir.absolute(),
        content=content.absolute() if isinstance(content, Path) else content,
        geoip_database=database and database.absolute(),
    )


def _import_service() -> None:
    """What takes time and can be done before a fork: imports, and the patterns of user agents."""
    # Here, so that importing the middleware is cheap for processes that never serve.
    import_module("ninetailed_wsgi.api.app")
    device = import_module("ninetailed_wsgi.enrichment.device")
    device.device_type("warm")


def _start(settings: Settings, service: ExperienceService | None) -> _Engine:
    from ninetailed_wsgi.enrichment.client_ip import ClientAddress
    from ninetailed_wsgi.service.service import ExperienceService

    return _Engine(service or ExperienceService.from_settings(settings), ClientAddress(settings.trusted_proxies))


def _unavailable(start_response: StartResponse) -> list[bytes]:
    error = StoreUnavailable("the service could not be started; the log says why")
    body = orjson.dumps({"message": str(error), "data": {}, "error": {"code": error.code}})
    headers = [
        ("Content-Type", "application/json"),
        ("Content-Length", str(len(body))),
        ("Retry-After", f"{_RETRY_AFTER:g}"),
        ("Access-Control-Allow-Origin", "*"),
        ("Access-Control-Expose-Headers", "traceparent"),
        ("traceparent", f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01"),
    ]
    start_response("503 Service Unavailable", headers)
    return [body]
