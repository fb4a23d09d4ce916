"""The visitor of a page: what a host page asks while it is rendered, and what it says of the visit.

Made by the middleware as ``environ["ninetailed.visitor"]``. Nothing is computed before something is asked, nothing here
ever raises: where personalization fails, the answers are baselines, defaults and empty lists.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from ninetailed_wsgi.core import merge_tags, variants
from ninetailed_wsgi.core.copies import copy_of
from ninetailed_wsgi.core.entry_forms import id_of
from ninetailed_wsgi.core.preview import Overrides
from ninetailed_wsgi.core.problems import shorten
from ninetailed_wsgi.errors import InvalidData
from ninetailed_wsgi.site.beacon import PREVIEW_MARK, TRACK, track_attributes
from ninetailed_wsgi.site.conversation import Backend, Conversation, is_text, never_raises, no_answer, nothing
from ninetailed_wsgi.site.handoff import handoff_text, is_for_every_client, sdk_version, snippet
from ninetailed_wsgi.site.page_view import Visit
from ninetailed_wsgi.site.rich_text import linked_merge_tags

KEY = "ninetailed.visitor"
"""Where a page finds its visitor in the environ."""

_NO_PREVIEW_SECRET = "a page asked for a link to a preview, but the option identity_secret_file is not set"


class Visitor:
    """One visitor during one request.

    Example::

        visitor = visitor_of(request)
        visitor.page()
        hero = visitor.variant(hero_entry)
        greeting = f"Hello {visitor.merge_tag('traits.firstname', 'friend')}"
    """

    __slots__ = ("_answered", "_backend", "_conversation", "_root", "environ")

    def __init__(self, environ: Mapping[str, Any], backend: Backend) -> None:
        # PERF: nothing more, because most pages of a site do not use their visitor.
        self.environ = environ
        self._backend = backend
        self._answered = False
        self._conversation: Conversation | None = None
        self._root = environ.get("SCRIPT_NAME", "")  # dispatchers inside the site change it

    @property
    def consent(self) -> bool:
        """Whether the visitor may be remembered; set it before the page records or asks anything.

        Without consent nothing is stored, nothing stored is used, and the cookie expires. What the page records counts
        only for this page. Example: ``visitor.consent = "marketing" in choices``
        """
        return self._backend.consents(self.environ) if self._conversation is None else self._conversation.consent

    @consent.setter
    def consent(self, consent: bool) -> None:
        self._use().consent = bool(consent)

    # What the page records. Events wait until something is asked or the response begins: one write for all of them.

    @never_raises(no_answer)
    def page(self, *, preflight: bool | None = None, **properties: Any) -> None:
        """Record that this page is viewed: a page event made from the request.

        Args:
            preflight: True if the browser SDK of the page sends the event: this one then decides what the page shows,
                and is not stored. Default: the middleware's ``preflight``.
            properties: more properties of the event.

        Example: ``visitor.page(category="shoes")``
        """
        only_evaluated = self._backend.preflight if preflight is None else preflight
        self._use().record({"type": "page", "properties": properties}, only_evaluated=only_evaluated)

    @never_raises(no_answer)
    def track(self, event: str, /, **properties: Any) -> None:
        """Record that something happened. Example: ``visitor.track("added_to_cart", sku="tea-1", price=12.5)``"""
        self._use().record({"type": "track", "event": str(event), "properties": properties})

    @never_raises(no_answer)
    def identify(self, user_id: object = "", /, **traits: Any) -> None:
        """Record who the visitor is, or traits of them; an id that is not text, such as a number, becomes text.

        Example: ``visitor.identify("user-7", plan="pro")``
        """
        user = "" if user_id is None else str(user_id)
        if isinstance(user_id, Mapping | list | tuple | set):
            self._misunderstood("identify", user_id, "a user id, and traits as named arguments", "no user id")
            user = ""
        self._use().record({"type": "identify", "userId": user, "traits": traits})

    @never_raises(no_answer)
    def reset(self) -> None:
        """Start a new visitor, for example at logout.

        Earlier events of this page belong to the previous visitor. In the page, call the browser SDK's ``reset()``.

        Example: ``visitor.reset()``
        """
        conversation = self._use()
        conversation.write()
        conversation.renew()

    @never_raises(lambda self: False)
    def forget(self) -> bool:
        """Delete everything that is stored about the visitor, and store nothing else for this page.

        Returns False if the store is not available, so that the page can say so, and in a preview, which deletes
        nothing. Example: ``visitor.forget()``
        """
        return self._use().forget()

    @never_raises(lambda self, user_id, seconds=3600: "")
    def identity_token(self, user_id: object, seconds: int = 3600) -> str:
        """Return a proof that this visitor is a user, for the browser SDK to send as the trait ``nt_identity``.

        Call it only for the user whom the site has logged in. Empty if ``identity_secret_file`` is not set.

        Args:
            user_id: the user's id; one that is not text, such as a number, becomes text.
            seconds: how long the proof is valid, at most 24 hours.

        Example: ``visitor.identity_token(user.id)``
        """
        self._use()
        return self._backend.identity_token(str(user_id), seconds)

    # What the page asks

    @property
    def id(self) -> str:
        """The profile's id; empty if it cannot be determined now. Example: ``visitor.id``"""
        return str(self._use().answer()["profile"]["id"])

    @property
    def profile(self) -> dict[str, Any]:
        """The profile as the API answers it. Example: ``visitor.profile["session"]["count"]``"""
        value: dict[str, Any] = self._own("profile")
        return value

    @property
    def audiences(self) -> list[str]:
        """Ids of the audiences that the visitor belongs to. Example: ``"vip" in visitor.audiences``"""
        return list(self._use().answer()["profile"]["audiences"])

    @property
    def experiences(self) -> list[dict[str, Any]]:
        """The experiences chosen for the visitor, as the API answers them."""
        value: list[dict[str, Any]] = self._own("experiences")
        return value

    @property
    def changes(self) -> list[dict[str, Any]]:
        """The changes of inline variables, as the API answers them."""
        return [change for change in self._own("changes") if is_for_every_client(change)]

    def flag(self, key: str, default: Any = None) -> Any:
        """Return the value of an inline variable. Example: ``visitor.flag("free-shipping-from", 50)``"""
        if not is_text(key):
            self._misunderstood("flag", key, "the key of an inline variable", "its default counts")
        conversation = self._use()
        changes = [change for change in conversation.answer()["changes"] if is_for_every_client(change)]
        conversation.parts_of_page.note("flag", key, lambda: variants.served_flag(changes, key))
        value = variants.flag(changes, key, default)
        return value if value is default else copy_of(value)

    @never_raises(lambda self, entry: entry)
    def variant(self, entry: Any) -> Any:
        """Return the entry to show in place of a baseline entry; None if it is hidden (spec section 6).

        The first experience in the order of the entry's ``nt_experiences`` that was chosen for the visitor decides.

        Args:
            entry: a Contentful entry as JSON (``sys``, ``fields``) or as an ``Entry`` of its Python client, an entry of
                the generic form (``id``, ``nt_experiences``), or just the id of an entry of the published content.

        Returns:
            The variant's entry from the experience's ``nt_variants`` (``variants`` in the generic form); for an id,
            the variant's id. The baseline in every other case, also if the entry does not contain its variant, which
            the log reports once.

        Example: ``hero = visitor.variant(hero_entry)``
        """
        if id_of(entry) is None:
            self._misunderstood("variant", entry, "an entry with an id, or the id of an entry")
            return entry
        conversation = self._use()
        experiences = conversation.answer()["experiences"]
        if isinstance(entry, str) and conversation.published.is_unknown(entry):
            # Log the id, because authors have to know which one; pages take it from code, not from visitors.
            name = json.dumps(shorten(entry))
            self._backend.hint(f"entry {entry}", f"visitor.variant: no content names the entry {name}; shown as it is")
        order = conversation.published.order
        conversation.parts_of_page.note("entry", id_of(entry), lambda: variants.served_entry(entry, experiences, order))
        visible_entry = variants.entry_to_show(entry, experiences, order)
        if visible_entry is entry and not isinstance(entry, str):
            self._report_unresolved(entry)
        return visible_entry

    @never_raises(no_answer)
    def experience_variant(self, entity: str) -> str | None:
        """Return the variant of a Contentful experience or fragment to ask the Experience Delivery API for.

        Args:
            entity: its id in Contentful.

        Returns:
            The variant's id, also that of the control; ``""`` if nothing is shown; None if no experience of this
            visitor replaces it (spec section 6).

        Example: ``visitor.experience_variant("exp-home")``
        """
        if not is_text(entity):
            self._misunderstood("experience_variant", entity, "the id of an experience or fragment", "no variant")
            return None
        conversation = self._use()
        changes = conversation.answer()["changes"]
        conversation.parts_of_page.note("experience", entity, lambda: variants.served_entity(changes, entity))
        return variants.entity_variant(changes, entity)

    @never_raises(lambda self, path, fallback=None: fallback or "")
    def merge_tag(self, path: str, fallback: str | None = None) -> str:
        """Return a value of the profile as text (spec section 8).

        Args:
            path: such as ``traits.firstname`` or, as content has it, ``traits_firstname``.
            fallback: the text if the profile has no such value; default: the published merge tag's, otherwise empty.

        Example: ``visitor.merge_tag("location.city", "your town")``
        """
        if not is_text(path):
            self._misunderstood("merge_tag", path, "a path such as traits.firstname", "its fallback counts")
            return merge_tags.text(fallback)
        value = merge_tags.resolve(self._use().answer()["profile"], path)
        if value is None:
            value = self._use().published.fallback(path) if fallback is None else fallback
        return merge_tags.text(value)

    @never_raises(lambda self, content: content)
    def render(self, content: Any) -> Any:
        """Return content with its merge tags filled in.

        Args:
            content: text with ``{{ traits.firstname }}``, or a Contentful rich text document in which merge tags are
                embedded entries.

        Returns:
            Content of the same kind with plain text in place of the merge tags; ``content`` itself does not change. The
            template must escape it for HTML.

        Example: ``visitor.render("Hello {{ traits.firstname }}")``
        """
        if not merge_tags.is_content(content):
            self._misunderstood("render", content, "a text, or a rich text document as JSON")
            return content
        linked = linked_merge_tags(self._use(), self._backend.hint)
        return merge_tags.render(content, self.merge_tag, linked)

    @never_raises(lambda self, entry: "")
    def track_attributes(self, entry: Any) -> str:
        """Return the attribute that lets ``{prefix}/beacon.js`` report views and clicks of an element, escaped.

        Args:
            entry: the *baseline* entry, as for `variant`, whatever the element shows in its place.

        Returns:
            ``data-nt-track="..."``; empty without consent, and if the entry is hidden.

        Example: ``f"<section {visitor.track_attributes(hero_entry)}>"``
        """
        if id_of(entry) is None:
            self._misunderstood("track_attributes", entry, "an entry with an id, or the id of an entry", "no attribute")
        if not self.consent:
            return ""
        conversation = self._use()
        name = PREVIEW_MARK if conversation.preview is not None else TRACK
        return track_attributes(entry, conversation.answer()["experiences"], conversation.published.order, name)

    @never_raises(lambda self, version=2: handoff_text(nothing(""), sdk_version(version, self._backend.hint), False))
    def handoff(self, version: int = 2) -> str:
        """Return the decision as JSON that is safe inside a script element, for the initial state of the browser SDK.

        Args:
            version: 2 for the SDK ``experience.js``: ``profile``, ``experiences`` and ``changes``. 3 for the newest
                SDK, as the ``handoff`` of its root: the same as ``state``, how the page may be cached, and whether the
                browser sends the page event, which it does unless `page` stored one.

        A template must not escape it again: ``<script>window.visitor = {{ visitor.handoff() | safe }}</script>``
        """
        conversation = self._use()
        data, version = self._backend.visible(conversation.answer()), sdk_version(version, self._backend.hint)
        return handoff_text(data, version, conversation.is_page_stored)

    @never_raises(lambda self, version=2, nonce="": "")
    def browser_snippet(self, version: int = 2, nonce: object = "") -> str:
        """Return the script element from which the SDK in the page learns everything that it needs.

        It is a block of JSON with the id ``ninetailed``: ``url``, the path of the API; ``clientId`` (``spaceId`` for
        version 3) and ``environment``; ``cookie`` for the SDK's option of that name; ``consent``; and ``handoff``, as
        of `handoff`, without a profile if there is no consent, null if personalization failed.

        Args:
            version: 2 for ``experience.js``, 3 for the newest SDK.
            nonce: of the page's Content-Security-Policy. The block is not code, so no policy requires it.

        A template must not escape it: ``{{ visitor.browser_snippet() | safe }}``, or ``nt_browser`` of the helpers.
        """
        conversation, version = self._use(), sdk_version(version, self._backend.hint)
        place = self._backend.browser_sdk.place(self._root, version)
        data = self._backend.visible(conversation.answer())
        return snippet(
            place, data, version, conversation.is_page_stored, conversation.consent, "" if nonce is None else str(nonce)
        )

    @property
    def preview(self) -> dict[str, Any] | None:
        """The overrides of the preview that shows this page, as JSON; None outside of a preview (spec section 13).

        Example: ``{% if visitor.preview %}<p>This is a preview</p>{% endif %}``
        """
        overrides = self._use().preview
        return None if overrides is None else overrides.document()

    @never_raises(lambda self, url="", **_: "")
    def preview_link(
        self,
        url: str = "",
        /,
        *,
        audiences: Mapping[str, bool] | None = None,
        experiences: Mapping[str, int] | None = None,
        traits: Mapping[str, Any] | None = None,
        location: Mapping[str, Any] | None = None,
        at: object = None,
        draft: bool = False,
        seconds: int = 86_400,
    ) -> str:
        """Return a signed link that shows a page in a preview to anybody; nothing is stored (spec section 13).

        Show it only to people who may see the variants. Empty if ``identity_secret_file`` is not set.

        Args:
            url: of the page; empty: of this one.
            audiences: audience id to whether the visitor belongs to it.
            experiences: experience id to the variant index to show.
            traits, location: replace those of the person who opens the link.
            at: the time that counts as now: a datetime, ISO 8601 text, or milliseconds since 1970.
            draft: whether to use the content that ``draft_content`` names.
            seconds: how long the link may be opened, at most 24 hours; a preview itself lasts an hour.

        Example: ``visitor.preview_link("/", experiences={"hero": 1})``
        """
        previews = self._backend.previews
        if previews is None:
            self._backend.hint("preview", _NO_PREVIEW_SECRET)
            return ""
        document = {"audiences": audiences, "experiences": experiences, "traits": traits, "location": location}
        more = {"at": at.isoformat() if isinstance(at, datetime) else at, "content": "draft" if draft else "published"}
        place = url or self._use().visit.page["url"]
        try:
            return previews.link(place, Overrides.of({**document, **more}), seconds)
        except (InvalidData, ValueError) as error:  # its text is the site's own
            self._backend.hint("preview_link", f"visitor.preview_link: {error}")
            return ""

    def openfeature_context(self) -> Any:
        """Return the visitor as an evaluation context of the OpenFeature SDK: targeting key and traits.

        Needs the extra ``openfeature`` (spec section 17). Without an id, every flag has the caller's default.
        Example: ``client.get_boolean_value("checkout", False, visitor.openfeature_context())``
        """
        from ninetailed_wsgi.openfeature import context_of  # needs an extra

        self._use().write()  # the provider reads what is stored
        return context_of(self.id, self.profile["traits"])

    # For the middleware

    @property
    def cookie_id(self) -> str | None:
        """The id that the cookie has to carry; None for no change."""
        return self._conversation.cookie_id if self._conversation else None

    @property
    def is_renewed(self) -> bool:
        """Whether a new visitor has replaced the cookie's."""
        return self._conversation is not None and self._conversation.is_renewed

    @property
    def visit(self) -> Visit:
        """What the request tells."""
        return self._use().visit

    @property
    def backend(self) -> Backend:
        """The middleware that made the visitor."""
        return self._backend

    def attend(self) -> Conversation:
        """Return the conversation of the page and the service, started now if the page has not asked anything."""
        return self._use()

    def restart(self) -> None:
        """Note that the site makes another response to the same request."""
        self._answered = False
        if self._conversation is not None:
            self._conversation.is_answered = False

    def begin_response(self) -> bool:
        """Note that the response begins; return whether the page used its visitor, as `finish` must follow then."""
        self._answered = True
        return self._conversation is not None

    @never_raises(no_answer)
    def finish(self, *, is_shown: bool) -> None:
        """Write waiting events when the response begins; ``is_shown``: if it is the page, not a redirect or error."""
        self._use().finish(is_shown=is_shown)

    def _report_unresolved(self, entry: Any) -> None:
        """Report once that an entry shows its baseline because it does not hold its variant."""
        conversation = self._use()
        missing = variants.unresolved(entry, conversation.answer()["experiences"], conversation.published.order)
        if missing is not None:
            name, variant = (json.dumps(shorten(str(id))) for id in (id_of(entry), missing))
            self._backend.hint(
                f"unresolved {name}",
                f"visitor.variant: the entry {name} does not hold its variant {variant}, so the baseline is shown; "
                "fetch it with more levels of links (include), or pass its id and fetch the variant by the id returned",
            )

    def _misunderstood(self, method: str, value: object, expected: str, instead: str = "shown as it is") -> None:
        """Report once what a page gave, by its type alone: its text may be a visitor's."""
        kind = type(value).__name__
        self._backend.hint(f"{method} {kind}", f"visitor.{method}: found {kind}, expected {expected}; {instead}")

    @never_raises(lambda self, member: nothing("")[member])
    def _own(self, member: str) -> Any:
        return self._use().answer().own(member)

    def _use(self) -> Conversation:
        if self._conversation is None:
            self._conversation = Conversation(self.environ, self._backend, self._answered)
        return self._conversation
