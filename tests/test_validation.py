"""The schema files, the verdict on a document and the words of a refusal."""

from __future__ import annotations

import copy
import inspect
import json
import re
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import jsonschema_rs
import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from referencing import Registry, Resource

from ninetailed_wsgi import errors
from ninetailed_wsgi.api.validation import schemas
from ninetailed_wsgi.api.validation.json_body import read_json
from ninetailed_wsgi.api.validation.schemas import Schemas
from ninetailed_wsgi.api.validation.wording import MAX_PROBLEMS, path_text
from ninetailed_wsgi.errors import InvalidData
from tests import searches
from tests.searches import search

FIXTURES = Path(__file__).parent.parent / "fixtures"
SCHEMAS = Schemas()


def read(path: Path) -> Any:
    return json.loads(path.read_bytes())


CASES = [case for path in sorted((FIXTURES / "cases" / "validation").glob("*.json")) for case in read(path)]
EXAMPLES = {path.stem: read(path) for path in sorted((FIXTURES / "events").glob("*.json"))}


def schema_of(example_name: str) -> str:
    """Which schema an example is of: requests say so in their file names, all others are events."""
    named = [name for name in ("profile-request", "batch-request") if example_name.startswith(name)]
    return named[0] if named else "event"


VALID = [(schema_of(name), document) for name, document in EXAMPLES.items()]
VALID += [(case["schema"], case["document"]) for case in CASES if case["valid"]]

REGISTRY: Registry[Any] = Registry().with_resources(
    (document["$id"], Resource.from_contents(document)) for document in SCHEMAS.documents.values()
)
REFERENCE = {name: Draft202012Validator(document, registry=REGISTRY) for name, document in SCHEMAS.documents.items()}


def problems(name: str, document: object) -> list[str]:
    try:
        SCHEMAS.check(name, document)
    except InvalidData as error:
        return list(error.problems)
    return []


def unreadable(raw: bytes) -> str:
    with pytest.raises(InvalidData) as caught:
        read_json(raw)
    assert len(caught.value.problems) == 1
    return caught.value.problems[0]


def page_event(**members: Any) -> dict[str, Any]:
    return {**copy.deepcopy(EXAMPLES["page-smallest"]), **members}


# The files


def members_of(schema: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every member that a schema describes, at any depth; conditions and constants that choose describe nothing."""
    if not isinstance(schema, dict):
        return
    for name, member in schema.get("properties", {}).items():
        if isinstance(member, dict) and set(member) != {"const"}:
            yield f"{path}.{name}", member
        yield from members_of(member, f"{path}.{name}")
    for keyword in ("items", "additionalProperties", "then", "else"):
        yield from members_of(schema.get(keyword), f"{path}/{keyword}")
    for keyword in ("allOf", "anyOf", "oneOf"):
        for branch in schema.get(keyword, []):
            yield from members_of(branch, f"{path}/{keyword}")
    for name, definition in schema.get("$defs", {}).items():
        yield from members_of(definition, f"{path}/{name}")


def references_of(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        node = list(node.values())
    if isinstance(node, list):
        for child in node:
            yield from references_of(child)


@pytest.mark.parametrize("name", SCHEMAS.documents)
def test_a_schema_file_is_a_valid_2020_12_schema_with_an_id_of_its_own_name(name: str) -> None:
    document = SCHEMAS.documents[name]
    Draft202012Validator.check_schema(document)
    jsonschema_rs.meta.validate(document)
    assert document["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert document["$id"].endswith(f"{name}.schema.json")


@pytest.mark.parametrize("name", SCHEMAS.documents)
def test_a_schema_file_says_what_it_and_each_of_its_members_is_for(name: str) -> None:
    document = SCHEMAS.documents[name]
    silent = [
        path for path, member in [("", document), *members_of(document)] if not {"title", "description"} <= set(member)
    ]
    assert silent == []


@pytest.mark.parametrize("name", SCHEMAS.documents)
def test_every_reference_of_a_schema_file_leads_somewhere(name: str) -> None:
    resolver = REGISTRY.resolver(SCHEMAS.documents[name]["$id"])
    for reference in references_of(SCHEMAS.documents[name]):
        resolver.lookup(reference)


def test_the_error_answer_knows_exactly_the_codes_that_errors_have() -> None:
    classes = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if hasattr(kind, "code")]
    codes = SCHEMAS.documents["error-response"]["properties"]["error"]["properties"]["code"]["enum"]
    assert {kind.code for kind in classes} == set(codes)


def test_a_schema_that_does_not_exist_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        SCHEMAS.check("no-such-schema", {})


# Verdicts and words


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_is_valid(name: str) -> None:
    SCHEMAS.check(schema_of(name), EXAMPLES[name])


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["id"])
def test_a_case_gets_its_verdict_in_its_words(case: dict[str, Any]) -> None:
    assert problems(case["schema"], case["document"]) == case["problems"]
    assert case["valid"] == (case["problems"] == [])


def test_no_two_cases_have_the_same_id() -> None:
    assert len({case["id"] for case in CASES}) == len(CASES)


@pytest.mark.parametrize("name", SCHEMAS.documents)
def test_both_engines_agree_about_every_case_and_example_whatever_the_schema(name: str) -> None:
    own = [case["document"] for case in CASES if case["schema"] == name]
    others = [case["document"] for case in CASES if case["schema"] != name] + list(EXAMPLES.values())
    # The slow engine takes 6 s for all of them: but in `make fuzz`, each schema gets another third of the others.
    third = zlib.crc32(name.encode()) % 3
    documents = own + (others if searches.EXAMPLES else others[third::3])
    verdicts = [(problems(name, document) == [], REFERENCE[name].is_valid(document)) for document in documents]
    assert [fast for fast, _ in verdicts] == [slow for _, slow in verdicts]


SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5)
)
JSON = st.recursive(
    SCALARS | st.sampled_from(["", "page", "identify", "AT", "AT\n", 0, -1, 1.0, 1e30, 2**63, 2**64]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


def containers_of(document: Any) -> list[Any]:
    found = [document] if isinstance(document, dict | list) and document else []
    for child in document.values() if isinstance(document, dict) else document if isinstance(document, list) else ():
        found += containers_of(child)
    return found


@st.composite
def mutated(draw: st.DrawFn) -> tuple[str, Any]:
    """A valid document in which up to three members were replaced or removed."""
    name, document = draw(st.sampled_from(VALID))
    document = copy.deepcopy(document)
    for _ in range(draw(st.integers(1, 3))):
        containers = containers_of(document)
        if not containers:
            break
        container = draw(st.sampled_from(containers))
        key = draw(st.sampled_from(list(container) if isinstance(container, dict) else range(len(container))))
        if draw(st.booleans()):
            del container[key]
        else:
            container[key] = draw(JSON)
    return name, document


@search(150)
@given(mutated())
def test_both_engines_agree_about_valid_documents_with_a_member_replaced_or_removed(mutation: tuple[str, Any]) -> None:
    name, document = mutation
    found = problems(name, document)
    assert (found == []) == REFERENCE[name].is_valid(document)
    assert len(found) == len(set(found)) <= MAX_PROBLEMS + 1
    assert all(len(line) < 1000 for line in found)


@search(100)
@given(name=st.sampled_from(sorted(SCHEMAS.documents)), document=JSON)
def test_both_engines_agree_about_any_json_at_all(name: str, document: Any) -> None:
    assert (problems(name, document) == []) == REFERENCE[name].is_valid(document)


@search(50)
@given(mutated())
def test_a_refusal_is_worded_the_same_each_time(mutation: tuple[str, Any]) -> None:
    name, document = mutation
    assert problems(name, document) == problems(name, copy.deepcopy(document))


def test_the_words_of_a_request_are_those_of_the_reference_for_the_whole_document() -> None:
    """Piece by piece, as requests are worded, and in one go come to the same lines."""
    refused = [case for case in CASES if case["schema"] in ("profile-request", "batch-request") and not case["valid"]]
    assert len(refused) > 40
    for case in refused:
        whole = SCHEMAS._check_of(case["schema"]).whole  # type: ignore[union-attr]
        assert whole.problems(case["document"]) == case["problems"], case["id"]


# Limits of requests


@pytest.mark.parametrize("name", ["profile-request", "batch-request"])
def test_a_request_takes_200_events_of_which_50_are_identify(name: str) -> None:
    identify = page_event(type="identify", userId="", traits={}, anonymousId="a")
    SCHEMAS.check(name, {"events": [page_event(anonymousId="a")] * 150 + [identify] * 50})


@pytest.mark.parametrize("name", ["profile-request", "batch-request"])
def test_one_event_over_200_is_refused(name: str) -> None:
    assert problems(name, {"events": [page_event(anonymousId="a")] * 201}) == [
        "events: found a list of 201 members, expected at most 200 members"
    ]


@pytest.mark.parametrize("name", ["profile-request", "batch-request"])
def test_one_identify_event_over_50_is_refused(name: str) -> None:
    identify = page_event(type="identify", userId="", traits={}, anonymousId="a")
    assert problems(name, {"events": [page_event(anonymousId="a")] * 149 + [identify] * 51}) == [
        'events: found more than 50 members with type "identify", expected at most 50'
    ]


def test_a_huge_list_of_events_is_refused_by_its_length_and_its_first_events() -> None:
    found = problems("profile-request", {"events": [5] * 300_000})
    assert found[0] == "events: found a list of 300000 members, expected at most 200 members"
    assert found[1] == "events[0]: found the number 5, expected an object"
    assert found[-1] == "... and more"
    assert len(found) == 11


def test_a_huge_list_of_features_is_refused_by_its_length() -> None:
    for events in ([page_event()], 5):
        found = problems("profile-request", {"options": {"features": ["x"] * 100_000}, "events": events})
        assert found[0] == "options.features: found a list of 100000 members, expected at most 10 members"
        assert len(found) == 11


@pytest.mark.parametrize("name", ["profile-request", "batch-request"])
def test_what_the_slow_engine_walks_of_a_request_is_bounded_by_the_schemas(name: str) -> None:
    """Refusing must not cost a sender's choice: every described list has a limit, no map's members are described."""
    waiting, seen = [f"{name}.schema.json"], set()
    while waiting:
        file = waiting.pop().partition("#")[0]
        document = SCHEMAS.documents[file.removesuffix(".schema.json")]
        for path, member in [("", document), *members_of(document)]:
            assert "items" not in member or member["maxItems"] <= 200, f"{file} {path}"
            assert not {"additionalProperties", "patternProperties", "propertyNames", "uniqueItems"} & set(member), path
        seen.add(file)
        waiting += [reference for reference in references_of(document) if reference.partition("#")[0] not in seen]
    assert len(seen) > 10


def test_ten_problems_are_told_without_saying_that_there_are_more() -> None:
    found = problems("profile-request", {"events": [5] * 10})
    assert len(found) == 10
    assert "... and more" not in found


def test_a_refused_body_runs_the_slow_engine_on_ten_events_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    worded = []
    original = schemas._Compiled.places

    def places(self: Any, part: Any, document: Any, prefix: Any) -> Any:
        worded.append(prefix)
        return original(self, part, document, prefix)

    monkeypatch.setattr(schemas._Compiled, "places", places)
    problems("profile-request", {"events": [page_event(messageId=5)] * 200})
    assert worded == [("events", index) for index in range(10)]


def test_only_the_bad_event_of_a_long_request_is_worded(monkeypatch: pytest.MonkeyPatch) -> None:
    worded = []
    original = schemas._Compiled.places

    def places(self: Any, part: Any, document: Any, prefix: Any) -> Any:
        worded.append(prefix)
        return original(self, part, document, prefix)

    monkeypatch.setattr(schemas._Compiled, "places", places)
    problems("profile-request", {"events": [page_event()] * 199 + [page_event(messageId=5)]})
    assert worded == [("events", 199)]


def test_a_huge_value_is_not_repeated() -> None:
    [line] = problems("profile-request", {"events": [page_event(channel="x" * 1_000_000)]})
    assert len(line) < 200


def test_a_control_character_in_a_value_is_escaped() -> None:
    [line] = problems("profile-request", {"events": [page_event(channel='a\n"\x00')]})
    assert line.startswith('events[0].channel: found the text "a\\n\\"\\u0000", expected one of')


def test_a_member_whose_name_is_no_word_is_quoted_in_the_path() -> None:
    assert path_text(("events", 3, "traits", "a b")) == 'events[3].traits["a b"]'
    assert path_text(()) == "body"
    assert path_text((0, "x")) == "body[0].x"


# Wording of what the API's own schemas do not use, but those of content files may


STRING, OBJECT = {"type": "string"}, {"type": "object"}
KIND_X = {**OBJECT, "required": ["x"], "properties": {"kind": {"const": "x"}, "x": STRING}}
KIND_Y = {**OBJECT, "required": ["y"], "properties": {"kind": {"const": "y"}, "y": STRING}}


@pytest.mark.parametrize(
    ("schema", "document", "expected"),
    [
        ({"anyOf": [STRING, {"type": "null"}]}, 5, "body: found the number 5, expected a string or null"),
        (
            {"anyOf": [STRING, {**OBJECT, "properties": {"a": STRING}}]},
            {"a": 5},
            "a: found the number 5, expected a string",
        ),
        ({"oneOf": [KIND_X, KIND_Y]}, {"kind": "x"}, "x: found nothing, expected a string"),
        ({"oneOf": [KIND_X, KIND_Y]}, 5, "body: found the number 5, expected an object"),
        (
            {"type": "number", "exclusiveMinimum": 0},
            0,
            "body: found the number 0, expected a number (exclusiveMinimum 0)",
        ),
        (
            {"title": "Odd", "not": {"type": "null"}},
            None,
            'body: found null, expected what the schema calls "Odd" (not ...)',
        ),
        ({"minProperties": 1}, {}, "body: found 0 members, expected at least 1 member"),
        ({"contains": {"const": 1}}, [2], "body: found a list of 1 member, expected at least 1 member"),
        ({**STRING, "minLength": 3}, "ab", 'body: found the text "ab", expected a string of at least 3 characters'),
        ({**STRING, "maxLength": 3}, "abcd", 'body: found the text "abcd", expected a string of at most 3 characters'),
        ({"type": "number", "maximum": 1}, 2, "body: found the number 2, expected a number of at most 1"),
    ],
)
def test_any_keyword_is_worded(schema: dict[str, Any], document: Any, expected: str) -> None:
    fast, slow = jsonschema_rs.Draft202012Validator(schema), schemas._Slow([])
    compiled = schemas._Compiled(schema, fast, slow, schema.get)
    assert not compiled.is_valid(document)
    [line] = compiled.problems(document)
    assert re.sub(r"\(not .*\)", "(not ...)", line) == expected


# Reading JSON


@pytest.mark.parametrize("raw", [b"", b" ", b"\r\n\t "])
def test_an_empty_body_is_named(raw: bytes) -> None:
    assert unreadable(raw) == "body: found nothing, expected JSON"


def test_a_syntax_error_is_named_with_its_line_and_column() -> None:
    assert unreadable(b'{"a": 1,\n\n "b": }').startswith("body: not valid JSON at line 3 column 7: ")


def test_bytes_that_are_not_utf_8_are_named_with_their_place() -> None:
    assert unreadable(b'{"a": "bcde\xff"}') == "body: not UTF-8 at byte 12"


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity"])
def test_a_number_that_json_does_not_know_is_named(number: str) -> None:
    raw = f'{{"ä": 1, "a": {number}}}'.encode()
    assert unreadable(raw) == f"body: not valid JSON at line 1 column 15: {number} is not a JSON value"


@pytest.mark.parametrize(
    "raw", [b'"\\ud800"', b'{"\\udc00": 1}', b'["\xed\xa0\x80"]', b"{} {}", b"[1e999]", b"{'a': 1}"]
)
def test_what_is_nearly_json_is_refused(raw: bytes) -> None:
    assert unreadable(raw).startswith("body: not ")


def test_a_byte_order_mark_before_the_body_is_left_out_and_one_within_a_text_is_kept() -> None:
    assert read_json("\ufeff[1]".encode()) == [1]
    assert read_json('["\ufeff"]'.encode()) == ["\ufeff"]


def test_a_number_beyond_64_bits_is_read_as_a_fraction() -> None:
    assert read_json(b"[123456789012345678901234567890]") == [1.2345678901234568e29]


@pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"a":', b"}"), (b'[{"a":', b"}]")])
def test_100_levels_are_read_and_one_more_is_refused(opening: bytes, closing: bytes) -> None:
    levels = opening.count(b"[") + opening.count(b"{")
    allowed = 100 // levels
    assert read_json(opening * allowed + b"1" + closing * allowed)
    refusal = "body: nested too deeply, expected at most 100 levels"
    assert unreadable(opening * allowed + b"[1]" + closing * allowed) == refusal
    assert unreadable(opening * 50_000 + b"1" + closing * 50_000) == refusal


def test_many_brackets_side_by_side_are_no_depth() -> None:
    assert read_json(b"[" + b"[],{}," * 1000 + b'"[[[["]') is not None


@pytest.mark.parametrize("opening", [b'["]",', b'["\\"]",', b'["\\\\","]",', b'["","]","",', b'{"}":0,"a":'])
def test_brackets_in_texts_hide_no_depth(opening: bytes) -> None:
    opened, closing = (b"[", b"]") if opening[:1] == b"[" else (b"{", b"}")

    def nested(levels: int) -> bytes:
        return opening * levels + b'"' + opened * levels + b'"' + closing * levels

    assert read_json(nested(100)) is not None
    assert unreadable(nested(101)) == "body: nested too deeply, expected at most 100 levels"


@search(100)
@given(st.binary() | st.text().map(lambda text: text.encode("utf-8", "surrogatepass")))
@example(b"\x00")
@example(b"\xff")
@example(b'{"events": [{"type": "page", "type": 5}]}')
def test_no_bytes_make_reading_and_checking_fail_in_another_way_than_a_refusal(raw: bytes) -> None:
    with suppress(InvalidData):
        SCHEMAS.check("profile-request", read_json(raw))


@search(100)
@given(mutated().map(lambda mutation: mutation[1]) | JSON, st.integers(0, 2**32))
def test_no_json_makes_reading_and_checking_fail_in_another_way_than_a_refusal(document: Any, cut: int) -> None:
    raw = json.dumps(document).encode()
    for body in (raw, raw[: cut % (len(raw) + 1)]):
        for name in ("profile-request", "batch-request"):
            with suppress(InvalidData):
                SCHEMAS.check(name, read_json(body))


def test_a_refusal_can_be_sent_as_json() -> None:
    with pytest.raises(InvalidData) as caught:
        SCHEMAS.check("profile-request", {"events": [page_event(channel="💚" * 100)]})
    assert orjson.loads(orjson.dumps({"message": str(caught.value)}))["message"] == str(caught.value)
