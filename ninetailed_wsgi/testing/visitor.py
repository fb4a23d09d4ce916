"""A visitor of a site, written as a person reads: what they do, and what they get."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypedDict, cast
from urllib.parse import parse_qsl, quote, urlsplit

from ninetailed_wsgi.contract.answers import Answer
from ninetailed_wsgi.core import variants
from ninetailed_wsgi.core.company import FEATURE
from ninetailed_wsgi.core.entry_forms import id_of
from ninetailed_wsgi.testing.client import Client, Refused

if TYPE_CHECKING:
    from ninetailed_wsgi.testing.harness import Harness

SITE = "https://www.example.com"

USER_AGENTS = {
    "desktop": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36",
    "mobile": "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Mobile "
    "Safari/537.36",
    "tablet": "Mozilla/5.0 (iPad; CPU OS 12_5_7 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/12.1.2 "
    "Mobile/15E148 Safari/604.1",
    "unknown": "",
}

# The library of version 3.14 and later resolves the location only on request (spec section 4).
_LIBRARY = {"name": "ninetailed_wsgi.testing", "version": "4.0.0"}


class Profile(TypedDict):
    """A profile as the API answers it (spec section 3)."""

    id: str
    stableId: str
    random: float
    audiences: list[str]
    traits: dict[str, Any]
    location: dict[str, Any]
    session: dict[str, Any]


class _Answered(TypedDict):
    profile: Profile
    experiences: list[dict[str, Any]]
    changes: list[dict[str, Any]]


class Visitor:
    """A visitor of a site, whose events go to the app of a harness as a browser's would.

    Actions return the visitor, so that they can be chained:
    ``visitor.views("/pricing").waits(minutes=31).views("/pricing")``. Each access asks the API for the
    results, so they are current. Made by `Harness.visitor`.

    Attributes:
        id: of the profile, as last answered; None until the visitor does something, unless `Harness.visitor` got one.
    """

    def __init__(self, harness: Harness, id: str | None = None, *, locale: str = "en") -> None:
        self._harness = harness
        self.id = id
        self._locale = locale
        self._address = "127.0.0.1"
        self._user_agent = USER_AGENTS["desktop"]
        self._page: dict[str, Any] = {"path": "", "query": {}, "referrer": "", "search": "", "url": ""}
        self._campaign: dict[str, str] = {}

    # Who they are

    def from_address(self, address: str) -> Visitor:
        """Be at this IP address from now on."""
        self._address = address
        return self

    def on(self, device: str) -> Visitor:
        """Use a ``desktop`` (as at first), ``mobile``, ``tablet`` or ``unknown`` device, or any user agent's text."""
        self._user_agent = USER_AGENTS.get(device, device)
        return self

    # What they do

    def views(self, url: str, *, referrer: str = "", title: str = "", **properties: Any) -> Visitor:
        """View a page: its path or whole address; ``utm_`` parameters of its query are the campaign."""
        parts = urlsplit(url if "://" in url else SITE + url)
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        self._page = {
            "path": parts.path,
            "query": query,
            "referrer": referrer,
            "search": f"?{parts.query}" if parts.query else "",
            "url": parts.geturl(),
        }
        # The official SDK calls the campaign's name utm_campaign.
        sources = {"name": "campaign", "source": "source", "medium": "medium", "term": "term", "content": "content"}
        self._campaign = {
            member: query[f"utm_{name}"] for member, name in sources.items() if query.get(f"utm_{name}")
        } or self._campaign
        return self._does("page", properties={**self._page, "title": title, **properties})

    def tracks(self, event: str, /, **properties: Any) -> Visitor:
        """Perform an event: ``visitor.tracks("newsletter_opened", issue=7)``."""
        return self._does("track", event=event, properties=properties)

    def buys(self, product: str = "", /, **properties: Any) -> Visitor:
        """Perform the event ``purchase``: ``visitor.buys("green tea", total=12.5)``."""
        return self.tracks("purchase", **({"product": product} if product else {}), **properties)

    def identifies(self, user_id: str = "", /, **traits: Any) -> Visitor:
        """Say who they are: a user id, which finds the profile on any device, traits, or both."""
        return self._does("identify", userId=user_id, traits=traits)

    def sees(self, experience: str | Mapping[str, Any]) -> Visitor:
        """See what an experience (or its id) shows them: from then on a sticky one keeps its variant.

        Raises:
            AssertionError: it shows them nothing; the message says why.
        """
        return self._does("component", **self._component(experience))

    def clicks(self, experience: str | Mapping[str, Any]) -> Visitor:
        """Click on what an experience (or its id) shows them, as the SDK reports it to Insights.

        Raises:
            AssertionError: it shows them nothing; the message says why.
        """
        event = self._event("component_click", self._component(experience))
        self._send(self._harness.insights, "/events", [{"profile": {"id": self.id}, "events": [event]}])
        return self

    def _component(self, experience: str | Mapping[str, Any]) -> dict[str, Any]:
        """Return what an event says of the component that an experience shows them."""
        id = experience if isinstance(experience, str) else experience["id"]
        answer = self._answer()
        item = next((one for one in answer["experiences"] if one["experienceId"] == id), None)
        if item is None:
            raise AssertionError(f"{id} shows nothing to this visitor\n{self.why}")
        ids = [variant or baseline for baseline, variant in item["variants"].items()]
        keys = [change["key"] for change in answer["changes"] if change["meta"].get("experienceId") == id]
        return {
            "componentType": "Entry" if ids else "Variable",
            "componentId": (ids or keys or [""])[0],
            "experienceId": id,
            "variantIndex": item["variantIndex"],
        }

    def waits(self, **parts: float) -> Visitor:
        """Let time pass, for everybody: ``visitor.waits(minutes=31)``."""
        self._harness.clock.advance(**parts)
        return self

    # What they get

    @property
    def profile(self) -> Profile:
        """Return the profile as the API answers it now."""
        return self._answer()["profile"]

    @property
    def experiences(self) -> list[dict[str, Any]]:
        """Return the experiences they take part in, each with ``experienceId``, ``variantIndex``, ``variants``."""
        return self._answer()["experiences"]

    @property
    def changes(self) -> list[dict[str, Any]]:
        """Return the variables that experiences set."""
        return self._answer()["changes"]

    @property
    def audiences(self) -> list[str]:
        """Return the ids of the audiences they belong to."""
        return self.profile["audiences"]

    @property
    def traits(self) -> dict[str, Any]:
        """Return their traits."""
        return self.profile["traits"]

    @property
    def location(self) -> dict[str, Any]:
        """Return their location, without unknown members."""
        return self.profile["location"]

    @property
    def session(self) -> dict[str, Any]:
        """Return their session (spec section 3): ``count``, ``isReturningVisitor``, ``landingPage``, ..."""
        return self.profile["session"]

    def variant(self, baseline: str | Mapping[str, Any]) -> str:
        """Return the id of the entry that they see in place of ``baseline``: its own id without a variant.

        ``""`` is an entry that is hidden from them. Where several experiences replace it, the first in the entry's own
        list counts, as in the SDK; without such a list, the first by id (spec section 6).

        Args:
            baseline: the id of an entry, or an entry as JSON, of which only the id counts. Anything else is returned
                as it is, and a warning in the log names its type once.
        """
        if id_of(baseline) is None:
            self._misunderstood("variant", baseline, "an entry as JSON with an id, or the id of an entry")
            return cast("str", baseline)
        order = self._harness.catalog.entry_experiences
        id = cast("str", id_of(baseline))  # given only an id, the variant itself is not needed
        return variants.decision(id, self.experiences, lambda entry: order.get(entry, ()))[1]

    def variant_index(self, experience: str | Mapping[str, Any]) -> int | None:
        """Return the variant index that an experience (or its id) gives them; None if it is not for them."""
        id = experience if isinstance(experience, str) else experience["id"]
        return next((item["variantIndex"] for item in self.experiences if item["experienceId"] == id), None)

    def flag(self, key: str, default: Any = None) -> Any:
        """Return the value of a variable; ``default`` where no experience sets it."""
        if not _is_text(key):
            self._misunderstood("flag", key, "the key of an inline variable", "its default counts")
        return variants.flag(self.changes, key, default)

    def experience_variant(self, entity: str) -> str | None:
        """Return the variant of a Contentful experience or fragment that they get; None where nothing decides it."""
        if not _is_text(entity):
            self._misunderstood("experience_variant", entity, "the id of an entity", "no variant")
        return variants.entity_variant(self._answer(entities=True)["changes"], entity)

    @property
    def why(self) -> str:
        """Explain, as text to print, why they belong to each audience and see each variant, or not."""
        return self._harness.why(self)

    def _misunderstood(self, method: str, value: object, expected: str, instead: str = "shown as it is") -> None:
        """Report once what a test gave, as the visitor of a page does."""
        name = type(value).__name__
        text = f"Visitor.{method}: found {name}, expected {expected}; {instead}"
        self._harness.reports.hint(f"{method} {name}", text)

    def _does(self, type: str, **members: Any) -> Visitor:
        body = {"events": [self._event(type, members)], "options": {"features": ["location", FEATURE]}}
        path = "/profiles" if self.id is None else f"/profiles/{quote(self.id, safe='')}"
        answer = self._send(self._harness.client, f"{path}?locale={quote(self._locale)}", body)
        # The id of the answer may differ from that of the path: callers keep the answer's.
        self.id = answer.document["data"]["profile"]["id"]
        return self

    def _send(self, client: Client, path: str, body: Any) -> Answer:
        answer = client.post(path, body, address=self._address)
        if answer.status not in (200, 204):
            raise Refused(answer)
        return answer

    def _event(self, type: str, members: Mapping[str, Any]) -> dict[str, Any]:
        context = {
            "library": _LIBRARY,
            "locale": self._locale,
            "userAgent": self._user_agent,
            "page": self._page,
            "campaign": self._campaign,
        }
        return {
            "type": type,
            "channel": "web",
            "messageId": self._harness.ids.message(),
            "originalTimestamp": self._harness.clock.now.isoformat(),
            "context": context,
            **members,
        }

    def _answer(self, *, entities: bool = False) -> _Answered:
        if self.id is None:
            raise AssertionError("this visitor has done nothing yet, so there is no profile")
        client = self._harness.space_client if entities else self._harness.client
        answer = client.get(f"/profiles/{quote(self.id, safe='')}")
        if answer.status != 200:
            raise Refused(answer)
        data: _Answered = answer.document["data"]
        return data


def _is_text(value: object) -> bool:
    """Return whether a test gave what type hints ask for."""
    return isinstance(value, str)
