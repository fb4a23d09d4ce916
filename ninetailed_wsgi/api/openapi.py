"""The API's own description: an OpenAPI 3.1 document assembled from the schema files and the table of routes.

Source: spec section 1. The schema files are embedded, so nothing is written twice.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from ninetailed_wsgi import __version__
from ninetailed_wsgi.api.openapi_components import (
    HEADERS,
    INSPECTOR_PARAMETERS,
    PARAMETERS,
    TRACED,
    Json,
    failures,
    responses,
    schema,
)
from ninetailed_wsgi.api.openapi_examples import ANSWERS, REQUESTS
from ninetailed_wsgi.api.validation.schemas import Schemas

PREFIX = "/v2/organizations/{organizationId}/environments/{environmentSlug}"
SPACE_PREFIX = "/v3/spaces/{spaceId}/environments/{environmentSlug}"
INSIGHTS = "/v1/organizations/{organizationId}/environments/{environmentSlug}/events"
SPACE_INSIGHTS = "/v2/spaces/{spaceId}/environments/{environmentSlug}/events"
_SUFFIX = ".schema.json"


def document(schemas: Schemas, explain: bool = False, inspector: bool = False) -> Json:
    """Return the OpenAPI 3.1 document of this service, as a new dict that can be dumped as JSON.

    Args:
        schemas: the schemas to embed.
        explain: whether the route that shows why a profile belongs to its audiences is served.
        inspector: whether the pages of the inspector are served.
    """
    paths = _api_paths(_ORGANIZATIONS, explain) | _api_paths(_SPACES, explain) | _insights_paths() | _own_paths()
    for side in (_ORGANIZATIONS, _SPACES):
        paths |= _flag_paths(side) | _results_paths(side)
    if inspector:
        paths |= _inspector_paths()
    answers = responses()
    names = _reachable(schemas.documents, _references({"paths": paths, "responses": answers}))
    return {
        "openapi": "3.1.0",
        "jsonSchemaDialect": "https://json-schema.org/draft/2020-12/schema",
        "info": {
            "title": "Experience API",
            "version": __version__,
            "description": "Creates and updates visitors' profiles from events; answers the audiences they belong to, "
            "the variants to show them and the variables to set.",
            # Read by `ninetailed-wsgi contract`; its cases' README says what each means.
            "x-claims": ["deduplication", "choices", "flags"],
        },
        "servers": [{"url": "/", "description": "Where this document was read."}],
        "tags": _TAGS[: None if inspector else -1],
        "paths": paths,
        "components": {
            "schemas": {name: _embedded(name, schemas.documents[name]) for name in sorted(names)},
            "parameters": PARAMETERS | (INSPECTOR_PARAMETERS if inspector else {}),
            "headers": HEADERS,
            "links": _LINKS,
            "responses": answers,
        },
    }


_TAGS = [
    {"name": "profiles", "description": "One visitor's profile."},
    {"name": "batches", "description": "Many profiles at once, from servers."},
    {"name": "insights", "description": "What visitors viewed, clicked and hovered over."},
    {"name": "results", "description": "Whether a variant of an experiment helped."},
    {"name": "preview", "description": "The content as preview panels take it."},
    {"name": "flags", "description": "Feature flags by the OpenFeature Remote Evaluation Protocol."},
    {"name": "service", "description": "The service itself."},
    {"name": "inspector", "description": "The pages of the inspector, for programs."},
]
"""The last one only where the inspector is served."""

_ALWAYS = ("Unauthorized", "Forbidden", "MethodNotAllowed", "ProfileOverload", "InternalServerError", "Unavailable")
_READING = ("InvalidData", "ProfileNotFound", *_ALWAYS)
_WRITING = ("InvalidData", "UnknownEnvironment", "PayloadTooLarge", "UnsupportedEncoding", *_ALWAYS)


class _Routes(NamedTuple):
    """The organization or the space routes: prefix, first parameter, ending of operation ids, schema of an answer."""

    prefix: str
    owner: str
    suffix: str
    answer: str


_ORGANIZATIONS = _Routes(PREFIX, "organizationId", "", "profile-response")
_SPACES = _Routes(SPACE_PREFIX, "spaceId", "OfSpace", "space-profile-response")


def _to_profile(side: _Routes, operation: str, name: str, description: str) -> Json:
    """Return a link to what can be done with a profile that an answer or a request names, in the same environment."""
    same = {part: f"$request.path.{part}" for part in (side.owner, "environmentSlug")}
    operation += side.suffix
    return {"operationId": operation, "parameters": {**same, "idOrAlias": name}, "description": description}


_NEXT = {"getProfile": "Get", "updateProfile": "Update", "deleteProfile": "Delete"}
_ID_MEMBERS = {
    # Which profile: the suffix of the link's name, where to find the id or alias, and the same in words.
    "profile-response": (("Answered", "$response.body#/data/profile/id", "the profile that was answered"),),
    "batch-response": (("First", "$response.body#/data/profiles/0/id", "the first of the profiles"),),
}
_LINKS: Json = {
    operation + suffix + side.suffix: _to_profile(side, operation, name, f"{verb} {words}.")
    for side in (_ORGANIZATIONS, _SPACES)
    for choices in _ID_MEMBERS.values()
    for suffix, name, words in choices
    for operation, verb in _NEXT.items()
}


def _links(side: _Routes, schema: str) -> Json:
    links_of_schema = _ID_MEMBERS.get(schema.removeprefix("space-"), ())
    names = [operation + suffix + side.suffix for suffix, _, _ in links_of_schema for operation in _NEXT]
    return {name: {"$ref": f"#/components/links/{name}"} for name in names}


def _operation(
    id_: str,
    tag: str,
    summary: str,
    answer: Json,
    refusals: Iterable[str],
    parameters: Iterable[str] = (),
    body: str = "",
    side: _Routes = _ORGANIZATIONS,
) -> Json:
    """Return one operation; ``answer`` is the schema of status 200, ``body`` the name of the request's schema."""
    name = answer.get("$ref", "").rpartition("/")[2]
    example = {"example": ANSWERS[name]} if name in ANSWERS else {}
    document: Json = {
        "description": "Done.",
        "headers": TRACED,
        "content": {"application/json": {"schema": answer, **example}},
    }
    if links := _links(side, name):
        document["links"] = links
    operation: Json = {
        "operationId": id_ + side.suffix,
        "tags": [tag],
        "summary": summary,
        "parameters": [{"$ref": f"#/components/parameters/{name}"} for name in parameters],
        "responses": {"200": document, **failures(refusals)},
    }
    if body:
        # Official clients send text/plain, as browsers send that without a CORS preflight; the text is the same JSON.
        as_text = {"type": "string", "contentMediaType": "application/json", "contentSchema": schema(body)}
        operation["requestBody"] = {
            "required": True,
            "content": {
                "application/json": {"schema": schema(body), "examples": REQUESTS[body]},
                "text/plain": {"schema": as_text, "examples": _as_text(REQUESTS[body])},
            },
        }
    return operation


def _as_text(examples: Mapping[str, Json]) -> Json:
    return {name: {**example, "value": json.dumps(example["value"])} for name, example in examples.items()}


def _cross_origin(id_: str) -> Json:
    return {
        "operationId": id_,
        "tags": ["service"],
        "summary": "Answer a CORS preflight",
        "responses": {"204": {"$ref": "#/components/responses/CrossOrigin"}},
    }


def _write(side: _Routes, id_: str, summary: str) -> Json:
    names = ("locale", "type", "forceIp")
    return _operation(id_, "profiles", summary, schema(side.answer), _WRITING, names, "profile-request", side)


def _batch(side: _Routes, id_: str, summary: str, answer: str) -> Json:
    return _operation(id_, "batches", summary, schema(answer), _WRITING, ("locale",), "batch-request", side)


def _read(side: _Routes, id_: str, summary: str, answer: Json, *parameters: str) -> Json:
    return _operation(id_, "profiles", summary, answer, _READING, parameters, side=side)


def _api_paths(side: _Routes, explain: bool) -> Json:
    one, empty = "/profiles/{idOrAlias}", schema("empty-response")
    routes: dict[str, Json] = {
        "/profiles": {"post": _write(side, "createProfile", "Create a profile")},
        one: {
            "post": _write(side, "updateProfile", "Update a profile, or create it under this id"),
            "get": _read(side, "getProfile", "Get a profile, evaluated now", schema(side.answer), "locale"),
            "delete": _read(side, "deleteProfile", "Delete a profile and all its aliases", empty),
        },
        "/events": {"post": _batch(side, "upsertProfiles", "Create or update many profiles", "batch-response")},
        "/import/events": {
            "post": _batch(side, "importEvents", "Accept a batch, to be processed after the answer", "empty-response")
        },
    }
    entries = schema("preview-entries-response")
    refusals = ("InvalidData", "UnknownEnvironment", *_ALWAYS)
    routes["/preview/entries"] = {
        "get": _operation(
            "previewEntries",
            "preview",
            "Get content for preview panels",
            entries,
            refusals,
            ("content",),
            side=side,
        )
    }
    if explain:
        reasons = schema("explain-response")
        routes[one + "/explain"] = {
            "get": _read(side, "explainProfile", "Say why a profile gets what it gets", reasons)
        }
    return {side.prefix + route: _item(side, route, item) for route, item in routes.items()}


def _item(side: _Routes, route: str, item: Json) -> Json:
    """Return one path's operations, with what all of them share."""
    item["options"] = _cross_origin("crossOrigin" + route.title().translate(_NO_PUNCTUATION) + side.suffix)
    own = [name for name in ("idOrAlias", "flagKey", "experienceId") if f"{{{name}}}" in route]
    names = [side.owner, "environmentSlug", *own, "traceparent"]
    item["parameters"] = [{"$ref": f"#/components/parameters/{name}"} for name in names]
    return item


def _insights_paths() -> Json:
    paths = {}
    for side, path in ((_ORGANIZATIONS, INSIGHTS), (_SPACES, SPACE_INSIGHTS)):
        post = _operation(
            "reportInsights",
            "insights",
            "Store what visitors saw and clicked",
            {},
            _WRITING,
            (),
            "insights-request",
            side,
        )
        post["responses"]["204"] = {"description": "Accepted.", "headers": TRACED}
        del post["responses"]["200"]
        paths[path] = _item(side, "/insights/events", {"post": post})
    return paths


def _flag_paths(side: _Routes) -> Json:
    """Return the routes of OFREP, whose refusals have a shape of their own."""
    route = "/ofrep/v1/evaluate/flags"
    every = _operation(
        "evaluateFlags",
        "flags",
        "Decide every flag",
        schema("ofrep-flags"),
        _ALWAYS,
        ("ifNoneMatch",),
        "ofrep-request",
        side,
    )
    one = _operation(
        "evaluateFlag", "flags", "Decide one flag", schema("ofrep-flag"), _ALWAYS, (), "ofrep-request", side
    )
    every["responses"]["304"] = {"description": "The answer did not change.", "headers": TRACED}
    for operation in (every, one):
        for status, name in (
            ("400", "FlagRefused"),
            ("404", "FlagNotFound"),
            ("413", "FlagRefused"),
            ("415", "FlagRefused"),
        ):
            operation["responses"][status] = {"$ref": f"#/components/responses/{name}"}
    return {
        side.prefix + route: _item(side, route, {"post": every}),
        side.prefix + route + "/{flagKey}": _item(side, route + "/{flagKey}", {"post": one}),
    }


def _results_paths(side: _Routes) -> Json:
    route, refusals = "/experiences/{experienceId}/results", ("UnknownEnvironment", *_ALWAYS)
    summary = "Get the last computed results of an experience"
    get = _operation("getResults", "results", summary, schema("results-response"), refusals, side=side)
    get["responses"]["404"] = {"$ref": "#/components/responses/NoResults"}
    return {side.prefix + route: _item(side, route, {"get": get})}


# Page, its parameter, the fields of its form, schemas of what GET and POST answer.
_INSPECTOR = (
    ("find", "", ("name",), "inspector-find", "inspector-search", "List the content", "Find visitors"),
    ("visitors", "idOrAlias", (), "inspector-visitor", "", "Get a visitor, and why they get what they get", ""),
    ("exports", "idOrAlias", (), "inspector-export", "", "Export all data of a visitor, with events", ""),
    ("audiences", "audienceId", (), "inspector-audience", "", "Get an audience, and how many are in it", ""),
    (
        "experiences",
        "experienceId",
        (),
        "inspector-experience",
        "",
        "Get an experience, and its visitors by variant",
        "",
    ),
    (
        "live",
        "",
        ("type", "text", "visitor"),
        "inspector-live",
        "inspector-live",
        "Get the arrivals since the last request",
        "Get the newest arrivals",
    ),
    (
        "playground",
        "",
        ("visitor", "event", "about", "properties", "events", "traits", "device", "countryCode", "city", "at"),
        "inspector-find",
        "inspector-playground",
        "List what the playground can change",
        "Say what somebody would get, and why",
    ),
    (
        "what-if",
        "",
        ("draft", "discard"),
        "inspector-what-if",
        "inspector-what-if",
        "Get what publishing the draft would change",
        "Upload a draft, to be counted in the background",
    ),
    ("state", "", (), "inspector-state", "", "Get the state: content, store, access rules", ""),
)


def _inspector_paths() -> Json:
    """Return the JSON twins of the inspector's pages; each needs a key with the scope admin (spec section 14)."""
    paths: Json = {}
    for page, parameter, fields, get_schema, post_schema, summary, action in _INSPECTOR:
        title = page.title().replace("-", "")
        get = _inspector_operation(f"inspect{title}", summary, get_schema, parameter)
        item: Json = {"get": get, "parameters": [{"$ref": "#/components/parameters/inspected"}]}
        if parameter:
            item["parameters"].append({"$ref": f"#/components/parameters/{parameter}"})
        if post_schema:
            properties = {name: {"type": "string"} for name in fields}
            form = {"application/x-www-form-urlencoded": {"schema": {"type": "object", "properties": properties}}}
            post = _inspector_operation(f"send{title}", action, post_schema, parameter)
            item["post"] = {**post, "requestBody": {"content": form}}
        paths[f"/inspector/{page}{f'/{{{parameter}}}' if parameter else ''}.json"] = item
    return paths


def _inspector_operation(id_: str, summary: str, answer: str, parameter: str) -> Json:
    refusals = ["InvalidData", "PayloadTooLarge", "UnsupportedEncoding", *_ALWAYS]
    refusals.append("ProfileNotFound" if parameter == "idOrAlias" else "RouteNotFound")
    return _operation(id_, "inspector", summary, schema(answer), refusals)


_NO_PUNCTUATION = str.maketrans("", "", "/{}")


def _own_paths() -> Json:
    """Return the routes of the service itself, which stand outside every organization."""
    state = schema("empty-response")
    whole = {"type": "object", "description": "An OpenAPI 3.1 document."}
    return {
        "/health/live": {
            "get": _operation("live", "service", "Say that the process runs", state, ("MethodNotAllowed",)),
        },
        "/health/ready": {
            "get": _operation(
                "ready", "service", "Say whether requests can be served", state, ("MethodNotAllowed", "Unavailable")
            ),
        },
        "/content/refresh": {
            "post": _operation(
                "refreshContent",
                "service",
                "Look for changed content at once; also for a webhook, with its secret in X-Ninetailed-Webhook-Secret",
                state,
                ("Unauthorized", "Forbidden", "MethodNotAllowed"),
            ),
        },
        "/openapi.json": {
            "get": _operation("openapi", "service", "Get this document", whole, ("MethodNotAllowed",)),
        },
    }


def _references(node: object) -> Iterator[str]:
    """Yield the schema names that a part of the document points at."""
    if isinstance(node, Mapping):
        target = node.get("$ref")
        if isinstance(target, str) and target.startswith("#/components/schemas/"):
            yield target.split("/")[3]
        node = list(node.values())
    if isinstance(node, list):
        for child in node:
            yield from _references(child)


def _reachable(documents: Mapping[str, Json], names: Iterable[str]) -> set[str]:
    """Return the names and, by their references, every schema that they need."""
    reach: set[str] = set()
    waiting = set(names)
    while waiting:
        name = waiting.pop()
        reach.add(name)
        waiting |= set(_references(_embedded(name, documents[name]))) - reach
    return reach


def _embedded(name: str, node: Any) -> Any:
    """Return a schema as a component: without the members that make it a file, its references inside this document.

    ``$id`` has to go, since references would be looked up relative to it.
    """
    if isinstance(node, list):
        return [_embedded(name, child) for child in node]
    if not isinstance(node, Mapping):
        return node
    return {
        key: _moved(name, child) if key == "$ref" and isinstance(child, str) else _embedded(name, child)
        for key, child in node.items()
        if not (key in ("$id", "$schema") and isinstance(child, str))
    }


def _moved(name: str, reference: str) -> str:
    """``page.schema.json#/properties/url`` becomes ``#/components/schemas/page/properties/url``."""
    file, _, pointer = reference.partition("#")
    target = file.rpartition("/")[2].removesuffix(_SUFFIX) or name
    return f"#/components/schemas/{target}{pointer}"
