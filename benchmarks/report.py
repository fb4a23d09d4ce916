"""How the benchmarks say what they found: the machine, tables in Markdown, and targets that were met or missed."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple


class Target(NamedTuple):
    """A figure that is wanted, and what it came to.

    Attributes:
        at_least: the measured figure must not be lower than the wanted one; False: not higher.
        measured: None where it could not be measured.
    """

    what: str
    at_least: bool
    wanted: float
    measured: float | None

    @property
    def met(self) -> bool | None:
        if self.measured is None:
            return None
        return self.measured >= self.wanted if self.at_least else self.measured <= self.wanted


class Part(NamedTuple):
    """What one part of ``make bench`` came to.

    Attributes:
        text: its tables.
        targets: what is wanted of it.
        figures: numbers by name, for the summary and the picture.
    """

    text: str
    targets: Sequence[Target]
    figures: Mapping[str, float]

    def __str__(self) -> str:
        return f"{self.text}\n\n{targets(self.targets)}" if self.targets else self.text


def machine() -> str:
    """One line about where this runs; clients and servers share it."""
    model = re.search(r"^model name\s*: (.+)$", _text("/proc/cpuinfo"), re.MULTILINE)
    memory = re.search(r"^MemTotal:\s*(\d+) kB$", _text("/proc/meminfo"), re.MULTILINE)
    system = re.search(r'^PRETTY_NAME="(.+)"$', _text("/etc/os-release"), re.MULTILINE)
    known = [
        model[1] if model else platform.machine(),
        f"{os.cpu_count()} cores that clients, servers and others share",
        f"{int(memory[1]) / 2**20:.0f} GiB" if memory else "",
        system[1] if system else platform.system(),
        f"Linux {platform.release()}" if platform.system() == "Linux" else "",
        f"Python {platform.python_version()}",
    ]
    return ", ".join(part for part in known if part)


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def targets(wanted: Iterable[Target]) -> str:
    """A table of targets, each met or missed."""
    words = {True: "met", False: "**missed**", None: "not measured"}
    rows = [
        (
            each.what,
            f"{'at least' if each.at_least else 'at most'} {each.wanted:,g}",
            "" if each.measured is None else number(each.measured),
            words[each.met],
        )
        for each in wanted
    ]
    return table(("target", "wanted", "measured", ""), rows)


def number(value: float) -> str:
    """With about three digits that count: 0.52, 12.3, 1,234."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def put(file: Path, mark: str, text: str) -> None:
    """Replace what stands in a document between ``<!-- MARK -->`` and ``<!-- /MARK -->``."""
    before, rest = file.read_text().split(f"<!-- {mark} -->")
    after = rest.split(f"<!-- /{mark} -->")[1]
    file.write_text(f"{before}<!-- {mark} -->\n\n{text}\n\n<!-- /{mark} -->{after}")


def _text(file: str) -> str:
    return Path(file).read_text() if Path(file).exists() else ""


if __name__ == "__main__":
    print(f"Measured on {machine()}.")
