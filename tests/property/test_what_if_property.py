"""What-if equals publishing: visitor by visitor, for generated content, histories and drafts."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ninetailed_wsgi.insights.what_if import ContentComparison
from ninetailed_wsgi.testing import Harness, audience, experience, flag, performed, trait, viewed
from tests.searches import search

PATHS = ("/a", "/b", "/c")
RULES = st.one_of(
    st.builds(viewed, st.sampled_from(PATHS), at_least=st.integers(1, 3)),
    st.builds(viewed, st.sampled_from(PATHS), at_most=st.integers(0, 2), within_days=st.integers(1, 9)),
    st.builds(performed, st.sampled_from(("buy", "*")), at_least=st.integers(1, 2)),
    st.builds(trait, st.just("plan"), st.sampled_from(("pro", "free"))),
)
AUDIENCES = st.lists(st.tuples(st.sampled_from("xyz"), RULES), max_size=3, unique_by=lambda pair: pair[0])


@st.composite
def contents(draw: st.DrawFn) -> list[dict[str, Any]]:
    audiences = [audience(rule, id=id) for id, rule in draw(AUDIENCES)]
    wanted = st.sampled_from([None, *(each["id"] for each in audiences)])
    shares = st.sampled_from(([0.5, 0.5], [1, 0], [0, 1], [0.2, 0.3, 0.5]))
    experiences = [
        experience(
            f"entry-{id}",
            [f"{id}-1", f"{id}-2"],
            id=id,
            audience=draw(wanted),
            distribution=draw(shares),
            traffic=draw(st.sampled_from((0, 0.5, 1))),
            sticky=draw(st.booleans()),
        )
        for id in draw(st.lists(st.sampled_from("pqr"), max_size=2, unique=True))
    ]
    flags = [flag("limit", control=1, variants=[draw(st.integers(2, 4))], id="f", audience=draw(wanted))]
    return [*audiences, *experiences, *(flags if draw(st.booleans()) else [])]


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("views"), st.sampled_from(PATHS)),
        st.tuples(st.just("tracks"), st.sampled_from(("buy", "look"))),
        st.tuples(st.just("plan"), st.sampled_from(("pro", "free"))),
        st.tuples(st.just("waits"), st.integers(1, 5)),
        st.tuples(st.just("sees"), st.just("")),
    ),
    max_size=8,
)


def act(harness: Harness, name: str, steps: list[tuple[str, Any]]) -> None:
    visitor = harness.visitor(name).views("/start")
    for kind, value in steps:
        if kind == "plan":
            visitor.identifies(plan=value)
        elif kind == "waits":
            visitor.waits(days=value)
        elif kind == "sees":
            for each in harness.catalog.experience_list:
                if visitor.variant_index(each.id) is not None and each.id != "f":
                    visitor.sees(each.id)
        else:
            getattr(visitor, kind)(value)


@search(20)
@given(published=contents(), draft=contents(), histories=st.lists(STEPS, min_size=1, max_size=3), newer=st.booleans())
def test_each_visitor_gets_what_publishing_the_draft_would_give_them(
    published: list[dict[str, Any]], draft: list[dict[str, Any]], histories: list[list[Any]], newer: bool
) -> None:
    with Harness(published, history_events=6) as harness:
        for number, steps in enumerate(histories):
            act(harness, f"visitor-{number}", steps)
        if newer:  # the last content that counted for these visitors is not what is published now
            harness.publish(audience(viewed("/z"), id="later"))
        before = harness.catalog
        with Harness(draft) as other:
            after = other.catalog
        comparison = ContentComparison(before, after, harness.clock())
        decided = {}
        for number in range(len(histories)):
            entry = harness.service.store.read(harness.environment.key(f"visitor-{number}"))
            decided[number] = comparison.decide(entry.document or {}, entry.next_ordinal, entry.history)
        totals = harness.what_if(draft)
        changed = 0
        for side in (0, 1):
            if side:
                ids = [each.id for each in before.audience_list] + [each.id for each in before.experience_list]
                harness.unpublish(*ids)
                harness.publish(*draft)
            for number, shown in decided.items():
                answer = harness.client.get(f"/profiles/visitor-{number}").document["data"]
                document = shown[side].document()
                assert document["audiences"] == answer["profile"]["audiences"]
                assert document["experiences"] == {
                    each["experienceId"]: each["variantIndex"] for each in answer["experiences"]
                }
                assert document["flags"] == {each["key"]: each["value"] for each in answer["changes"]}
                changed += side and shown[0].document() != shown[1].document()
        assert totals["visitorsChanged"]["any"] == changed
        for each in totals["audiences"]:
            members = [[each["id"] in shown[side].audiences for shown in decided.values()] for side in (0, 1)]
            assert [each["before"], each["after"]] == list(map(sum, members))
