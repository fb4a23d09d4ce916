"""Describes in words what a catalog publishes, for ``ninetailed-wsgi content show``.

Authors' texts are quoted as JSON, so that a comma or a line break in them is not mistaken for part of the description.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

from ninetailed_wsgi.authoring.audiences import stored_rules
from ninetailed_wsgi.content.compiling import Catalog
from ninetailed_wsgi.core.experiences import Experience
from ninetailed_wsgi.core.metrics import Metric
from ninetailed_wsgi.core.operator_words import COMPARISON_WORDS, COUNT_WORDS
from ninetailed_wsgi.core.operators import NUMERIC, OPERATORS
from ninetailed_wsgi.core.problems import shorten

_WINDOWS = ("days", "last_days", "when")
_INDENT = "    "


def catalog_lines(catalog: Catalog) -> list[str]:
    """Describe the audiences, experiences, metrics, merge tags and orders of a catalog, a few lines for each."""
    rules = {audience.id: audience.rules for audience in reversed(catalog.content.audiences)}
    names = {audience.id: audience.name for audience in catalog.audience_list}
    lines = []
    for audience in catalog.audience_list:
        lines += [f"audience {_label(audience.id, audience.name)}", *audience_lines(rules[audience.id])]
    metrics = {metric.id: metric for metric in catalog.metrics.metrics}
    compiled = {experience.id: experience for experience in catalog.experiences.experiences}
    for one in catalog.experience_list:
        measure = metrics.get(catalog.primary_metrics.get(one.id, ""))
        lines += _experience(compiled[one.id], names, measure)
    lines += [f"metric {_label(metric.id, metric.name)}: {_metric(metric)}" for metric in metrics.values()]
    for tag in catalog.merge_tags.values():
        otherwise = f", otherwise {_text(tag.fallback)}" if tag.fallback else ""
        lines.append(f"merge tag {_label(tag.id, tag.name)}: prints what the profile has there{otherwise}")
    for id, experiences in catalog.entry_experiences.items():
        lines.append(f"entry {id}: the first that a visitor gets of {', '.join(experiences)}")
    return lines


def audience_lines(rules: object) -> list[str]:
    """Describe the rules of an audience: a line for each rule, groups indented.

    Args:
        rules: valid rules, as content has them.
    """
    return [_INDENT + line for line in _group(stored_rules(rules))] or [f"{_INDENT}nobody: it has no rules"]


def _group(node: Any) -> list[str]:
    if not isinstance(node, dict) or not node:
        return []
    if "type" in node:
        return [rule_words(node)]
    kind = "any" if "any" in node else "all"
    parts = [part for part in map(_group, node.get(kind) or ()) if part]
    if len(parts) == 1:
        return parts[0]
    join = "or" if kind == "any" else "and"
    lines: list[str] = []
    for index, part in enumerate(parts):
        if len(part) == 1:
            lines.append(f"{join} {part[0]}" if index else part[0])
        else:
            inner = "either" if any(line.startswith("or ") for line in part) else "all of"
            lines += [f"{join} {inner}" if index else inner, *(_INDENT + line for line in part)]
    return lines


def rule_words(rule: Mapping[str, Any]) -> str:
    """Describe one rule in the authoring tool's form: ``viewed a page whose path contains "/pricing", ...``."""
    operator, value = OPERATORS[rule["operator"]], rule["value"]
    conditions = [(_condition_name(one["key"]), OPERATORS[one["operator"]], one["value"]) for one in rule["conditions"]]
    match rule["type"]:
        case "page" | "track" as kind:
            return _counted_words(kind, value, operator, rule["count"], conditions)
        case "identify":
            return f"trait {rule['key']} {_comparison(operator, value)}"
        case "location":
            return f"{_spaced(rule['key'])} {_comparison(operator, value)}"
        case "device":
            return " and ".join(f"device {_comparison(comparison, operand)}" for _, comparison, operand in conditions)
        case _:
            returns = "returns" if (value != "false") == (operator == "equal") else "is new"
            return " and ".join([returns, *(f"{name} {_comparison(*rest)}" for name, *rest in conditions)])


def _counted_words(kind: str, event: str, operator: str, count: str, conditions: list[tuple[str, str, str]]) -> str:
    what = "viewed a page" if kind == "page" else "did any event" if event == "*" else f"did {_text(event)}"
    where = [f"{name} {_comparison(*rest)}" for name, *rest in conditions if name not in _WINDOWS]
    days = [value for name, _, value in conditions if name in _WINDOWS]
    words = [what + (f" whose {' and '.join(where)}" if where else ""), *(f"in the last {one} days" for one in days)]
    if (operator, count) in (("lessThan", "1"), ("equal", "0"), ("lessThanInclusive", "0")):
        return "never " + ", ".join(words)
    once = (operator, count) in (("greaterThanInclusive", "1"), ("greaterThan", "0"))
    times = "time" if count == "1" else "times"
    return ", ".join([*words, *([] if once else [f"{COUNT_WORDS[operator]} {count} {times}"])])


def _condition_name(key: Mapping[str, Any]) -> str:
    name, parameter = str(key.get("key") or key.get("id")), key.get("value")
    if name == "properties":
        return f"property {parameter}"
    if name == "context_page_query":
        return f"query parameter {parameter}"
    if name in _WINDOWS:
        return name
    return name.removeprefix("context_page_").removeprefix("context_").replace("_", " ")


def _comparison(operator: str, value: str) -> str:
    if operator == "exists" or (value == "*" and operator in ("equal", "contains")):
        return "is there"
    if operator == "notExists" or (value == "*" and operator in ("notEqual", "notContains")):
        return "is not there"
    return f"{COMPARISON_WORDS[operator]} {shorten(value) if operator in NUMERIC else _text(value)}"


def _experience(experience: Experience, names: Mapping[str, str], metric: Metric | None) -> Iterator[str]:
    yield f"experience {_label(experience.id, experience.name)}, {_article(experience.type.removeprefix('nt_'))}"
    who = "everyone" if experience.audience is None else f"audience {experience.audience}"
    name = names.get(experience.audience or "", "")
    who += f" ({_text(name)})" if name not in ("", experience.audience) else ""
    part = "" if experience.traffic == 1 else f"; {_share(experience.traffic)} of them take part"
    yield f"{_INDENT}for {who}{part}"
    shares = [(index, end - start) for index, (start, end) in enumerate(pairwise((0, *experience.ends)))]
    parts = [f"{_share(share)} {_variant(index)}" for index, share in shares if share > 0]
    sticky = "; a variant that was seen stays" if experience.sticky else ""
    yield f"{_INDENT}{', '.join(parts)}{sticky}"
    for one in experience.replacements:
        ids = [one.baseline, *one.variants]
        kind = one.kind.lower() or "entry"
        yield f"{_INDENT}{kind} {one.key}: {_by_index([id or 'nothing' for id in ids])}"
    for variable in experience.variables:
        values = [shorten(json.dumps(value, ensure_ascii=False)) for value in (variable.baseline, *variable.variants)]
        yield f"{_INDENT}flag {variable.key}: {_by_index(values)}"
    if metric is not None:
        yield f"{_INDENT}measured by {metric.id}"


def _by_index(values: list[str]) -> str:
    return ", ".join(f"{_variant(index)} {value}" for index, value in enumerate(values))


def _variant(index: int) -> str:
    return f"variant {index}" if index else "control"


def _metric(metric: Metric) -> str:
    by_type = {
        "binary": f"who did {_text(metric.event)}",
        "count": f"how often {_text(metric.event)} was done",
        "value": f"the sum of {metric.property} of {_text(metric.event)}",
    }
    return by_type[metric.type] + ("" if metric.direction == "increase" else "; less is better")


def _label(id: str, name: str) -> str:
    return id if name in ("", id) else f"{id} ({_text(name)})"


def _text(text: object) -> str:
    return shorten(json.dumps(text, ensure_ascii=False))


def _share(share: float) -> str:
    return f"{round(share * 100, 4):g} %"


def _article(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def _spaced(name: str) -> str:
    return "".join(f" {letter.lower()}" if letter.isupper() else letter for letter in name)
