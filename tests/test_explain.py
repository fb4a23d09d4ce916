"""``explain``: why a visitor is in which audience and sees which variant, over HTTP and in the terminal."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import ROOT, Api, Server, component, data, error, identify, page

from ninetailed_wsgi import testing
from ninetailed_wsgi.commands.main import main
from ninetailed_wsgi.core.events import ServedComponent
from ninetailed_wsgi.core.preview import Overrides
from ninetailed_wsgi.service.explanation import reason, sentence
from ninetailed_wsgi.site.panel_view import view

SHOP = ROOT / "fixtures" / "spaces" / "shop.json"


@pytest.fixture
def shop(make_server: Callable[..., Server]) -> Api:
    return make_server(content=SHOP, explain=True).environment("org", "main")


def test_explain_is_not_served_unless_it_is_switched_on(make_server: Callable[..., Server]) -> None:
    api = make_server(content=SHOP).environment()
    api.update("anna", page("/pricing"))
    assert error(api.request("GET", "/profiles/anna/explain"), 404) == "ERR_PROFILE_NOT_FOUND"


def test_explain_of_an_unknown_profile_is_404(shop: Api) -> None:
    assert error(shop.request("GET", "/profiles/nobody/explain"), 404) == "ERR_PROFILE_NOT_FOUND"


def test_explain_says_for_each_audience_what_was_found_and_what_was_wanted(shop: Api) -> None:
    shop.update("anna", page("/pricing"))
    explained = data(shop.request("GET", "/profiles/anna/explain"))
    (pricing,) = [each for each in explained["audiences"] if each["id"] == "pricing-visitors"]
    (rule,) = pricing["groups"][0]["rules"]
    assert (pricing["matched"], rule["held"], rule["found"]) == (False, False, 1)
    assert rule["wanted"] == 'page events where context_page_path contains "/pricing": greaterThanInclusive 2'


def test_explain_agrees_with_what_is_answered(shop: Api) -> None:
    shop.update("anna", page("/pricing"), page("/pricing"), identify("", {"plan": "member"}))
    explained, answered = data(shop.request("GET", "/profiles/anna/explain")), shop.get("anna")
    assert explained["profile"] == answered["profile"]
    assert [each["id"] for each in explained["audiences"] if each["matched"]] == answered["profile"]["audiences"]
    shown = {each["id"]: each["variantIndex"] for each in explained["experiences"] if each["decided_by"]}
    assert shown == {each["experienceId"]: each["variantIndex"] for each in answered["experiences"]}
    assert "pricing-offer" in shown


def test_explain_says_that_an_assignment_seen_before_decided(shop: Api) -> None:
    shop.update(
        "anna", identify("", {"plan": "member"}), component("member-greeting", 2), identify("", {"plan": "none"})
    )
    explained = data(shop.request("GET", "/profiles/anna/explain"))
    (greeting,) = [each for each in explained["experiences"] if each["id"] == "member-greeting"]
    assert (greeting["audience_matched"], greeting["decided_by"], greeting["variantIndex"]) == (False, "sticky", 2)


def test_explain_takes_an_alias(shop: Api) -> None:
    shop.update("anna", identify("anna@shop.example", {}))
    assert data(shop.request("GET", "/profiles/anna%40shop.example/explain"))["profile"]["id"] == "anna"


def test_the_terminal_shows_the_same_in_words(
    make_server: Callable[..., Server], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NINETAILED_CONTENT", raising=False)
    server = make_server(content=SHOP)
    server.environment("org", "main").update("anna", page("/pricing"), page("/pricing"))
    assert main(["explain", "org/main", "anna", "--data-dir", str(server.folder), "--content", str(SHOP)]) == 0
    printed = capsys.readouterr().out
    assert "profile anna: session 1" in printed
    assert "yes hero-test (Hero: calm or summer picture): variant" in printed
    assert "no  big-spenders (Ordered for more than 100)" in printed


@pytest.mark.parametrize("where", ["org", "org/", "/main"])
def test_the_terminal_asks_for_organization_and_environment(
    where: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["explain", where, "anna", "--data-dir", str(tmp_path / "data")]) == 2
    assert "expected ORGANIZATION/ENVIRONMENT, such as acme/main" in capsys.readouterr().err


def test_the_terminal_says_that_there_is_no_such_profile(
    make_server: Callable[..., Server], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["explain", "org/main", "anna", "--data-dir", str(make_server().folder)]) == 1
    assert capsys.readouterr().err == "ninetailed-wsgi explain: no profile has the id or alias anna\n"


def test_the_terminal_makes_no_store_where_there_is_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    for folder in (tmp_path / "absent", tmp_path / "empty"):
        assert main(["explain", "org/main", "anna", "--data-dir", str(folder)]) == 2
        assert f"no profiles are stored in {folder} (--data-dir)" in capsys.readouterr().err
    assert [path.name for path in tmp_path.rglob("*")] == ["empty"]


@pytest.mark.parametrize(
    ("wanted", "told"),
    [
        ('page events where context_page_path contains "/pricing": greaterThanInclusive 2',
         'viewed a page whose path contains "/pricing", at least 2 times'),
        ('page events where context_page_path equal "/pricing" in the last 7 days: greaterThanInclusive 1',
         'viewed a page whose path is "/pricing", in the last 7 days'),
        ("page events: lessThan 1", "never viewed a page"),
        ("page events in the last 1 days: equal 1", "viewed a page, in the last day, exactly 1 time"),
        ('track events named "buy": greaterThan 0', 'did "buy"'),
        ("track events: lessThan 3", "did any event, fewer than 3 times"),
        ('track events named "a where b": equal 2', 'did "a where b", exactly 2 times'),
        ('track events named "buy" where properties[unit_price] greaterThan "5" and properties[equal] exists: equal 2',
         'did "buy" whose property unit_price is more than "5" and property equal is there, exactly 2 times'),
        ('page events where context_page_path equal "x in the last 9 days: equal 3": lessThanInclusive 4',
         'viewed a page whose path is "x in the last 9 days: equal 3", at most 4 times'),
        ('trait "equal" notEqual "session_count \\" equal"', 'trait "equal" is not "session_count \\" equal"'),
        ("session_count greaterThan 1", "number of sessions is more than 1"),
        ('device equal "mobile"', 'device is "mobile"'),
        ('trait "email" equal "*"', 'trait "email" is there'),
        ('trait "a" notEqual "*" and x', 'trait "a" is not there and x'),
        ('trait "a" equal "equal \\"*\\""', 'trait "a" is "equal \\"*\\""'),
        ("countryCode notExists", "countryCode is not there"),
        (f'trait "a" equal "{"equal " * 12}equa...', f'trait "a" is "{"equal " * 12}equa...'),
    ],
)  # fmt: skip
def test_a_rule_is_a_sentence_for_people_and_what_authors_wrote_stays(wanted: str, told: str) -> None:
    assert sentence(wanted) == told


@pytest.mark.parametrize(
    ("decision", "told"),
    [
        ({"decided_by": "preview"}, "This preview shows it, whatever the rules say."),
        ({"decided_by": "sticky"}, "The visitor saw this variant before and keeps it, as the experience is sticky."),
        ({"audience_matched": False}, 'The visitor is not in the audience "Members".'),
        ({"audience_matched": False, "audience": "gone"}, 'The visitor is not in the audience "gone".'),
        (
            {"in_traffic": False},
            'In the audience "Members", but the visitor does not take part: the traffic hash 0.700 is not below the '
            "traffic 0.5.",
        ),
        ({"ranges": [[0, 1]]}, 'In the audience "Members": all who take part get this variant.'),
        (
            {"audience": None},
            "For everyone: the visitor's hash 0.250 falls into the range of this variant, 0.000 to 0.500.",
        ),
        (
            {"distribution_index": 2, "audience": None},
            "For everyone: the visitor's hash 0.250 falls into no range, so they get the baseline.",
        ),
    ],
)
def test_why_a_visitor_gets_a_variant_is_one_sentence(decision: dict[str, Any], told: str) -> None:
    allocated = {
        "decided_by": "allocation",
        "audience": "members",
        "audience_matched": True,
        "in_traffic": True,
        "traffic": 0.5,
        "traffic_hash": 0.7,
        "distribution_hash": 0.25,
        "distribution_index": 0,
        "ranges": [[0, 0.5], [0.5, 1]],
    }
    assert reason({**allocated, **decision}, {"members": "Members"}) == told


def test_the_panel_and_the_inspector_give_the_same_reasons() -> None:
    offer = testing.experience("hero", ["hero-b"], id="offer", audience=testing.audience(testing.viewed("/pricing")))
    split = testing.experience("title", ["title-b"], id="split", distribution=[0.5, 0.5])
    with testing.Harness([offer, split], inspector=True, seed=3) as harness:
        for path in ("/", "/pricing"):
            visitor = harness.visitor().views(path)
            explanation = harness.service.explain(harness.environment, visitor.id)
            panel = view(
                {},
                explanation,
                explanation,
                None,
                harness.service.content(*harness.environment).experiences.experiences,
            )
            page = harness.client.call("GET", f"/inspector/visitors/{visitor.id}.json").document["data"]
            reasons = {each["id"]: each["why"] for each in page["experiences"]}
            assert {each["id"]: each["why"] for each in panel["experiences"]} == reasons
            assert len(reasons) == 2


def test_the_panel_of_a_large_site_lists_what_matters_here_and_says_how_much_it_leaves_out() -> None:
    audiences = [testing.audience(testing.viewed(f"/{number}"), id=f"a{number}") for number in range(300)]
    experiences = [
        testing.experience(f"slot-{number}", ["b"], id=f"e{number}", audience=f"a{number}") for number in range(300)
    ]
    with testing.Harness([*audiences, *experiences]) as harness:
        visitor = harness.visitor().views("/250")
        explanation = harness.service.explain(harness.environment, visitor.id)
        published = harness.service.content(*harness.environment).experiences.experiences
        forced = Overrides.of({"experiences": {"e280": 1}, "audiences": {"a290": True}})
        parts = {("entry", "slot-270"): ServedComponent("slot-270", "e270", 0)}
        panel = view(parts, explanation, explanation, forced, published)
        shown = [each["id"] for each in panel["experiences"]]
        assert {"e250", "e270", "e280"} < set(shown)
        assert (len(shown), len(panel["audiences"])) == (42, 42)
        assert panel["unlisted"] == [258, 258]
        assert [each["id"] for each in panel["audiences"] if "groups" in each] == ["a270", "a290"]
        assert shown == [each["id"] for each in explanation["experiences"] if each["id"] in shown], "in their order"
        assert len(json.dumps(panel)) < 30_000
