"""Measures what the middleware adds to a page, in this process, paired with the bare site.

Run it with ``python benchmarks/middleware.py``. Both apps take turns in every round, so that a busy machine slows both;
the table shows the median of the rounds. A page that uses no visitor may take 5 µs more.
"""

from __future__ import annotations

import io
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from report import Part, Target, table

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from ninetailed_wsgi import Ninetailed

ROUNDS = 41
BODY = b"the site's page" * 500
HEADERS = [("Content-Type", "text/html"), ("Content-Length", str(len(BODY)))]

App = Callable[..., Iterable[bytes]]


def audience(number: int) -> dict[str, Any]:
    """Two rules, one of which counts the events of a history."""
    viewed = {
        "type": "page",
        "operator": "greaterThanInclusive",
        "count": str(1 + number % 2),
        "conditions": [{"key": {"key": "context_page_path"}, "operator": "contains", "value": "/tea"}],
    }
    trait = {"type": "identify", "key": "plan", "operator": "equal", "value": "member"}
    return {"id": f"audience-{number}", "name": f"Audience {number}", "rules": {"any": [{"all": [viewed, trait]}]}}


def experience(number: int) -> dict[str, Any]:
    replacement = {
        "type": "EntryReplacement",
        "baseline": {"id": f"entry-{number}"},
        "variants": [{"id": f"v-{number}"}],
    }
    variable = {
        "type": "InlineVariable",
        "key": f"flag-{number}",
        "valueType": "Number",
        "baseline": {"value": 1},
        "variants": [{"value": 2}],
    }
    return {
        "id": f"experience-{number}",
        "name": f"Experience {number}",
        "type": "nt_personalization",
        "audience": {"id": f"audience-{number}"},
        "config": {"traffic": 1, "distribution": [0.5, 0.5], "components": [replacement, variable]},
    }


def bare(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    start_response("200 OK", HEADERS)
    return [BODY]


def joining(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    """What makes the visitor a member of all audiences."""
    environ["ninetailed.visitor"].identify(plan="member", firstname="Anna")
    environ["ninetailed.visitor"].page()
    return bare(environ, start_response)


def asking(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    """A page that evaluates: what a site asks where the browser's SDK sends the events, or on a part of a page."""
    visitor = environ["ninetailed.visitor"]
    assert len(visitor.audiences) == len(visitor.experiences) == 10
    visitor.variant("entry-1")
    visitor.flag("flag-2", 0)
    visitor.merge_tag("traits.firstname", "friend")
    return bare(environ, start_response)


def storing(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    """The same, with the page event stored."""
    environ["ninetailed.visitor"].page()
    return asking(environ, start_response)


def environ() -> dict[str, Any]:
    return {
        "REQUEST_METHOD": "GET",
        "SCRIPT_NAME": "",
        "PATH_INFO": "/tea/1",
        "QUERY_STRING": "",
        "HTTP_HOST": "shop.example",
        "HTTP_COOKIE": "theme=dark; ntaid=anna; session=1f2e3d",
        "HTTP_ACCEPT_LANGUAGE": "de-AT,de;q=0.9,en;q=0.5",
        "HTTP_USER_AGENT": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/120.0.0.0 Safari/537.36",
        "REMOTE_ADDR": "127.0.0.1",
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(),
    }


def start_response(status: str, headers: Any, exc_info: Any = None) -> None:
    """A server's, that does nothing."""


def microseconds(app: App, requests: int) -> float:
    environs = [environ() for _ in range(requests)]
    before = time.perf_counter_ns()
    for each in environs:
        for _ in app(each, start_response):
            pass
    return (time.perf_counter_ns() - before) / 1000 / requests


def added(app: App, requests: int) -> tuple[float, float, float]:
    """Medians: the bare site, the app, and what it adds in the same round, in microseconds a page."""
    rounds = [(microseconds(bare, requests), microseconds(app, requests)) for _ in range(ROUNDS)]
    without, with_it = zip(*rounds, strict=True)
    difference = [second - first for first, second in rounds]
    return statistics.median(without), statistics.median(with_it), statistics.median(difference)


def part() -> Part:
    with tempfile.TemporaryDirectory() as folder:
        content = Path(folder, "content.json")
        published = {"audiences": [*map(audience, range(10))], "experiences": [*map(experience, range(10))]}
        content.write_text(json.dumps(published))

        def around(site: App, **options: Any) -> Ninetailed:
            data = Path(folder, "data")
            return Ninetailed(site, data_dir=data, content=content, time_budget_ms=10_000, access="open", **options)

        known = around(storing)
        microseconds(around(joining), 3)
        rows = [
            ("a page that uses no visitor", around(bare), 5000, 5.0),
            ("a page that evaluates a stored visitor", around(asking), 100, None),
            ("the same, its page event as preflight", around(storing, preflight=True), 100, None),
            ("the same, its page event stored", known, 100, None),
        ]
        wanted, figures = [], []
        for name, app, requests, limit in rows:
            microseconds(app, requests)
            without, with_it, more = added(app, requests)
            figures.append((name, f"{without:.2f}", f"{with_it:.2f}", f"{more:.2f}"))
            if limit is not None:
                wanted.append(Target(f"µs that the middleware adds to {name}", False, limit, more))
    head = (f"in-process, µs, median of {ROUNDS} rounds", "bare", "with", "added")
    return Part(table(head, figures), wanted, {})


if __name__ == "__main__":
    print(part())
