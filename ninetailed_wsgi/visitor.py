"""The visitor of a page: what a host page asks while it is rendered, and what it says of the visit.

Made by the middleware as ``environ["ninetailed.visitor"]``. Nothing is computed before something is asked, nothing here
ever raises: where personalization fails, the answers are baselines, defaults and empty lists.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any, Protocol
from urllib.parse import parse_qsl, quote, unquote

import orjson

from ninetailed_wsgi import __version__
from ninetailed_wsgi.core import merge_tags

_CAMPAIGN = {
    "name": "utm_campaign",
    "source": "utm_source",
    "medium": "utm_medium",
    "term": "utm_term",
    "content": "utm_content",
}
# What could end a script element or a line inside one (HTML, "Restrictions for contents of script elements").
_SCRIPT_ESCAPES = str.maketrans(
    {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}
)


class Backend(Protocol):
    """What the middleware gives a visitor; its methods never raise."""

    preflight: bool
    cookie_names: tuple[str, ...]

    def consents(self, environ: Mapping[str, Any]) -> bool:
        """Whether this visitor may be remembered."""

    def evaluate(
        self, environ: Mapping[str, Any], name: str | None, events: list[dict[str, Any]], locale: str, preflight: bool
    ) -> dict[str, Any] | None:
        """``profile``, ``experiences`` and ``changes`` after these events; None when that failed or took too long."""

    def order(self, entry: str) -> tuple[str, ...]:
        """The experiences of a baseline entry by priority, as the published content has them."""

    def fallback(self, merge_tag: str) -> str | None:
        """The published fallback of a merge tag."""


class Visitor:
    """One visitor during one request.

    Example::

        visitor = environ["ninetailed.visitor"]
        visitor.page()
        hero = visitor.variant(hero_entry)
        greeting = f"Hello {visitor.merge_tag('traits.firstname', 'friend')}"
    """

    def __init__(self, environ: Mapping[str, Any], backend: Backend) -> None:
        self._environ = environ
        self._backend = backend
        self._events: list[dict[str, Any]] = []
        self._preflight = backend.preflight
        self._data: dict[str, Any] | None = None
        self._failed = False
        self._consent: bool | None = None
        self._answered = False

    @property
    def used(self) -> bool:
        """Whether anything was asked or said."""
        return self._data is not None or self._failed or bool(self._events)

    @property
    def consent(self) -> bool:
        """Whether the visitor may be remembered; may be set. Without it nothing is stored and no cookie is set."""
        if self._consent is None:
            self._consent = self._backend.consents(self._environ)
        return self._consent

    @consent.setter
    def consent(self, given: bool) -> None:
        self._consent = bool(given)

    # What the page says. Events wait until something is asked or the response begins: one write for all of them.

    def page(self, *, preflight: bool | None = None, **properties: Any) -> None:
        """Say that this page is viewed: a page event made from the request.

        Args:
            preflight: True where the browser SDK of the page sends the real event: everything is evaluated, nothing
                stored. Default: the middleware's ``preflight``.
            properties: more properties of the event.

        Example: ``visitor.page(category="shoes")``
        """
        if preflight is not None:
            self._preflight = preflight
        page = self._page()
        self._say({"type": "page", "properties": {**properties, **page}})

    def track(self, name: str, **properties: Any) -> None:
        """Say that something happened. Example: ``visitor.track("added_to_cart", sku="tea-1", price=12.5)``"""
        self._say({"type": "track", "event": name, "properties": properties})

    def identify(self, user_id: str = "", **traits: Any) -> None:
        """Say who the visitor is, or something of them. Example: ``visitor.identify("user-7", plan="pro")``"""
        self._say({"type": "identify", "userId": user_id, "traits": traits})

    # What the page asks

    @property
    def id(self) -> str:
        """The profile's id. Example: ``visitor.id``"""
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

    def variant(self, entry: Any) -> Any:
        """The entry to show in place of a baseline entry; None where it is hidden (spec section 6).

        The first experience in the order of the entry's ``nt_experiences`` that was chosen for the visitor decides.

        Args:
            entry: a Contentful entry (``sys``, ``fields``), an entry of the generic form (``id``, ``nt_experiences``),
                or just the id of an entry of the published content.

        Returns:
            The variant's entry from the experience's ``nt_variants`` (``variants`` in the generic form), or a link
            with its id where it is not resolved; for an id, the variant's id. The baseline in every other case.

        Example: ``hero = visitor.variant(contentful.entry("hero"))``
        """
        baseline = _id_of(entry)
        if baseline is None:
            return entry
        listed = _experiences_of(entry)
        resolved = listed and all("fields" in each or "sys" not in each for each in listed if isinstance(each, Mapping))
        order = [_experience_id(each) for each in listed] if resolved else list(self._backend.order(baseline))
        chosen = {each["experienceId"]: each["variants"] for each in self.experiences}
        first = next((id for id in order if id in chosen), None)
        shown = baseline if first is None else chosen[first].get(baseline, baseline)
        if shown == baseline:
            return entry
        if shown == "":
            return None
        if isinstance(entry, str):
            return shown
        experience = next((each for each in listed if _experience_id(each) == first), None)
        found = (each for each in _variants_of(experience) if _id_of(each) == shown)
        return next(found, _link(entry, shown))

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
        if isinstance(content, str):
            return merge_tags.fill(content, self.merge_tag)
        if isinstance(content, Mapping):
            if (tag := _embedded_merge_tag(content)) is not None:
                text = self.merge_tag(str(tag.get("nt_mergetag_id", "")), tag.get("nt_fallback"))
                return {"nodeType": "text", "value": text, "marks": [], "data": {}}
            return {key: self.render(value) if key == "content" else value for key, value in content.items()}
        if isinstance(content, list):
            return [self.render(each) for each in content]
        return content

    def handoff(self) -> str:
        """``profile``, ``experiences`` and ``changes`` as JSON that is safe inside a script element.

        For the initial state of the browser SDK. Example: ``<script>window.nt = {{ visitor.handoff() }}</script>``
        """
        return orjson.dumps(self._evaluated()).decode().translate(_SCRIPT_ESCAPES)

    # For the middleware

    def finish(self) -> str | None:
        """Called when the response begins: writes what waits; the id for the cookie, or None for no cookie."""
        if self._events:
            self._evaluated()
        self._answered = True
        if self._data is None or not self.consent:
            return None
        return self.id

    def _say(self, event: dict[str, Any]) -> None:
        context = {
            "library": {"name": "ninetailed-wsgi", "version": __version__},
            "locale": self._locale,
            "page": self._page(),
            "campaign": self._campaign(),
        }
        if agent := self._environ.get("HTTP_USER_AGENT"):
            context["userAgent"] = _text(agent)
        self._events.append({"channel": "server", "messageId": str(uuid.uuid4()), "context": context, **event})
        if self._answered:  # nobody will call finish() any more
            self._evaluated()

    def _evaluated(self) -> dict[str, Any]:
        if not self._failed and (self._data is None or self._events):
            events, self._events = self._events, []
            name = self._data["profile"]["id"] if self._data else self._cookie()
            preflight = self._preflight or not self.consent
            data = self._backend.evaluate(self._environ, name, events, self._locale, preflight)
            self._failed = data is None
            self._data = data or self._data
        return self._data or _nothing(self._cookie() or "")

    def _cookie(self) -> str | None:
        # Not http.cookies, which gives up at the first cookie of anybody that it finds malformed.
        parts = (part.partition("=") for part in self._environ.get("HTTP_COOKIE", "").split(";"))
        cookies = {name.strip(): value.strip().strip('"') for name, _, value in parts}
        return next((unquote(cookies[name]) for name in self._backend.cookie_names if cookies.get(name)), None)

    @property
    def _locale(self) -> str:
        return _preferred(self._environ.get("HTTP_ACCEPT_LANGUAGE", ""))

    def _page(self) -> dict[str, Any]:
        environ = self._environ
        path = quote(
            (environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")).encode("latin-1"), safe="/;=,~!$&'()*+:@"
        )
        query = _text(environ.get("QUERY_STRING", ""))
        search = f"?{query}" if query else ""
        host = environ.get("HTTP_HOST") or environ.get("SERVER_NAME", "")
        return {
            "path": path,
            "query": dict(parse_qsl(query, keep_blank_values=True)),
            "referrer": _text(environ.get("HTTP_REFERER", "")),
            "search": search,
            "url": f"{environ.get('wsgi.url_scheme', 'http')}://{_text(host)}{path}{search}",
        }

    def _campaign(self) -> dict[str, str]:
        query = dict(parse_qsl(_text(self._environ.get("QUERY_STRING", ""))))
        return {member: query[name] for member, name in _CAMPAIGN.items() if name in query}


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


def _text(header: str) -> str:
    """A header's text: WSGI hands the bytes over as Latin-1 (PEP 3333)."""
    return header.encode("latin-1", "replace").decode("utf-8", "replace")


def _preferred(accept_language: str) -> str:
    """The language a browser likes best (RFC 9110 section 12.5.4), such as ``de-AT``; ``en`` without one."""
    best, best_weight = "en", 0.0
    for part in accept_language.split(",")[:20]:
        tag, _, parameters = part.strip().partition(";")
        try:
            weight = float(parameters.strip().removeprefix("q=")) if parameters else 1.0
        except ValueError:
            continue
        if tag and tag != "*" and weight > best_weight:
            best, best_weight = tag, weight
    return best


# Entries, in Contentful's form and in the generic one


def _id_of(entry: Any) -> str | None:
    if isinstance(entry, str):
        return entry
    if not isinstance(entry, Mapping):
        return None
    sys = entry.get("sys")
    found = sys.get("id") if isinstance(sys, Mapping) else entry.get("id")
    return found if isinstance(found, str) else None


def _members(entry: Any) -> Mapping[str, Any]:
    fields = entry.get("fields") if isinstance(entry, Mapping) else None
    if isinstance(fields, Mapping):
        return fields
    return entry if isinstance(entry, Mapping) else {}


def _experiences_of(entry: Any) -> list[Any]:
    listed = _members(entry).get("nt_experiences")
    return listed if isinstance(listed, list) else []


def _experience_id(experience: Any) -> str | None:
    found = _members(experience).get("nt_experience_id")
    return found if isinstance(found, str) else _id_of(experience)


def _variants_of(experience: Any) -> list[Any]:
    members = _members(experience)
    variants = members.get("nt_variants", members.get("variants"))
    return variants if isinstance(variants, list) else []


def _link(entry: Mapping[str, Any], id: str) -> dict[str, Any]:
    return {"sys": {"type": "Link", "linkType": "Entry", "id": id}} if "sys" in entry else {"id": id}


def _embedded_merge_tag(node: Mapping[str, Any]) -> Mapping[str, Any] | None:
    if node.get("nodeType") not in ("embedded-entry-inline", "embedded-entry-block"):
        return None
    data = node.get("data")
    fields = _members(data.get("target")) if isinstance(data, Mapping) else {}
    return fields if "nt_mergetag_id" in fields else None
