"""Runs all parts of ``make bench`` one after the other, prints their tables, and says which targets are met.

``--write`` puts the tables, the summary and the picture into docs/speed.md and docs/speed.svg too. It takes about nine
minutes; ``--parts page,decision`` runs a few of them.
"""

from __future__ import annotations

import argparse
import html
import importlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import earlier
from report import Part, Target, machine, put, table, targets
from servers import HERE

PARTS = ("over_http", "spread", "page", "batches", "decision", "startup", "middleware")
DOCUMENT = HERE.parent / "docs" / "speed.md"
PICTURE = DOCUMENT.with_suffix(".svg")
MARKS = ("summary", "targets", "machine", *PARTS, "layers")
"""What `--write` replaces in the document."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="put all of it into docs/speed.md and docs/speed.svg too")
    parser.add_argument("--parts", default=",".join(PARTS), help="which, with commas [all]")
    parser.add_argument("--one", choices=PARTS, help=argparse.SUPPRESS)
    parser.add_argument("--into", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        part = importlib.import_module(given.one).part()
        given.into.write_text(json.dumps([part.text, part.targets, dict(part.figures)]))
        return
    texts = {"machine": f"Measured on {machine()}."}
    print(texts["machine"])
    parts: dict[str, Part] = {}
    for name in given.parts.split(","):
        parts[name] = alone(name)
        texts[name] = str(parts[name])
        print(f"\n{texts[name]}", flush=True)
    if all(name in parts for name in PARTS):
        figures = {name: value for part in parts.values() for name, value in part.figures.items()}
        texts["layers"] = layers(figures)
        texts["summary"] = summary(figures)
    else:
        figures = {}
    texts["targets"] = targets([*instructions(), *(target for part in parts.values() for target in part.targets)])
    for name in ("layers", "summary", "targets"):
        if name in texts:
            print(f"\n{texts[name]}")
    if given.write:
        for name, text in texts.items():
            put(DOCUMENT, name, text)
        if figures:
            PICTURE.write_text(picture(bars(figures)))


def alone(name: str) -> Part:
    """Run one part in a process of its own, so that none has the memory and the threads of another."""
    with tempfile.TemporaryDirectory() as folder:
        into = Path(folder, "part.json")
        subprocess.run([sys.executable, __file__, "--one", name, "--into", str(into)], check=True)
        text, wanted, figures = json.loads(into.read_text())
    return Part(text, [Target(*each) for each in wanted], figures)


def instructions() -> list[Target]:
    """How many instructions an update takes, of those that it took before, as benchmarks/instructions.json has both."""
    before, now = earlier.instructions(), json.loads((HERE / "instructions.json").read_text())["instructions"]
    ratio = now["an update, stored"] / before["an update, stored"] if before else None
    return [Target(f"`service.upsert`: instructions, of those of {earlier.COMMIT}", False, 0.7, ratio)]


def summary(figures: Mapping[str, float]) -> str:
    """Five lines for somebody who reads no table."""
    ours, granian = figures["ninetailed-wsgi, gunicorn cpu"], figures["ninetailed-wsgi, granian cpu"]
    echo = figures["bare Falcon echo, gunicorn cpu"]
    page, shown = figures["a host page, stored"], figures["a host page, evaluated"]
    others = {name: value for name, value in figures.items() if name.partition(" ")[0] in _ENGINES}
    fastest = min(others, key=others.__getitem__)
    unleash = next((name for name in figures if name.startswith("Unleash") and name.endswith(" cpu")), None)
    beside = (
        f" {unleash.removesuffix(' cpu')}, which stores nothing, takes {figures[unleash]:,.0f} µs." if unleash else ""
    )
    return "\n".join(
        [
            f"- **A stored page event over HTTP** takes {ours:,.0f} µs of processor time under gunicorn and "
            f"{granian:,.0f} under Granian, {figures['ninetailed-wsgi, gunicorn rate']:,.0f} and "
            f"{figures['ninetailed-wsgi, granian rate']:,.0f} requests/s from two cores; a bare echo "
            f"takes {echo:,.0f} µs under gunicorn.",
            f"- **A page of your own site** pays {page:,.0f} µs to store its event and to know what to show, "
            f"{shown:,.0f} µs to know it only, and about 2 µs where it does not use its visitor.",
            f"- **A batch** takes {figures['batch event']:.0f} µs for each event, "
            f"{figures['batch rate']:,.0f} events/s from one worker.",
            f"- **The decision alone** takes {figures['decision']:.0f} µs, of the fastest other engine "
            f"({fastest}) {others[fastest]:.0f} µs.{beside}",
            f"- **The start** takes {figures['start']:.1f} s to the first answer, and a further worker "
            f"{figures['memory']:.0f} MiB.",
        ]
    )


_ENGINES = ("flagsmith-flag-engine", "growthbook", "openfeature-provider-flagd")


def layers(figures: Mapping[str, float]) -> str:
    """Where the processor time of a stored page event over HTTP goes, one layer on the other."""
    service = figures["`service.upsert` alone, stored"]
    api = figures["the same request to the API, stored"] - service
    rows = []
    for server in ("gunicorn", "granian"):
        echo, ours = figures[f"bare Falcon echo, {server} cpu"], figures[f"ninetailed-wsgi, {server} cpu"]
        rest = ours - echo - service - api
        rows.append((server, *(f"{value:,.0f}" for value in (echo, service, api, rest, ours))))
    head = (
        "µs CPU, 8 connections",
        "HTTP, as of the echo",
        "the service",
        "its API",
        "the rest: cold caches, threads",
        "in all",
    )
    return table(head, rows)


def bars(figures: Mapping[str, float]) -> list[tuple[str, float]]:
    """What the picture shows: µs of processor time for one page event."""
    shown = [
        ("API under gunicorn, stored", "ninetailed-wsgi, gunicorn cpu"),
        ("a bare echo under gunicorn", "bare Falcon echo, gunicorn cpu"),
        ("API under Granian, stored", "ninetailed-wsgi, granian cpu"),
        ("a bare echo under Granian", "bare Falcon echo, granian cpu"),
        ("page of your site, stored", "a host page, stored"),
        ("page of your site, evaluated", "a host page, evaluated"),
        ("event of a batch", "batch event"),
    ]
    shown += [(name[:-4], name) for name in figures if name.startswith("Unleash") and name.endswith(" cpu")]
    return [(label, figures[name]) for label, name in shown]


def picture(rows: Sequence[tuple[str, float]]) -> str:
    """Return bars as SVG, which reads the same on a light and a dark page."""
    step, left, width = 28, 230, 420
    most = max(value for _, value in rows)
    height = step * len(rows) + 44
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {left + width + 90} {height}" role="img" '
        'font-family="sans-serif" font-size="14">',
        "<title>Processor time of one page event in microseconds</title>",
        f'<rect width="{left + width + 90}" height="{height}" rx="6" fill="#ffffff"/>',
        '<text x="16" y="24" font-weight="bold" fill="#1b1f24">µs of processor time for one page event</text>',
    ]
    for number, (label, value) in enumerate(rows):
        top = 40 + step * number
        ours = "echo" not in label and "Unleash" not in label
        length = max(1, round(width * value / most))
        lines += [
            f'<text x="{left - 8}" y="{top + 15}" text-anchor="end" fill="#1b1f24">{html.escape(label)}</text>',
            f'<rect x="{left}" y="{top}" width="{length}" height="20" fill="{"#2563a8" if ours else "#9aa5b1"}"/>',
            f'<text x="{left + length + 6}" y="{top + 15}" fill="#1b1f24">{value:,.0f}</text>',
        ]
    return "\n".join([*lines, "</svg>", ""])


if __name__ == "__main__":
    main()
