"""``explain``: why a visitor is in which audience and sees which variant, over HTTP and in the terminal."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from support import ROOT, Api, Server, component, data, error, identify, page

from ninetailed_wsgi.commands.main import main

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
    assert "expected an organization, a slash, an environment" in capsys.readouterr().err


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
