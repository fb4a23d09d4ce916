"""Writes whether variants helped, as a table for a terminal or as JSON (spec section 12)."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import TextIO

import orjson

from ninetailed_wsgi.commands.console import Console
from ninetailed_wsgi.content import Catalog
from ninetailed_wsgi.core.names import Environment
from ninetailed_wsgi.errors import SettingsError
from ninetailed_wsgi.insights.results import Period, Result, Variant
from ninetailed_wsgi.insights.scan import experiments_of, results
from ninetailed_wsgi.operations.terminal import fitting, in_line, unescaped
from ninetailed_wsgi.store.protocol import KeptStore

_WIDTH = 80
_PLOT = 56  # columns of a plot
_COLORS = {"winner": "32", "loser": "31", "invalid": "31", "collecting": "33", "inconclusive": "33"}


def show(
    store: KeptStore,
    where: Environment,
    catalog: Catalog,
    console: Console,
    *,
    experience: str | None,
    metric: str | None,
    period: Period,
    as_json: bool,
) -> None:
    """Scan the store and write the results of an experience, or of every one.

    Raises:
        UnknownName: there is no such experience or metric.
    """
    os.nice(10)  # a server on the same machine has priority
    experiments = experiments_of(catalog, experience, metric)
    total = max(1, store.contents.count())
    with console.progress("profiles") as progress:
        outcome = results(
            store,
            where,
            catalog,
            experiments,
            period,
            lambda profiles: progress.at(profiles, min(1.0, profiles / total)),
        )
    if as_json:
        computed = time.time_ns() // 1_000_000
        document = [result.document(computed) for result in outcome]
        console.out.write(orjson.dumps(document, option=orjson.OPT_INDENT_2).decode() + "\n")
        return
    if not outcome:
        console.out.write(f"no experience is published in {where}\n")
    for result in outcome:
        lines = text(result, color=_has_colors(console.out))
        unescaped(console.out).write("\n".join(lines) + "\n\n")


def period_of(since: str | None, until: str | None, window_days: str | None, now: int) -> Period:
    """Read what was typed: ISO dates or times, which are UTC where they name no zone, and a number of days.

    Raises:
        SettingsError: a time or number is invalid; the error names each one.
    """
    problems: list[str] = []

    def time_of(flag: str, value: str | None, default: int) -> int:
        if value is None:
            return default
        try:
            moment = datetime.fromisoformat(value)
            at = round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)
            return max(0, at)  # no event is older than 1970, and year 1 in the east is year 0 in UTC
        except (ValueError, OverflowError):
            problems.append(f"{flag}: found {value!r}, expected a date or time such as 2026-01-31 or 2026-01-31T12:00Z")
            return default

    start, end = time_of("--from", since, 0), time_of("--to", until, now + 1)
    if since is not None and not problems and start >= end:
        problems.append(f"--from: found a time that is not before {'now' if until is None else '--to'}")
    window = None
    if window_days is not None:
        if re.fullmatch(r"[0-9]{1,5}(\.[0-9]{1,6})?", window_days) and float(window_days) > 0:
            window = float(window_days)
        else:
            problems.append(f"--window-days: found {window_days!r}, expected a number of days above 0")
    if problems:
        raise SettingsError(problems)
    return Period(start, min(end, now + 1), window, since is not None)


def text(result: Result, *, color: bool = False) -> list[str]:
    """Return a result as lines of at most 80 columns, for a terminal."""
    metric = result.metric
    lines = [_line(f"{result.experiment.name} ({result.experiment.id}), split {result.split.words}")]
    if metric:
        direction = "more is better" if metric.direction == "increase" else "less is better"
        what = {"binary": "who did it", "count": "how often", "value": f"sum of {metric.property}"}[metric.type]
        lines.append(_line(f"metric {metric.name}: {metric.event}, {what}, {direction}"))
    else:
        lines.append("no metric: the experience names none, and the content has none")
    rests = {"seen": "what browsers saw", "served": "what pages served", "mixed": "what browsers saw or pages served"}
    if result.since == result.until:
        lines.append(f"nobody has seen it, as of {_day(result.until)}")
    else:
        lines.append(f"from {_day(result.since)} to {_day(result.until)}, by {rests[result.exposure]}")
    lines += ["", *_table(result), "", *_plot(result.variants, _is_binary(result)), *_judgement(result)]
    return [_colored(line, result.verdict) if color else line for line in map(in_line, lines)]


def _table(result: Result) -> Iterator[str]:
    """Yield the numbers of each variant, as two tables if one would be wider than 80 columns."""
    binary = _is_binary(result)
    title = (
        "variant",
        "visitors",
        "convert",
        "rate (95 %)" if binary else "mean (95 %)",
        "lift (95 %)",
        "beats",
        "best",
    )
    rows = [title, *(_cells(variant, binary) for variant in result.variants)]
    name, visitors, convert, mean, lift, _, _ = (max(map(len, column)) for column in zip(*rows, strict=True))
    counts = [max(8, name + 1), max(8, visitors), max(8, convert + 1)]
    mean = max(22, mean + 1)
    room = _WIDTH - sum(counts) - 2 - mean - 10
    if lift < room:
        parts = [[(0, -counts[0]), (1, counts[1]), (2, counts[2]), (3, -mean), (4, -room), (5, 5), (6, 5)]]
    else:
        first = [(0, -counts[0]), (1, counts[1]), (2, counts[2]), (3, -mean)]
        parts = [first, [(0, -counts[0]), (4, -(lift + 1)), (5, 5), (6, 5)]]
    for number, part in enumerate(parts):
        if number:
            yield ""
        for row in rows:
            yield "".join(_aligned(row[place], width, place) for place, width in part).rstrip()


def _aligned(cell: str, width: int, place: int) -> str:
    """Return a cell aligned right, or left if the width is negative; two spaces separate the rates from the numbers."""
    gap = "  " if place == 3 else ""
    return gap + (cell.ljust(-width) if width < 0 else cell.rjust(width))


def _cells(variant: Variant, binary: bool) -> tuple[str, ...]:
    mean = lift = ""
    if variant.mean is not None:
        mean = _amount(variant.mean, binary)
    if variant.interval is not None:
        mean += f" ({' to '.join(_amount(bound, binary, unit=False) for bound in variant.interval)})"
    if variant.lift is not None:
        lift = f"{_percent(variant.lift, 1)} %"
        if variant.lift_interval is not None:
            lift += f" ({' to '.join(_percent(bound, 0) for bound in variant.lift_interval)})"
    counts = f"{variant.visitors:,}", f"{variant.conversions:,}"
    return _name(variant), *counts, mean, lift, _chance(variant.beats_control), _chance(variant.best)


def _percent(part: float, digits: int) -> str:
    """Return a signed number of percent, without a minus before zero; a large one has fewer digits."""
    return f"{part * 100:+z.{digits}f}" if abs(part) < 100 else f"{part * 100:+.3g}"


def _plot(variants: Sequence[Variant], binary: bool) -> Iterator[str]:
    """Yield the intervals on one scale: a bracket at each end, a bar at the mean."""
    rows = [(variant, variant.mean, variant.interval) for variant in variants]
    bounds = [bound for _, _, interval in rows if interval for bound in interval]
    if not bounds or (high := max(bounds)) <= (low := min(bounds)):
        return

    def column(value: float) -> int:
        return round((min(max(value, low), high) - low) / (high - low) * (_PLOT - 1))

    for variant, mean, interval in rows:
        if interval is None or mean is None:
            continue
        first, last = column(interval[0]), column(interval[1])
        line = [" "] * _PLOT
        line[first : last + 1] = "-" * (last + 1 - first)
        line[first], line[last] = "[", "]"
        line[column(mean)] = "|"
        yield f"{_name(variant):<9}{''.join(line)}".rstrip()
    yield f"{'':<9}{_amount(low, binary):<{_PLOT // 2}}{_amount(high, binary):>{_PLOT // 2}}"
    yield ""


def _colored(line: str, verdict: str) -> str:
    """Color the verdict at the beginning of its line."""
    colored = f"\033[1;{_COLORS[verdict]}m{verdict}\033[0m"
    return line.replace(verdict, colored, 1) if line.startswith(f"{verdict}: ") else line


def _judgement(result: Result) -> Iterator[str]:
    yield from _wrapped(f"{result.verdict}: {result.why}")
    most = max((variant.visitors for variant in result.variants), default=0)
    if result.needed is not None and result.verdict in ("collecting", "inconclusive"):
        more = max(0, result.needed - min(variant.visitors for variant in result.variants))
        yield from _wrapped(
            f"to confirm the current lift, each variant needs {result.needed:,} visitors: {more:,} more"
            if more
            else f"to confirm the current lift, each variant needs {result.needed:,} visitors: it has them"
        )
    ratio = result.sample_ratio
    split = "unknown (too few visitors)" if ratio is None else f"p = {ratio:.3g}, {'fine' if ratio >= 0.001 else 'BAD'}"
    yield from _wrapped(
        f"health: split {split}; {result.multiple:,} saw several variants; {result.inconsistent:,} inconsistent"
    )
    if result.holdout[0]:
        yield f"holdout: {result.holdout[0]:,} visitors outside the traffic, {result.holdout[1]:,} conversions"
    losses = [variant for variant in result.variants if variant.expected_loss is not None]
    if losses and most and result.metric:
        losses_of = [(_name(each), _amount(each.expected_loss or 0.0, _is_binary(result))) for each in losses]
        amounts = ", ".join(f"{name} {amount}" for name, amount in losses_of)
        yield from _wrapped(f"expected loss if chosen: {amounts}")


def _name(variant: Variant) -> str:
    return str(variant.index) if variant.index else "control"


def _is_binary(result: Result) -> bool:
    return result.metric is not None and result.metric.type == "binary"


def _amount(value: float, binary: bool, *, unit: bool = True) -> str:
    if binary:
        return f"{value * 100:.3g}{' %' if unit else ''}"
    return f"{value:,.0f}" if 10_000 <= abs(value) < 1e10 else f"{value:.4g}"


def _chance(value: float | None) -> str:
    if value is None:
        return ""
    return "<1%" if value < 0.01 else ">99%" if value > 0.99 else f"{value * 100:.0f}%"


def _day(at: int) -> str:
    return datetime.fromtimestamp(at / 1000, UTC).strftime("%Y-%m-%d")


def _line(line: str) -> str:
    plain = "".join(letter if letter.isprintable() else " " for letter in line)  # names are authors' texts
    return fitting(plain, _WIDTH)


def _wrapped(line: str) -> Iterator[str]:
    """Yield a line in parts of at most 80 columns."""
    words, current, room = line.split(" "), "", _WIDTH
    for word in words:
        if current and len(current) + 1 + len(word) > room:
            yield current
            current, room = f"  {word}", _WIDTH
        else:
            current = f"{current} {word}" if current else word
    yield current


def _has_colors(out: TextIO) -> bool:
    return out.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
