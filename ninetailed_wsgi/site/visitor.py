"""The visitor of a page: what a host page asks while it is rendered, and what it says of the visit.

Made by the middleware as ``environ["ninetailed.visitor"]``. Nothing is computed before something is asked, nothing here
ever raises: where personalization fails, the answers are baselines, defaults and empty lists.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, Protocol, TypeVar, cast

import orjson

from ninetailed_wsgi import __version__
from ninetailed_wsgi.core import merge_tags, variants
from ninetailed_wsgi.site.page_view import context_of, cookie_of, locale_of, page_of

KEY = "ninetailed.visitor"
"""Where a page finds its visitor in the environ."""

_LIBRARY = {"name": "ninetailed-wsgi", "version": __version__}
# What could end a script element or a line inside one (HTML, "Restrictions for contents of script elements").
_SCRIPT_ESCAPES = str.maketrans(
    {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}
)


class Backend(Protocol):
    """What the middleware gives a visitor; its methods never raise."""

    preflight: bool
    time_budget: float
    cookie_names: tuple[str, ...]

    def consents(self, environ: Mapping[str, Any]) -> bool:
        """Whether this visitor may be remembered."""

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
        """``profile``, ``experiences`` and ``changes`` after these events; None when that failed or took longer."""

    def order(self, entry: str) -> tuple[str, ...]:
        """The experiences of a baseline entry by priority, as the published content has them."""

    def fallback(self, merge_tag: str) -> str | None:
        """The published fallback of a merge tag."""

    def report(self, kind: str, error: Exception) -> None:
        """Log a failure, once for each kind and minute."""


_Method = TypeVar("_Method", bound=Callable[..., Any])


def _never_raises(otherwise: Callable[..., Any]) -> Callable[[_Method], _Method]:
    """A method whose failures are reported and answered by ``otherwise``, which gets the same arguments."""

    def decorate(method: _Method) -> _Method:
        @wraps(method)
        def harmless(self: Visitor, *args: Any, **named: Any) -> Any:
            try:
                return method(self, *args, **named)
            except Exception as error:
                self._backend.report(f"{method.__name__} {type(error).__name__}", error)
                return otherwise(self, *args, **named)

        return cast(_Method, harmless)

    return decorate


def _no_answer(*_: Any, **__: Any) -> None:
    return None


class Visitor:
    """One visitor during one request.

    Example::

        visitor = environ["ninetailed.visitor"]
        visitor.page()
        hero = visitor.variant(hero_entry)
        greeting = f"Hello {visitor.merge_tag('traits.firstname', 'friend')}"
    """

    __slots__ = (
        "_answered",
        "_backend",
        "_consent",
        "_data",
        "_environ",
        "_failed",
        "_only_evaluated",
        "_seconds",
        "_waiting",
    )

    def __init__(self, environ: Mapping[str, Any], backend: Backend) -> None:
        self._environ = environ
        self._backend = backend
        self._waiting: list[tuple[dict[str, Any], bool]] = []  # said since the last evaluation; True: preflight
        self._only_evaluated: list[dict[str, Any]] = []  # not stored, so every evaluation needs them again
        self._seconds = backend.time_budget  # that this page may still wait
        self._data: dict[str, Any] | None = None
        self._failed = False
        self._consent: bool | None = None
        self._answered = False

    @property
    def consent(self) -> bool:
        """Whether the visitor may be remembered; to be set before anything is said or asked.

        Without it nothing is stored and no cookie is set. Example: ``visitor.consent = "marketing" in choices``
        """
        if self._consent is None:
            self._consent = self._backend.consents(self._environ)
        return self._consent

    @consent.setter
    def consent(self, given: bool) -> None:
        self._consent = bool(given)

    # What the page says. Events wait until something is asked or the response begins: one write for all of them.

    @_never_raises(_no_answer)
    def page(self, *, preflight: bool | None = None, **properties: Any) -> None:
        """Say that this page is viewed: a page event made from the request.

        Args:
            preflight: True where the browser SDK of the page sends the real event: this one then counts for what the
                page shows, and is not stored. Default: the middleware's ``preflight``.
            properties: more properties of the event.

        Example: ``visitor.page(category="shoes")``
        """
        only_evaluated = self._backend.preflight if preflight is None else preflight
        page = page_of(self._environ)
        self._say({"type": "page", "properties": {**properties, **page}}, page, only_evaluated)

    @_never_raises(_no_answer)
    def track(self, event: str, /, **properties: Any) -> None:
        """Say that something happened. Example: ``visitor.track("added_to_cart", sku="tea-1", price=12.5)``"""
        self._say({"type": "track", "event": str(event), "properties": properties}, page_of(self._environ))

    @_never_raises(_no_answer)
    def identify(self, user_id: object = "", /, **traits: Any) -> None:
        """Say who the visitor is, or something of them; an id that is no text, such as a number, is made text.

        Example: ``visitor.identify("user-7", plan="pro")``
        """
        known = "" if user_id is None else str(user_id)
        self._say({"type": "identify", "userId": known, "traits": traits}, page_of(self._environ))

    # What the page asks

    @property
    def id(self) -> str:
        """The profile's id; empty where it cannot be known now. Example: ``visitor.id``"""
        found: str = self.profile["id"]
        return found

    @property
    def profile(self) -> dict[str, Any]:
        """The profile as the API answers it. Example: ``visitor.profile["session"]["count"]``"""
        found: dict[str, Any] = self._evaluated()["profile"]
        return found

    @property
    def audiences(self) -> list[str]:
        """Ids of the audiences that the visitor belongs to. Example: ``"vip" in visitor.audiences``"""
        found: list[str] = self.profile["audiences"]
        return found

    @property
    def experiences(self) -> list[dict[str, Any]]:
        """The experiences chosen for the visitor, as the API answers them."""
        found: list[dict[str, Any]] = self._evaluated()["experiences"]
        return found

    @property
    def changes(self) -> list[dict[str, Any]]:
        """The changes of inline variables, as the API answers them."""
        found: list[dict[str, Any]] = self._evaluated()["changes"]
        return found

    def flag(self, key: str, default: Any = None) -> Any:
        """The value of an inline variable. Example: ``visitor.flag("free-shipping-from", 50)``"""
        return next((change["value"] for change in self.changes if change["key"] == key), default)

    @_never_raises(lambda self, entry: entry)
    def variant(self, entry: Any) -> Any:
        """The entry to show in place of a baseline entry; None where it is hidden (spec section 6).

        The first experience in the order of the entry's ``nt_experiences`` that was chosen for the visitor decides.

        Args:
            entry: a Contentful entry as JSON (``sys``, ``fields``), an entry of the generic form (``id``,
                ``nt_experiences``), or just the id of an entry of the published content.

        Returns:
            The variant's entry from the experience's ``nt_variants`` (``variants`` in the generic form), or a link
            with its id where it is not resolved; for an id, the variant's id. The baseline in every other case.

        Example: ``hero = visitor.variant(hero_entry)``
        """
        return variants.shown(entry, self.experiences, self._backend.order)

    @_never_raises(lambda self, path, fallback=None: fallback or "")
    def merge_tag(self, path: str, fallback: str | None = None) -> str:
        """A value of the profile as text (spec section 8).

        Args:
            path: such as ``traits.firstname`` or, as content has it, ``traits_firstname``.
            fallback: where the profile has no such value; default: that of the published merge tag, else nothing.

        Example: ``visitor.merge_tag("location.city", "your town")``
        """
        value = merge_tags.resolve(self.profile, path)
        if value is None:
            value = self._backend.fallback(path) if fallback is None else fallback
        return merge_tags.text(value)

    @_never_raises(lambda self, content: content)
    def render(self, content: Any) -> Any:
        """Content with its merge tags filled in.

        Args:
            content: text with ``{{ traits.firstname }}``, or a Contentful rich text document in which merge tags are
                embedded entries.

        Returns:
            The same kind with plain text in place of the merge tags; what is given stays as it is. Escaping for HTML is
            the template's business.

        Example: ``visitor.render("Hello {{ traits.firstname }}")``
        """
        return merge_tags.render(content, self.merge_tag)

    @_never_raises(lambda self: _script_json(_nothing("")))
    def handoff(self) -> str:
        """``profile``, ``experiences`` and ``changes`` as JSON that is safe inside a script element.

        For the initial state of the browser SDK. A template must not escape it again:
        ``<script>window.visitor = {{ visitor.handoff() | safe }}</script>``
        """
        return _script_json(self._evaluated())

    # For the middleware

    @_never_raises(_no_answer)
    def finish(self) -> str | None:
        """Called when the response begins: writes what waits; the id for the cookie, or None for no cookie."""
        self._answered = True  # from now on nobody comes to write what waits
        if self._waiting:
            self._evaluated()
        if self._data is None or not self.consent:
            return None
        return self.id

    def _say(self, event: dict[str, Any], page: dict[str, Any], only_evaluated: bool = False) -> None:
        self._waiting.append((self._event(event, page), only_evaluated))
        if self._answered:
            self._evaluated()

    def _event(self, event: dict[str, Any], page: dict[str, Any]) -> dict[str, Any]:
        context = {"library": _LIBRARY, **context_of(self._environ, page, locale_of(self._environ))}
        whole = {"channel": "server", "messageId": str(uuid.uuid4()), "context": context, **event}
        # What the page gave may be anything; what is stored is JSON.
        plain: dict[str, Any] = orjson.loads(orjson.dumps(whole, default=str, option=orjson.OPT_NON_STR_KEYS))
        return plain

    @_never_raises(lambda self: self._data or _nothing(""))
    def _evaluated(self) -> dict[str, Any]:
        if not self._failed and (self._data is None or self._waiting):
            self._evaluate()
        return self._data or _nothing(self._known() or "")

    def _evaluate(self) -> None:
        waiting, self._waiting = self._waiting, []
        consent = self.consent
        stored = [event for event, only_evaluated in waiting if consent and not only_evaluated]
        self._only_evaluated += [event for event, only_evaluated in waiting if only_evaluated or not consent]
        if stored:
            self._ask(stored, preflight=False)
        if self._only_evaluated:
            self._ask(self._only_evaluated, preflight=True)
        elif not stored:
            # Something is asked and nothing was said: the visitor is here, which no audience rule counts.
            here = {"type": "identify", "userId": "", "traits": {}}
            self._ask([self._event(here, page_of(self._environ))], preflight=True)

    def _ask(self, events: list[dict[str, Any]], *, preflight: bool) -> None:
        if self._failed:
            return
        self._failed = True  # until there is an answer
        name = self._data["profile"]["id"] if self._data else self._known()
        before = time.monotonic()
        data = self._backend.evaluate(
            self._environ, name, events, locale=locale_of(self._environ), preflight=preflight, seconds=self._seconds
        )
        self._seconds -= time.monotonic() - before
        if data is not None:
            self._data, self._failed = data, False

    def _known(self) -> str | None:
        return cookie_of(self._environ, self._backend.cookie_names)


class _Nowhere:
    """The backend of pages that the middleware does not serve, as in a site's own unit tests: it knows nothing."""

    preflight = True
    time_budget = 0.0
    cookie_names: tuple[str, ...] = ()

    def consents(self, environ: Mapping[str, Any]) -> bool:
        return False

    def evaluate(self, environ: Mapping[str, Any], name: str | None, events: Any, **_: Any) -> None:
        return None

    def order(self, entry: str) -> tuple[str, ...]:
        return ()

    def fallback(self, merge_tag: str) -> str | None:
        return None

    def report(self, kind: str, error: Exception) -> None:
        return None


def visitor_of(request: Any) -> Visitor:
    """The visitor of a request of Flask, Django, Pyramid, Falcon or Starlette, or of an environ.

    Where the middleware did not serve the request: one that gets baselines, defaults and empty lists.

    Example: ``visitor_of(request).page()``
    """
    environ = getattr(request, "environ", None) or getattr(request, "env", None)
    if environ is None and (scope := getattr(request, "scope", None)) is not None:
        environ = scope.get("wsgi_environ", {})  # Starlette and FastAPI below a2wsgi
    if environ is None:
        environ = request if isinstance(request, Mapping) else {}
    found = environ.get(KEY)
    return found if isinstance(found, Visitor) else Visitor(environ, _Nowhere())


def _nothing(id: str) -> dict[str, Any]:
    """The answer about a visitor of whom nothing can be known now."""
    page = {"path": "", "query": {}, "referrer": "", "search": "", "url": ""}
    session = {
        "id": "",
        "isReturningVisitor": False,
        "landingPage": page,
        "count": 0,
        "activeSessionLength": 0,
        "averageSessionLength": 0,
    }
    profile = {"id": id, "stableId": id, "random": 0, "audiences": [], "traits": {}, "location": {}, "session": session}
    return {"profile": profile, "experiences": [], "changes": []}


def _script_json(document: object) -> str:
    return orjson.dumps(document).decode().translate(_SCRIPT_ESCAPES)
