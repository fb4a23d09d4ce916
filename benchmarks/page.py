"""Measures a page of a host site that stores or evaluates its event, beside the service alone and beside the API.

``python benchmarks/page.py`` (part of ``make bench``) lets all take turns in every round, in one process, and counts
the processor time of all of its threads. Ratios are medians of the rounds' ratios.
"""

from __future__ import annotations

import gc
import io
import os
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import orjson
from report import Part, Target, table
from scenario import AUDIENCES, ENVIRONMENT, EXPERIENCES, PHONE, page_event, past, write_content
from servers import FIXTURES

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from ninetailed_wsgi import Ninetailed
from ninetailed_wsgi.api.app import api
from ninetailed_wsgi.core.names import Environment
from ninetailed_wsgi.site.workers import Call

ROUNDS, REQUESTS = 31, 40
BODY = b"the site's page" * 500
WHERE = Environment("bench", "main")
ADDRESS = "127.0.0.1"


class Way(NamedTuple):
    """One way to have a page event applied: what it is given, made before the clock runs, and what it does with it."""

    make: Callable[[], Any]
    apply: Callable[[Any], object]


def site(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    """A page that records its event and shows a variant and a flag."""
    visitor = environ["ninetailed.visitor"]
    visitor.page()
    if visitor.variant("entry-2") not in ("entry-2", "other-2") or visitor.flag("none", 5) != 5:
        raise SystemExit("the page does not show what it should")
    start_response("200 OK", [("Content-Type", "text/html")])
    return [BODY]


def page_request(visitor: str) -> dict[str, Any]:
    return {
        "REQUEST_METHOD": "GET",
        "SCRIPT_NAME": "",
        "PATH_INFO": "/pricing/0",
        "QUERY_STRING": "utm_source=newsletter&utm_campaign=spring",
        "HTTP_HOST": "shop.example",
        "HTTP_COOKIE": f"theme=dark; ntaid={visitor}; session=1f2e3d",
        "HTTP_ACCEPT_LANGUAGE": "de-AT,de;q=0.9,en;q=0.5",
        "HTTP_USER_AGENT": PHONE,
        "REMOTE_ADDR": ADDRESS,
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(),
    }


def body() -> dict[str, Any]:
    return {"events": [page_event(str(uuid.uuid4()), datetime.now(UTC))], "options": {"features": ["location"]}}


def api_request(visitor: str, query: str) -> dict[str, Any]:
    text = orjson.dumps(body())
    return {
        "REQUEST_METHOD": "POST",
        "PATH_INFO": f"{ENVIRONMENT}/profiles/{visitor}",
        "QUERY_STRING": query,
        "SERVER_PROTOCOL": "HTTP/1.1",
        "CONTENT_TYPE": "text/plain",
        "CONTENT_LENGTH": str(len(text)),
        "HTTP_HOST": "shop.example",
        "REMOTE_ADDR": ADDRESS,
        "wsgi.errors": sys.stderr,
        "wsgi.input": io.BytesIO(text),
        "wsgi.url_scheme": "http",
    }


def start_response(status: str, headers: Any, exc_info: Any = None) -> None:
    """A server's, that sends nothing."""
    if not status.startswith("200"):
        raise SystemExit(f"answered {status}")


def call(app: Any, environ: dict[str, Any]) -> None:
    for _ in app(environ, start_response):
        pass


def in_its_own_thread(process: Any) -> None:
    """Let pages be decided in the thread that serves them, to see what the hand-over to another one costs."""

    def evaluate(question: Any, seconds: float) -> Any:
        call = Call(partial(process._decide, question))
        call.run()
        if call.error is not None:
            raise call.error
        return call.answer

    process.evaluate = evaluate


def ways(folder: Path) -> dict[str, Way]:
    """All ways, each with a visitor of its own who is in all audiences."""
    content = write_content(folder / "content.json", audiences=AUDIENCES)
    options: dict[str, Any] = {
        "data_dir": folder / "data",
        "content": content,
        "geoip_database": FIXTURES / "geo" / "demo.mmdb",
        "access": "open",
        "organization": "bench",
        "time_budget_ms": 10_000,
    }
    storing = Ninetailed(site, **options)
    engine = storing._here().running()
    assert engine is not None
    service = engine.service
    evaluating = Ninetailed(site, preflight=True, service=service, **options)
    alone = [Ninetailed(site, preflight=preflight, service=service, **options) for preflight in (False, True)]
    for each in alone:
        in_its_own_thread(each._here())
    app = api(service, storing.settings)
    found = {}
    kinds = (("stored", False, storing, alone[0]), ("evaluated", True, evaluating, alone[1]))
    for name, preflight, pages, pages_alone in kinds:
        people = [f"{name}-{number}" for number in range(4)]
        for visitor in people:
            service.upsert(WHERE, visitor, {"events": list(past(visitor))}, address=ADDRESS)
        upsert = partial(service.upsert, WHERE, people[0], address=ADDRESS, preflight=preflight)
        query = "type=preflight" if preflight else ""
        found[f"`service.upsert` alone, {name}"] = Way(body, upsert)
        found[f"a host page, {name}"] = Way(partial(page_request, people[1]), partial(call, pages))
        found[f"the same request to the API, {name}"] = Way(partial(api_request, people[2], query), partial(call, app))
        without = Way(partial(page_request, people[3]), partial(call, pages_alone))
        found[f"the page without the hand-over to a thread, {name}"] = without
    return found


def measure(folder: Path, rounds: int = ROUNDS) -> dict[str, list[float]]:
    """Microseconds of processor time of one request, for each way and round."""
    contenders = ways(folder)
    turns: dict[str, list[float]] = {name: [] for name in contenders}
    gc.collect()
    gc.disable()
    for turn in range(rounds):
        for name in list(contenders)[:: 1 if turn % 2 else -1]:
            way = contenders[name]
            given = [way.make() for _ in range(REQUESTS)]
            way.apply(way.make())
            before = time.process_time_ns()
            for each in given:
                way.apply(each)
            turns[name].append((time.process_time_ns() - before) / 1000 / REQUESTS)
        gc.collect()
    gc.enable()
    return turns


def part() -> Part:
    """Measure in a process of its own, as this one has threads of others."""
    with tempfile.TemporaryDirectory() as folder:
        turns = measure(Path(folder))
    medians = {name: statistics.median(values) for name, values in turns.items()}

    def against(name: str, other: str) -> float:
        return statistics.median(mine / its for mine, its in zip(turns[name], turns[other], strict=True))

    rows, wanted = [], []
    for kind, most in (("stored", 1.25), ("evaluated", 1.3)):
        alone, page, other, without = (name for name in turns if name.endswith(f", {kind}"))
        rows += [
            (name, f"{medians[name]:.0f}", f"{against(name, alone):.2f}", f"{against(name, other):.2f}")
            for name in (alone, page, without, other)
        ]
        wanted.append(Target(f"host page, {kind}: of `service.upsert`", False, most, against(page, alone)))
        wanted.append(Target(f"host page, {kind}: of the API in-process", False, 1.1, against(page, other)))
    head = (
        f"one page event in-process, {AUDIENCES} audiences, {EXPERIENCES} experiences; medians of {ROUNDS} rounds",
        "µs CPU",
        "of the service alone",
        "of the API",
    )
    return Part(table(head, rows), wanted, medians)


if __name__ == "__main__":
    print(part())
    os._exit(0)  # the site's threads are idle
