"""Measures the start: until the first answer, a worker's memory, and what importing the package costs.

Only the packages of ``pip install 'ninetailed-wsgi[serve]'`` can be imported: those of the developers would change what
others load.

``python benchmarks/startup.py`` (part of ``make bench``). ``--contributors`` lists the modules that take longest to
import, with what they import in turn.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from importlib.metadata import distribution
from pathlib import Path
from typing import NamedTuple

from over_http import WORKERS, call
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from report import Part, Target, table
from scenario import ENVIRONMENT, page_event, write_content
from servers import Server, memory, service, serving

IMPORTS = {
    "`import ninetailed_wsgi`": "import ninetailed_wsgi",
    "`from ninetailed_wsgi import create_app`": "from ninetailed_wsgi import create_app",
    "`from ninetailed_wsgi import Ninetailed`": "from ninetailed_wsgi import Ninetailed",
    "`import ninetailed_wsgi.commands.main`": "import ninetailed_wsgi.commands.main",
}
START, MANY = 1, 1000  # requests of each worker
PYTHON = (sys.executable, "-S")  # without the packages that are installed beside it


class Imported(NamedTuple):
    """A module that was imported: its name, and microseconds without and with what it imports in turn."""

    name: str
    own: int
    total: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="[5]")
    parser.add_argument("--contributors", type=int, default=0, metavar="N", help="list so many modules instead")
    given = parser.parse_args()
    with plain_packages():
        if given.contributors:
            print(contributors(IMPORTS["`from ninetailed_wsgi import create_app`"], given.contributors))
        else:
            print(measure(given.rounds))


def part() -> Part:
    """Measure as without options."""
    with plain_packages():
        return measure()


@contextmanager
def plain_packages() -> Iterator[None]:
    # As for who installs packages: their bytecode is kept.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    with tempfile.TemporaryDirectory() as folder:
        link_packages(Path(folder))
        os.environ["PYTHONPATH"] = folder
        yield


def measure(rounds: int = 5) -> Part:
    bare = median(lambda: seconds("pass"), rounds)
    rows = [("Python alone", f"{bare * 1000:.0f} ms CPU")]
    for label, statement in IMPORTS.items():
        took = median(lambda statement=statement: seconds(statement), rounds)  # type: ignore[misc]
        rows.append((f"what {label} adds to that", f"{(took - bare) * 1000:.0f} ms CPU"))
    start = median(first_answer, rounds)
    rows.append(("`serve` to the first answer", f"{start * 1000:.0f} ms"))
    sizes = worker_memory()
    rows += sizes.values()
    wanted = [
        Target("start: `serve` to the first answer, s", False, 0.4, start),
        Target("memory of a second worker, MiB (PSS)", False, 30, min(sizes)),
    ]
    text = table((f"start and memory, medians of {rounds}", ""), rows)
    return Part(text, wanted, {"start": start, "memory": min(sizes)})


def link_packages(folder: Path) -> None:
    """Link into a folder what ``pip install 'ninetailed-wsgi[serve]'`` installs."""
    site, pending, names = Path(sysconfig.get_path("purelib")), [Requirement("ninetailed-wsgi[serve]")], set()
    while pending:
        requirement = pending.pop()
        name = canonicalize_name(requirement.name)
        if name in names:
            continue
        names.add(name)
        package = distribution(name)
        for each in map(Requirement, package.requires or ()):
            extras = requirement.extras or {""}
            if each.marker is None or any(each.marker.evaluate({"extra": extra}) for extra in extras):
                pending.append(each)
        for top in {file.parts[0] for file in package.files or ()} - {"..", "__pycache__"}:
            if not top.startswith("__editable__") and not (folder / top).exists():
                (folder / top).symlink_to(site / top)
    if not (folder / "ninetailed_wsgi").exists():
        (folder / "ninetailed_wsgi").symlink_to(Path(__file__).resolve().parent.parent / "ninetailed_wsgi")


def plain(command: Sequence[str]) -> AbstractContextManager[Server]:
    """Run a command of Python as `serving` does; it can import only what was linked."""
    return serving([*PYTHON, *command[1:]], {"PYTHONPATH": os.environ["PYTHONPATH"]})


def median(measure: Callable[[], float], rounds: int) -> float:
    return statistics.median(measure() for _ in range(rounds))


def seconds(statement: str) -> float:
    """Processor time of a new Python that runs this: less noisy than the time that passes."""
    before = os.times()
    subprocess.run([*PYTHON, "-c", statement], check=True)
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def first_answer() -> float:
    """Seconds from the command to the answer to a stored event, with a new data folder."""
    with tempfile.TemporaryDirectory() as name:
        content = write_content(Path(name, "content.json"))
        began = time.perf_counter()
        with plain(service(Path(name, "data"), content, workers=1)) as server:
            post(server, "first")
            return time.perf_counter() - began


def post(server: Server, visitor: str) -> None:
    """Store one page event of a visitor, on a connection of its own."""
    event = page_event(f"{visitor}-{time.time_ns()}", datetime.now(UTC))
    body = {"events": [event], "options": {"features": ["location"]}}
    call(server.port, f"{ENVIRONMENT}/profiles/{visitor}", body)


def worker_memory() -> dict[float, tuple[str, str]]:
    """Of the larger of two workers: when it has started, and after many requests; each by its MiB."""
    rows = {}
    with tempfile.TemporaryDirectory() as name:
        content = write_content(Path(name, "content.json"))
        with plain(service(Path(name, "data"), content, workers=WORKERS)) as server:
            for requests in (START, MANY):
                for number in range(WORKERS * requests):
                    post(server, f"visitor-{number}")
                rss, pss = max(map(memory, server.workers()))
                figures = f"RSS {rss / 2**20:.0f} MiB, PSS {pss / 2**20:.0f} MiB"
                when = "its start" if requests == START else f"about {requests:,} requests"
                rows[pss / 2**20] = (f"a worker of {WORKERS} after {when}", figures)
    return rows


def contributors(statement: str, number: int) -> str:
    """The modules that take longest, with what they import in turn: one counts in all that import it."""
    command = [*PYTHON, "-X", "importtime", "-c", statement]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    lines = re.findall(r"^import time:\s+(\d+) \|\s+(\d+) \|\s+(\S+)$", done.stderr, re.MULTILINE)
    found = sorted((Imported(name, int(own), int(total)) for own, total, name in lines), key=lambda each: -each.total)
    rows = [(each.name, f"{each.own / 1000:.1f}", f"{each.total / 1000:.1f}") for each in found[:number]]
    return table((statement, "own ms", "with its imports"), rows)


if __name__ == "__main__":
    main()
