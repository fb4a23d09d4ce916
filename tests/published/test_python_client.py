"""Contentful's own Python client reads the local space, and a page takes its objects as they are."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import contentful
import pytest

from ninetailed_wsgi import visitor_of
from ninetailed_wsgi.testing import ContentfulSpace, Harness, experience

HERO = experience("hero", ["hero-b"], id="hero-test")


def link(id: str) -> dict[str, Any]:
    return {"sys": {"type": "Link", "linkType": "Entry", "id": id}}


def entry(id: str, kind: str, **fields: Any) -> dict[str, Any]:
    return {"sys": {"id": id, "contentType": kind}, "fields": fields}


def embedded(target: Any, kind: str = "embedded-entry-inline") -> dict[str, Any]:
    return {"nodeType": kind, "data": {"target": target}, "content": []}


def document(*nodes: dict[str, Any]) -> dict[str, Any]:
    paragraph = {"nodeType": "paragraph", "data": {}, "content": [text("Hello "), *nodes]}
    return {"nodeType": "document", "data": {}, "content": [paragraph]}


def text(value: str) -> dict[str, Any]:
    return {"nodeType": "text", "value": value, "marks": [], "data": {}}


def linked_hero(**fields: Any) -> list[dict[str, Any]]:
    chosen = entry(
        "hero-test", "nt_experience", nt_experience_id="hero-test", nt_type=HERO["type"], nt_config=HERO["config"],
        nt_name="Hero", nt_variants=[link("hero-b")],
    )  # fmt: skip
    shown = entry("hero", "page", title="Hero", nt_experiences=[link("hero-test")], **fields)
    return [chosen, shown, entry("hero-b", "page", title="Hero B")]


TAG = entry("tag", "nt_mergetag", nt_name="First name", nt_mergetag_id="traits.firstname", nt_fallback="friend")


@pytest.fixture
def space() -> Iterator[ContentfulSpace]:
    body = document(embedded(link("tag")))
    with ContentfulSpace([*linked_hero(body=body), TAG], page_size=2) as opened:
        yield opened


@pytest.fixture
def client(space: ContentfulSpace) -> contentful.Client:
    host = space.url.removeprefix("http://")
    return contentful.Client(space.space, space.token, api_url=host, environment=space.environment, https=False)


def seen(content: Any, ask: Any) -> Any:
    """What a page of a site gets, where ``content`` is published."""
    answered = []

    def site(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        answered.append(ask(visitor_of(environ)))
        start_response("200 OK", [("Content-Type", "text/html")])
        return [b"<p>"]

    from werkzeug.test import Client

    with Harness({"items": content}) as harness:
        Client(harness.mount(site)).get("/")
    return answered[0]


# The client reads the space


def test_the_client_synchronizes_in_pages_and_then_asks_for_changes(
    space: ContentfulSpace, client: contentful.Client
) -> None:
    page = client.sync({"initial": True})
    items = list(page.items)
    while page.next_page_url:
        page = page.next(client)
        items += page.items
    assert sorted(item.id for item in items) == ["hero", "hero-b", "hero-test", "tag"]

    space.unpublish("tag")
    changes = page.next(client)
    assert [(type(item).__name__, item.id) for item in changes.items] == [("DeletedEntry", "tag")]


def test_the_client_reads_entries_with_what_they_link_to(client: contentful.Client) -> None:
    (hero,) = client.entries({"content_type": "page", "sys.id": "hero", "include": 3})

    assert (hero.title, [one.id for one in hero.nt_experiences]) == ("Hero", ["hero-test"])
    assert hero.nt_experiences[0].nt_variants[0].title == "Hero B"
    assert client.entry("tag").nt_mergetag_id == "traits.firstname"


def test_the_client_meets_limits_failures_and_refusals(space: ContentfulSpace, client: contentful.Client) -> None:
    space.limit(1, reset=0)
    assert client.entry("tag").id == "tag", "it waits as long as the answer says"
    space.fail(1, status=503)
    with pytest.raises(contentful.errors.ServiceUnavailableError):
        client.entries()
    with pytest.raises(contentful.errors.EntryNotFoundError):
        client.entry("never-there")
    with pytest.raises(contentful.errors.UnauthorizedError):
        contentful.Client(space.space, "wrong", api_url=space.url.removeprefix("http://"), https=False)


# A page takes its objects


def test_a_variant_of_an_entry_object_is_an_entry_object(client: contentful.Client) -> None:
    (hero,) = client.entries({"sys.id": "hero", "include": 3})
    shown = seen(linked_content(), lambda visitor: visitor.variant(hero))

    assert isinstance(shown, contentful.Entry)
    assert (shown.id, shown.title) == ("hero-b", "Hero B")


def test_an_entry_object_with_unresolved_links_is_decided_by_what_is_published_and_reported(
    client: contentful.Client, caplog: pytest.LogCaptureFixture
) -> None:
    (hero,) = client.entries({"sys.id": "hero", "include": 0})
    assert type(hero.nt_experiences[0]).__name__ == "Link"
    with caplog.at_level(logging.WARNING):
        shown = seen(
            linked_content(), lambda visitor: [visitor.variant(hero), visitor.variant(hero), visitor.variant("hero")]
        )

    assert [shown[0] is hero, shown[2]] == [True, "hero-b"]
    assert [record.getMessage() for record in caplog.records if "does not hold its variant" in record.getMessage()] == [
        'visitor.variant: the entry "hero" does not hold its variant "hero-b", so the baseline is shown; fetch it with '
        "more levels of links (include), or pass its id and fetch the variant by the id returned"
    ]


def test_a_link_object_is_a_baseline_of_its_id(client: contentful.Client) -> None:
    (chosen,) = client.entries({"sys.id": "hero-test", "include": 0})
    bare = chosen.nt_variants[0]
    assert seen(linked_content(), lambda visitor: visitor.variant(bare)) is bare


def test_attributes_for_tracking_take_an_entry_object(client: contentful.Client) -> None:
    (hero,) = client.entries({"sys.id": "hero", "include": 3})
    assert "hero-b" in seen(linked_content(), lambda visitor: visitor.track_attributes(hero))


def test_rich_text_of_the_client_has_its_merge_tags_filled_in(client: contentful.Client) -> None:
    (hero,) = client.entries({"sys.id": "hero", "include": 3})
    target = hero.body["content"][0]["content"][1]["data"]["target"]
    assert isinstance(target, contentful.Entry)

    def ask(visitor: Any) -> Any:
        visitor.identify(firstname="Anna")
        return visitor.render(hero.body)

    assert seen(linked_content(), ask) == document(text("Anna"))
    assert seen(linked_content(), lambda visitor: visitor.render(hero.body)) == document(text("friend"))


# Links as targets


@pytest.mark.parametrize("kind", ["embedded-entry-inline", "embedded-entry-block"])
def test_a_link_to_a_merge_tag_is_filled_in_as_it_is_published(kind: str) -> None:
    shown = seen(linked_content(), lambda visitor: visitor.render(document(embedded(link("tag"), kind))))
    value = shown["content"][0]["content"][1]

    assert text("friend") in (value, value.get("content", [None])[0])


def test_a_link_object_to_a_merge_tag_is_filled_in(client: contentful.Client) -> None:
    (hero,) = client.entries({"sys.id": "hero", "include": 0})
    target = hero.body["content"][0]["content"][1]["data"]["target"]
    assert type(target).__name__ == "Link"

    assert seen(linked_content(), lambda visitor: visitor.render(hero.body)) == document(text("friend"))


def test_a_link_in_a_line_to_what_is_no_merge_tag_stays_and_is_reported_once(caplog: pytest.LogCaptureFixture) -> None:
    content = document(embedded(link("hero")), embedded(link("hero")), embedded(link("hero-b"), "embedded-entry-block"))
    with caplog.at_level(logging.WARNING):
        assert seen(linked_content(), lambda visitor: visitor.render(content)) == content

    told = [record.getMessage() for record in caplog.records if "rich text links to" in record.getMessage()]
    assert told == [
        'visitor.render: rich text links to the entry "hero", which is not a published merge tag; shown as it is'
    ]


@pytest.mark.parametrize("target", [None, 5, "tag", [], {}, {"sys": None}, {"sys": {"id": 5}}, object(), print])
def test_odd_targets_stay_as_they_are(target: Any) -> None:
    content = document(embedded(target))
    assert seen(linked_content(), lambda visitor: visitor.render(content)) == content


class Odd:
    """An object that is like an entry and is none."""

    sys = "text"
    fields = 5


@pytest.mark.parametrize("given", [None, 5, object(), Odd(), Odd, print, {"sys": 5}, [], {1}])
def test_what_is_no_entry_is_shown_as_it_is_and_reported(given: Any, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert seen(linked_content(), lambda visitor: visitor.variant(given)) is given
    told = [record.getMessage() for record in caplog.records if "expected an entry with an id" in record.getMessage()]
    assert len(told) == 1


def test_an_object_whose_fields_fail_is_shown_as_it_is(caplog: pytest.LogCaptureFixture) -> None:
    class Failing:
        sys = {"id": "hero"}  # noqa: RUF012

        def fields(self) -> Any:
            raise RuntimeError("no fields")

    given = Failing()
    with caplog.at_level(logging.ERROR):
        assert seen(linked_content(), lambda visitor: visitor.variant(given)) is given


def linked_content() -> list[dict[str, Any]]:
    """What is published, as answers of the Delivery API hold it."""
    return [
        {**one, "sys": {**one["sys"], "type": "Entry", "contentType": {"sys": {"id": one["sys"]["contentType"]}}}}
        for one in [*linked_hero(), TAG]
    ]
