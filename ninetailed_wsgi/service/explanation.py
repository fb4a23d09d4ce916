"""What ``explain`` answers, in words: for a terminal, and for the pages of the inspector."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from ninetailed_wsgi.core.operator_words import COMPARISON_WORDS, COUNT_WORDS
from ninetailed_wsgi.core.problems import shorten
from ninetailed_wsgi.operations.terminal import in_line

_MARK = {True: "yes", False: "no "}
# Texts of authors as `excerpt` writes them, with long ones cut; names of properties and parameters.
_AUTHORED = r'"[^\n]{76}\.\.\.|"(?:[^"\\]|\\.)*"'
_OURS_OR_NOT = re.compile(rf"({_AUTHORED}|\[[^\]]*\])")
_COUNT_RULE = re.compile(
    rf"(page|track) events(?: named ({_AUTHORED}))?(?: where (.*?))?(?: in the last (\S+) days)?: (\w+) (\S+)"
)
_LONGEST_NAME = 100
_NEVER = {("lessThan", "1"), ("equal", "0"), ("lessThanInclusive", "0")}
_ONCE = {("greaterThanInclusive", "1"), ("greaterThan", "0")}
# The value * stands for any value (spec section 5).
_PRESENCE = (
    (re.compile(r'\b(?:equal|contains) "\*"'), "exists"),
    (re.compile(r'\b(?:notEqual|notContains) "\*"'), "notExists"),
)
_WORD = re.compile(r"[A-Za-z_]+")
_WORDS = {
    **COMPARISON_WORDS,
    "exists": "is there",
    "notExists": "is not there",
    "session_count": "number of sessions",
    "properties": "property",
    "context_page_path": "path",
    "context_page_url": "address",
    "context_page_referrer": "referrer",
    "context_page_query": "query parameter",
    **{f"context_campaign_{name}": f"campaign {name}" for name in ("name", "source", "medium", "term", "content")},
}


def text(document: Mapping[str, Any]) -> str:
    """Return the answer of `ExperienceService.explain`, a line for each thing that decided."""
    profile = document["profile"]
    session = profile["session"]
    lines = [f"profile {profile['id']}: session {session['count']}, location {_json(profile['location'])}"]
    for name, origin in document.get("enriched", {}).items():
        lines.append(f"trait {name} is from {origin}: {_json(profile['traits'].get(name))}")
    lines.append("audiences" if document["audiences"] else "audiences: none are published")
    for audience in document["audiences"]:
        lines += _audience(audience)
    lines.append("experiences" if document["experiences"] else "experiences: none are published")
    for experience in document["experiences"]:
        lines += _experience(experience)
    return "\n".join(map(in_line, lines))


def reason(decision: Mapping[str, Any], names: Mapping[str, str]) -> str:
    """Say in a sentence why a visitor gets a variant of an experience, or none.

    Args:
        decision: an experience as `ExperienceService.explain` returns it.
        names: the names of audiences, by id.
    """
    if decision["decided_by"] == "preview":
        return "This preview shows it, whatever the rules say."
    if decision["decided_by"] == "sticky":
        return "The visitor saw this variant before and keeps it, as the experience is sticky."
    audience = decision["audience"]
    name = f'"{shorten(names.get(audience) or str(audience), _LONGEST_NAME)}"'  # it may read like part of the sentence
    if not decision["audience_matched"]:
        return f"The visitor is not in the audience {name}."
    who = "For everyone" if audience is None else f"In the audience {name}"
    if not decision["in_traffic"]:
        return (
            f"{who}, but the visitor does not take part: the traffic hash {decision['traffic_hash']:.3f} is not below "
            f"the traffic {decision['traffic']:g}."
        )
    number, index, ranges = decision["distribution_hash"], decision["distribution_index"], decision["ranges"]
    if index >= len(ranges):
        return f"{who}: the visitor's hash {number:.3f} falls into no range, so they get the baseline."
    start, end = ranges[index]
    if start == 0 and end >= 1:
        return f"{who}: all who take part get this variant."
    return f"{who}: the visitor's hash {number:.3f} falls into the range of this variant, {start:.3f} to {end:.3f}."


def sentence(rule: str) -> str:
    """Return a rule in words: ``viewed a page whose path contains "/pricing", at least 2 times``.

    Args:
        rule: as `ExperienceService.explain` returns it; what authors wrote in it is not changed.
    """
    match = _COUNT_RULE.fullmatch(rule)
    if match is None:
        return _reworded(rule)
    kind, name, where, days, operator, count = match.groups()
    what = "viewed a page" if kind == "page" else f"did {name or 'any event'}"
    words = [what + (f" whose {_reworded(where)}" if where else "")]
    if days:
        words.append(f"in the last {days} days" if days != "1" else "in the last day")
    if (operator, count) in _NEVER:
        return "never " + ", ".join(words)
    if (operator, count) not in _ONCE:
        words.append(f"{COUNT_WORDS.get(operator, operator)} {count} {'time' if count == '1' else 'times'}")
    return ", ".join(words)


def _reworded(text: str) -> str:
    for pattern, operator in _PRESENCE:
        text = pattern.sub(operator, text)
    parts = _OURS_OR_NOT.split(text)
    parts[::2] = [_WORD.sub(lambda match: _WORDS.get(match[0], match[0]), part) for part in parts[::2]]
    return "".join(f" {part[1:-1]}" if part.startswith("[") else part for part in parts)


def subject(event: object) -> str:
    """Return what an event is about: the path of its page, its name, its traits, or its component; else nothing."""
    if not isinstance(event, Mapping):
        return ""
    kind, traits = event.get("type"), event.get("traits")
    if kind == "page":
        page = _mapping(_mapping(event.get("context")).get("page")) or _mapping(event.get("properties"))
        about: object = page.get("path")
    elif kind == "identify":
        pairs = [f"{name}={value}" for name, value in _mapping(traits).items()]
        about = ", ".join([*([f"user {event['userId']}"] if event.get("userId") else []), *pairs])
    else:
        members = ("event", "name", "componentId", "entityId", "experienceId", "groupId")
        about = next((event[name] for name in members if event.get(name)), "")
        if "variantIndex" in event:
            about = f"{about}, variant {event['variantIndex']}"
    return about if isinstance(about, str) else "" if about is None else str(about)


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _audience(audience: Mapping[str, Any]) -> Iterator[str]:
    yield f"  {_MARK[audience['matched']]} {audience['id']} ({audience['name']})"
    for index, group in enumerate(audience["groups"]):
        if len(audience["groups"]) > 1:
            yield f"        {_MARK[group['held']]} {'either' if index == 0 else 'or'}"
        yield from _rules(group["rules"], "        ")


def _rules(rules: list[Mapping[str, Any]], margin: str) -> Iterator[str]:
    for rule in rules:
        mark = f"{margin}{_MARK[rule['held']]}"
        if "kind" in rule:
            yield f"{mark} {rule['kind']} of"
            yield from _rules(rule["rules"], margin + "    ")
        else:
            least = "at least " if rule.get("at_least") else ""
            yield f"{mark} {rule['wanted']}; found {least}{_json(rule['found'])}"


def _experience(experience: Mapping[str, Any]) -> Iterator[str]:
    variant_index = experience["variantIndex"]
    result = "not shown" if variant_index is None else f"variant {variant_index}, by {experience['decided_by']}"
    yield f"  {_MARK[variant_index is not None]} {experience['id']} ({experience['name']}): {result}"
    if experience["audience"] is not None:
        yield f"        {_MARK[experience['audience_matched']]} audience {experience['audience']}"
    yield (
        f"        {_MARK[experience['in_traffic']]} traffic {experience['traffic']:g}"
        f" is above the visitor's {experience['traffic_hash']:.6f}"
    )
    for baseline, variant in experience["variants"].items():
        yield f"            {baseline} shows {variant or 'nothing'}"
    ranges = ", ".join(f"{index}: {start:g} to {end:g}" for index, (start, end) in enumerate(experience["ranges"]))
    fraction, index = experience["distribution_hash"], experience["distribution_index"]
    yield f"            distribution {fraction:.6f} falls on variant {index} (of {ranges})"
    if experience["sticky"]:
        sticky = experience["sticky_index"]
        past = "nothing seen yet" if sticky is None else f"variant {sticky} was seen and is kept"
        yield f"            sticky: {past}"


def _json(value: object) -> str:
    return shorten(json.dumps(value, ensure_ascii=False))
