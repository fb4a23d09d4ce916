"""What the benchmarks have in common: audiences, experiments and visitors, alike for all engines, and their events."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ENVIRONMENT = "/v2/organizations/bench/environments/main"
AUDIENCES, EXPERIENCES = 30, 10
"""Of the content of every part that names no other numbers."""

TRAITS = {"plan": "pro", "age": 42, "email": "ann@shop.example", "newsletter": True}
PHONE = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) "
    "Version/17.5 Mobile/15E148 Safari/604.1"
)

Test = tuple[str, str, str]  # attribute of the other engines, operator, value


def rule(kind: str, **members: Any) -> dict[str, Any]:
    return {"type": kind, **members}


def condition(key: str, operator: str, value: str) -> dict[str, Any]:
    return {"key": {"key": key}, "operator": operator, "value": value}


def audience(number: int) -> tuple[list[list[dict[str, Any]]], list[list[Test]]]:
    """Our rules and the tests of the others, both as alternatives of rules that all have to hold."""
    plan = rule("identify", key="plan", operator="equal", value="pro"), ("plan", "equal", "pro")
    age = rule("identify", key="age", operator="greaterThan", value="30"), ("age", "greater", "30")
    email = rule("identify", key="email", operator="contains", value="@shop."), ("email", "contains", "@shop.")
    germany = rule("location", key="country", operator="equal", value="Germany"), ("country", "equal", "Germany")
    returning = rule("isReturningVisitor", value=True), ("sessions", "greater", "1")
    mobile = rule("device", conditions=[condition("type", "equal", "mobile")]), ("device", "equal", "mobile")
    path = condition("context_page_path", "contains", f"/pricing/{number // 10}")
    pricing = (
        rule("page", operator="greaterThan", count="1", conditions=[path]),
        (f"pricing{number // 10}", "greater", "1"),
    )
    bought = rule("track", value="purchase", operator="greaterThan", count="0"), ("purchases", "greater", "0")
    never_bought = rule("track", value="purchase", operator="lessThan", count="1"), ("purchases", "less", "1")
    week = [condition("context_page_path", "contains", "/blog"), condition("days", "equal", "7")]
    blog = rule("page", operator="greaterThan", count="2", conditions=week), ("blog_this_week", "greater", "2")
    alternatives = [
        [[pricing]],
        [[bought]],
        [[plan]],
        [[age]],
        [[germany]],
        [[returning]],
        [[mobile]],
        [[germany, plan], [bought, returning]],
        [[email, age]],
        [[blog, never_bought], [mobile, plan]],
    ][number % 10]
    return [[ours for ours, _ in group] for group in alternatives], [
        [test for _, test in group] for group in alternatives
    ]


def audience_rules(number: int) -> dict[str, Any]:
    """An audience's rules as content has them."""
    return {"any": [{"all": group} for group in audience(number)[0]]}


def experiment(number: int) -> dict[str, Any]:
    """The configuration of an experience that shows half of an audience another entry."""
    component = {"baseline": {"id": f"entry-{number}"}, "variants": [{"id": f"other-{number}"}]}
    return {"traffic": 1, "distribution": [0.5, 0.5], "components": [component]}


def attributes(number: int, visitor: str) -> dict[str, Any]:
    """What engines without a history are told of a visitor who is in all of so many audiences."""
    counted = {f"pricing{index}": 2 for index in range(1 + number // 10)}
    known = {"country": "Germany", "sessions": 3, "device": "mobile", "purchases": 2, "blog_this_week": 5}
    return {**TRAITS, **known, **counted, "id": visitor}


def write_content(file: Path, number: int = EXPERIENCES, audiences: int = 0) -> Path:
    """Published content with so many experiences, each with an audience of its own, and at least so many audiences."""
    groups = [
        {"id": f"audience-{each}", "name": f"Audience {each}", "rules": audience_rules(each)}
        for each in range(max(number, audiences))
    ]
    experiences = [
        {
            "id": f"experience-{each}",
            "name": f"Experience {each}",
            "type": "nt_experiment",
            "audience": {"id": f"audience-{each}"},
            "config": experiment(each),
        }
        for each in range(number)
    ]
    file.write_text(json.dumps({"audiences": groups, "experiences": experiences}))
    return file


def page_event(message_id: str, at: datetime) -> dict[str, Any]:
    """A page event as the JavaScript SDK sends it, of a visitor on a phone who looks at the prices."""
    event: dict[str, Any] = json.loads(_page_event())
    for page in (event["properties"], event["context"]["page"]):
        page.update(path="/pricing/0", url="https://shop.example/pricing/0?utm_source=newsletter&utm_campaign=spring")
    event["context"]["userAgent"] = PHONE
    return _sent(event, message_id, at)


@cache
def _page_event() -> bytes:
    return (HERE.parent / "fixtures" / "events" / "page-js-sdk.json").read_bytes()


def past(visitor: str) -> Iterator[dict[str, Any]]:
    """The events of the day before that make a visitor a member of all ten audiences."""
    at = datetime.now(UTC) - timedelta(days=1)
    for number in range(2):
        yield page_event(f"{visitor}-page-{number}", at)
    context = page_event("", at)["context"]
    identified = {"type": "identify", "channel": "web", "context": context, "userId": "", "traits": TRAITS}
    bought = {"type": "track", "channel": "web", "context": context, "event": "purchase", "properties": {}}
    yield _sent(identified, f"{visitor}-identify", at)
    yield _sent(bought, f"{visitor}-purchase", at)


def _sent(event: dict[str, Any], message_id: str, at: datetime) -> dict[str, Any]:
    time = at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return {**event, "messageId": message_id, "timestamp": time, "originalTimestamp": time, "sentAt": time}
