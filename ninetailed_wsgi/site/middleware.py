"""The WSGI middleware: the API under a prefix of the host site, and the visitor in the environ of its own pages."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from ninetailed_wsgi.enrichment.client_ip import ClientAddress
from ninetailed_wsgi.errors import SettingsError, StoreUnavailable
from ninetailed_wsgi.operations.forks import PerProcess
from ninetailed_wsgi.settings import Settings
from ninetailed_wsgi.settings.contentful import within
from ninetailed_wsgi.site import beacon
from ninetailed_wsgi.site.answer_headers import Headers, kept_private, not_kept, sets_cookie
from ninetailed_wsgi.site.browser_sdk import BrowserSdk
from ninetailed_wsgi.site.cookie import ProfileCookie
from ninetailed_wsgi.site.evaluation import Decision, Question
from ninetailed_wsgi.site.mount_options import COOKIES, YEAR, MountOptions, read_mount_options
from ninetailed_wsgi.site.previews import Previews
from ninetailed_wsgi.site.process import RETRY_AFTER, Process
from ninetailed_wsgi.site.reports import Reports
from ninetailed_wsgi.site.visitor import KEY, Visitor

if TYPE_CHECKING:
    from ninetailed_wsgi.service.service import ExperienceService
    from ninetailed_wsgi.site.panel import Panel

Environ = dict[str, Any]
StartResponse = Callable[..., Any]
WSGIApp = Callable[[Environ, StartResponse], Iterable[bytes]]

_PUBLIC = (
    "a page that used its visitor allowed shared caches to keep it; its Cache-Control is now private, no-store, "
    "because each visitor may see a different page"
)
_NO_SECRET = "a page asked for an identity token, but the option identity_secret_file is not set"


class Ninetailed:
    """Mounts the Experience API in a WSGI site and personalizes the site's own pages.

    Example::

        app = Ninetailed(app, content="content.json", data_dir="/var/lib/nt")

    Requests whose path begins with ``prefix`` go to the API. All others go to the site, untouched, with a
    :class:`~ninetailed_wsgi.site.visitor.Visitor` that ``visitor_of(request)`` returns. No failure of personalization
    reaches the site: it is logged, once for each kind and minute, and the visitor returns baselines.

    In Flask it is an extension too: ``Ninetailed(app)`` with a Flask app, or ``Ninetailed().init_app(app)``.

    Args:
        app: the site; None: `init_app` names it later.
        settings: the options of the service; without it, the ``NINETAILED_*`` environment variables.
        options: options of the service by name, which override ``settings`` and variables. Those that only ``serve``
            has, such as ``workers``, are an error.
        organization, environment: whose visitors and content the site's pages use.
        prefix: where the API is mounted; whole path segments.
        preflight: ``visitor.page()`` is only evaluated, because the browser SDK in the page sends the event.
        exposures: what counts as an exposure to an experiment: ``seen``, what browsers report; ``served``, also what
            ``visitor.variant()`` and ``visitor.flag()`` returned. Then the events of a page are stored when its
            response begins.
        consent: decides from the environ whether a visitor may be remembered; default: everyone. Without consent
            nothing is stored, nothing stored is used, and the cookie expires. A page may also set ``visitor.consent``.
        panel: shows, at the edge of a page in a preview, what is personalized there and why, with switches. A function
            of the environ: also outside of previews, if it returns true. Needs ``identity_secret_file``.
        time_budget_ms: how long a page waits for personalization at most, in milliseconds, over all its calls.
        cookie_name: the cookie with the profile's id.
        cookie_domain: its domain; empty: the host of the page.
        cookie_path: its path.
        cookie_secure: None: if the page came over https, and always with ``cookie_samesite="None"``.
        cookie_httponly: only for sites without the browser SDK, which reads the cookie.
        cookie_samesite: ``Lax``, ``Strict`` or ``None``.
        cookie_max_age: seconds.
        service: one that exists already, such as that of a test harness; it is not opened again after a fork.

    Raises:
        SettingsError: naming every bad option.
    """

    def __init__(
        self,
        app: Any = None,
        settings: Settings | None = None,
        *,
        organization: str = "default",
        environment: str = "main",
        prefix: str = "/ninetailed",
        preflight: bool = False,
        exposures: str = "seen",
        consent: Callable[[Mapping[str, Any]], bool] | None = None,
        panel: bool | Callable[[Mapping[str, Any]], bool] = False,
        time_budget_ms: float = 100,
        cookie_name: str = COOKIES[0],
        cookie_domain: str = "",
        cookie_path: str = "/",
        cookie_secure: bool | None = None,
        cookie_httponly: bool = False,
        cookie_samesite: str = "Lax",
        cookie_max_age: int = YEAR,
        service: ExperienceService | None = None,
        **options: Any,
    ) -> None:
        own = {name: value for name, value in locals().items() if name in MountOptions.__dataclass_fields__}
        # Report all errors now; the first request of each process opens the files, as the user that serves.
        _check_parts(app, settings, service)
        self.options, self.settings = _options(own, settings, options)
        from ninetailed_wsgi.service.access import Access

        self.access = Access.of(self.settings, "site", now=service.now if service else None)
        if self.access.guarded and not self.settings.environments:
            self.settings = replace(self.settings, environments=(f"{organization}/{environment}",))
        self._arguments = {**own, "settings": settings, "service": service, **options}
        _import_service()
        self.preflight, self.counts_served = self.options.preflight, self.options.exposures == "served"
        self.time_budget = self.options.time_budget_ms / 1000
        self.cookie_names = tuple(dict.fromkeys((self.options.cookie_name, *COOKIES)))
        self.cookie = ProfileCookie(self.options)
        self.reports = Reports()
        self.browser_sdk = BrowserSdk(self.options, self.settings.spaces, self.reports.hint)
        self.service, self._prefix = service, self.options.path_prefix
        self._address = ClientAddress(self.settings.trusted_proxies)
        self._here = PerProcess(partial(Process, self.settings, self.options, self.access, self.service, self.reports))
        self.previews, self.panel = _previews(self), _panel(self)
        self._app: WSGIApp = _flask_site(app, self) if hasattr(app, "wsgi_app") else app

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        if path.startswith(self._prefix) and path[len(self._prefix) :][:1] in ("", "/"):  # whole path segments
            mount = environ.get("SCRIPT_NAME", "") + self._prefix
            return self.api({**environ, "SCRIPT_NAME": mount, "PATH_INFO": path[len(self._prefix) :]}, start_response)
        if self.previews is not None:
            if (answer := self.previews.answer(environ)) is not None:
                start_response(answer.status, answer.headers)
                return [] if environ.get("REQUEST_METHOD") == "HEAD" else [answer.body]
            self.previews.make_unconditional(environ)
        visitor = environ.get(KEY)
        if visitor is None or not (isinstance(visitor, Visitor) and self.is_like(visitor.backend)):
            visitor = environ[KEY] = Visitor(environ, self)
        else:  # called twice for one request, as for an error page, or wrapped twice
            visitor.restart()
        insertion = self.panel.insertion(environ, visitor, start_response) if self.panel is not None else None
        if insertion is not None:
            return insertion.around(self._app(environ, _starting(self, visitor, insertion.start, insertion.takes)))
        return self._app(environ, _starting(self, visitor, start_response))

    def init_app(self, app: Any, **options: Any) -> Ninetailed:
        """Mount in a Flask app, which may be one of several that a factory makes; return the middleware of this app.

        Later options win: those of this object, ``app.config["NINETAILED"]``, ``options``. May be repeated.

        Raises:
            SettingsError: naming every bad option.
        """
        return Ninetailed(app, **{**self._arguments, **app.config.get("NINETAILED", {}), **options})

    def close(self) -> None:
        """Close the store and end the threads of this process; pages get baselines from now on."""
        self._here().close()

    def api(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Serve the API itself, as a WSGI app below the ``SCRIPT_NAME`` of the environ."""
        if environ.get("PATH_INFO") == beacon.PATH:
            options = self.options
            script = beacon.script(options.organization, options.environment, options.cookie_name)
            return beacon.answer(environ, start_response, *script)
        if self.panel is not None and (answer := self.panel.answer(environ)) is not None:
            start_response(answer.status, answer.headers)
            return [answer.body] if answer.body else []
        if self.previews is not None:  # the browser SDK's requests are the preview's too
            environ = {**environ, **self.previews.environ(environ)}
        engine = self._here().running()
        if engine is None:
            return _unavailable(start_response)
        if engine.api is None:
            from ninetailed_wsgi.api.app import api

            engine.api = api(engine.service, self.settings, self.access)
        return engine.api(environ, start_response)

    def finish(self, visitor: Visitor, status: str, headers: Headers) -> Headers:
        """Write what the page recorded and return the headers of its answer; the same list where nothing changes.

        Args:
            status: as WSGI has it: ``200 OK``.
        """
        try:
            if not visitor.begin_response():
                return headers
            visitor.finish(is_shown=status.startswith("2"))
            return self._personal(visitor, status, headers)
        except Exception as error:
            self.report("finish", error)
            return headers

    # What a visitor asks; see visitor.Backend.

    def consents(self, environ: Mapping[str, Any]) -> bool:
        if self.options.consent is None:
            return True
        try:
            return bool(self.options.consent(environ))
        except Exception as error:
            self.report("consent", error)
            return False

    def origin(self, environ: Mapping[str, Any]) -> tuple[str, str]:
        return self._address.origin(environ)

    def evaluate(self, question: Question, seconds: float) -> Decision:
        return self._here().evaluate(question, seconds)

    def forget(self, id: str, environ: Mapping[str, Any]) -> bool:
        return self._here().forget(id, environ)

    def identity_token(self, user_id: str, seconds: int) -> str:
        if self.access.tokens is None:
            self.hint("identity", _NO_SECRET)
            return ""
        return self.access.tokens.make(user_id, self.options.organization, self.options.environment, seconds)

    def visible(self, data: dict[str, Any]) -> dict[str, Any]:
        from ninetailed_wsgi.service.access import STRANGER

        return self.access.visible(data, STRANGER)

    def report(self, kind: str, error: Exception) -> None:
        self.reports.failure(kind, error)

    def hint(self, kind: str, text: str) -> None:
        self.reports.hint(kind, text)

    def is_like(self, other: object) -> bool:
        """Return whether another middleware is configured like this one, so that either may serve a visitor."""
        return other is self or (
            isinstance(other, Ninetailed)
            and (other.options, other.settings, other.service) == (self.options, self.settings, self.service)
        )

    # Inside

    def _personal(self, visitor: Visitor, status: str, headers: Headers) -> Headers:
        """Return the headers of a page that used its visitor."""
        private, was_public = kept_private(headers)
        if visitor.preview is not None:
            return not_kept(private)
        if was_public:
            self.hint("public", _PUBLIC)
        if status.startswith("304"):
            return private
        # Of two cookies with one name, scripts see the first.
        cookies = dict(reversed(visitor.visit.cookies(self.cookie_names)))
        if not visitor.consent:
            expired = [name for name in self.cookie_names if name in cookies and not sets_cookie(headers, name)]
            return [*private, *_forgotten(self, visitor, expired)]
        id, name = visitor.cookie_id, self.cookie.name
        if visitor.is_renewed:
            old = [other for other in self.cookie_names if other in cookies and not (id and other == name)]
            private = [*private, *_forgotten(self, visitor, old)]
        if id and not sets_cookie(headers, name) and self.cookie.mark_due(id, cookies.get(name)):
            return [*private, ("Set-Cookie", self.cookie.value(id, self.origin(visitor.environ)[0]))]
        return private


def _forgotten(site: Ninetailed, visitor: Visitor, cookies: Iterable[str]) -> Headers:
    """Return what makes the browser forget cookies with these names."""
    scheme = site.origin(visitor.environ)[0]
    return [("Set-Cookie", site.cookie.expired(name, scheme)) for name in cookies]


def _starting(
    site: Ninetailed,
    visitor: Visitor,
    start_response: StartResponse,
    attends: Callable[[str, Headers], bool] | None = None,
) -> StartResponse:
    """Return the site's ``start_response``; ``attends``: whether the page uses its visitor even if it asks nothing."""

    def start(status: str, headers: Headers, exc_info: Any = None) -> Any:
        if attends is not None and attends(status, headers):
            visitor.attend()
        if visitor.begin_response():
            headers = site.finish(visitor, status, headers)
        if exc_info is None:
            return start_response(status, headers)
        return start_response(status, headers, exc_info)

    return start


def _previews(site: Ninetailed) -> Previews | None:
    """Return the previews of a site; None if it has no secret to sign their links with."""
    if site.access.tokens is None:
        return None
    where = (site.options.organization, site.options.environment)
    return Previews(site.access.tokens, *where, site.origin, lambda overrides: site._here().check_preview(overrides))


def _panel(site: Ninetailed) -> Panel | None:
    """Return the panel of a site; None if nobody gets it."""
    option, tokens, previews = site.options.panel, site.access.tokens, _previews(site)
    if not option or previews is None or tokens is None:
        return None
    from ninetailed_wsgi.site.panel import Panel

    where = (site.options.organization, site.options.environment)
    return Panel(
        previews,
        tokens,
        where,
        lambda root: site.browser_sdk.path(root),
        option if callable(option) else None,
        lambda overrides: site._here().check_preview(overrides),
        site.report,
    )


def _check_parts(app: Any, settings: object, service: object) -> None:
    """Refuse a site or service of the wrong type, which otherwise only a call would show."""
    problems = []
    if app is not None and not callable(app):
        problems.append(f"app: found {type(app).__name__}, expected a WSGI app")
    if settings is not None and not isinstance(settings, Settings):
        problems.append(f"settings: found {type(settings).__name__}, expected Settings; pass options by name instead")
    if service is not None and not hasattr(service, "upsert"):
        problems.append(f"service: found {type(service).__name__}, expected an ExperienceService")
    if problems:
        raise SettingsError(problems)


def _options(
    own: Mapping[str, Any], settings: Settings | None, options: Mapping[str, Any]
) -> tuple[MountOptions, Settings]:
    """Return the options of the mount and those of the service; SettingsError names every bad one."""
    mount, problems = read_mount_options(own)
    try:
        service = Settings.for_app(settings, options)
    except SettingsError as error:
        raise SettingsError([*problems, *error.problems]) from None
    from ninetailed_wsgi.service.sources import Sources

    problems += Sources.problems(service)
    if mount.panel and service.identity_secret_file is None:
        problems.append("identity_secret_file: found nothing, expected the secret of previews: the panel needs it")
    where = f"{mount.organization}/{mount.environment}"
    if service.environments and where not in service.environments:
        problems.append(f"environment: found {where!r}, expected one of {', '.join(service.environments)}")
    if problems:
        raise SettingsError(problems)
    content, draft = within(service.content, where), within(service.draft_content, where)
    return mount, _with_whole_paths(replace(service, content=content, draft_content=draft))


def _flask_site(app: Any, middleware: Ninetailed) -> WSGIApp:
    """Put the middleware into a Flask app, in place of one that is there; return the app's own WSGI app."""
    mounted = app.wsgi_app
    site: WSGIApp = mounted._app if isinstance(mounted, Ninetailed) else mounted
    app.wsgi_app = middleware
    app.extensions["ninetailed"] = middleware
    app.jinja_env.add_extension("ninetailed_wsgi.jinja.Ninetailed")
    return site


def _with_whole_paths(settings: Settings) -> Settings:
    database = settings.geoip_database
    return replace(
        settings,
        data_dir=settings.data_dir.absolute(),
        content=tuple(one.absolute() if isinstance(one, Path) else one for one in settings.content),
        draft_content=tuple(one.absolute() if isinstance(one, Path) else one for one in settings.draft_content),
        geoip_database=database and database.absolute(),
        company_database=settings.company_database and settings.company_database.absolute(),
        albacross_key_file=settings.albacross_key_file and settings.albacross_key_file.absolute(),
    )


def _import_service() -> None:
    """Do what takes time and can be done before a fork: imports, schemas, and the patterns of user agents."""
    # Here, so that importing the middleware is cheap for processes that never serve.
    import_module("ninetailed_wsgi.api.app")
    import_module("ninetailed_wsgi.api.validation.schemas").schemas().compile(("profile-request",))
    import_module("ninetailed_wsgi.enrichment.device").compile_patterns()


def _unavailable(start_response: StartResponse) -> list[bytes]:
    error = StoreUnavailable("the service could not be started; the log says why")
    body = orjson.dumps({"message": str(error), "data": {}, "error": {"code": error.code}})
    headers = [
        ("Content-Type", "application/json"),
        ("Content-Length", str(len(body))),
        ("Cache-Control", "no-store"),
        ("X-Content-Type-Options", "nosniff"),
        ("Retry-After", f"{RETRY_AFTER:g}"),
        ("Access-Control-Allow-Origin", "*"),
        ("Access-Control-Expose-Headers", "traceparent, ETag, Retry-After"),
        ("traceparent", f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01"),
    ]
    start_response("503 Service Unavailable", headers)
    return [body]
