"""Content files of the three forms, wrong in any place, are refused naming the file, or decide without failing."""

from __future__ import annotations

import contextlib
import copy
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import MINUTE, ROOT, Server, identify, page, track

from ninetailed_wsgi.content import ContentFolder
from ninetailed_wsgi.core.audiences import compile_audience
from ninetailed_wsgi.core.experiences import TYPES, compile_experience
from ninetailed_wsgi.core.problems import ContentError
from ninetailed_wsgi.errors import SettingsError
from ninetailed_wsgi.service.service import ExperienceService
from ninetailed_wsgi.store.overlay import Overlay
from tests.searches import search

FORMS = ("shop.json", "shop-delivery.json", "shop-generic.json")
QUICK = search(20)

TEXTS = st.sampled_from(
    ["", "*", "(a", "a{1000}{1000}", "\0", "-1", "1e999", "é" * 50, "x" * 5_000, "any", "page"]
) | st.text(max_size=5)
NUMBERS = st.sampled_from([0, -1, 1.5, 2**53, 2**63, 1e308, -0.0, float("inf")]) | st.integers(-5, 5)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=8,
)
RULES = json.loads((ROOT / "fixtures" / "spaces" / "shop-generic.json").read_bytes())["audiences"]
CONFIGS = json.loads((ROOT / "fixtures" / "spaces" / "shop-generic.json").read_bytes())["experiences"]


@st.composite
def damaged(draw: st.DrawFn, documents: list[Any]) -> Any:
    """One of the documents with one to three values replaced, or gone, or put somewhere else as well."""
    document = copy.deepcopy(draw(st.sampled_from(documents)))
    for _ in range(draw(st.integers(1, 3))):
        holder: Any = document
        while True:
            places = list(holder) if isinstance(holder, dict) else range(len(holder))
            if not places:
                break
            place = draw(st.sampled_from(places))
            inner = holder[place]
            if isinstance(inner, dict | list) and inner and draw(st.integers(0, 9)):
                holder = inner
                continue
            match draw(st.integers(0, 4)):
                case 0:
                    del holder[place]
                case 1:
                    holder[place] = copy.deepcopy(draw(st.sampled_from(documents)))
                case 2:
                    holder[place] = [inner, inner]
                case _:
                    holder[place] = draw(VALUES)
            break
    return document


@pytest.mark.parametrize("form", FORMS)
def test_a_content_file_that_is_wrong_anywhere_is_refused_naming_it_or_decides(
    form: str, tmp_path: Path, shared_server: Server
) -> None:
    file = tmp_path / "content.json"

    @QUICK
    @given(document=damaged([json.loads((ROOT / "fixtures" / "spaces" / form).read_bytes())]))
    def decides(document: Any) -> None:
        file.write_text(json.dumps(document))
        source = ContentFolder(file)
        with contextlib.suppress(SettingsError):
            source.load()
        if errors := [problem for problem in source.problems() if problem.severity == "error"]:
            assert {problem.file for problem in errors} == {str(file)}
            return
        service = ExperienceService(store=Overlay(shared_server.store), content=source, clock=lambda: MINUTE)
        where = service.environment("org", "main")
        events = [
            page("/pricing"),
            track("bought", properties={"price": "1"}),
            identify("", {"plan": "gold", "age": 5}),
        ]
        assert service.upsert(where, "visitor", {"events": events})["profile"]["id"] == "visitor"
        assert service.explain(where, "visitor")["profile"]

    decides()


@QUICK
@given(rules=damaged([audience["rules"] for audience in RULES]) | VALUES)
def test_rules_that_are_wrong_are_refused_or_compiled(rules: Any) -> None:
    with contextlib.suppress(ContentError):
        assert compile_audience("a", "a", json.loads(json.dumps(rules))).id == "a"


@QUICK
@given(config=damaged([experience["config"] for experience in CONFIGS]) | VALUES, kind=st.sampled_from(TYPES))
def test_a_config_that_is_wrong_is_refused_or_chooses_a_variant(config: Any, kind: str) -> None:
    with contextlib.suppress(ContentError):
        experience = compile_experience("e", "e", kind, None, json.loads(json.dumps(config)))
        index = experience.assign(experience.allocated("visitor"), (), {})
        assert index is None or index >= 0
        assert experience.outcome(index or 0).item["experienceId"] == "e"
        assert experience.outcome(2**63).item["variantIndex"] == 2**63
