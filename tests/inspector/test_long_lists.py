"""Pages stay small however long their lists are: what a person needs first stands there, `?all` shows the rest."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from ninetailed_wsgi.api.validation.schemas import Schemas
from ninetailed_wsgi.testing import Answer, Harness, any_of, audience, experience, trait, viewed
from tests.inspector.places import count
from tests.inspector.test_inspector import get, post, proof_of

SCHEMAS = Schemas()
MANY = 400
LONG = "name \u202e<b>" * 30  # each character of some takes eight bytes in a page


def content() -> list[Any]:
    """Return four hundred audiences and experiences; the visitor gets one of the last."""
    audiences = [
        audience(viewed(f"/{number}", at_least=2), id=f"a{number}", name=f"{LONG if number % 9 == 0 else ''} {number}")
        for number in range(MANY)
    ]
    audiences[5] = audience(any_of(*[trait("plan", f"plan {number}") for number in range(MANY)]), id="a5", name="Plans")
    variants = [f"variant {number}" for number in range(30)]
    experiences = [
        experience(f"slot-{number}", ["b"], id=f"e{number}", name=f"Experience {number}", audience=f"a{number}")
        for number in range(MANY)
    ]
    wide = experience("wide", variants, id="wide", name="Wide", audience="a399", distribution=[0.0] + [1 / 30] * 30)
    return [*audiences, *experiences, wide]


@pytest.fixture(scope="module")
def crowd() -> Iterator[Harness]:
    with Harness(content(), inspector=True, draft_content={"audiences": [], "experiences": []}) as harness:
        visitor = harness.visitor("anna").views("/399").views("/399")
        visitor.identifies("anna@example.com", **{f"trait{number}": LONG for number in range(60)}, plan="gold")
        for number in range(70):
            visitor.tracks(f"{LONG} {number}")
        for number in range(55):
            harness.visitor(f"visitor-{number}").views("/").identifies(f"user-{number}", plan="silver", note=LONG)
        count(harness)
        yield harness


def size_of(answer: Answer) -> int:
    """Return the bytes of a page without its pictures."""
    assert answer.status == 200
    return len(re.sub(rb"<svg.*?</svg>", b"", answer.body, flags=re.DOTALL))


PAGES = ("find", "visitors/anna", "audiences/a5", "experiences/wide", "live", "playground", "what-if", "state")


@pytest.mark.parametrize("page", PAGES)
def test_a_page_has_less_than_30_kb_and_says_how_much_it_leaves_out(crowd: Harness, page: str) -> None:
    answer = get(crowd, page)
    assert size_of(answer) < 30_000
    text = answer.body.decode()
    if page not in ("live", "state", "experiences/wide"):
        assert re.search(r"Show (all|\d[\d,]*) (more )?\w+", text)


def test_what_a_visitor_gets_and_the_audiences_they_are_in_come_first(crowd: Harness) -> None:
    text = get(crowd, "visitors/anna").body.decode()
    experiences, _, audiences = text.partition("<h2>Audiences</h2>")
    assert "Experience 399" in experiences
    assert ">Wide</a>" in experiences
    assert re.findall(r">(in|not in)</span> <a href", audiences)[:2] == ["in", "not in"]
    assert " more groups of conditions</div>" in get(crowd, "audiences/a5").body.decode()


@pytest.mark.parametrize(
    ("page", "last"),
    [("visitors/anna", "> 398</a>"), ("find", "> 398</a>"), ("audiences/a5", "plan 399"), ("what-if", "> 398<")],
)
def test_the_rest_is_one_link_away_and_the_twin_is_whole(crowd: Harness, page: str, last: str) -> None:
    text = get(crowd, page).body.decode()
    assert last not in text
    assert 'href="?all' in text
    assert last in get(crowd, f"{page}?all").body.decode()
    assert " more groups" not in get(crowd, f"{page}?all").body.decode()
    assert 'href="?in=default/main&amp;all' in get(crowd, f"{page}?in=default/main").body.decode()
    twin = get(crowd, f"{page}.json")
    if page != "audiences/a5":
        assert len(twin.document["data"]["audiences"]) == MANY


def test_a_search_shows_by_what_to_recognize_a_visitor(crowd: Harness) -> None:
    fields = {"name": "plan=silver", "proof": proof_of(get(crowd, "find"))}
    twin = post(crowd.client, "/inspector/find.json", fields)
    SCHEMAS.check("inspector-search", twin.document)
    data = twin.document["data"]
    assert len(data["visitors"]) == len(data["profileIds"]) == 50
    hit = data["visitors"][0]
    assert (hit["sessions"], hit["device"], hit["landingPage"]) == (1, "desktop", "/")
    assert [*hit["traits"]] == ["plan", "note"], "what was searched for is named first"
    assert len(hit["traits"]["note"]) == 60
    answer = post(crowd.client, "/inspector/find", fields)
    assert size_of(answer) < 30_000
    text = answer.body.decode()
    assert "Last seen just now · place unknown · desktop · 1 session, the latest began at /" in text
    assert re.search(r">user-\d+</a>", text)
    more = re.search(r"Show (\d+) more</button>", text)
    assert more is not None
    whole = post(crowd.client, "/inspector/find", {**fields, "all": "yes"}).body.decode()
    assert len(re.findall(r">user-\d+</a>", whole)) == 50 == len(re.findall(r">user-\d+</a>", text)) + int(more[1])


def test_the_playground_asks_for_few_things_and_keeps_what_was_set(crowd: Harness) -> None:
    fields = {"proof": proof_of(get(crowd, "find")), "experience:e270": "1", "audience:a380": "on", "visitor": "anna"}
    answer = post(crowd.client, "/inspector/playground", fields)
    assert size_of(answer) < 30_000
    text = answer.body.decode()
    assert re.search(r'name="experience:e270"><option value="">as it is</option>.*?<option value="1" selected>', text)
    assert re.search(r'name="audience:a380"><option value="">as it is</option><option value="on" selected>', text)
    assert text.index("Experience 270") < text.index("Experience 0"), "what differs stands first"
    assert 'name="experience:e398"' not in text
    whole = post(crowd.client, "/inspector/playground", {**fields, "all": "yes"}).body.decode()
    assert 'name="experience:e398"' in whole
    assert 'name="experience:wide" type="number" min="0" max="30"' in whole
