"""Every member of every event type, tried with null, an empty text, values of other types and a list."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support import Api

from ninetailed_wsgi.api.validation.schemas import schemas
from ninetailed_wsgi.core.exposures import EVENT_TYPES
from ninetailed_wsgi.testing import Client, Harness, experience

FILE = Path(__file__).parent.parent / "fixtures" / "cases" / "validation" / "members" / "events.json"
TABLE: dict[str, Any] = json.loads(FILE.read_text(encoding="utf-8"))
DOCUMENTS = schemas().documents
TYPES: list[str] = DOCUMENTS["event"]["properties"]["type"]["enum"]


def members_of(schema: dict[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every member that a schema describes, in objects within it as well."""
    if "$ref" in schema:
        yield from members_of(DOCUMENTS[schema["$ref"].removesuffix(".schema.json")], path)
    for name, member in schema.get("properties", {}).items():
        yield (*path, name)
        yield from members_of(member, (*path, name))


def schema_of(kind: str) -> dict[str, Any]:
    document: dict[str, Any] = DOCUMENTS["event-" + kind.replace("_", "-")]
    return document


def rows_of(kind: str) -> dict[str, dict[str, Any]]:
    return {row["member"]: row for row in TABLE["rows"] if kind in row.get("types", TYPES)}


def event_with(kind: str, member: str, value: Any) -> dict[str, Any]:
    """The smallest event of a type, with this value at this member."""
    sent = copy.deepcopy({**TABLE["events"]["*"], **TABLE["events"].get(kind, {}), "type": kind})
    *parents, last = member.split(".")
    place = sent
    for name in parents:
        place = place.setdefault(name, {})
    place[last] = value
    return sent


@pytest.mark.parametrize("kind", TYPES)
def test_the_table_has_a_row_for_each_member_of_an_event_and_none_besides(kind: str) -> None:
    described = {".".join(path) for path in members_of(schema_of(kind))}
    assert set(rows_of(kind)) == described


def test_the_table_gives_a_reason_for_each_refusal_and_uses_each_of_its_reasons() -> None:
    used = {reason for row in TABLE["rows"] for reason in row["refused"].values()}
    assert used == set(TABLE["reasons"])


def is_valid(event: dict[str, Any]) -> bool:
    return schemas().is_valid("profile-request", {"events": [event]})


@pytest.mark.parametrize("kind", TYPES)
def test_each_member_is_accepted_or_refused_by_its_path_as_the_table_says(api: Api, kind: str) -> None:
    wrong = []
    for member, row in rows_of(kind).items():
        assert set(row["accepted"]) | set(row["refused"]) == set(TABLE["values"])
        for name, value in TABLE["values"].items():
            event = event_with(kind, member, value)
            # The words of a refusal take 2 ms: each value of a member gets them in one type, one value in each.
            in_words = kind == row.get("types", TYPES)[0] or name == next(iter(row["refused"]), "")
            if name in row["refused"] and not in_words and not is_valid(event):
                continue
            answer = api.update_answer("visitor", event)
            status = 200 if name in row["accepted"] else 400
            if answer.status_code != status or (status == 400 and f"events[0].{member}" not in answer.json["message"]):
                wrong.append(f"{member} with {name}: {answer.status_code} {answer.json['message']}")
    assert wrong == []


@pytest.mark.parametrize("kind", sorted(EVENT_TYPES))
def test_no_member_of_an_insights_event_costs_the_others_of_its_request(kind: str) -> None:
    odd = [
        event_with(kind, member, value) | ({} if member == "messageId" else {"messageId": f"{member} {name}"})
        for member in rows_of(kind)
        for name, value in TABLE["values"].items()
    ]
    with Harness([experience("hero", ["hero-b"], sticky=True)]) as harness:
        visitor = harness.visitor("anna").views("/")
        good = event_with("component", "componentId", "hero-b") | {"variantIndex": 1, "messageId": "good"}
        experience_id = visitor.experiences[0]["experienceId"]
        events = [*odd, {**good, "experienceId": experience_id}]
        client = Client(harness.app, "/v2/spaces/default/environments/main")
        assert client.post("/events", [{"profile": {"id": "anna"}, "events": events}]).status == 204
        seen = harness.service.record(harness.environment, "anna")["exposures"]
        assert [phase["index"] for phase in seen[experience_id].values()] == [1]
