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
from ninetailed_wsgi.core.problems import shorten
from ninetailed_wsgi.errors import SettingsError
from ninetailed_wsgi.insights.results import Period, Result, Variant
from ninetailed_wsgi.insights.scan import experiments_of, results
from ninetailed_wsgi.operations.terminal import in_line, unescaped
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
    os.nice(10)  # a server beside it comes first
    experiments = experiments_of(catalog, experience, metric)
    total = max(1, store.contents.count())
    with console.progress("profiles") as progress:
        found = results(
            store,
            where,
            catalog,
            experiments,
            period,
            lambda profiles: progress.at(profiles, min(1.0, profiles / total)),
        )
    if as_json:
        computed = time.time_ns() // 1_000_000
        document = [result.document(computed) for result in found]
        console.out.write(orjson.dumps(document, option=orjson.OPT_INDENT_2).decode() + "\n")
        return
    if not found:
        console.out.write(f"no experience is published in {where}\n")
    for result in found:
        lines = text(result, color=_has_colors(console.out))
        unescaped(console.out).write("\n".join(lines) + "\n\n")


def period_of(since: str | None, until: str | None, window_days: str | None, now: int) -> Period:
    """Read what was typed: ISO dates or times, which are UTC where they name no zone, and a number of days.

    Raises:
        SettingsError: naming each that is none.
    """
    problems: list[str] = []

    def time_of(flag: str, given: str | None, default: int) -> int:
        if given is None:
            return default
        try:
            moment = datetime.fromisoformat(given)
            return round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)
        except (ValueError, OverflowError):
            problems.append(f"{flag}: found {given!r}, expected a date or time such as 2026-01-31 or 2026-01-31T12:00Z")
            return default

    start, end = time_of("--from", since, 0), time_of("--to", until, now + 1)
    if since is not None and not problems and start >= end:
        problems.append("--from: found a time that is not before --to")
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
        wanted = "more is better" if metric.direction == "increase" else "less is better"
        what = {"binary": "who did it", "count": "how often", "value": f"sum of {metric.property}"}[metric.type]
        lines.append(_line(f"metric {metric.name}: {metric.event}, {what}, {wanted}"))
    else:
        lines.append("no metric: the experience names none, and the content has none")
    rests = {"seen": "what browsers saw", "served": "what pages served", "mixed": "what browsers saw or pages served"}
    if result.since == result.until:
        lines.append(f"nobody has seen it, as of {_day(result.until)}")
    else:
        lines.append(f"from {_day(result.since)} to {_day(result.until)}, by {rests[result.exposure]}")
    lines += ["", *_table(result), "", *_plot(result.variants), *_judgement(result)]
    return [_colored(line, result.verdict) if color else line for line in map(in_line, lines)]


def _table(result: Result) -> Iterator[str]:
    binary = result.metric is not None and result.metric.type == "binary"
    head = "rate (95 %)" if binary else "mean (95 %)"
    yield f"{'variant':<8}{'visitors':>8}{'convert':>8}  {head:<22}{'lift (95 %)':<22}{'beats':>5}{'best':>5}"
    for variant in result.variants:
        mean = interval = lift = ""
        if variant.mean is not None:
            mean = _amount(variant.mean, binary)
        if variant.interval is not None:
            interval = f" ({' to '.join(_amount(bound, binary, unit=False) for bound in variant.interval)})"
        if variant.lift is not None:
            lift = f"{variant.lift * 100:+.1f} %"
            if variant.lift_interval is not None:
                lift += f" ({' to '.join(f'{bound * 100:+.0f}' for bound in variant.lift_interval)})"
        line = f"{_name(variant):<8}{variant.visitors:>8,}{variant.conversions:>8,}  {mean + interval:<22}{lift:<22}"
        yield f"{line}{_chance(variant.beats_control):>5}{_chance(variant.best):>5}".rstrip()


def _plot(variants: Sequence[Variant]) -> Iterator[str]:
    """The intervals on one scale: a bracket at each end, a bar at the mean."""
    shown = [(variant, variant.mean, variant.interval) for variant in variants]
    bounds = [bound for _, _, interval in shown if interval for bound in interval]
    if not bounds or (high := max(bounds)) <= (low := min(bounds)):
        return

    def column(value: float) -> int:
        return round((min(max(value, low), high) - low) / (high - low) * (_PLOT - 1))

    for variant, mean, interval in shown:
        if interval is None or mean is None:
            continue
        first, last = column(interval[0]), column(interval[1])
        line = [" "] * _PLOT
        line[first : last + 1] = "-" * (last + 1 - first)
        line[first], line[last] = "[", "]"
        line[column(mean)] = "|"
        yield f"{_name(variant):<9}{''.join(line)}".rstrip()
    yield f"{'':<9}{f'{low:.4g}':<{_PLOT - 10}}{f'{high:.4g}':>10}"
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
            f"the lift seen now needs {result.needed:,} visitors per variant to be proven: {more:,} more"
            if more
            else f"the lift seen now would need {result.needed:,} visitors per variant: they are there"
        )
    ratio = result.sample_ratio
    split = "too few visitors to judge" if ratio is None else f"p = {ratio:.3g}, {'fine' if ratio >= 0.001 else 'BAD'}"
    yield from _wrapped(
        f"health: split {split}; {result.multiple:,} saw several variants; {result.inconsistent:,} inconsistent"
    )
    if result.holdout[0]:
        yield f"holdout: {result.holdout[0]:,} visitors outside the traffic, {result.holdout[1]:,} conversions"
    losses = [variant for variant in result.variants if variant.expected_loss is not None]
    if losses and most and result.metric:
        binary = result.metric.type == "binary"
        listed = ", ".join(f"{_name(each)} {_amount(each.expected_loss or 0.0, binary)}" for each in losses)
        yield from _wrapped(f"expected loss if chosen: {listed}")


def _name(variant: Variant) -> str:
    return str(variant.index) if variant.index else "control"


def _amount(value: float, binary: bool, *, unit: bool = True) -> str:
    return f"{value * 100:.3g}{' %' if unit else ''}" if binary else f"{value:.4g}"


def _chance(value: float | None) -> str:
    if value is None:
        return ""
    return "<1%" if value < 0.01 else ">99%" if value > 0.99 else f"{value * 100:.0f}%"


def _day(at: int) -> str:
    return datetime.fromtimestamp(at / 1000, UTC).strftime("%Y-%m-%d")


def _line(line: str) -> str:
    plain = "".join(letter if letter.isprintable() else " " for letter in line)  # names are authors' texts
    return shorten(plain, _WIDTH)


def _wrapped(line: str) -> Iterator[str]:
    """A line in parts of at most 80 columns."""
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
