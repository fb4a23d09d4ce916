"""Measures a request of 25 Insights events beside a stored page event, and a server while results are computed.

``python benchmarks/insights.py``, part of ``make bench-results``. Requests of both kinds take turns on one server; what
counts is the processor time that it spends on a request. Then one connection sends page events, in turn with and
without a scan of all profiles beside them; what counts is the median of their time.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import load
from over_http import VISITORS, WORKERS, page_events, prepare
from report import Target, table, targets
from scenario import ENVIRONMENT, EXPERIENCES, page_event, write_content
from servers import Server, service, serving

EVENTS = 25
INSIGHTS = ENVIRONMENT.replace("/v2/", "/v1/") + "/events"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=2, help="of each measurement [2]")
    parser.add_argument("--rounds", type=int, default=7, help="in which everything is measured once [7]")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        content = write_content(folder / "content.json", EXPERIENCES)
        with serving(service(folder / "data", content, workers=WORKERS)) as server:
            prepare(server.port)
            pages = page_events(folder)
            reports = load.write(folder / "reports", insights_requests(server))
            for requests in (pages, reports):
                load.run(server.port, 8, 2, requests)  # every worker warm
            cpu = {requests: [] for requests in (pages, reports)}
            for _ in range(given.rounds):
                for requests, times in cpu.items():
                    before = server.cpu()
                    done = load.run(server.port, 8, given.seconds, requests)
                    times.append((server.cpu() - before) * 1e6 / done.requests)
            ratio = statistics.median(more / page for page, more in zip(*cpu.values(), strict=True))
            command = [sys.executable, "-m", "ninetailed_wsgi", "results", "bench/main", "--json"]
            command += ["--content", str(content), "--data-dir", str(folder / "data")]
            delays = [beside_a_scan(server, pages, command, given.seconds) for _ in range(given.rounds)]
    rows = [("a page event", f"{statistics.median(cpu[pages]):.0f}"),
            (f"{EVENTS} Insights events", f"{statistics.median(cpu[reports]):.0f}")]  # fmt: skip
    print(table(("", "server CPU µs/request"), rows))
    print()
    delay = statistics.median(scanned / alone for alone, scanned in delays)
    print(
        targets(
            [
                Target(f"{EVENTS} Insights events: times a page event", False, 1.5, ratio),
                Target("median beside a scan: times the median without", False, 1.1, delay),
            ]
        )
    )


def beside_a_scan(server: Server, requests: Path, command: list[str], seconds: int) -> tuple[float, float]:
    """Return the median time of a request (ms) without and with scans beside it."""
    alone = load.run(server.port, 1, seconds, requests).p50
    script = "import subprocess, sys\nwhile True: subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)"
    with subprocess.Popen([sys.executable, "-c", script, *command], start_new_session=True) as scans:
        try:
            scanned = load.run(server.port, 1, seconds, requests).p50
        finally:
            subprocess.run(["kill", "--", f"-{scans.pid}"], check=True)
    return alone, scanned


def insights_requests(server: Server) -> Iterator[bytes]:
    """Yield a request for each visitor: twelve views of what they see, told twice each, and a click."""
    for visitor in VISITORS:
        with urllib.request.urlopen(f"http://127.0.0.1:{server.port}{ENVIRONMENT}/profiles/{visitor}") as answer:
            seen = json.load(answer)["data"]["experiences"]
        body = [{"profile": {"id": visitor}, "events": list(events(visitor, seen))}]
        text = json.dumps(body, separators=(",", ":")).encode()
        yield load.post(INSIGHTS, text, "Content-Type: text/plain\r\n")


def events(visitor: str, seen: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield the events of one request; the click's message is new each time."""
    now = datetime.now(UTC)
    for number in range(EVENTS // 2 + 1):
        chosen = seen[number % len(seen)]
        [shown] = chosen["variants"].values()
        report = {
            "componentType": "Entry",
            "componentId": shown,
            "experienceId": chosen["experienceId"],
            "variantIndex": chosen["variantIndex"],
        }
        if number == EVENTS // 2:
            yield {**page_event(load.NUMBER, now), **report, "type": "component_click"}
            return
        for duration in (0, 5000):
            event = page_event(f"{visitor}-{number}-{duration}", now)
            yield {**event, **report, "type": "component", "viewId": f"{visitor}-{number}", "viewDurationMs": duration}


if __name__ == "__main__":
    main()
