"""The OpenAPI document: whole, valid, and made of the schema files."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

from ninetailed_wsgi import errors
from ninetailed_wsgi.api.openapi import document
from ninetailed_wsgi.api.validation.schemas import Schemas
from ninetailed_wsgi.contract.cases import CLAIMS

SCHEMAS = Schemas()
PREFIX = "/v2/organizations/{organizationId}/environments/{environmentSlug}"
SPACES = "/v3/spaces/{spaceId}/environments/{environmentSlug}"
INSIGHTS = (
    "/v1/organizations/{organizationId}/environments/{environmentSlug}/events",
    "/v2/spaces/{spaceId}/environments/{environmentSlug}/events",
)
FLAGS = "/ofrep/v1/evaluate/flags"
FLAG_ANSWERS = ("ofrep-flag", "ofrep-flags")
PLAIN = document(SCHEMAS)
EXPLAINING = document(SCHEMAS, explain=True)
INSPECTING = document(SCHEMAS, inspector=True)
METHODS = {"get", "post", "delete", "options"}


def operations(described: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, item in described["paths"].items():
        for method in METHODS & set(item):
            yield f"{method.upper()} {path.removeprefix(PREFIX)}", item[method]


def resolved(described: dict[str, Any], node: dict[str, Any]) -> dict[str, Any]:
    found: Any = described
    for step in node["$ref"].removeprefix("#/").split("/"):
        found = found[step]
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize("described", [PLAIN, EXPLAINING, INSPECTING], ids=["plain", "explaining", "inspecting"])
def test_the_document_is_valid_openapi_3_1(described: dict[str, Any]) -> None:
    OpenAPIV31SpecValidator(described).validate()  # type: ignore[arg-type]
    assert json.loads(json.dumps(described)) == described


def test_every_route_and_method_is_described() -> None:
    assert {name for name, _ in operations(PLAIN) if not name.startswith("OPTIONS")} == {
        "POST /profiles",
        "POST /profiles/{idOrAlias}",
        "GET /profiles/{idOrAlias}",
        "DELETE /profiles/{idOrAlias}",
        "POST /events",
        "POST /import/events",
        *(f"POST {SPACES}{route}" for route in ("/profiles", "/profiles/{idOrAlias}", "/events", "/import/events")),
        *(f"{method} {SPACES}/profiles/{{idOrAlias}}" for method in ("GET", "DELETE")),
        *(f"POST {path}" for path in INSIGHTS),
        *(f"GET {side}/preview/entries" for side in ("", SPACES)),
        *(f"POST {side}{FLAGS}{key}" for side in ("", SPACES) for key in ("", "/{flagKey}")),
        *(f"GET {side}/experiences/{{experienceId}}/results" for side in ("", SPACES)),
        "GET /health/live",
        "GET /health/ready",
        "POST /content/refresh",
        "GET /openapi.json",
    }


def test_every_api_route_answers_a_browser_that_asks_first() -> None:
    for path, item in PLAIN["paths"].items():
        assert ("options" in item) == path.startswith((PREFIX, SPACES, *INSIGHTS))


def test_the_route_that_explains_is_described_only_where_it_is_served() -> None:
    extra = {name for name, _ in operations(EXPLAINING)} - {name for name, _ in operations(PLAIN)}
    route = "/profiles/{idOrAlias}/explain"
    assert extra == {f"{method} {side}{route}" for method in ("GET", "OPTIONS") for side in ("", SPACES)}


def test_the_pages_of_the_inspector_are_described_only_where_they_are_served() -> None:
    extra = {name for name, _ in operations(INSPECTING)} - {name for name, _ in operations(PLAIN)}
    shown = ("find", "live", "playground", "what-if", "state")
    named = ("visitors/{idOrAlias}", "exports/{idOrAlias}", "audiences/{audienceId}", "experiences/{experienceId}")
    gets = {f"GET /inspector/{page}.json" for page in (*shown, *named)}
    assert extra == gets | {f"POST /inspector/{page}.json" for page in ("find", "live", "playground", "what-if")}
    for name, operation in operations(INSPECTING):
        if name in extra:
            assert {"401", "403"} <= operation["responses"].keys()
            answer = operation["responses"]["200"]["content"]["application/json"]["schema"]
            assert resolved(INSPECTING, answer)["description"]


@pytest.mark.parametrize("described", [EXPLAINING, INSPECTING], ids=["explaining", "inspecting"])
def test_no_two_operations_have_the_same_id(described: dict[str, Any]) -> None:
    ids = [operation["operationId"] for _, operation in operations(described)]
    assert len(set(ids)) == len(ids)


def test_preflight_can_be_asked_of_create_and_update_alone() -> None:
    asking = {
        name for name, o in operations(PLAIN) if {"$ref": "#/components/parameters/type"} in o.get("parameters", [])
    }
    assert asking == {f"POST {side}/profiles{name}" for side in ("", SPACES) for name in ("", "/{idOrAlias}")}


def test_every_request_body_may_be_json_or_plain_text() -> None:
    for name, operation in operations(PLAIN):
        assert ("requestBody" in operation) == (name.startswith("POST") and name != "POST /content/refresh")
        if "requestBody" in operation:
            content = operation["requestBody"]["content"]
            assert set(content) == {"application/json", "text/plain"}
            assert content["text/plain"]["schema"]["contentSchema"] == content["application/json"]["schema"]


def test_every_status_and_error_code_of_the_api_is_described() -> None:
    described = {
        (int(status), example["error"]["code"])
        for _, operation in operations(PLAIN)
        for status, response in operation["responses"].items()
        if int(status) >= 400
        # Those of flags have OFREP's own shape.
        and "error" in (example := resolved(PLAIN, response)["content"]["application/json"]["example"])
    }
    components = PLAIN["components"]["responses"].values()
    content = [response["content"]["application/json"]["example"] for response in components if "content" in response]
    examples = [example for example in content if "error" in example]
    raised = {
        kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, errors.NinetailedError)
    }
    # SettingsError stops the start, it is never answered.
    answered = {(kind.status, kind.code) for kind in raised - {errors.SettingsError}}
    assert described == answered
    assert {example["error"]["code"] for example in examples} == {kind.code for kind in raised}


def test_every_example_of_an_error_is_an_error_answer() -> None:
    for response in PLAIN["components"]["responses"].values():
        for media in response.get("content", {}).values():
            SCHEMAS.check("error-response" if "error" in media["example"] else "ofrep-failure", media["example"])


def test_every_request_and_every_success_has_an_example_that_its_schema_accepts() -> None:
    shown = set()
    for _, operation in operations(EXPLAINING):
        for media in operation.get("requestBody", {}).get("content", {}).values():
            for example in media["examples"].values():
                value = example["value"]
                text = isinstance(value, str)
                name = (media["schema"]["contentSchema"] if text else media["schema"])["$ref"].rpartition("/")[2]
                SCHEMAS.check(name, json.loads(value) if text else value)
                shown.add(name)
        for media in operation["responses"].get("200", {}).get("content", {}).values():
            name = media["schema"].get("$ref", "").rpartition("/")[2]
            if name not in ("", "explain-response"):
                SCHEMAS.check(name, media["example"])
                shown.add(name)
    answers = {"profile-response", "space-profile-response", "batch-response", "empty-response", *FLAG_ANSWERS}
    answers.add("results-response")
    answers.add("preview-entries-response")
    assert shown == {"profile-request", "batch-request", "insights-request", "ofrep-request", *answers}


def test_every_parameter_has_an_example() -> None:
    assert [name for name, parameter in PLAIN["components"]["parameters"].items() if "example" not in parameter] == []


def test_from_every_profile_that_is_answered_links_lead_to_what_can_be_done_with_it() -> None:
    ids = {operation["operationId"] for _, operation in operations(PLAIN)}
    linking = {name: operation["responses"]["200"]["links"] for name, operation in operations(PLAIN)
               if "links" in operation["responses"].get("200", {})}  # fmt: skip
    routes = (
        ("POST", "/profiles"),
        ("POST", "/profiles/{idOrAlias}"),
        ("GET", "/profiles/{idOrAlias}"),
        ("POST", "/events"),
    )
    assert set(linking) == {f"{method} {side}{route}" for method, route in routes for side in ("", SPACES)}
    for name, links in linking.items():
        suffix, owner = ("OfSpace", "spaceId") if SPACES in name else ("", "organizationId")
        told = [resolved(PLAIN, link) for link in links.values()]
        wanted = {verb + suffix for verb in ("getProfile", "updateProfile", "deleteProfile")}
        assert {link["operationId"] for link in told} == wanted <= ids
        assert all(set(link["parameters"]) == {owner, "environmentSlug", "idOrAlias"} for link in told)


def test_what_the_api_claims_is_what_the_contract_command_knows() -> None:
    assert PLAIN["info"]["x-claims"] == [*CLAIMS]


def test_every_response_has_a_trace_header() -> None:
    for _, operation in operations(EXPLAINING):
        for response in operation["responses"].values():
            told = resolved(EXPLAINING, response) if "$ref" in response else response
            assert told["headers"]["traceparent"] == {"$ref": "#/components/headers/traceparent"}


def test_the_schemas_are_those_of_the_files_and_none_is_left_out_or_idle() -> None:
    text = json.dumps(PLAIN)
    for name, schema in PLAIN["components"]["schemas"].items():
        assert schema["description"] == SCHEMAS.documents[name]["description"]
        assert f'"#/components/schemas/{name}"' in text
    assert ".schema.json" not in text
    assert "$id" not in text


@pytest.mark.parametrize("name", sorted(PLAIN["components"]["schemas"]))
def test_an_embedded_schema_gives_the_verdicts_of_its_file(name: str) -> None:
    registry: Registry[Any] = Registry().with_resource("urn:api", Resource(contents=PLAIN, specification=DRAFT202012))
    embedded = Draft202012Validator({"$ref": f"urn:api#/components/schemas/{name}"}, registry=registry)
    page = {"path": "", "referrer": "", "search": "", "url": ""}
    library = {"library": {"name": "", "version": ""}}
    event = {"type": "page", "channel": "web", "messageId": "1", "context": library, "properties": page}
    requests = [{"events": [event]}, {"events": [{**event, "anonymousId": "a"}]}]
    answer = {"data": {}, "error": None, "message": "ok"}
    documents = [event, {**event, "type": "track"}, *requests, answer, {}, 5]
    for candidate in documents:
        try:
            SCHEMAS.check(name, candidate)
            valid = True
        except errors.InvalidData:
            valid = False
        assert embedded.is_valid(candidate) == valid


def test_reading_the_document_changes_nothing_in_the_schemas() -> None:
    before = json.dumps(dict(SCHEMAS.documents))
    document(SCHEMAS)["components"]["schemas"]["page"].clear()
    assert json.dumps(dict(SCHEMAS.documents)) == before
    assert document(SCHEMAS) == PLAIN
