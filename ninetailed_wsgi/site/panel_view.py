"""What the panel in a page shows: what the page asked for, what it shows, what it would show otherwise, and why.

Pure: explanations go in, a JSON document comes out (spec section 13).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime
from operator import itemgetter
from typing import Any

from ninetailed_wsgi.core.events import ServedComponent
from ninetailed_wsgi.core.experiences import Experience, Outcome
from ninetailed_wsgi.core.preview import Overrides
from ninetailed_wsgi.core.problems import shorten
from ninetailed_wsgi.service.explanation import reason, sentence
from ninetailed_wsgi.site.handoff import SCRIPT_ESCAPES

_LONGEST = 120  # characters of a name, a value or a rule
_MOST_ELSEWHERE = 40  # experiences that this page did not ask for, and audiences that decide nothing here

Parts = Mapping[tuple[str, str], ServedComponent]
Explanation = Mapping[str, Any]
"""One experience or audience as `ExperienceService.explain` has it."""


def ascii_script_json(document: object) -> str:
    """Return JSON that is safe inside a script element, and the same bytes in every encoding that pages have."""
    return json.dumps(document, separators=(",", ":")).translate(SCRIPT_ESCAPES)


def view(
    parts: Parts,
    explanation: Mapping[str, Any],
    natural: Mapping[str, Any],
    overrides: Overrides | None,
    published: Sequence[Experience],
) -> dict[str, Any]:
    """Return the ``experiences``, ``audiences`` and other ``overrides`` that the panel lists.

    Of a large site it lists a part, to stay small; ``unlisted`` says how many of each are left out.

    Args:
        parts: what the page asked for, as `PageParts.parts` has it.
        explanation: the explanation of what the page shows.
        natural: that of what it would show outside of a preview.
        overrides: of the preview; None outside of a preview.
        published: the experiences of the content that decided.
    """
    forced = overrides or Overrides()
    content = {each.id: each for each in published}
    before = {each["id"]: each for each in natural["experiences"]}
    names = {each["id"]: each["name"] for each in (*natural["audiences"], *explanation["audiences"])}
    everything = [
        {
            **_experience(each, content.get(each["id"]), parts, forced.experiences),
            **_reasons(each, before.get(each["id"]), names),
        }
        for each in explanation["experiences"]
    ]
    experiences = _some(
        everything,
        lambda each: bool(each["asked"]) or each["forced"] is not None or each["shown"] != each["natural"],
        lambda each: each["shown"] is not None,
    )
    # The rules of those that decide about this page; all rules of a large site would be more than the page itself.
    detail = {*(each["audience"] for each in experiences if each["asked"]), *forced.audiences}
    belongs = _audiences(explanation["audiences"], natural["audiences"], forced, detail)
    audiences = _some(belongs, lambda each: not {"changed", "forced", "groups"}.isdisjoint(each), itemgetter("on"))
    return {
        "experiences": experiences,
        "audiences": audiences,
        "unlisted": [len(everything) - len(experiences), len(belongs) - len(audiences)],
        "rest": _rest(forced),
    }


def _some(
    entries: list[dict[str, Any]], matters: Callable[[dict[str, Any]], bool], first: Callable[[dict[str, Any]], bool]
) -> list[dict[str, Any]]:
    """Return the entries that matter here and a bounded number of others, those of ``first`` rather, in their order."""
    others = sorted((each for each in entries if not matters(each)), key=lambda each: not first(each))
    left_out = {each["id"] for each in others[_MOST_ELSEWHERE:]}
    return [each for each in entries if each["id"] not in left_out]


def _experience(
    decision: Explanation, content: Experience | None, parts: Parts, forced: Mapping[str, int]
) -> dict[str, Any]:
    """Return one experience, without what the page can derive from the rest, to keep the panel small."""
    return {
        "id": decision["id"],
        "name": shorten(decision["name"] or decision["id"], _LONGEST),
        "audience": decision["audience"],
        "asked": _changeable(content, parts),
        "forced": forced.get(decision["id"]),
        "variants": _variants(content),
    }


def _reasons(decision: Explanation, natural: Explanation | None, names: Mapping[str, str]) -> dict[str, Any]:
    """Return what a visitor gets of an experience and why, and outside of a preview where that differs."""
    index, before = decision["variantIndex"], None if natural is None else natural["variantIndex"]
    reasons = {"shown": index, "natural": before, "why": reason(decision, names)}
    if index != before:
        reasons["otherwise"] = "It is not published." if natural is None else reason(natural, names)
    return reasons


def _changeable(experience: Experience | None, parts: Parts) -> list[list[Any]]:
    """Return what the page asked for that an experience may change: kind, id or key, whether it decides there."""
    if experience is None:
        return []
    keys = {("experience" if part.kind else "entry", part.key) for part in experience.replacements}
    keys |= {("flag", part.key) for part in experience.variables}
    return [
        [kind, name, component.experience == experience.id]
        for (kind, name), component in parts.items()
        if (kind, name) in keys
    ]


def _variants(experience: Experience | None) -> list[str]:
    """Return what each variant index shows: ids of entries, values of variables."""
    return [_shows(outcome) for outcome in experience.outcomes] if experience else []


def _audiences(
    current: Sequence[Explanation], natural: Sequence[Explanation], forced: Overrides, detail: Collection[str | None]
) -> list[dict[str, Any]]:
    before = {each["id"]: each["matched"] for each in natural}
    audiences: list[dict[str, Any]] = []
    for each in current:
        audiences.append(
            {"id": each["id"], "name": shorten(each["name"] or each["id"], _LONGEST), "on": each["matched"]}
        )
        if each["matched"] != before.get(each["id"], False):
            audiences[-1]["changed"] = True
        if each["id"] in forced.audiences:
            audiences[-1]["forced"] = forced.audiences[each["id"]]
        if each["id"] in detail:
            audiences[-1]["groups"] = [[_rule(rule) for rule in group["rules"]] for group in each["groups"]]
    return audiences


def _rule(rule: Mapping[str, Any]) -> list[Any]:
    """Return whether a rule holds, the rule in words, and what was found, without traits, which are personal."""
    if "kind" in rule:
        return [
            rule["held"],
            shorten(f"{rule['kind']} of: {'; '.join(_rule(each)[1] for each in rule['rules'])}", _LONGEST),
            "",
        ]
    value = "" if rule["type"] == "identify" else _short(rule["found"])
    return [rule["held"], shorten(sentence(str(rule["wanted"])), _LONGEST), value]


def _rest(overrides: Overrides) -> list[str]:
    """Return the overrides that have no switch, in words."""
    rest = [
        f"{shorten(name, _LONGEST)} is {_short(value)}"
        for name, value in (*overrides.traits.items(), *overrides.location.items())
    ]
    if overrides.at is not None:
        rest.append(f"The time is {datetime.fromtimestamp(overrides.at / 1000, UTC):%Y-%m-%d %H:%M} UTC")
    if overrides.content == "draft":
        rest.append("Draft content decides")
    return rest


def _shows(outcome: Outcome) -> str:
    entries = [id or "nothing" for id in outcome.item["variants"].values()]
    values = [_short(change["value"]) for change in outcome.changes if change["type"] == "Variable"]
    return shorten(", ".join([*entries, *values]), _LONGEST)


def _short(value: object) -> str:
    return shorten(value if isinstance(value, str) else json.dumps(value), _LONGEST)
