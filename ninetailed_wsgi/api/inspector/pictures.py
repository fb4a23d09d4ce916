"""Draws pictures as inline SVG that are readable without color; a table beside each has the same numbers."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

_WIDTH = 320  # about the width of a phone, so that texts are not drawn smaller there
_SHAPES = {"page": "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0", "track": "M-4-4h8v8h-8z", "identify": "M0-5L5 4H-5z"}
_OTHER = "M0-5L5 0L0 5L-5 0z"


def ranges(spans: Sequence[Sequence[float]], mark: float | None, choice: int | None) -> str:
    """Draw the ranges of the variants between 0 and 1, and where a visitor's hash falls.

    Args:
        spans: start and end of each index.
        mark: the visitor's hash; None: there is no visitor.
        choice: the index of the variant that is highlighted; None: no variant is.
    """
    parts = []
    for index, (start, end) in enumerate(spans):
        x, width = start * _WIDTH, max(0.0, (min(end, 1) - start) * _WIDTH)
        kind = "chosen" if index == choice else "range"
        parts.append(f'<rect class="{kind}" x="{x:.1f}" y="14" width="{width:.1f}" height="22"/>')
        if width > 14:
            parts.append(f'<text x="{x + width / 2:.1f}" y="30" text-anchor="middle">{index}</text>')
    if mark is not None:
        place = mark * _WIDTH
        parts.append(f'<path class="mark" d="M{place:.1f} 10V40M{place - 5:.1f} 2h10l-5 8z"/>')
    description = ", ".join(f"index {index} from {start:.3f} to {end:.3f}" for index, (start, end) in enumerate(spans))
    where = "" if mark is None else f"; the visitor's hash is {mark:.4f}"
    return _picture(44, f"Ranges of the variants: {description}{where}", parts)


def bars(rows: Sequence[tuple[str, float, str]]) -> str:
    """Draw a bar for each row: its name, its share from 0 to 1, and what stands beside it."""
    parts = []
    for number, (name, share, text) in enumerate(rows):
        top = number * 26
        width = max(0.0, min(1.0, share)) * 135
        parts.append(f'<text x="0" y="{top + 16}">{html.escape(name[:20])}</text>')
        parts.append(f'<rect class="range" x="125" y="{top + 3}" width="{width:.1f}" height="18"/>')
        parts.append(f'<text x="{133 + width:.1f}" y="{top + 16}">{html.escape(text)}</text>')
    descriptions = "; ".join(f"{name}: {text}" for name, _, text in rows)
    return _picture(max(26, 26 * len(rows)), descriptions, parts)


def allocation(rows: Sequence[tuple[str, float, float | None]]) -> str:
    """Draw two bars for each variant: a hollow one for the wanted share, a filled one for the counted share, if any."""
    parts, descriptions = [], []
    for number, (name, wanted_share, counted_share) in enumerate(rows):
        top = number * 44
        parts.append(f'<text x="0" y="{top + 24}">{html.escape(name[:20])}</text>')
        for place, kind, share in ((top + 2, "hollow", wanted_share), (top + 21, "range", counted_share)):
            if share is None:
                continue
            width = max(1.0, min(1.0, share) * 140)
            parts.append(f'<rect class="{kind}" x="70" y="{place}" width="{width:.1f}" height="15"/>')
            word = "wanted" if kind == "hollow" else "counted"
            parts.append(f'<text x="{78 + width:.1f}" y="{place + 12}">{word} {share:.1%}</text>')
            descriptions.append(f"{name}: {word} {share:.1%}")
    return _picture(max(44, 44 * len(rows)), "; ".join(descriptions), parts)


def intervals(rows: Sequence[tuple[str, float | None, Sequence[float] | None, str]]) -> str:
    """Draw the mean of each variant as a mark on the line of its 95 % interval, all on one scale.

    Args:
        rows: name, mean, interval, and the mean as text; a row without an interval has its name alone.
    """
    bounds = [bound for _, _, span, _ in rows if span for bound in span]
    if not bounds:
        return ""
    low, high = min(bounds), max(bounds)
    scale = 150 / ((high - low) or 1)
    parts, descriptions = [], []
    for number, (name, mean, span, text) in enumerate(rows):
        middle = number * 28 + 14
        parts.append(f'<text x="0" y="{middle + 4}">{html.escape(name[:20])}</text>')
        if mean is None or not span:
            continue
        start, end, place = (74 + (value - low) * scale for value in (*span, mean))
        ends = f"M{start:.1f} {middle - 6}v12M{end:.1f} {middle - 6}v12"
        parts.append(f'<path class="whisker" d="M{start:.1f} {middle}H{end:.1f}{ends}"/>')
        parts.append(f'<path class="event" transform="translate({place:.1f} {middle})" d="{_OTHER}"/>')
        parts.append(f'<text x="238" y="{middle + 4}">{html.escape(text)}</text>')
        descriptions.append(f"{name}: {text}")
    return _picture(28 * len(rows), "; ".join(descriptions), parts)


def timeline(events: Sequence[Mapping[str, Any]]) -> str:
    """Draw events over time, each type with a shape of its own: pages round, tracks square, identify a triangle."""
    times = [event["at"] for event in events]
    if not times:
        return ""
    first, last = min(times), max(times)
    parts = [f'<path class="axis" d="M6 20H{_WIDTH - 6}"/>']
    for place, anchor, at in ((6, "start", first), (_WIDTH - 6, "end", last)):
        day = datetime.fromtimestamp(at / 1000, UTC).strftime("%Y-%m-%d %H:%M")
        parts.append(f'<text x="{place}" y="46" text-anchor="{anchor}">{day}</text>')
    for event in events:
        place = 6 + (event["at"] - first) / ((last - first) or 1) * (_WIDTH - 12)
        shape = _SHAPES.get(event["type"], _OTHER)
        parts.append(f'<path class="event" transform="translate({place:.1f} 20)" d="{shape}"/>')
    return _picture(52, f"{len(times)} events over time", parts)


def _picture(height: int, title: str, parts: Sequence[str]) -> str:
    description = html.escape(title)
    body = "".join(parts)
    return f'<svg viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{description}">{body}</svg>'
