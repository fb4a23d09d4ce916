"""The made-up shop as code says the same as its export."""

from __future__ import annotations

from pathlib import Path

from examples.shop_content import content
from ninetailed_wsgi import Settings
from ninetailed_wsgi.content import Catalog, content_source
from ninetailed_wsgi.content.formats.writing import as_generic

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


def test_the_shop_is_named_as_a_module_as_well() -> None:
    assert served("examples.shop_content:content").version == served(content).version


def by_id(items: list[dict[str, object]]) -> dict[object, object]:
    return {item["id"]: item for item in items}


def ids(catalog: Catalog) -> set[str]:
    return {one.id for one in catalog.experience_list}


def config(value: object) -> dict[str, object]:
    assert isinstance(value, dict)
    return value
