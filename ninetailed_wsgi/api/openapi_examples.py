"""What the OpenAPI document shows as examples: a request and an answer of each kind, by the name of its schema.

Tests hold each against its schema, and the requests against the API.
"""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]

_LIBRARY: Json = {"library": {"name": "Ninetailed React Analytics SDK", "version": "7.26.0"}}
_PAGE: Json = {
    "path": "/pricing",
    "query": {"utm_source": "newsletter"},
    "referrer": "https://search.example/",
    "search": "?utm_source=newsletter",
    "url": "https://shop.example/pricing?utm_source=newsletter",
}


def _event(type_: str, message_id: str, **members: Any) -> Json:
    return {"type": type_, "channel": "web", "messageId": message_id, "context": _LIBRARY, **members}


_PAGE_VIEW = _event("page", "0e2f4b0c-6f0a-4d2e-9d6b-0d8a6f3f6c01", properties=_PAGE)
_IDENTIFY = _event("identify", "5d0d2f7e-51c4-44a6-8f0b-0b2b6a1c7e02", userId="customer-1001", traits={"plan": "pro"})
_TRACK = _event("track", "b1a0c9de-6f8a-4f2b-a1c3-7d5e9f0b3c03", event="order_completed", properties={"total": 120})

_NODE_VIEW: Json = {
    "type": "exo_node_view",
    "channel": "web",
    "messageId": "8c2f4c0e-5a43-4b7e-9a86-4b6e0f1d2c3b",
    "context": {"library": {"name": "optimization-web", "version": "2.0.1"}},
    "entityId": "landing-page",
    "entityKind": "Experience",
    "optimizationId": "experience1",
    "variantId": "landing-page-b",
    "variantIndex": 1,
    "viewId": "2b1f7a86-6a4d-4a1b-8a7a-1f0f5d5f3f11",
    "viewDurationMs": 2000,
}

REQUESTS: dict[str, dict[str, Json]] = {
    "profile-request": {
        "pageView": {
            "summary": "A visitor views a page; their location is wanted",
            "value": {"events": [_PAGE_VIEW], "options": {"features": ["location"]}},
        },
        "identify": {
            "summary": "A visitor signs in: customer-1001 becomes an alias of the profile",
            "value": {"events": [_IDENTIFY, _TRACK], "options": {}},
        },
    },
    "insights-request": {
        "view": {
            "summary": "A visitor saw a Contentful experience",
            "value": [{"profile": {"id": "anna"}, "events": [_NODE_VIEW]}],
        },
    },
    "batch-request": {
        "import": {
            "summary": "Two visitors, whom their anonymousId names; one event happened in the past",
            "value": {
                "events": [
                    {**_IDENTIFY, "anonymousId": "anna", "channel": "server"},
                    {**_TRACK, "anonymousId": "ben", "channel": "server", "timestamp": "2024-05-06T07:08:09.123Z"},
                ]
            },
        }
    },
    "ofrep-request": {
        "visitor": {
            "summary": "A visitor, and an attribute that replaces one of the profile's traits",
            "value": {"context": {"targetingKey": "anna", "plan": "pro"}},
        }
    },
}
"""Examples of request bodies, as the ``examples`` of a media type: by schema, then by name."""

_PROFILE: Json = {
    "id": "9f2b1c6d0e3a4857b1c2d3e4f5a6978812ab34cd56ef7890a1b2c3d4e5f60718",
    "stableId": "9f2b1c6d0e3a4857b1c2d3e4f5a6978812ab34cd56ef7890a1b2c3d4e5f60718",
    "random": 0.4223,
    "audiences": ["pricing-visitors"],
    "traits": {"plan": "pro"},
    "location": {"city": "Berlin", "country": "Germany", "countryCode": "DE", "continent": "EU"},
    "session": {
        "id": "5c1f7b0e-0c3d-4a53-8f0e-6d1f2b3c4d5e",
        "isReturningVisitor": False,
        "landingPage": _PAGE,
        "count": 1,
        "activeSessionLength": 12,
        "averageSessionLength": 12,
    },
}
_VARIABLE: Json = {
    "key": "headline",
    "type": "Variable",
    "value": "Welcome back",
    "meta": {"experienceId": "pricing-offer", "variantIndex": 1},
}
_SELECTED: Json = {"experienceId": "pricing-offer", "variantIndex": 1, "variants": {"hero": "hero-offer"}}


def _answer(data: Json) -> Json:
    return {"data": data, "error": None, "message": "ok"}


_ENTITY = {
    "type": "Experience",
    "id": "landing-page",
    "variantId": "landing-page-b",
    "meta": {"optimizationId": "experience1", "variantIndex": 1},
}

_FLAG: Json = {
    "key": "banner",
    "reason": "TARGETING_MATCH",
    "variant": "pricing-offer:1",
    "value": "sale",
    "metadata": {"experienceId": "pricing-offer", "variantIndex": 1, "audienceId": "pricing-visitors", "sticky": False},
}

_VARIANT: Json = {
    "index": 0,
    "visitors": 997,
    "views": 997,
    "clicks": 0,
    "conversions": 109,
    "sum": 109,
    "mean": 0.1093,
    "interval": [0.0915, 0.1303],
    "lift": None,
    "liftInterval": None,
    "beatsControl": None,
    "best": 0.0037,
    "expectedLoss": 0.0392,
}
_RESULT: Json = {
    "experienceId": "hero-test",
    "name": "A hero with a price",
    "type": "nt_experiment",
    "from": "2026-11-16T08:00:00.000Z",
    "to": "2026-11-26T08:00:00.000Z",
    "phase": "1:0.5/0.5",
    "exposure": "seen",
    "metric": {"id": "bought", "name": "Bought", "type": "binary", "direction": "increase"},
    "variants": [
        _VARIANT,
        {
            **_VARIANT,
            "index": 1,
            "visitors": 1003,
            "views": 1003,
            "conversions": 149,
            "sum": 149,
            "mean": 0.1486,
            "interval": [0.1279, 0.1719],
            "lift": 0.3588,
            "liftInterval": [0.08, 0.71],
            "beatsControl": 0.9963,
            "best": 0.9963,
            "expectedLoss": 0.0000209,
        },
    ],
    "health": {
        "srm": {"p": 0.893, "expected": [1000.0, 1000.0], "ok": True},
        "multiple": {"visitors": 0, "share": 0.0, "ok": True},
        "inconsistent": {"visitors": 0},
    },
    "holdout": {"visitors": 0, "conversions": 0},
    "verdict": "winner",
    "neededPerVariant": 971,
    "computedAt": "2026-11-26T08:00:00.000Z",
}


def _entry(id_: str, content_type: str, **fields: Any) -> Json:
    link = {"sys": {"type": "Link", "linkType": "ContentType", "id": content_type}}
    return {"sys": {"type": "Entry", "id": id_, "contentType": link}, "fields": fields}


_AUDIENCE = _entry(
    "3cQ2mD7f", "nt_audience", nt_name="Returning", nt_audience_id="returning", nt_rules={"any": [{"all": []}]}
)
_EXPERIENCE = _entry(
    "5kT8xQ1b",
    "nt_experience",
    nt_name="Offer for those who come back",
    nt_experience_id="experience1",
    nt_type="nt_personalization",
    nt_config={"traffic": 1, "distribution": [0.5, 0.5], "components": []},
    nt_audience=_AUDIENCE,
    nt_variants=[{"sys": {"type": "Entry", "id": "offer"}, "fields": {}}],
)

ANSWERS: dict[str, Json] = {
    "profile-response": _answer({"profile": _PROFILE, "experiences": [_SELECTED], "changes": [_VARIABLE]}),
    "space-profile-response": _answer(
        {"profile": _PROFILE, "experiences": [_SELECTED], "changes": [_VARIABLE, _ENTITY]}
    ),
    "preview-entries-response": _answer({"audiences": [_AUDIENCE], "experiences": [_EXPERIENCE]}),
    "batch-response": _answer({"profiles": [_PROFILE]}),
    "empty-response": _answer({}),
    "results-response": _answer({"results": [_RESULT], "ageSeconds": 600.0}),
    "ofrep-flag": _FLAG,
    "ofrep-flags": {"flags": [_FLAG]},
}
"""An example of each answer that succeeds, by schema."""
