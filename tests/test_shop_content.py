"""The made-up shop as code says the same as its export."""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote

import pytest

from examples.shop_content import TITLES, content
from ninetailed_wsgi import Settings, create_app
from ninetailed_wsgi.commands.main import main
from ninetailed_wsgi.content import Catalog, content_source
from ninetailed_wsgi.content.formats.writing import as_generic
from ninetailed_wsgi.testing import Client, ContentfulSpace

PHONE = "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 Version/17.5 Mobile/15E148"
EXPORT = Path(__file__).parent.parent / "fixtures" / "spaces" / "shop.json"


def served(origin: object) -> Catalog:
    source = content_source(Settings(content=origin))  # type: ignore[arg-type]  # read by the option
    source.load()
    return source.catalog("acme", "main")


def test_the_shop_as_code_is_equal_to_its_export() -> None:
    code, export = served(content), served(EXPORT)
    assert code.problems == ()
    assert by_id(as_generic(code.content)["audiences"]) == by_id(as_generic(export.content)["audiences"])
    assert code.experiences.experiences == export.experiences.experiences
    assert code.merge_tags == export.merge_tags
    assert code.entry_experiences == export.entry_experiences
    assert {one.id: config(one.config).get("primaryMetric") for one in code.content.experiences} == {
        one.id: config(one.config).get("primaryMetric") for one in export.content.experiences if one.id in ids(code)
    }


def test_the_shop_has_a_title_for_each_entry_of_its_export() -> None:
    entries = [entry for entry in json.loads(EXPORT.read_bytes())["entries"] if "title" in entry["fields"]]
    assert {entry["sys"]["id"]: entry["fields"]["title"]["en-US"] for entry in entries} == TITLES
    assert served(content).entry_ids - {""} <= TITLES.keys()


def test_the_shop_is_named_as_a_module_as_well() -> None:
    assert served("examples.shop_content:content").version == served(content).version


def by_id(items: list[dict[str, object]]) -> dict[object, object]:
    return {item["id"]: item for item in items}


def ids(catalog: Catalog) -> set[str]:
    return {one.id for one in catalog.experience_list}


def config(value: object) -> dict[str, object]:
    assert isinstance(value, dict)
    return value


VISITS: dict[str, list[dict[str, Any]]] = {
    "a first page": [{"url": "/"}],
    "the prices twice": [{"url": "/pricing"}, {"url": "/pricing/teams"}],
    "a letter": [{"url": "/?utm_source=newsletter", "campaign": {"source": "newsletter"}}],
    "a phone": [{"url": "/", "agent": PHONE}],
    "a cart": [{"url": "/"}, {"track": "add_to_cart"}],
    "an order": [{"url": "/"}, {"track": "order_completed", "properties": {"total": 120}}],
    "a member": [{"url": "/"}, {"traits": {"plan": "member"}}],
}


def answers(app: Any) -> dict[str, Any]:
    """What each of these visitors gets, twenty of each kind."""
    client = Client(app, "/v2/organizations/acme/environments/main")
    told = {}
    for kind, steps in VISITS.items():
        for number in range(20):
            id = f"{kind} {number}"
            data = client.post(f"/profiles/{quote(id)}", {"events": [sent(step) for step in steps]}).document["data"]
            told[id] = (data["profile"]["audiences"], data["experiences"], data["changes"])
    return told


def sent(step: dict[str, Any]) -> dict[str, Any]:
    event = {
        "channel": "web",
        "messageId": str(uuid.uuid4()),
        "context": {
            "library": {"name": "shop", "version": "7.0.0"},
            "userAgent": step.get("agent", ""),
            "campaign": step.get("campaign", {}),
        },
    }
    if "track" in step:
        return {**event, "type": "track", "event": step["track"], "properties": step.get("properties", {})}
    if "traits" in step:
        return {**event, "type": "identify", "traits": step["traits"]}
    path, _, search = step["url"].partition("?")
    page = {"path": path, "search": search and f"?{search}", "url": f"https://shop.example{step['url']}"}
    return {**event, "type": "page", "properties": {**page, "query": dict(parse_qsl(search)), "referrer": ""}}


def test_the_shop_as_code_decides_the_same_after_it_was_imported_into_contentful(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "import.json"
    arguments = ["--to", "contentful", "--content", "examples.shop_content:content", "--output", str(file)]
    assert main(["content", "convert", *arguments]) == 0
    code = answers(create_app(content=content, data_dir=tmp_path / "code", access="open"))
    with ContentfulSpace(file) as space:
        imported = create_app(
            content=f"{space.address}=acme/main",
            contentful_url=space.url,
            contentful_token=space.token,
            data_dir=tmp_path / "imported",
            access="open",
        )
        assert answers(imported) == code
    seen = {one["experienceId"] for _, experiences, _ in code.values() for one in experiences}
    assert seen == {one.id for one in served(content).experience_list}
