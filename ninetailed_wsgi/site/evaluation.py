"""What a page asks of the service, and the answer: events become requests that the service takes."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from ninetailed_wsgi.core.company import FEATURE
from ninetailed_wsgi.core.events import ServedComponent
from ninetailed_wsgi.core.ids import PageIds
from ninetailed_wsgi.errors import InvalidData
from ninetailed_wsgi.site.page_view import PAGE_MEMBERS

if TYPE_CHECKING:
    from ninetailed_wsgi.core.names import Environment
    from ninetailed_wsgi.core.preview import Overrides
    from ninetailed_wsgi.service.access import Access, Caller

MOST_EVENTS = 200
"""Events of one request (spec section 1)."""

MOST_IDENTIFY = 50
"""Identify events of one request (spec section 1)."""

_ALL_FEATURES, _LOCATION_ALONE = {"features": ("location", FEATURE)}, {"features": ("location",)}

_INDEX = re.compile(r"events\[(\d+)\]")

EventBody = dict[str, Any]


class Question(NamedTuple):
    """What a page asks: the answer about a visitor after these events.

    Attributes:
        name: the id that the page knows the visitor by; None for a new visitor.
        events: what the page recorded.
        presence: makes an event that says only that the visitor is here, used if there is no other event.
        locale: the language of place names.
        preflight: whether the events are evaluated and not stored.
        awaits_sdk: whether the name comes from a cookie, and the SDK in the page is to send the page event.
        ids: those that this page made so far.
        exposures: what the page showed, noted by the write of the events.
        is_last: whether the response begins now: then what does not fit into the page's time is stored afterwards.
        overrides: of the preview that the page is seen in; None outside of a preview.
        consents: whether the visitor may be remembered; if not, their company is not looked up.
        others: ids of further cookies; where visitors are not trusted, the first issued id counts.
    """

    environ: Mapping[str, Any]
    name: str | None
    events: Sequence[EventBody]
    presence: Callable[[], EventBody]
    locale: str
    preflight: bool
    awaits_sdk: bool = False
    ids: PageIds | None = None
    exposures: Sequence[ServedComponent] = ()
    is_last: bool = False
    overrides: Overrides | None = None
    consents: bool = True
    others: Sequence[str] = ()


class Decision(NamedTuple):
    """The answer of the service, and the content that decided.

    Attributes:
        data: ``profile``, ``experiences`` and ``changes``; None when that failed or took too long.
        id: the profile that the events went to, or None; also known when the answer comes too late.
        content: the catalog of published content, or None.
    """

    data: dict[str, Any] | None = None
    id: str | None = None
    content: Any = None


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Asks the service what pages want to know.

    Attributes:
        service: an `ExperienceService`.
        schemas: `Schemas`, which each event is checked against like a client's.
        access: the rules in force.
        caller: the caller to whom the rules apply: the site itself is one.
        refuse: gets each event that is left out, and why.
    """

    service: Any
    schemas: Any
    access: Access
    caller: Caller
    refuse: Callable[[EventBody, InvalidData], None]

    def decide(self, question: Question, environment: Environment, address: str | None) -> Decision:
        """Return what the service answers, in as many requests as the events need.

        An event that is refused is left out and does not take the others along. The answer is read-only, because
        visitors share parts of it.

        Args:
            environment: whose visitor it is.
            address: the visitor's, or None.
        """
        content = self._content(question, environment)
        if not question.preflight and not question.events:
            return self._expose(question, environment, address or "")
        events = [event for event in question.events if self._is_valid(event)]
        # A preflight's answer knows only the events of its own request, so all of them go into one.
        requests = [events[-MOST_EVENTS:]] if question.preflight else in_requests(events)
        name, answer = question.name, None
        for batch in requests:
            exposures = question.exposures if batch is requests[-1] else ()
            if (data := self._ask(question, name, batch, exposures, environment, address, content)) is not None:
                answer, name = data, data["profile"]["id"]
        if answer is None:  # there were no events, or all were refused
            question = question._replace(preflight=True, ids=None)
            answer = self._ask(question, name, [question.presence()], (), environment, address, content)
        return Decision() if answer is None else Decision(answer, answer["profile"]["id"], content)

    def _expose(self, question: Question, environment: Environment, address: str) -> Decision:
        """Note what a page showed if its events are already stored."""
        from ninetailed_wsgi.insights.ingestion import expose

        if question.name is not None and not _is_robot(question):
            exposures, guarded = question.exposures, self.access.guarded
            expose(self.service, environment, question.name, exposures, guarded=guarded, address=address)
        return Decision(id=question.name)

    def _ask(
        self,
        question: Question,
        name: str | None,
        events: Sequence[EventBody],
        exposures: Sequence[ServedComponent],
        environment: Environment,
        address: str | None,
        content: Any,
    ) -> dict[str, Any] | None:
        """Return the answer to the events that are not refused; None where all are."""
        if exposures and _is_robot(question):
            exposures = ()
        terms = self.access.terms(self.caller, address or "")
        while events:
            verdict = self.access.judge(events, self.caller, environment, self.service.certifies)
            options = _ALL_FEATURES if question.consents else _LOCATION_ALONE
            body = {"events": verdict.events, "options": options}
            try:
                answer: dict[str, Any] = self.service.upsert(
                    environment,
                    name,
                    body,
                    preflight=question.preflight,
                    address=address,
                    locale=question.locale,
                    ids=question.ids,
                    catalog=content,
                    terms=terms,
                    entities=True,
                    exposures=exposures,
                    overrides=question.overrides,
                )
            except InvalidData as error:
                events = self._rest(events, error)
            else:
                return answer
        return None

    def _content(self, question: Question, environment: Environment) -> Any:
        if question.overrides is None:
            return self.service.content(*environment)
        return self.service.previews.catalog(environment, question.overrides)

    def _is_valid(self, event: EventBody) -> bool:
        if event["type"] == "page" and len(event["properties"]) == len(PAGE_MEMBERS):
            return True  # made of the request alone, as `Visit` does
        from ninetailed_wsgi.service.access import check_names  # loaded with the service

        try:
            self.schemas.check("profile-request", {"events": [event]})
            check_names([event])
        except InvalidData as error:
            self.refuse(event, error)
            return False
        return True

    def _rest(self, events: Sequence[EventBody], error: InvalidData) -> list[EventBody]:
        """Return the events of a refused request that the refusal does not name; none where it names none."""
        indexes = {int(match[1]) for problem in error.problems if (match := _INDEX.match(problem))}
        refused = indexes & set(range(len(events))) or set(range(len(events)))
        for index in sorted(refused):
            self.refuse(events[index], error)
        return [event for index, event in enumerate(events) if index not in refused]


def _is_robot(question: Question) -> bool:
    from ninetailed_wsgi.enrichment.device import is_robot  # which compiles patterns

    return is_robot(question.environ.get("HTTP_USER_AGENT"))


def in_requests(events: list[EventBody]) -> list[list[EventBody]]:
    """Return the events in order, in lists that are each within the limits of a request."""
    if len(events) <= MOST_IDENTIFY:
        return [events] if events else []
    batches: list[list[EventBody]] = [[]]
    identify = 0
    for event in events:
        is_identify = event["type"] == "identify"
        if len(batches[-1]) == MOST_EVENTS or (is_identify and identify == MOST_IDENTIFY):
            batches.append([])
            identify = 0
        batches[-1].append(event)
        identify += is_identify
    return batches
