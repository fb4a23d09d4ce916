"""What strangers send fills no cache with texts of any length: a cache is bounded by entries, so each must be short."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from functools import _lru_cache_wrapper
from typing import Any

from support import page

from ninetailed_wsgi import visitor_of
from ninetailed_wsgi.testing import Client, Harness, audience, experience, viewed

LONG = "x" * 60_000
LONGEST = 2_048
"""Characters of a key: a name may have 1,024 bytes."""


def caches() -> Iterator[tuple[str, Any]]:
    """Every bounded cache of a function or a method of the package."""
    for thing in gc.get_objects():
        # Not isinstance, which asks lazy objects of other packages what they are.
        if type(thing) is _lru_cache_wrapper and thing.cache_parameters()["maxsize"]:
            module = getattr(thing, "__module__", None) or ""
            if module.startswith("ninetailed_wsgi"):
                yield f"{module}.{getattr(thing, '__qualname__', '?')}", thing


def longest_text(cache: Any) -> int:
    """The characters of the longest text in the keys and values of a cache."""
    waiting, seen, longest = [cache], set(), 0
    while waiting:
        thing = waiting.pop()
        if id(thing) in seen or isinstance(thing, type | type(sys)) or callable(thing) and thing is not cache:
            continue
        seen.add(id(thing))
        if isinstance(thing, str | bytes):
            longest = max(longest, len(thing))
        elif thing is cache or isinstance(thing, dict | list | tuple) or type(thing).__name__ == "_lru_list_elem":
            waiting += gc.get_referents(thing)
    return longest


def send_long_texts(harness: Harness) -> None:
    """A request with a long text in each place where a client may put one."""

    def site(environ: Any, start_response: Any) -> list[bytes]:
        visitor = visitor_of(environ)
        visitor.page()
        shown = str(visitor.variant("hero"))
        start_response("200 OK", [("Content-Type", "text/html")])
        return [shown.encode()]

    api, pages = harness.client, Client(harness.mount(site, exposures="served"))
    id = api.post("/profiles", {"events": [page()]}).document["data"]["profile"]["id"]
    event = {**page(), "anonymousId": LONG, "userId": LONG}
    event["context"] = {**event["context"], "userAgent": LONG, "locale": LONG, "page": {"url": LONG, "referrer": LONG}}
    names = ("Host", "Origin", "Referer", "User-Agent", "Accept-Language", "Cookie", "Traceparent", "X-Force-IP")
    names += ("X-Forwarded-For", "X-Forwarded-Host", "Forwarded", "Authorization", "Sec-Fetch-Site", "If-None-Match")
    for name in names:
        headers = {name: f"ntaid={id}; a={LONG}" if name == "Cookie" else LONG}
        pages.call("GET", "/", headers={"Cookie": f"ntaid={id}", **headers})
        api.get(f"/profiles/{id}", headers=headers)
    pages.call("GET", f"/{LONG}?a={LONG}", headers={"Cookie": f"ntaid={LONG}; nt_preview={LONG}"})
    for body in ({"events": [event]}, {"events": [page()], "options": {"features": ["location"]}}):
        for path in ("/profiles", f"/profiles/{id}", f"/profiles/{LONG}", f"/profiles?locale={LONG}"):
            api.post(path, body)
    api.call("POST", f"/v2/organizations/{LONG}/environments/{LONG}/profiles", {"events": [page()]})
    api.post(f"/ofrep/v1/evaluate/flags/{LONG}", {"context": {"targetingKey": LONG, "plan": LONG}})
    view = {**page(), "type": "component", "componentType": "Entry", "componentId": "hero-b", "experienceId": "e1"}
    view["variantIndex"] = 1
    for each in (view, {**view, "componentId": LONG}, {**view, "experienceId": LONG}, {**view, "viewId": LONG}):
        for name in (LONG, id):
            harness.insights.post("/events", [{"profile": {"id": name}, "events": [each]}])


def test_no_cache_keeps_a_long_text_of_a_stranger() -> None:
    for _, cache in caches():
        cache.cache_clear()  # of what other tests sent
    buyers = audience(viewed("/x"), name="buyers")
    places = {"127.0.0.1": {"city": "Graz", "countryCode": "AT"}}
    for access in ("open", "guarded"):
        content = [buyers, experience("hero", ["hero-b"], audience=buyers, id="e1")]
        with Harness(content, access=access, location=places) as harness:
            send_long_texts(harness)
            sizes = {name: longest_text(cache) for name, cache in caches()}
    assert {name for name in sizes if "device" in name}, "the caches are found"
    assert {name: size for name, size in sizes.items() if size > LONGEST} == {}
