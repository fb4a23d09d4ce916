"""Runs cases against a server, one request after another, and deletes every profile that they made."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias
from urllib.parse import quote, urlencode

from ninetailed_wsgi.contract.access import authorization
from ninetailed_wsgi.contract.answers import ABSENT, Answer, document_of, pointed_at, unfit, unmet
from ninetailed_wsgi.contract.cases import CLAIMS, PROFILE, Case, batch_names, marked, profile_name
from ninetailed_wsgi.contract.target import ROUTES, NoAnswer
from ninetailed_wsgi.service.keys import SCOPES

Send: TypeAlias = Callable[[str, str, bytes | None, Mapping[str, str]], Answer]
"""Sends method, path with query, body and headers; raises NoAnswer."""

CaseOutcome: TypeAlias = Literal["passed", "failed", "skipped"]

_GIVE_UP_AFTER = 3  # cases in a row without an answer
_PAUSE = 0.1  # seconds between two checks of work that continues after its answer


@dataclass(frozen=True, slots=True)
class SentRequest:
    """A request as it was sent, without the key of its caller, so that no report shows one."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes | None
    caller: str = ""


@dataclass(frozen=True, slots=True)
class Breach:
    """A step that was not answered as expected.

    Attributes:
        step: its number, counted from 1, and the number of steps.
        expected: the step's ``expect``.
        came: the answer, or None.
        problems: where the two differ, a line each.
    """

    step: tuple[int, int]
    request: SentRequest
    expected: Mapping[str, Any]
    came: Answer | None
    problems: Sequence[str]


@dataclass(frozen=True, slots=True)
class CaseResult:
    """The result of a case; ``reason`` says why it was skipped."""

    case: Case
    outcome: CaseOutcome
    seconds: float = 0.0
    breach: Breach | None = None
    reason: str = ""


class CaseRun:
    """One run of cases against one environment of one server.

    Args:
        send: sends requests to the server.
        prefix: the path of the environment.
        claims: what the server claims, of ``CLAIMS``.
        mark: a text unique to this run, which begins every name that it uses.
        key: of a guarded server, with all scopes; empty: the server is open.
        origin: whose pages the server allows, in place of the one that the cases name; empty: that one.

    Attributes:
        deleted: how many profiles were deleted so far.
    """

    def __init__(
        self, send: Send, prefix: str, claims: Collection[str], mark: str, key: str = "", origin: str = ""
    ) -> None:
        self._send, self._prefix, self._claims, self._mark, self._key = send, prefix, claims, mark, key
        self._origin = origin
        self._names: dict[str, None] = {}
        self.deleted = 0

    def reach(self) -> None:
        """Request a profile that does not exist.

        Raises:
            NoAnswer: the server does not answer, does not know the environment, or refuses the key.
        """
        answer = self._send("GET", f"{self._prefix}{PROFILE}{self._mark}-nobody", None, authorization("", self._key))
        document = document_of(answer)
        error = document.get("error") if isinstance(document, dict) else None
        if isinstance(error, dict) and error.get("code") == "ERR_CONFIG_NOT_FOUND":
            raise NoAnswer(f"the server answers: {document.get('message')}")
        status = self._send("GET", "/openapi.json", None, authorization("", self._key)).status if self._key else 200
        if status in (401, 403):
            raise NoAnswer(f"the server refuses the key ({status}); it needs all scopes: {', '.join(SCOPES)}")

    def results(self, cases: Iterable[Case]) -> Iterator[CaseResult]:
        """Run the cases one after another; the profiles of one are deleted before the next."""
        silent = 0
        for number, case in enumerate(cases, start=1):
            if case.claim and case.claim not in self._claims:
                yield CaseResult(case, "skipped", reason=f"the server does not claim {case.claim}")
            elif silent == _GIVE_UP_AFTER:
                yield CaseResult(case, "skipped", reason="the server stopped answering")
            else:
                before = set(self._names)
                result = self._result(case, f"{self._mark}-{number}-")
                silent = silent + 1 if result.breach and result.breach.came is None else 0
                if not silent:
                    # Profiles that could not be deleted after their case wait for the end of the run.
                    self._delete([name for name in self._names if name not in before])
                yield result

    def clean_up(self) -> list[str]:
        """Delete the created profiles; return the names of those that could not be deleted."""
        self._delete(self.names())
        return self.names()

    def _delete(self, names: Iterable[str]) -> None:
        for name in names:
            try:
                path = self._prefix + PROFILE + quote(name, safe="")
                answer = self._send("DELETE", path, None, authorization("", self._key))
            except NoAnswer:
                break
            if answer.status in (200, 404):
                del self._names[name]
                self.deleted += answer.status == 200

    def names(self) -> list[str]:
        """Return the names of profiles that may exist because of this run."""
        return list(self._names)

    def _result(self, case: Case, mark: str) -> CaseResult:
        start = time.monotonic()
        breach = self._first_breach(marked(case, mark, self._origin))
        return CaseResult(case, "failed" if breach else "passed", time.monotonic() - start, breach)

    def _first_breach(self, steps: Sequence[Mapping[str, Any]]) -> Breach | None:
        answers: list[Any] = []
        for number, step in enumerate(steps, start=1):
            request = self._request(step["request"], answers)
            answer: Answer | None = None
            try:
                answer, problems = self._answer(step, request, answers)
            except NoAnswer as error:
                problems = [str(error)]
            if problems or answer is None:
                return Breach((number, len(steps)), request, step["expect"], answer, problems)
            answers.append(document_of(answer))
        return None

    def _answer(
        self, step: Mapping[str, Any], request: SentRequest, answers: Sequence[Any]
    ) -> tuple[Answer, list[str]]:
        """Return the answer to a step, asked for again as long as the step allows, and what is wrong with it."""
        end = time.monotonic() + step.get("within", 0)
        while True:
            answer = self._exchange(request)
            problems = unmet(step, answer, [*answers, document_of(answer)])
            # Not there yet, or incomplete; any other answer is final.
            if not problems or answer.status not in (404, step["expect"]["status"]) or time.monotonic() >= end:
                return answer, problems + unfit(step, answer, self._prefix.startswith(ROUTES["spaces"]))
            time.sleep(_PAUSE)

    def _request(self, request: Mapping[str, Any], answers: Sequence[Any]) -> SentRequest:
        path = re.sub(r"\{(.+?)\}", lambda match: _in_path(pointed_at(answers, match[1])), request["path"])
        query = f"?{urlencode(request['query'])}" if request.get("query") else ""
        body: bytes | None = None
        headers: dict[str, str] = {}
        if "body" in request or "text" in request:
            body = request["text"].encode() if "text" in request else json.dumps(request["body"]).encode()
            headers["Content-Type"] = "application/json"
        for name, value in request.get("headers", {}).items():
            headers[next((header for header in headers if header.lower() == name.lower()), name)] = value
        if request["method"] == "POST":
            # Also for refused requests and preflights: a faulty server may have stored them.
            name = profile_name(path)
            self._names |= dict.fromkeys([name] if name else batch_names(request.get("body")))
        whole = self._place(request.get("place", "")) + path + query
        return SentRequest(request["method"], whole, headers, body, request.get("caller", ""))

    def _place(self, place: str) -> str:
        """Return the prefix of a path: of the environment, of another one (elsewhere), or of the server."""
        if place == "elsewhere":
            return f"{self._prefix.rpartition('/')[0]}/{self._mark}-elsewhere"
        return "" if place == "root" else self._prefix

    def _exchange(self, request: SentRequest) -> Answer:
        headers = {**request.headers, **authorization(request.caller, self._key)}
        answer = self._send(request.method, request.path, request.body, headers)
        if request.method == "POST":
            self._names |= dict.fromkeys(_answered_ids(answer))
        return answer


def claims_of(send: Send, key: str = "") -> tuple[str, ...]:
    """Return what a server claims in its own ``/openapi.json``, as ``info.x-claims``; nothing where it has none.

    Raises:
        NoAnswer: there was no answer.
    """
    document = document_of(send("GET", "/openapi.json", None, authorization("", key)))
    info = document.get("info") if isinstance(document, dict) else None
    claimed = info.get("x-claims") if isinstance(info, dict) else None
    return tuple(claim for claim in CLAIMS if isinstance(claimed, list) and claim in claimed)


def _in_path(value: object) -> str:
    return quote(value, safe="") if isinstance(value, str) else "nothing"


def _answered_ids(answer: Answer) -> Iterator[str]:
    document = document_of(answer)
    data = document.get("data") if document is not ABSENT and isinstance(document, dict) else None
    if isinstance(data, dict):
        profiles = data.get("profiles")
        for profile in [data.get("profile"), *(profiles if isinstance(profiles, list) else [])]:
            if isinstance(profile, dict) and isinstance(profile.get("id"), str) and profile["id"]:
                yield profile["id"]
