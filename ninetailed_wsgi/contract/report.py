"""Reports a run: lines for a person, JUnit XML for a build server, JSON for a program."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from ninetailed_wsgi.contract.answers import Answer
from ninetailed_wsgi.contract.run import Breach, CaseResult, SentRequest
from ninetailed_wsgi.core.problems import shorten

_WORDS = {"passed": "ok", "failed": "FAIL", "skipped": "skip"}
_COLOURS = {"passed": "32", "failed": "31;1", "skipped": "33"}
_LONGEST_EXCERPT = 600  # bytes of a body that a line for a person repeats
_LONGEST_BODY = 20_000  # bytes of a body that a report repeats


@dataclass(frozen=True, slots=True)
class Summary:
    """A run.

    Attributes:
        url, organization, environment: of the server.
        claims: further claims that were tested.
        results: of each case that was run or skipped.
        deleted: how many profiles were deleted.
        leftovers: the names of those that could not be deleted.
        interrupted: whether the run was stopped before its end.
    """

    url: str
    organization: str
    environment: str
    claims: Sequence[str]
    results: Sequence[CaseResult]
    deleted: int
    leftovers: Sequence[str]
    interrupted: bool


def line(result: CaseResult, number: int, total: int, colours: bool) -> str:
    """Return one case as a line, with progress, and colors for a terminal."""
    word = f"{_WORDS[result.outcome]:<4}"
    if colours:
        word = f"[{number:>{len(str(total))}}/{total}] \x1b[{_COLOURS[result.outcome]}m{word}\x1b[0m"
    why = f" ({result.reason})" if result.reason else ""
    return f"{word}  {result.case.area}/{result.case.id}: {result.case.name}{why}"


def details(breach: Breach) -> Iterator[str]:
    """Yield the request, the expectation and the answer as lines."""
    yield f"step {breach.step[0]} of {breach.step[1]}"
    yield f"  sent      {_request_line(breach.request)}"
    if breach.request.body is not None:
        yield f"            {_text(breach.request.body, _LONGEST_EXCERPT)}"
    yield f"  expected  {shorten(json.dumps(breach.expected, ensure_ascii=False), _LONGEST_EXCERPT)}"
    if breach.came is None:
        yield "  came      nothing"
    else:
        yield f"  came      {breach.came.status} {_text(breach.came.body, _LONGEST_EXCERPT)}".rstrip()
    for number, problem in enumerate(breach.problems):
        yield f"  {'' if number else 'breach':<8}  {problem}"


def table(results: Sequence[CaseResult]) -> Iterator[str]:
    """Yield how many passed, failed and were skipped, by area."""
    areas = list(dict.fromkeys(result.case.area for result in results))
    width = max(map(len, [*areas, "total"]))
    yield f"{'':<{width}}  {'passed':>7}  {'failed':>7}  {'skipped':>7}"
    for area in [*areas, "total"]:
        of: list[str] = [result.outcome for result in results if area in (result.case.area, "total")]
        yield f"{area:<{width}}  " + "  ".join(f"{of.count(outcome):>7}" for outcome in _WORDS)


def write(path: Path, summary: Summary) -> None:
    """Write a report in the format of the file's ending; OSError if that fails."""
    path.write_text(_junit(summary) if path.suffix.lower() == ".xml" else _json(summary), encoding="utf-8")


def _json(summary: Summary) -> str:
    outcomes: list[str] = [result.outcome for result in summary.results]
    document = {
        "server": {
            "url": summary.url,
            "organization": summary.organization,
            "environment": summary.environment,
            "claims": list(summary.claims),
        },
        "interrupted": summary.interrupted,
        "totals": {outcome: outcomes.count(outcome) for outcome in _WORDS},
        "profiles": {"deleted": summary.deleted, "left": list(summary.leftovers)},
        "cases": [_result(result) for result in summary.results],
    }
    return json.dumps(document, ensure_ascii=False, indent=2) + "\n"


def _result(result: CaseResult) -> dict[str, Any]:
    case, breach = result.case, result.breach
    row: dict[str, Any] = {"id": case.id, "area": case.area, "name": case.name, "outcome": result.outcome}
    row["seconds"] = round(result.seconds, 4)
    if result.reason:
        row["reason"] = result.reason
    if breach:
        row["breach"] = {
            "step": breach.step[0],
            "steps": breach.step[1],
            "sent": {
                "method": breach.request.method,
                "path": breach.request.path,
                "caller": breach.request.caller,
                "headers": dict(breach.request.headers),
                "body": None if breach.request.body is None else _text(breach.request.body, _LONGEST_BODY),
            },
            "expected": breach.expected,
            "came": _answer(breach.came),
            "problems": list(breach.problems),
        }
    return row


def _answer(answer: Answer | None) -> Mapping[str, Any] | None:
    if answer is None:
        return None
    return {"status": answer.status, "headers": dict(answer.headers), "body": _text(answer.body, _LONGEST_BODY)}


def _junit(summary: Summary) -> str:
    root = ElementTree.Element("testsuites", name=f"contract of {summary.url}")
    for area in dict.fromkeys(result.case.area for result in summary.results):
        results = [result for result in summary.results if result.case.area == area]
        outcomes = [result.outcome for result in results]
        counts = {"tests": len(results), "failures": outcomes.count("failed"), "skipped": outcomes.count("skipped")}
        seconds = f"{sum(result.seconds for result in results):.3f}"
        suite = ElementTree.SubElement(root, "testsuite", name=area, errors="0", time=seconds)
        suite.attrib |= {name: str(count) for name, count in counts.items()}
        for result in results:
            name = f"{result.case.id}: {result.case.name}"
            case = ElementTree.SubElement(
                suite, "testcase", classname=f"contract.{area}", name=_xml(name), time=f"{result.seconds:.3f}"
            )
            if result.breach:
                failure = ElementTree.SubElement(case, "failure", message=_xml("; ".join(result.breach.problems)))
                failure.text = _xml("\n".join(details(result.breach)))
            elif result.outcome == "skipped":
                ElementTree.SubElement(case, "skipped", message=result.reason)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _xml(text: str) -> str:
    """Remove the characters that XML 1.0 cannot contain."""
    return re.sub("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "\ufffd", text)


def _request_line(request: SentRequest) -> str:
    headers = "".join(f"  {name}: {value}" for name, value in request.headers.items())
    return f"{request.method} {request.path}{headers}{f'  as {request.caller}' if request.caller else ''}"


def _text(body: bytes, most: int) -> str:
    # A server must not control the terminal that shows its answers.
    return re.sub(r"[\x00-\x1f\x7f-\x9f]", " ", shorten(body[: most + 1].decode("utf-8", "replace"), most))
