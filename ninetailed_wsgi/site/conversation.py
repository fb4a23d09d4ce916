"""Keeps what a page and the service have exchanged about a visitor so far: the waiting events, and the answer."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial, wraps
from inspect import signature
from typing import Any, NamedTuple, Protocol, TypeVar, cast

from ninetailed_wsgi.core.copies import copy_of
from ninetailed_wsgi.core.events import ServedComponent
from ninetailed_wsgi.core.ids import PageIds
from ninetailed_wsgi.core.preview import Overrides
from ninetailed_wsgi.site.browser_sdk import BrowserSdk
from ninetailed_wsgi.site.evaluation import Decision, Question
from ninetailed_wsgi.site.page_events import page_event, plain
from ninetailed_wsgi.site.page_view import Visit, cookie_values
from ninetailed_wsgi.site.previews import Previews

PANEL = "ninetailed.panel"
"""Present in the environ of a page that gets the panel; see site/panel.py."""

_PRESENCE: dict[str, Any] = {"type": "identify", "userId": "", "traits": {}}  # which no audience rule counts
_LATE = (
    "a page used its visitor for the first time after its response began, so nothing is stored: call visitor.page() "
    "before you stream"
)


class Backend(Protocol):
    """What the middleware gives a visitor; its methods never raise."""

    preflight: bool
    time_budget: float
    cookie_names: tuple[str, ...]
    counts_served: bool
    browser_sdk: BrowserSdk
    previews: Previews | None

    def consents(self, environ: Mapping[str, Any]) -> bool:
        """Return whether this visitor may be remembered."""

    def origin(self, environ: Mapping[str, Any]) -> tuple[str, str]:
        """Return scheme and host as the visitor's browser has them."""

    def evaluate(self, question: Question, seconds: float) -> Decision:
        """Return the answer, without data when it failed or took longer."""

    def forget(self, id: str, environ: Mapping[str, Any]) -> bool:
        """Delete what is stored of the visitor of a request; return whether nothing is stored any more."""

    def identity_token(self, user_id: str, seconds: int) -> str:
        """Return a proof of who the visitor is; empty where no secret is set."""

    def visible(self, data: dict[str, Any]) -> dict[str, Any]:
        """Return an answer as the visitor's browser may see it."""

    def report(self, kind: str, error: Exception) -> None:
        """Log a failure, once for each kind and minute."""

    def hint(self, kind: str, text: str) -> None:
        """Tell the site's developers what to change, once for each kind."""


_Method = TypeVar("_Method", bound=Callable[..., Any])


def never_raises(otherwise: Callable[..., Any]) -> Callable[[_Method], _Method]:
    """Report the failures of a method and answer with ``otherwise``, which gets the same arguments."""

    def decorate(method: _Method) -> _Method:
        @wraps(method)
        def harmless(self: Any, *args: Any, **keywords: Any) -> Any:
            try:
                return method(self, *args, **keywords)
            except Exception as error:
                place = error.__traceback__
                if isinstance(error, TypeError) and place and place.tb_next is None:  # raised by the call itself
                    self._backend.hint(f"call {method.__name__}", _usage(method))
                else:
                    self._backend.report(f"{method.__name__} {type(error).__name__}", error)
                return otherwise(self, *args, **keywords)

        return cast(_Method, harmless)

    return decorate


def _usage(method: Callable[..., Any]) -> str:
    """Say how a visitor's method is called, without what the site passed to it."""
    parameters = list(signature(method).parameters.values())[1:]
    names = ", ".join(str(each.replace(annotation=each.empty)) for each in parameters)
    name = f"visitor.{method.__name__}"
    return f"{name}: found wrong arguments, expected {name}({names}); nothing was done"


class Published(NamedTuple):
    """The catalog of content that decided about a visitor; None if nothing decided."""

    content: Any

    def order(self, entry: str) -> tuple[str, ...]:
        """Return the experiences of a baseline entry by priority."""
        order: tuple[str, ...] = self.content.entry_experiences.get(entry, ()) if self.content else ()
        return order

    def is_unknown(self, entry: str) -> bool:
        """Return whether the content names no such entry as a baseline or variant."""
        content = self.content
        return bool(content and content.entry_ids) and entry not in content.entry_ids

    def fallback(self, path: str) -> str | None:
        """Return the published fallback of a merge tag."""
        tag = self.content.merge_tags.get(path) if self.content else None
        return tag.fallback if tag else None

    def merge_tag(self, entry: str) -> tuple[str, str | None] | None:
        """Return path and fallback of the merge tag with this entry id."""
        tag = self.content.merge_tag_entries.get(entry) if self.content else None
        return (tag.id, tag.fallback) if tag else None


_NOTHING_PUBLISHED = Published(None)


class VisitorData(dict[str, Any]):
    """``profile``, ``experiences`` and ``changes`` of a visitor, read-only because visitors share parts."""

    def __init__(self, data: Mapping[str, Any]) -> None:
        super().__init__(data)
        self._copies: set[str] = set()

    def own(self, member: str) -> Any:
        """Return a copy of a member, which the page may change; the same one each time."""
        if member not in self._copies:
            self._copies.add(member)
            self[member] = copy_of(self[member])
        return self[member]


def no_answer(*_: Any, **__: Any) -> None:
    """Return None: the answer of methods of `never_raises` that have none."""


class PageParts:
    """What a page asked for in order to show it: exposures, and parts for the panel.

    Args:
        serves: whether asking for something is an exposure.
        panel: whether the page has the panel.

    Attributes:
        exposures: in the order in which the page asked.
        parts: for the panel, by kind (``entry``, ``experience``, ``flag``) and id or key.
    """

    def __init__(self, serves: bool, panel: bool) -> None:
        self._serves = serves
        self._panel = panel
        self.exposures: dict[ServedComponent, None] = {}
        self.parts: dict[tuple[str, str], ServedComponent] = {}

    def note(self, kind: str, name: object, component_of: Callable[[], ServedComponent]) -> None:
        """Note what the page asked for; ``component_of`` says what it shows."""
        if not (self._serves or self._panel) or not isinstance(name, str):
            return
        component = component_of()
        if self._serves:
            self.exposures[component] = None
        if self._panel:
            self.parts[kind, name] = component

    def clear(self) -> None:
        """Forget all of it, for another visitor or if the page is not shown."""
        self.exposures, self.parts = {}, {}


class Conversation:
    """Begins when a page uses its visitor: records events and asks the service, as seldom as possible.

    Args:
        environ: of the request.
        backend: the middleware.
        is_late: whether the response began before the page used its visitor.

    Attributes:
        visit: what the request tells.
        is_answered: whether the response has begun, after which nothing else writes waiting events.
        is_renewed: whether a new visitor has replaced the cookie's.
        is_page_stored: whether this page's event is stored, so that the browser need not send it.
        published: the content that decided.
        parts_of_page: what the page asked for to show it.
        preview: the overrides of the preview that the page is seen in; None outside of a preview.
    """

    def __init__(self, environ: Mapping[str, Any], backend: Backend, is_late: bool) -> None:
        self.is_answered = is_late
        self.is_renewed = False
        self.is_page_stored = False
        self.published = _NOTHING_PUBLISHED
        self.parts_of_page = PageParts(backend.counts_served, PANEL in environ)
        self.visit = Visit(environ, backend.origin)
        self._environ = environ
        self._backend = backend
        self._waiting: list[tuple[dict[str, Any], bool]] = []  # recorded since the last evaluation; True: preflight
        self._unwritten: list[dict[str, Any]] = []  # to be stored when the response begins
        self._only_evaluated: list[dict[str, Any]] = []  # not stored, so every evaluation needs them again
        self._seconds = backend.time_budget  # that this page may still wait
        self._data: VisitorData | None = None
        self._id: str | None = None  # of the profile, as soon as it is known
        self._name: str | None = None  # the id that the unwritten events go to
        self._ids = PageIds()
        self._failed = False
        self._is_stored = False  # whether this page wrote
        self._consent: bool | None = None
        self._awaits_sdk = False
        self._is_late = is_late
        self._is_forgotten = False
        self.preview = backend.previews.overrides(environ) if backend.previews else None
        if is_late:
            # Too late for the cookie: what is stored now would belong to a profile whose id nobody has.
            backend.hint("late", _LATE)

    @property
    def consent(self) -> bool:
        """Whether the visitor may be remembered."""
        if self._consent is None:
            self._consent = self._backend.consents(self._environ)
        return self._consent

    @consent.setter
    def consent(self, consent: bool) -> None:
        if self._consent is not None and self._consent == consent:
            return
        self._consent = consent
        if not consent:  # what the page recorded counts for this page alone
            self._only_evaluated, self._unwritten = [*self._unwritten, *self._only_evaluated], []
        # Without consent, drop what was found with the cookie; with it, look it up.
        self._data, self._id, self._failed = None, None, False

    @property
    def cookie_id(self) -> str | None:
        """The id that the cookie has to carry; None for no change. Only of a visit with consent."""
        if self.preview is not None or self._is_forgotten or not self.visit.is_seen:
            return None
        return self._id if self.consent else None

    def record(self, event: dict[str, Any], *, only_evaluated: bool = False) -> None:
        """Record an event of this page; one that is only evaluated is not stored."""
        event = plain(event)
        if event["type"] == "page":
            event["properties"] = {**event["properties"], **self.visit.page}
        self._waiting.append((page_event(self.visit, event), only_evaluated))
        if self.is_answered and not self._is_late:
            self.answer()

    @never_raises(lambda self: self._data or VisitorData(nothing("")))
    def answer(self) -> VisitorData:
        """Return ``profile``, ``experiences`` and ``changes`` after everything that was recorded."""
        if not self._failed and (self._data is None or self._waiting):
            self._evaluate()
        return self._data or VisitorData(nothing(_first(self._cookie_ids()) or ""))

    def write(self) -> None:
        """Store what the page recorded, and evaluate what waits, if anything does."""
        if self._waiting:
            self.answer()
        self._sort()  # what a failed evaluation has left
        if self._unwritten:
            self._store()

    def finish(self, *, is_shown: bool) -> None:
        """Write when the response begins; ``is_shown``: whether the visitor gets to see the page."""
        self.is_answered = True  # from now on nothing else writes waiting events
        if not is_shown:
            self.parts_of_page.exposures = {}
        self.write()
        if self.parts_of_page.exposures and self._is_stored:  # asked for after an early write of the page
            self._backend.evaluate(
                self._question([], self._id, exposures=tuple(self.parts_of_page.exposures)), self._seconds
            )

    def renew(self) -> None:
        """Begin a new visitor."""
        self._data, self._id, self._failed, self.is_renewed = None, None, False, True
        self._only_evaluated, self._ids = [], PageIds()
        self.parts_of_page.clear()

    def forget(self) -> bool:
        """Delete what is stored, and store nothing more; return whether nothing is stored any more."""
        ids = [self._id] if self._id else self._cookie_ids()
        # A preview deletes nothing. Otherwise delete each id, even after one that failed.
        results = [self._backend.forget(id, self._environ) for id in ids] if self.preview is None else [False]
        self._waiting, self._unwritten = [], []
        self.renew()
        self._is_forgotten = True
        return all(results)

    def _evaluate(self) -> None:
        is_stored = self._sort()
        # Exposures belong to the same write, and are known only when the response begins.
        if self._unwritten and (self.is_answered or not self._backend.counts_served):
            self._store()
        if self._unwritten:
            self._ask([*self._unwritten, *self._only_evaluated], self._name, self._ids)
        elif self._only_evaluated or not is_stored:
            self._ask(self._only_evaluated, self._id or _first(self._cookie_ids()))

    def _sort(self) -> bool:
        """Separate the events to store from those that are only evaluated; return whether there are any to store."""
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return False
        stores = self.consent and not (self._is_late or self._is_forgotten) and self.visit.is_seen
        stores = stores and self.preview is None
        storable: list[dict[str, Any]] = []
        for event, only_evaluated in waiting:
            (self._only_evaluated if only_evaluated or not stores else storable).append(event)
        if not storable:
            self._awaits_sdk |= stores
            return False
        self._awaits_sdk |= len(storable) < len(waiting)
        if not self._unwritten:
            self._name, self._ids = self._id or _first(self._cookie_ids()), PageIds()
        self._unwritten += storable
        return True

    def _store(self) -> None:
        """Store the waiting events and, when the response begins, what the page showed."""
        events, self._unwritten = self._unwritten, []
        exposures: tuple[ServedComponent, ...] = ()
        if self._backend.counts_served:
            self._failed = False  # an answer that came too late loses no event
            if self.is_answered:
                exposures, self.parts_of_page.exposures = tuple(self.parts_of_page.exposures), {}
        self._ask(events, self._name, self._ids, preflight=False, exposures=exposures)

    def _ask(
        self,
        events: list[dict[str, Any]],
        name: str | None,
        ids: PageIds | None = None,
        *,
        preflight: bool = True,
        exposures: tuple[ServedComponent, ...] = (),
    ) -> None:
        if self._failed:
            return
        self._failed = True  # until there is an answer
        question = self._question(events, name, ids, preflight=preflight, exposures=exposures)
        before = time.monotonic()
        decision = self._backend.evaluate(question, self._seconds)
        self._seconds -= time.monotonic() - before
        self._id = decision.id or self._id
        if decision.data is not None:
            self._data, self.published, self._failed = VisitorData(decision.data), Published(decision.content), False
            self._is_stored |= not preflight
            storable = self._unwritten if preflight else events
            self.is_page_stored |= any(event["type"] == "page" for event in storable)

    def _question(
        self,
        events: list[dict[str, Any]],
        name: str | None,
        ids: PageIds | None = None,
        *,
        preflight: bool = False,
        exposures: tuple[ServedComponent, ...],
    ) -> Question:
        if not self.consent:
            # A user id would lead to what is stored about the visitor.
            events = [{**event, "userId": ""} if event["type"] == "identify" else event for event in events]
        presence, ids_of_cookies = _PRESENCE, self._cookie_ids()
        if name is None and self.preview is not None and self.preview.visitor:
            # The id of a new visitor comes from the first message (spec section 6): the same on each page of a preview.
            first = {"messageId": self.preview.visitor}
            presence, events = {**presence, **first}, [{**event, **first} for event in events[:1]] + events[1:]
        return Question(
            self._environ,
            name,
            events,
            partial(page_event, self.visit, presence),
            self.visit.locale,
            preflight,
            awaits_sdk=preflight and self._awaits_sdk and self._id is None,
            ids=ids,
            exposures=exposures,
            is_last=self._backend.counts_served and self.is_answered,
            overrides=self.preview,
            consents=self.consent,
            others=tuple(ids_of_cookies[1:]) if ids_of_cookies and name == ids_of_cookies[0] else (),
        )

    def _cookie_ids(self) -> list[str]:
        if self.is_renewed or not self.consent:
            return []
        names = self._backend.cookie_names
        return cookie_values(self.visit.cookies(names), names)


def is_text(value: object) -> bool:
    """Return whether a page gave what type hints ask for: templates are not checked."""
    return isinstance(value, str)


def explanations(conversation: Conversation, seconds: float) -> tuple[Decision, Decision]:
    """Return why a page shows what it shows, and why it would show what it does outside of a preview.

    Args:
        seconds: how long to wait for each at most, in addition to the page's budget.
    """
    events, id = conversation._only_evaluated, conversation._id or _first(conversation._cookie_ids())
    question = conversation._question(events, id, preflight=True, exposures=())
    overrides = replace(conversation.preview or Overrides(), explains=True)
    why = conversation._backend.evaluate(question._replace(overrides=overrides), seconds)
    if conversation.preview is None or why.data is None:
        return why, why
    natural = question._replace(overrides=Overrides(explains=True), name=why.id)  # a new visitor keeps their id
    return why, conversation._backend.evaluate(natural, seconds)


def _first(ids: list[str]) -> str | None:
    return ids[0] if ids else None


def nothing(id: str) -> dict[str, Any]:
    """Return the answer about a visitor about whom nothing can be known now."""
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
