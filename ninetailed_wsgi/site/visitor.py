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
from ninetailed_wsgi.site.evaluation import Decision, Question
from ninetailed_wsgi.site.page_view import context_of, cookie_of, is_visit, locale_of, page_of

KEY = "ninetailed.visitor"
"""Where a page finds its visitor in the environ."""

_LIBRARY = {"name": "ninetailed-wsgi", "version": __version__}
_LATE = (
    "a page used its visitor for the first time after its response began, so nothing is stored: call visitor.page() "
    "before you stream"
)
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
        """Return whether this visitor may be remembered."""

    def origin(self, environ: Mapping[str, Any]) -> tuple[str, str]:
        """Return scheme and host as the visitor's browser has them."""

    def evaluate(self, question: Question, seconds: float) -> Decision:
        """Return the answer, without data when it failed or took longer."""

    def forget(self, id: str) -> bool:
        """Delete what is stored of a visitor; return whether nothing is stored any more."""

    def identity_token(self, user_id: str, seconds: int) -> str:
        """Return a proof of who the visitor is; empty where no secret is set."""

    def shown(self, data: dict[str, Any]) -> dict[str, Any]:
        """Return an answer as the visitor's browser may see it."""

    def report(self, kind: str, error: Exception) -> None:
        """Log a failure, once for each kind and minute."""

    def hint(self, kind: str, text: str) -> None:
        """Tell the site's developers what to change, once for each kind."""


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

        visitor = visitor_of(request)
        visitor.page()
        hero = visitor.variant(hero_entry)
        greeting = f"Hello {visitor.merge_tag('traits.firstname', 'friend')}"
    """

    __slots__ = (
        "_answered",
        "_backend",
        "_consent",
        "_content",
        "_data",
        "_environ",
        "_failed",
        "_forgotten",
        "_id",
        "_late",
        "_only_evaluated",
        "_renewed",
        "_seconds",
        "_used",
        "_waiting",
    )

    def __init__(self, environ: Mapping[str, Any], backend: Backend) -> None:
        self._environ = environ
        self._backend = backend
        self._waiting: list[tuple[dict[str, Any], bool]] = []  # recorded since the last evaluation; True: preflight
        self._only_evaluated: list[dict[str, Any]] = []  # not stored, so every evaluation needs them again
        self._seconds = backend.time_budget  # that this page may still wait
        self._data: dict[str, Any] | None = None
        self._content: Any = None  # what decided
        self._id: str | None = None  # of the profile, as soon as it is known
        self._failed = False
        self._consent: bool | None = None
        self._answered = False
        self._used = False
        self._late = False
        self._renewed = False  # the cookie's visitor is no longer this one
        self._forgotten = False  # and nothing is stored of this one

    @property
    def consent(self) -> bool:
        """Whether the visitor may be remembered; to be set before anything is recorded or asked.

        Without it nothing is stored, nothing stored is used, and the cookie expires. What the page records counts for
        this page alone. Example: ``visitor.consent = "marketing" in choices``
        """
        if self._consent is None:
            self._consent = self._backend.consents(self._environ)
        return self._consent

    @consent.setter
    def consent(self, consent: bool) -> None:
        changes = self._consent is not None and self._consent != bool(consent)
        self._consent = bool(consent)
        self._used = True
        if changes or not consent:
            # What was found with the cookie is used no more, or is to be found now.
            self._data, self._id, self._failed = None, None, False

    # What the page records. Events wait until something is asked or the response begins: one write for all of them.

    @_never_raises(_no_answer)
    def page(self, *, preflight: bool | None = None, **properties: Any) -> None:
        """Record that this page is viewed: a page event made from the request.

        Args:
            preflight: True where the browser SDK of the page sends the real event: this one then counts for what the
                page shows, and is not stored. Default: the middleware's ``preflight``.
            properties: more properties of the event.

        Example: ``visitor.page(category="shoes")``
        """
        only_evaluated = self._backend.preflight if preflight is None else preflight
        page = self._page()
        self._say({"type": "page", "properties": {**properties, **page}}, page, only_evaluated)

    @_never_raises(_no_answer)
    def track(self, event: str, /, **properties: Any) -> None:
        """Record that something happened. Example: ``visitor.track("added_to_cart", sku="tea-1", price=12.5)``"""
        self._say({"type": "track", "event": str(event), "properties": properties}, self._page())

    @_never_raises(_no_answer)
    def identify(self, user_id: object = "", /, **traits: Any) -> None:
        """Record who the visitor is, or something of them; an id that is not text, such as a number, becomes text.

        Example: ``visitor.identify("user-7", plan="pro")``
        """
        user = "" if user_id is None else str(user_id)
        if isinstance(user_id, Mapping | list | tuple | set):
            self._misunderstood("identify", user_id, "a user id, and traits as named arguments")
            user = ""
        self._say({"type": "identify", "userId": user, "traits": traits}, self._page())

    @_never_raises(_no_answer)
    def reset(self) -> None:
        """Begin a new visitor, as at logout: the next person at this browser is somebody else.

        What was recorded before belongs to the visitor of before. In the page, call the browser SDK's ``reset()``.

        Example: ``visitor.reset()``
        """
        if self._waiting:
            self._evaluated()
        self._renew()

    @_never_raises(lambda self: False)
    def forget(self) -> bool:
        """Delete everything that is stored of the visitor, and store nothing more of this page.

        Returns whether nothing is stored any more; False where the store could not do it now, so that the page can say
        so. Example: ``visitor.forget()``
        """
        id = self._id or self._known()
        done = id is None or self._backend.forget(id)
        self._waiting.clear()
        self._renew()
        self._forgotten = True
        return done

    @_never_raises(lambda self, user_id, seconds=3600: "")
    def identity_token(self, user_id: object, seconds: int = 3600) -> str:
        """Return a proof that this visitor is a user, for the browser SDK to send as the trait ``nt_identity``.

        Call it only for the user whom the site has logged in. Empty where ``identity_secret_file`` is not set.

        Args:
            user_id: of the user; one that is no text, such as a number, becomes text.
            seconds: how long the proof is valid, at most 24 hours.

        Example: ``visitor.identity_token(user.id)``
        """
        self._use()
        return self._backend.identity_token(str(user_id), seconds)

    # What the page asks

    @property
    def id(self) -> str:
        """The profile's id; empty where it cannot be known now. Example: ``visitor.id``"""
        value: str = self.profile["id"]
        return value

    @property
    def profile(self) -> dict[str, Any]:
        """The profile as the API answers it. Example: ``visitor.profile["session"]["count"]``"""
        value: dict[str, Any] = self._evaluated()["profile"]
        return value

    @property
    def audiences(self) -> list[str]:
        """Ids of the audiences that the visitor belongs to. Example: ``"vip" in visitor.audiences``"""
        value: list[str] = self.profile["audiences"]
        return value

    @property
    def experiences(self) -> list[dict[str, Any]]:
        """The experiences chosen for the visitor, as the API answers them."""
        value: list[dict[str, Any]] = self._evaluated()["experiences"]
        return value

    @property
    def changes(self) -> list[dict[str, Any]]:
        """The changes of inline variables, as the API answers them."""
        value: list[dict[str, Any]] = self._evaluated()["changes"]
        return value

    def flag(self, key: str, default: Any = None) -> Any:
        """Return the value of an inline variable. Example: ``visitor.flag("free-shipping-from", 50)``"""
        if not _is_text(key):
            self._misunderstood("flag", key, "the key of an inline variable")
        return next((change["value"] for change in self.changes if change["key"] == key), default)

    @_never_raises(lambda self, entry: entry)
    def variant(self, entry: Any) -> Any:
        """Return the entry to show in place of a baseline entry; None where it is hidden (spec section 6).

        The first experience in the order of the entry's ``nt_experiences`` that was chosen for the visitor decides.

        Args:
            entry: a Contentful entry as JSON (``sys``, ``fields``), an entry of the generic form (``id``,
                ``nt_experiences``), or just the id of an entry of the published content.

        Returns:
            The variant's entry from the experience's ``nt_variants`` (``variants`` in the generic form), or a link
            with its id where it is not resolved; for an id, the variant's id. The baseline in every other case.

        Example: ``hero = visitor.variant(hero_entry)``
        """
        if variants.id_of(entry) is None:
            self._misunderstood("variant", entry, "an entry as JSON with an id, or the id of an entry")
            return entry
        return variants.shown(entry, self.experiences, self._order)

    @_never_raises(lambda self, path, fallback=None: fallback or "")
    def merge_tag(self, path: str, fallback: str | None = None) -> str:
        """Return a value of the profile as text (spec section 8).

        Args:
            path: such as ``traits.firstname`` or, as content has it, ``traits_firstname``.
            fallback: where the profile has no such value; default: that of the published merge tag, else nothing.

        Example: ``visitor.merge_tag("location.city", "your town")``
        """
        if not _is_text(path):
            self._misunderstood("merge_tag", path, "a path such as traits.firstname")
            return merge_tags.text(fallback)
        value = merge_tags.resolve(self.profile, path)
        if value is None:
            value = self._fallback(path) if fallback is None else fallback
        return merge_tags.text(value)

    @_never_raises(lambda self, content: content)
    def render(self, content: Any) -> Any:
        """Return content with its merge tags filled in.

        Args:
            content: text with ``{{ traits.firstname }}``, or a Contentful rich text document in which merge tags are
                embedded entries.

        Returns:
            The same kind with plain text in place of the merge tags; what is given stays as it is. Escaping for HTML is
            the template's business.

        Example: ``visitor.render("Hello {{ traits.firstname }}")``
        """
        if not isinstance(content, str | Mapping | list):
            self._misunderstood("render", content, "a text, or a rich text document as JSON")
            return content
        return merge_tags.render(content, self.merge_tag)

    @_never_raises(lambda self: _script_json(_nothing("")))
    def handoff(self) -> str:
        """Return ``profile``, ``experiences`` and ``changes`` as JSON that is safe inside a script element.

        For the initial state of the browser SDK. A template must not escape it again:
        ``<script>window.visitor = {{ visitor.handoff() | safe }}</script>``
        """
        return _script_json(self._backend.shown(self._evaluated()))

    # For the middleware

    @property
    def environ(self) -> Mapping[str, Any]:
        """The environ of the request."""
        return self._environ

    @property
    def is_used(self) -> bool:
        """Whether the page recorded or asked anything, so that its answer is this visitor's own."""
        return self._used

    @property
    def cookie_id(self) -> str | None:
        """The id that the cookie has to carry; None for no change. Only of a visit with consent."""
        carries = self._used and self.consent and not self._forgotten and is_visit(self._environ)
        return self._id if carries else None

    @property
    def is_renewed(self) -> bool:
        """Whether the cookie's visitor is no longer this one."""
        return self._renewed

    @property
    def backend(self) -> Backend:
        """The middleware that made the visitor."""
        return self._backend

    def restart(self) -> None:
        """Note that the site makes another response to the same request."""
        self._answered = False

    @_never_raises(_no_answer)
    def finish(self) -> None:
        """Write what waits, when the response begins."""
        self._answered = True  # from now on nobody comes to write what waits
        if self._waiting:
            self._evaluated()

    def _misunderstood(self, method: str, value: object, expected: str) -> None:
        """Report once what a page gave, by its type alone: its text may be a visitor's."""
        found = type(value).__name__
        self._backend.hint(f"{method} {found}", f"visitor.{method}: found {found}, expected {expected}; shown as it is")

    def _renew(self) -> None:
        self._use()
        self._data, self._id, self._failed, self._renewed = None, None, False, True
        self._only_evaluated = []

    def _use(self) -> None:
        if self._used:
            return
        self._used = True
        if self._answered:
            # Too late for the cookie: what is stored now would belong to a profile that nobody has the id of.
            self._late = True
            self._backend.hint("late", _LATE)

    def _page(self) -> dict[str, Any]:
        return page_of(self._environ, self._backend.origin(self._environ))

    def _say(self, event: dict[str, Any], page: dict[str, Any], only_evaluated: bool = False) -> None:
        self._use()
        self._waiting.append((self._event(event, page), only_evaluated))
        if self._answered and not self._late:
            self._evaluated()

    def _event(self, event: dict[str, Any], page: dict[str, Any]) -> dict[str, Any]:
        context = {"library": _LIBRARY, **context_of(self._environ, page, locale_of(self._environ))}
        whole = {"channel": "server", "messageId": str(uuid.uuid4()), "context": context, **event}
        # A page may pass anything; what is stored is JSON.
        plain: dict[str, Any] = orjson.loads(orjson.dumps(whole, default=str, option=orjson.OPT_NON_STR_KEYS))
        return plain

    @_never_raises(lambda self: self._data or _nothing(""))
    def _evaluated(self) -> dict[str, Any]:
        self._use()
        if not self._failed and (self._data is None or self._waiting):
            self._evaluate()
        return self._data or _nothing(self._known() or "")

    def _evaluate(self) -> None:
        waiting, self._waiting = self._waiting, []
        stores = self.consent and not (self._late or self._forgotten) and is_visit(self._environ)
        stored = [event for event, only_evaluated in waiting if stores and not only_evaluated]
        self._only_evaluated += [event for event, only_evaluated in waiting if only_evaluated or not stores]
        if stored:
            self._ask(stored, preflight=False)
        if self._only_evaluated or not stored:
            self._ask(self._only_evaluated, preflight=True)

    def _ask(self, events: list[dict[str, Any]], *, preflight: bool) -> None:
        if self._failed:
            return
        self._failed = True  # until there is an answer
        if not self.consent:
            # A user id would lead to what is stored of them.
            events = [{**event, "userId": ""} if event["type"] == "identify" else event for event in events]
        # The visitor is here, which no audience rule counts.
        presence = self._event({"type": "identify", "userId": "", "traits": {}}, self._page())
        question = Question(
            self._environ, self._id or self._known(), events, presence, locale_of(self._environ), preflight
        )
        before = time.monotonic()
        decision = self._backend.evaluate(question, self._seconds)
        self._seconds -= time.monotonic() - before
        self._id = decision.id or self._id
        if decision.data is not None:
            self._data, self._content, self._failed = decision.data, decision.content, False

    def _known(self) -> str | None:
        if self._renewed or not self.consent:
            return None
        return cookie_of(self._environ, self._backend.cookie_names)

    def _order(self, entry: str) -> tuple[str, ...]:
        """Return the experiences of a baseline entry by priority, in the content that decided."""
        order: tuple[str, ...] = self._content.entry_experiences.get(entry, ()) if self._content else ()
        return order

    def _fallback(self, path: str) -> str | None:
        """Return the published fallback of a merge tag."""
        tag = self._content.merge_tags.get(path) if self._content else None
        return tag.fallback if tag else None


def _nothing(id: str) -> dict[str, Any]:
    """Return the answer about a visitor of whom nothing can be known now."""
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


def _is_text(value: object) -> bool:
    """Whether a page gave what type hints ask for: templates are not checked."""
    return isinstance(value, str)


def _script_json(document: object) -> str:
    return orjson.dumps(document).decode().translate(_SCRIPT_ESCAPES)
