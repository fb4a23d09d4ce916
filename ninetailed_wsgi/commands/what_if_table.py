"""What ``what-if`` prints for a person, in at most 80 columns."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

from ninetailed_wsgi.insights.what_if import ContentComparison, why
from ninetailed_wsgi.operations.terminal import columns, fitting, in_line

_MOST_QUIET = 40
"""Rows without a change that are printed; more of them would hide what changes."""

_Comparisons: TypeAlias = list[Mapping[str, Any]]

_MARK = {"added": "+", "removed": "-", "changed": "~", "same": " "}


def lines(document: Mapping[str, Any], comparison: ContentComparison) -> Iterator[str]:
    """Yield the lines of a document of `replay.what_if`."""
    visitors, changed = document["visitors"], document["visitorsChanged"]
    share = f"{visitors['evaluated']:,} of {visitors['total']:,} visitors"
    yield f"content {document['content']['from']} -> {document['content']['to']}, {share}"
    yield f"{changed['any']:,} get something else: {changed['share']:.2%}{_interval(changed['interval'])}"
    if visitors["incomplete"]:
        yield f"of {visitors['incomplete']:,}, older events that the draft needs are no longer stored"
    yield from _audiences(document["audiences"])
    yield from _experiences(document["experiences"])
    for flag in document["flags"]:
        yield ""
        yield f"flag {in_line(flag['key'])}"
        for move in flag["moves"]:
            yield f"    {move['visitors']:>9,}  {_short(str(move['from']), 28)} -> {_short(str(move['to']), 28)}"
    for id in document["spoiled"]:
        yield ""
        yield f"! {in_line(id)} is a running experiment: results before and after the draft are not comparable"
    if document["samples"]:
        yield ""
        yield "examples of visitors who get something else"
    for sample in document["samples"]:
        yield f"  {in_line(sample['profileId'])}"
        was, becomes = (set(sample[side]["audiences"]) for side in ("before", "after"))
        for sign, audiences in (("+", becomes - was), ("-", was - becomes)):
            for audience in sorted(audiences):
                yield f"    {sign} {in_line(audience)}"
        for line in why(comparison, sample):
            yield f"    {in_line(line)}"


def _audiences(audiences: _Comparisons) -> Iterator[str]:
    if audiences:
        yield ""
        yield f"  {'audience':<34} {'before':>9} {'after':>9} {'enter':>9} {'leave':>9}"
    rows, rest = _telling(audiences, lambda each: each["enter"] or each["leave"])
    for each in rows:
        numbers = " ".join(f"{each[name]:>9,}" for name in ("before", "after", "enter", "leave"))
        yield f"{_MARK[each['change']]} {_cell(each['id'], 34)} {numbers}"
    yield from rest


def _experiences(experiences: _Comparisons) -> Iterator[str]:
    if experiences:
        yield ""
        yield f"  {'experience':<34} moves"
    rows, rest = _telling(experiences, lambda each: each["moves"])
    for each in rows:
        yield f"{_MARK[each['change']]} {_cell(each['id'], 34)} {'' if each['moves'] else 'none'}".rstrip()
        for move in each["moves"]:
            yield f"    {move['visitors']:>9,}  {_variant(move['from'])} -> {_variant(move['to'])}"
    yield from rest


def _telling(rows: _Comparisons, moves: Callable[[Mapping[str, Any]], object]) -> tuple[_Comparisons, list[str]]:
    """Return the rows to print, and a line about the others: rows without a change are printed only if they are few."""
    telling = [each for each in rows if each["change"] != "same" or moves(each)]
    if len(rows) - len(telling) <= _MOST_QUIET:
        return rows, []
    return telling, [f"  {len(rows) - len(telling):,} of {len(rows):,} do not change; --json lists them"]


def _variant(label: str) -> str:
    return "nothing" if label == "none" else "control" if label == "0" else f"variant {label}"


def _interval(bounds: list[float] | None) -> str:
    return "" if bounds is None else f" (95 % interval {bounds[0]:.2%} to {bounds[1]:.2%})"


def _short(text: str, most: int) -> str:
    return fitting(in_line(text), most)


def _cell(text: str, width: int) -> str:
    cell = _short(text, width)
    return cell + " " * (width - columns(cell))
