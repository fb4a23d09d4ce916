"""The test harness is the real API, the same each time, with everything in the test's hands."""

from __future__ import annotations

import subprocess
import sys
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest

from ninetailed_wsgi.errors import SettingsError
from ninetailed_wsgi.testing import (
    Harness,
    Refused,
    Visitor,
    assert_conforms,
    audience,
    experience,
    flag,
    located,
    performed,
    trait,
    viewed,
)

ROOT = Path(__file__).parent.parent.parent
SHOP = ROOT / "fixtures" / "spaces" / "shop.json"

PRICING = audience(viewed("/pricing", at_least=2), id="pricing-visitors")
HERO = experience("hero", ["hero-b"], audience=PRICING)
TEST = experience("button", ["button-b"], distribution=[0.5, 0.5], id="button-test")


@pytest.fixture
def harness() -> Iterator[Harness]:
    with Harness() as harness:
        yield harness


# The visitor


def test_a_visitor_gets_the_variant_of_their_audience(harness: Harness) -> None:
    harness.publish(HERO)
    visitor = harness.visitor("anna").views("/pricing")
    assert (visitor.audiences, visitor.variant("hero"), visitor.variant_index(HERO)) == ([], "hero", None)
    visitor.views("/pricing")
    assert (visitor.audiences, visitor.variant("hero"), visitor.variant_index(HERO)) == (
        ["pricing-visitors"],
        "hero-b",
        1,
    )
    assert visitor.id == "anna"


def test_a_page_is_read_off_its_address(harness: Harness) -> None:
    harness.visitor().views("/pricing?ref=a&utm_campaign=spring&utm_source=news", referrer="https://s.example/", rank=2)
    (captured,) = harness.events
    properties, context = captured.event["properties"], captured.event["context"]
    assert properties == {
        "path": "/pricing",
        "query": {"ref": "a", "utm_campaign": "spring", "utm_source": "news"},
        "referrer": "https://s.example/",
        "search": "?ref=a&utm_campaign=spring&utm_source=news",
        "url": "https://www.example.com/pricing?ref=a&utm_campaign=spring&utm_source=news",
        "title": "",
        "rank": 2,
    }
    assert context["campaign"] == {"name": "spring", "source": "news"}
    assert context["page"]["url"] == properties["url"]


def test_a_known_user_is_one_visitor_on_two_devices(harness: Harness) -> None:
    phone = harness.visitor().on("mobile").views("/").identifies("user-1", plan="pro")
    laptop = harness.visitor().views("/").identifies("user-1")
    assert laptop.id == phone.id
    assert laptop.traits == {"plan": "pro"}
    assert harness.visitor("user-1").traits == {"plan": "pro"}


def test_a_session_ends_when_the_clock_says_so(harness: Harness) -> None:
    visitor = harness.visitor().views("/").waits(minutes=30).views("/a")
    assert visitor.session["count"] == 1
    assert visitor.waits(minutes=31).views("/b").session["count"] == 2


def test_seeing_a_sticky_variant_keeps_it(harness: Harness) -> None:
    kept = experience("button", ["button-b"], sticky=True)
    harness.publish(kept)
    visitor = harness.visitor().views("/").sees(kept)
    harness.publish(experience("button", ["button-b"], sticky=True, distribution=[1, 0]))
    assert visitor.variant("button") == "button-b"
    assert harness.visitor().views("/").variant("button") == "button"


def test_seeing_what_is_not_shown_fails_and_says_why(harness: Harness) -> None:
    harness.publish(HERO)
    visitor = harness.visitor().views("/pricing")
    with pytest.raises(AssertionError, match=r"(?s)experience-hero shows nothing.*no +page events.*found 1"):
        visitor.sees("experience-hero")


def test_seeing_a_flag_names_the_variable(harness: Harness) -> None:
    harness.publish(theme := flag("theme", control="light", variants=["dark"]))
    visitor = harness.visitor().views("/").sees(theme)
    seen = harness.events[-1].event
    assert (seen["componentType"], seen["componentId"], seen["variantIndex"]) == ("Variable", "theme", 1)
    assert (visitor.flag("theme"), visitor.flag("other"), visitor.flag("other", 5)) == ("dark", None, 5)
    assert [change["key"] for change in visitor.changes] == ["theme"]


def test_the_entrys_own_list_decides_between_two_experiences(harness: Harness) -> None:
    both = [experience("hero", ["hero-a"], id="a"), experience("hero", ["hero-b"], id="b")]
    harness.publish(*both)
    visitor = harness.visitor().views("/")
    assert visitor.variant("hero") == "hero-a"
    harness.publish({"entries": [{"id": "hero", "nt_experiences": ["b", "a"]}]})
    assert visitor.variant("hero") == "hero-b"


def test_a_visitor_is_where_their_address_is() -> None:
    places: dict[str, Any] = {
        "203.0.113.0/24": "Berlin, DE",
        "203.0.113.7": "FR",
        "2001:db8::/32": {"city": "Oslo", "country": "Norway"},
    }
    with Harness(location=places) as harness:
        harness.publish(audience(located(country="DE"), id="germans"))
        visitor = harness.visitor().from_address("203.0.113.9").views("/")
        assert (visitor.location, visitor.audiences) == ({"city": "Berlin", "countryCode": "DE"}, ["germans"])
        assert visitor.from_address("203.0.113.7").views("/").location == {"countryCode": "FR"}
        assert visitor.from_address("2001:db8::1").views("/").location == {"city": "Oslo", "country": "Norway"}
        assert harness.visitor().from_address("198.51.100.1").views("/").location == {}


def test_a_real_location_database_serves_too() -> None:
    with Harness(location=ROOT / "fixtures" / "geo" / "demo.mmdb") as harness:
        assert harness.visitor(locale="ja").from_address("192.0.2.1").views("/").location["country"] == "日本"
    with Harness(geoip_database=ROOT / "fixtures" / "geo" / "demo.mmdb") as harness:
        assert harness.visitor().from_address("192.0.2.1").views("/").location["city"] == "Tokyo"


@pytest.mark.parametrize(
    "places",
    [{"203.0.113.0/99": "DE"}, {"203.0.113.1": "Berlin"}, {"::1": "Berlin, XX"}, {"::1": {"town": "x"}}, {"::1": {}}],
    ids=["no network", "no country", "an unknown country", "an unknown member", "nothing"],
)
def test_a_place_that_is_none_is_refused(places: Any) -> None:
    with pytest.raises(ValueError, match=next(iter(places)).replace(".", r"\.")):
        Harness(location=places)


def test_a_refusal_of_the_api_is_raised_with_its_words(harness: Harness) -> None:
    with pytest.raises(Refused, match=r"400 ERR_INVALID_DATA: events\[0\]\.properties\.title: found the number 5"):
        harness.visitor().views("/", title=5)  # type: ignore[arg-type]
    with pytest.raises(Refused) as refused:
        _ = harness.visitor("nobody").audiences
    assert (refused.value.status, refused.value.code) == (404, "ERR_PROFILE_NOT_FOUND")


def test_a_visitor_who_did_nothing_has_no_profile(harness: Harness) -> None:
    with pytest.raises(AssertionError, match="has done nothing yet"):
        _ = harness.visitor().audiences
    with pytest.raises(AssertionError, match="has done nothing yet"):
        harness.explain(harness.visitor())


# The same each time


def story(harness: Harness) -> list[Any]:
    harness.publish(TEST)
    visitors = [harness.visitor().views("/").identifies(plan="pro").waits(hours=1).views("/") for _ in range(3)]
    return [visitor.profile for visitor in visitors] + [captured.event for captured in harness.events]


def test_two_harnesses_tell_the_same_story() -> None:
    with Harness() as one, Harness() as other:
        assert story(one) == story(other)


def test_another_seed_gives_other_ids() -> None:
    with Harness(seed=1) as one, Harness(seed=2) as other:
        assert one.visitor().views("/").id != other.visitor().views("/").id


def test_ids_look_like_real_ones(harness: Harness) -> None:
    profile = harness.visitor().views("/").profile
    assert len(bytes.fromhex(profile["id"])) == 32
    assert uuid.UUID(profile["session"]["id"]).version == 4


def test_a_harness_that_was_reset_tells_the_same_story_again(harness: Harness) -> None:
    first = story(harness)
    harness.force(TEST, 1)
    harness.reset()
    assert harness.events == []
    assert harness.catalog.experience_list == ()
    assert story(harness) == first


# The clock


def test_the_clock_stands_still_until_it_is_moved() -> None:
    with Harness(now="2026-03-01T08:00:00+02:00") as harness:
        assert harness.clock.now == datetime(2026, 3, 1, 6, tzinfo=UTC)
        harness.clock.advance(timedelta(days=1), minutes=1)
        assert harness.clock.now == datetime(2026, 3, 2, 6, 1, tzinfo=UTC)
        harness.clock.at(datetime(2026, 1, 1))
        assert harness.visitor().views("/").profile
        assert harness.events[0].at == datetime(2026, 1, 1, tzinfo=UTC)


def test_time_passes_forwards_only(harness: Harness) -> None:
    with pytest.raises(ValueError, match="a time of at least 0"):
        harness.clock.advance(minutes=-1)


# Content


@pytest.mark.parametrize(
    "content",
    [SHOP, str(SHOP), orjson.loads(SHOP.read_bytes()), SHOP.parent / "shop-generic.json"],
    ids=["a path", "a path as text", "an export as JSON", "the generic form"],
)
def test_content_of_any_form_can_be_published(content: Any) -> None:
    with Harness(content) as harness:
        visitor = harness.visitor("anna").views("/pricing").views("/pricing")
        assert "pricing-visitors" in visitor.audiences


def test_of_a_folder_the_own_environments_files_are_read(tmp_path: Path) -> None:
    (tmp_path / "acme").mkdir()
    (tmp_path / "acme" / "main.json").write_bytes(orjson.dumps([TEST]))
    with Harness(tmp_path, organization="acme") as harness:
        assert [listed.id for listed in harness.catalog.experience_list] == ["button-test"]
    with pytest.raises(SettingsError, match="contains no content file for acme/other"):
        Harness(tmp_path, organization="acme", environment="other")


def test_publishing_adds_and_replaces_by_id(harness: Harness) -> None:
    harness.publish(TEST)
    harness.publish(HERO, experience("button", ["button-c"], id="button-test"))
    assert harness.visitor().views("/").variant("button") == "button-c"
    assert {listed.id for listed in harness.catalog.experience_list} == {"button-test", "experience-hero"}
    harness.unpublish(TEST, "experience-hero")
    assert harness.catalog.experience_list == ()
    assert [listed.id for listed in harness.catalog.audience_list] == ["pricing-visitors"]


def test_an_audience_that_is_published_today_counts_what_was_done_yesterday(harness: Harness) -> None:
    visitor = harness.visitor().views("/pricing").views("/pricing").waits(days=1)
    harness.publish(PRICING)
    assert visitor.audiences == ["pricing-visitors"]


def test_faulty_content_is_refused_as_a_whole_and_says_where(harness: Harness) -> None:
    harness.publish(TEST)
    with pytest.raises(SettingsError, match=r"test_harness\.py:\d+: entry odd: rules.*operator: found \"eqal\""):
        harness.publish(audience(trait("plan", "pro", operator="eqal"), id="odd"), HERO)
    assert [listed.id for listed in harness.catalog.experience_list] == ["button-test"]
    with pytest.raises(SettingsError, match=r"nothing\.json"):
        Harness(content="nothing.json")


def test_what_is_not_served_is_logged_once(harness: Harness, caplog: pytest.LogCaptureFixture) -> None:
    harness.publish(TEST, experience("hero", ["hero-b"], audience="nobody-published-it"))
    harness.force(TEST, 1)
    assert caplog.text.count("shown to nobody: its audience nobody-published-it is not there") == 1


def test_taking_back_what_is_not_published_names_what_was_meant(harness: Harness) -> None:
    harness.publish(TEST)
    with pytest.raises(ValueError, match=r"experience or metric 'button-tst' .* did you mean 'button-test'"):
        harness.unpublish("button-tst")


# Forced outcomes


def test_a_forced_variant_is_what_every_visitor_gets(harness: Harness) -> None:
    nobody = audience(performed("never"), id="nobody")
    harness.publish(experience("button", ["b", "c"], audience=nobody, traffic=0, sticky=True, id="hard"))
    visitors = [harness.visitor().views("/") for _ in range(10)]
    for index, shown in enumerate(["button", "b", "c"]):
        harness.force("hard", index)
        assert {visitor.variant("button") for visitor in visitors} == {shown}
        assert {visitor.variant_index("hard") for visitor in visitors} == {index}
    assert visitors[0].experiences == [
        {"experienceId": "hard", "variantIndex": 2, "variants": {"button": "c"}, "sticky": True}
    ]
    harness.release("hard")
    assert {visitor.variant("button") for visitor in visitors} == {"button"}


def test_a_forced_variant_wins_over_an_assignment_and_leaves_none(harness: Harness) -> None:
    sticky = experience("button", ["b"], sticky=True, distribution=[1, 0])
    harness.publish(sticky)
    before = harness.visitor().views("/").sees(sticky)
    harness.force(sticky, 1)
    during = harness.visitor().views("/").sees(sticky)
    assert (before.variant("button"), during.variant("button")) == ("b", "b")
    harness.release()
    assert (before.variant("button"), during.variant("button")) == ("button", "button")


def test_explain_shows_that_an_outcome_is_forced(harness: Harness) -> None:
    harness.publish(HERO)
    harness.force(HERO, 1)
    visitor = harness.visitor("anna").views("/")
    (explained,) = harness.explain(visitor)["experiences"]
    assert (explained["audience"], explained["traffic"], explained["ranges"]) == (None, 1, [[0, 0], [0, 1]])
    assert (explained["variantIndex"], explained["decided_by"]) == (1, "distribution")
    assert "variant 1, by distribution" in visitor.why
    assert harness.client.get("/profiles/anna/explain").document["data"] == harness.explain("anna")


def test_forcing_outlives_another_publication(harness: Harness) -> None:
    harness.publish(TEST)
    harness.force(TEST, 1)
    harness.publish(HERO)
    assert {harness.visitor().views("/").variant("button") for _ in range(8)} == {"button-b"}


def test_forcing_what_is_not_there_is_refused(harness: Harness) -> None:
    with pytest.raises(ValueError, match="nothing is published"):
        harness.force("button-test", 1)
    harness.publish(TEST)
    with pytest.raises(ValueError, match="found variant index 2, expected 0 to 1"):
        harness.force(TEST, 2)
    with pytest.raises(ValueError, match="did you mean 'button-test'"):
        harness.force("buton-test", 1)


# Events, explanation, the app


def test_events_are_what_was_acknowledged_in_order_with_its_profile(harness: Harness) -> None:
    anna, ben = harness.visitor("anna"), harness.visitor("ben")
    anna.views("/")
    ben.tracks("clicked").waits(minutes=1)
    anna.identifies("user-1")
    told = [(one.profile, one.event["type"], one.at - harness.clock.now) for one in harness.events]
    minute = timedelta(minutes=1)
    assert told == [("anna", "page", -minute), ("ben", "track", -minute), ("anna", "identify", timedelta())]


def test_only_what_is_stored_is_an_event(harness: Harness) -> None:
    event = {"type": "track", "event": "clicked", "channel": "server", "messageId": "m-1"}
    body: Any = {"events": [{**event, "context": {"library": {"name": "tests", "version": "4.0.0"}}, "properties": {}}]}
    assert harness.client.post("/profiles/anna?type=preflight", body).status == 200
    assert harness.client.post("/profiles/anna", {"events": [{"type": "track"}]}).status == 400
    assert harness.events == []
    for _ in range(2):  # what is sent again is the same event
        assert harness.client.post("/profiles/anna", body).status == 200
    batch = {"events": [{**body["events"][0], "anonymousId": name, "messageId": "m-2"} for name in ("ben", "anna")]}
    assert harness.client.post("/events", batch).status == 200
    assert [(one.profile, one.event["messageId"]) for one in harness.events] == [
        ("anna", "m-1"),
        ("ben", "m-2"),
        ("anna", "m-2"),
    ]


def test_two_profiles_that_become_one_make_no_new_events(harness: Harness) -> None:
    harness.visitor("anna").views("/a").identifies("user-1")
    harness.visitor("ben").views("/b").identifies("user-1")
    assert [captured.event["type"] for captured in harness.events] == ["page", "identify", "page", "identify"]


def test_the_report_tells_what_each_visitor_did_and_why(harness: Harness) -> None:
    assert harness.report() == "no visitor did anything that the API acknowledged"
    harness.publish(HERO)
    harness.visitor("anna").views("/pricing?a=b").identifies("user-1", plan="pro").buys("tea", total=12)
    harness.visitor("ben").views("/").identifies("user-1")
    harness.visitor("eve").tracks("left")
    harness.client.delete("/profiles/eve")
    report = harness.report()
    assert "2026-01-05 12:00:00  viewed /pricing?a=b" in report
    assert 'identified as user-1 {"plan": "pro"}' in report
    assert 'performed purchase {"product": "tea", "total": 12}' in report
    assert "no  pricing-visitors" in report
    assert report.count("visitor ") == 2, "ben became part of anna"
    assert "visitor eve\n" in report
    assert report.endswith("no such profile now: it was deleted")


def test_the_report_of_many_is_short(harness: Harness) -> None:
    visitor = harness.visitor("anna")
    for number in range(30):
        visitor.views(f"/{number}")
    for number in range(9):
        harness.visitor(f"other-{number}").views("/")
    report = harness.report()
    assert "10 events before these" in report
    assert "/9\n" not in report
    assert report.endswith("and 5 more visitors")


def test_the_app_is_the_whole_api(harness: Harness) -> None:
    assert harness.client.call("GET", "/health/ready").status == 200
    answer = harness.client.get("/profiles/nobody")
    assert (answer.status, answer.headers["content-type"]) == (404, "application/json")
    assert_conforms(answer.document, "error-response")
    other = harness.client.call("GET", "/v2/organizations/default/environments/other/profiles/anna")
    assert (other.status, other.document["error"]["code"]) == (404, "ERR_CONFIG_NOT_FOUND")
    assert harness.client.call("OPTIONS", "/anywhere", headers={"Origin": "http://localhost:3000"}).status == 204


def test_settings_are_those_of_the_service() -> None:
    with Harness(max_body_bytes=10, explain=False) as harness:
        assert harness.client.post("/profiles", {"events": []}).status == 413
        assert harness.client.get("/profiles/anna/explain").document["error"]["code"] == "ERR_PROFILE_NOT_FOUND"
    with pytest.raises(SettingsError, match="max_body_byte: no such option"):
        Harness(max_body_byte=10)
    with pytest.raises(SettingsError, match="max_body_bytes"):
        Harness(max_body_bytes=-1)


def test_environment_variables_do_not_reach_a_harness(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NINETAILED_MAX_BODY_BYTES", "1")
    with Harness() as harness:
        assert isinstance(harness.visitor().views("/"), Visitor)


def test_nothing_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with Harness() as harness:
        harness.visitor().views("/")
        harness.reset()
        assert list(tmp_path.iterdir())
    with pytest.raises(SettingsError):
        Harness(content={"audiences": 5})
    assert list(tmp_path.iterdir()) == []


# Conformance


def test_an_answer_conforms(harness: Harness) -> None:
    harness.visitor("anna").views("/")
    assert_conforms(harness.client.get("/profiles/anna").document, "profile-response")


def test_what_does_not_conform_is_named_with_its_path(harness: Harness) -> None:
    harness.visitor("anna").views("/")
    document = harness.client.get("/profiles/anna").document
    document["data"]["profile"]["location"]["city"] = None
    del document["data"]["changes"]
    with pytest.raises(AssertionError) as failed:
        assert_conforms(document, "profile-response")
    assert str(failed.value) == (
        "the document is not a valid profile-response:\n"
        "  data.profile.location.city: found null, expected a string that is not empty\n"
        "  data.changes: found nothing, expected a list"
    )


def test_an_unknown_schema_is_named_with_those_that_there_are() -> None:
    with pytest.raises(ValueError, match=r"'profile-respose'.*profile-response"):
        assert_conforms({}, "profile-respose")


def test_the_harness_needs_no_pytest() -> None:
    program = (
        "import sys\n"
        "from ninetailed_wsgi.testing import *\n"
        "with Harness() as harness, LiveServer(harness): harness.visitor().views('/')\n"
        "assert 'pytest' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)


@pytest.mark.parametrize("value", [None, 7, object(), b"hero", ["hero"], {"title": "no id"}, {"sys": {"id": 5}}])
def test_what_a_visitor_does_not_understand_is_a_baseline_and_reported_once_with_its_type(
    harness: Harness, caplog: pytest.LogCaptureFixture, value: Any
) -> None:
    visitor = harness.visitor().views("/pricing").views("/pricing")
    for _ in range(3):
        assert visitor.variant(value) is value
    kind = type(value).__name__
    assert [record.getMessage() for record in caplog.records] == [
        f"Visitor.variant: found {kind}, expected an entry as JSON with an id, or the id of an entry; shown as it is"
    ]


def test_flags_and_entities_that_are_not_named_by_text_are_reported(
    harness: Harness, caplog: pytest.LogCaptureFixture
) -> None:
    visitor = harness.visitor().views("/")
    assert (visitor.flag(["a"], 7), visitor.experience_variant(None)) == (7, None)  # type: ignore[arg-type]
    assert [record.getMessage().split(", ")[0] for record in caplog.records] == [
        "Visitor.flag: found list",
        "Visitor.experience_variant: found NoneType",
    ]


@pytest.mark.parametrize("entry", ["hero", {"id": "hero"}, {"sys": {"id": "hero"}, "fields": {"title": "Hero"}}])
def test_a_visitor_takes_an_entry_or_its_id_and_names_the_variant(harness: Harness, entry: Any) -> None:
    harness.publish(PRICING, HERO)
    visitor = harness.visitor().views("/")
    assert visitor.variant(entry) == "hero"
    assert visitor.views("/pricing").views("/pricing").variant(entry) == "hero-b"
