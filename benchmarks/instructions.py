"""Counts the instructions of single operations with callgrind, and compares them with those of instructions.json.

``python benchmarks/instructions.py`` ends with status 1 when one takes over 10 % more than it did, or more than
`RATIOS` allow; ``--renew`` (``make baseline``) writes the file anew. Unlike times, the counts are the same on a busy
machine. They hold for one build of Python and one kind of machine: on others nothing is compared, and that is said.
Debian: ``apt install valgrind``.
"""

from __future__ import annotations

import argparse
import gc
import io
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

BASELINE = Path(__file__).with_suffix(".json")
TOLERANCE = 1.1
RATIOS = {
    ("a flag", "a get"): 1.3,
    ("an update over WSGI, guarded", "an update over WSGI, stored"): 1.1,
    ("a page, stored", "its event over WSGI, stored"): 1.35,
    ("a page, evaluated", "its event over WSGI, evaluated"): 1.3,
}
"""What an operation may take at most, as a multiple of another one."""
MARK = "getppid"  # a function of the C library that nothing else calls; callgrind writes its counts down there


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--renew", action="store_true", help=f"write {BASELINE.name} instead of comparing with it")
    parser.add_argument("--operations", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.operations:
        run_operations(given.operations)
        return 0
    if shutil.which("valgrind") is None:
        print("instructions: not compared, as valgrind is not installed")
        return int(given.renew)
    where = {"python": sys.version, "machine": platform.machine(), "valgrind": valgrind_version()}
    if given.renew:
        BASELINE.write_text(json.dumps({**where, "instructions": counted()}, indent=2) + "\n")
        return 0
    baseline = json.loads(BASELINE.read_text())
    if different := [f"{name} {baseline[name]}" for name, value in where.items() if baseline[name] != value]:
        print(f"instructions: not compared, as {BASELINE.name} is of {', '.join(different)}")
        return 0
    now = counted()
    lines, kept = compared(now, baseline["instructions"])
    more, within = related(now)
    print("\n".join([*lines, *more]))
    return 0 if kept and within else 1


def compared(now: dict[str, int], before: dict[str, int]) -> tuple[list[str], bool]:
    """A line for each operation, and whether none takes too many more than before."""
    lines, kept = [], True
    for name, instructions in now.items():
        ratio = instructions / before[name] if name in before else 1.0
        kept = kept and ratio <= TOLERANCE
        verdict = "  too many; `make baseline` where that is meant" if ratio > TOLERANCE else ""
        lines.append(f"{name:<36} {instructions:>12,} instructions, {ratio:5.2f} of the baseline{verdict}")
    return lines, kept


def related(now: dict[str, int]) -> tuple[list[str], bool]:
    """A line for each of `RATIOS`, and whether all are kept."""
    lines, kept = [], True
    for (name, other), most in RATIOS.items():
        ratio = now[name] / now[other]
        kept = kept and ratio <= most
        lines.append(f"{name}: {ratio:.2f} times {other}, at most {most}{'' if ratio <= most else '  too many'}")
    return lines, kept


def counted() -> dict[str, int]:
    """Instructions of one of each operation."""
    with tempfile.TemporaryDirectory() as name:
        out = Path(name, "callgrind.out")
        valgrind = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}", f"--dump-before={MARK}"]
        command = [*valgrind, sys.executable, __file__, "--operations", str(Path(name, "data"))]
        # With the same seed, sets and dictionaries lie the same way in every run.
        environment = {**os.environ, "PYTHONHASHSEED": "0"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"valgrind ended with status {done.returncode}:\n{done.stderr[-3000:]}")
        # One for each mark, of what came before it: every second one is an operation's.
        dumps = sorted(Path(name).glob("callgrind.out.*"), key=lambda file: int(file.suffix[1:]))
        totals = [int(re.findall(r"^totals: (\d+)", dump.read_text(), re.MULTILINE)[0]) for dump in dumps]
    found = re.findall(r"^(\d+) times (.+)$", done.stdout, re.MULTILINE)
    return {name: total // int(times) for (times, name), total in zip(found, totals[1::2], strict=True)}


def valgrind_version() -> str:
    return subprocess.run(["valgrind", "--version"], capture_output=True, text=True, check=True).stdout.strip()


def run_operations(folder: Path) -> None:
    """Runs under callgrind: every operation so many times, with a mark before and after."""
    for name, (operation, (first, *others)) in operations(folder).items():
        operation(first)  # what only the first one costs
        gc.collect()
        gc.disable()  # a full collection costs as much as two requests, and falls into any operation
        print(f"{len(others)} times {name}", flush=True)
        os.getppid()
        for given in others:
            operation(given)
        os.getppid()


def operations(folder: Path) -> dict[str, tuple[Callable[[Any], Any], list[Any]]]:
    """What each is and what it is done with: in-process, a visitor with ten audiences and experiences."""
    import orjson
    import page
    from scenario import ENVIRONMENT, page_event, past, write_content
    from servers import FIXTURES

    from ninetailed_wsgi import Ninetailed, Settings
    from ninetailed_wsgi.api.app import api
    from ninetailed_wsgi.content import ContentFolder
    from ninetailed_wsgi.core import profile
    from ninetailed_wsgi.core.names import Environment
    from ninetailed_wsgi.enrichment.geoip import LocationDatabase
    from ninetailed_wsgi.service.service import ExperienceService
    from ninetailed_wsgi.store.disk.store import DiskStore

    folder.mkdir()
    content, database = write_content(folder / "content.json"), FIXTURES / "geo" / "demo.mmdb"
    settings = Settings(data_dir=folder / "data", content=content, geoip_database=database, access="open")
    source = ContentFolder(content)
    source.load()
    # Without the import queue, whose thread would be counted too.
    service = ExperienceService(store=DiskStore(folder / "data"), content=source, location=LocationDatabase(database))
    environment, numbers = Environment("bench", "main"), count()
    app, catalog = api(service, settings), service.content("bench", "main")
    guarding = ExperienceService(
        store=service.store, content=source, location=LocationDatabase(database), id_key=service.store.id_key
    )
    guarded, issued = api(guarding, replace(settings, access="guarded")), guarding.new_id(environment)
    now = datetime.now(UTC)

    def plain(event: dict[str, Any]) -> dict[str, Any]:
        event["context"].pop("userAgent", None)  # the first one's look-up takes more than all of this
        return event

    def events(number: int, **members: str) -> list[dict[str, Any]]:
        return [{**plain(page_event(f"message-{next(numbers)}", now)), **members} for _ in range(number)]

    def update() -> dict[str, Any]:
        return {"events": events(1), "options": {"features": ["location"]}}

    def request(name: str = "anna", query: str = "") -> dict[str, Any]:
        return posted(f"{ENVIRONMENT}/profiles/{name}", orjson.dumps(update()), query)

    def posted(path: str, body: bytes, query: str = "") -> dict[str, Any]:
        return {
            "REQUEST_METHOD": "POST",
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "SERVER_PROTOCOL": "HTTP/1.1",
            "CONTENT_TYPE": "text/plain",
            "CONTENT_LENGTH": str(len(body)),
            "REMOTE_ADDR": "127.0.0.1",
            "wsgi.errors": sys.stderr,
            "wsgi.input": io.BytesIO(body),
            "wsgi.url_scheme": "http",
        }

    def answer(environ: dict[str, Any]) -> None:
        for _ in app(environ, start_response):
            pass

    def answer_guarded(environ: dict[str, Any]) -> None:
        for _ in guarded(environ, start_response):
            pass

    def upsert(body: dict[str, Any]) -> None:
        service.upsert(environment, "anna", body, address="127.0.0.1")

    def start_response(status: str, headers: Any, exc_info: Any = None) -> None:
        assert status in ("200 OK", "204 No Content"), status

    for name in ("anna", "ben", issued):
        service.upsert(environment, name, {"events": [plain(event) for event in past("anna")]}, address="127.0.0.1")
    stored = service.store.read(environment.key("anna"))
    seen = service.get(environment, "anna")["experiences"]

    def insights() -> dict[str, Any]:
        """Twelve views, told twice each while they last, and a click: what an SDK sends at once."""
        views = []
        for number in range(12):
            chosen = seen[number % len(seen)]
            [shown] = chosen["variants"].values()
            base = {**events(1)[0], "componentType": "Entry", "componentId": shown}
            base |= {"experienceId": chosen["experienceId"], "variantIndex": chosen["variantIndex"]}
            view = {**base, "type": "component", "viewId": base["messageId"]}
            views += [
                {**view, "viewDurationMs": 0},
                {**view, "messageId": events(1)[0]["messageId"], "viewDurationMs": 5000},
            ]
        click = {**base, "type": "component_click", "messageId": events(1)[0]["messageId"]}
        body = [{"profile": {"id": "anna"}, "events": [*views, click]}]
        return posted(f"{ENVIRONMENT.replace('/v2/', '/v1/')}/events", orjson.dumps(body))

    flagged = json.loads(content.read_text())
    variable = {"type": "InlineVariable", "key": "limit", "baseline": {"value": 50}, "variants": [{"value": 20}]}
    flagged["experiences"].append(
        {"id": "limit", "type": "nt_experiment", "config": {"traffic": 1, "components": [variable]}}
    )
    (folder / "flags.json").write_text(json.dumps(flagged))
    flags = ContentFolder(folder / "flags.json")
    flags.load()
    deciding = ExperienceService(store=service.store, content=flags)

    def decide(at: int) -> None:
        record = stored.document
        audiences = catalog.audiences.matched(profile.facts(record, stored.next_ordinal, at))
        catalog.experiences.select(record["stable_id"], audiences, record["sticky"])

    def show(site: Ninetailed, environ: dict[str, Any]) -> None:
        for _ in site(environ, start_response):
            pass

    # The thread that answers pages is counted, too.
    options: dict[str, Any] = {"data_dir": folder / "data", "content": content, "geoip_database": database}
    shared = {**options, "organization": "bench", "service": service, "access": "open", "time_budget_ms": 600_000}
    storing, evaluating = Ninetailed(page.site, **shared), Ninetailed(page.site, preflight=True, **shared)

    milliseconds = int(now.timestamp() * 1000)
    batches = [[event for n in range(50) for event in events(4, anonymousId=f"visitor-{n}")] for _ in range(2)]
    return {
        "an update over WSGI, stored": (answer, [request() for _ in range(31)]),
        "an update over WSGI, guarded": (answer_guarded, [request(issued) for _ in range(31)]),
        "an update, stored": (upsert, [update() for _ in range(31)]),
        "a get": (lambda name: service.get(environment, name), ["anna"] * 31),
        "a flag": (lambda name: deciding.flags(environment, name, {}, "limit"), ["anna"] * 31),
        "25 Insights events over WSGI, stored": (answer, [insights() for _ in range(31)]),
        "a decision": (decide, [milliseconds] * 101),
        "a batch of 200 events, stored": (lambda batch: service.upsert_many(environment, {"events": batch}), batches),
        "a page, stored": (partial(show, storing), [page.page_request("ben") for _ in range(31)]),
        "its event over WSGI, stored": (answer, [request("ben") for _ in range(31)]),
        "a page, evaluated": (partial(show, evaluating), [page.page_request("ben") for _ in range(31)]),
        "its event over WSGI, evaluated": (answer, [request("ben", "type=preflight") for _ in range(31)]),
    }


if __name__ == "__main__":
    sys.exit(main())
