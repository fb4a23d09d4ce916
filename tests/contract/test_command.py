"""The contract command as a person meets it: what it says, what it writes, how it ends, and what it leaves behind."""

from __future__ import annotations

import io
import json
import signal
import socket
import subprocess
import sys
import threading
from argparse import ArgumentParser
from collections.abc import Iterator, Mapping
from pathlib import Path
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment
from xml.etree import ElementTree

import pytest
from serving import ROOT, free_port

from ninetailed_wsgi import create_app
from ninetailed_wsgi.commands.main import main
from ninetailed_wsgi.contract import command
from ninetailed_wsgi.contract.answers import Answer
from ninetailed_wsgi.contract.flags import add_arguments
from tests.contract.faults import Ask, Reply, Request, in_answer, in_request, with_fault
from tests.contract.servers import CASES, Told, behind_a_port, speaking_with

CONTRACT = ["contract", "--organization", "acme"]


def inside(monkeypatch: pytest.MonkeyPatch, app: WSGIApplication) -> str:
    """The URL of a server that is this app."""
    monkeypatch.setattr(command, "Target", lambda url, timeout: speaking_with(app))
    return "http://broken.example"


def with_some_cases(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the command the cases about profiles and batches alone: all of them take seconds over HTTP."""
    cases = [case for case in CASES if case.area in ("profiles", "batch")]
    assert len(cases) > 20
    monkeypatch.setattr(command, "load_cases", lambda: cases)


# What it is given


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ([], "required: --base-url"),
        (["--base-url", "localhost:8000"], "found 'localhost:8000', expected an address such as http://127.0.0.1:8000"),
        (["--base-url", "ftp://localhost"], "found 'ftp://localhost'"),
        (["--base-url", "http://user:word@localhost"], "expected an address such as"),
        (["--base-url", "http://localhost:99999"], "expected an address such as"),
        (["--base-url", "http://localhost/?a=b"], "expected an address such as"),
        (["--base-url", "http://localhost", "--report", "out.txt"], "expected a file that ends in .xml or .json"),
        (["--base-url", "http://localhost", "--report", "no/such/out.xml"], "there is no folder no/such"),
        (
            ["--base-url", "http://localhost", "--claims", "magic"],
            "expected all, none, or some of deduplication, choices",
        ),
        (
            ["--base-url", "http://localhost", "--origin", "shop.example"],
            "found 'shop.example', expected an origin such as",
        ),
        (
            ["--base-url", "http://localhost", "--origin", "*"],
            "found '*', expected an origin such as https://shop.example",
        ),
        (["--base-url", "http://localhost", "--timeout", "0"], "expected a number of seconds up to 600"),
        (["--base-url", "http://localhost", "--data-dir", "x"], "unrecognized arguments: --data-dir"),
    ],
)
def test_wrong_usage_ends_with_2_and_says_what_is_wrong(
    capsys: pytest.CaptureFixture[str], flags: list[str], says: str
) -> None:
    try:
        status: object = main([*CONTRACT, *flags])
    except SystemExit as exit:
        status = exit.code
    assert status == 2
    assert says in capsys.readouterr().err


def test_a_server_that_is_not_there_is_2_and_said(tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    told = Told(url, tmp_path)
    assert (told.status, told.out) == (2, "")
    assert told.err == f"ninetailed-wsgi contract: cannot test {url}: Connection refused\n"


def test_a_server_that_is_silent_is_2_after_the_timeout(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        told = Told(f"http://127.0.0.1:{silent.getsockname()[1]}", tmp_path, "--timeout", "0.2")
    assert told.status == 2
    assert "no answer within 0.2 seconds" in told.err


def test_something_that_does_not_speak_http_is_2(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:

        def greet() -> None:
            connection, _ = other.accept()
            with connection:
                connection.sendall(b"220 mail.example ESMTP\r\n")

        thread = threading.Thread(target=greet)
        thread.start()
        told = Told(f"http://127.0.0.1:{other.getsockname()[1]}", tmp_path)
        thread.join()
    assert told.status == 2
    assert "no answer in HTTP" in told.err


def test_an_environment_that_the_server_does_not_know_is_2(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    app = create_app(data_dir=str(tmp_path / "data"), environments=("other/main",), access="open")
    told = Told(inside(monkeypatch, app), tmp_path)
    assert told.status == 2
    assert "the server answers: " in told.err
    assert "acme" in told.err


def test_the_server_may_be_mounted_under_a_prefix(
    monkeypatch: pytest.MonkeyPatch, api: WSGIApplication, tmp_path: Path
) -> None:
    with_some_cases(monkeypatch)

    def site(environ: WSGIEnvironment, start_response: StartResponse) -> object:
        assert environ["PATH_INFO"].startswith("/shop/api/")
        return api({**environ, "PATH_INFO": environ["PATH_INFO"].removeprefix("/shop/api")}, start_response)

    with behind_a_port(site) as url:  # type: ignore[arg-type]
        assert Told(url + "/shop/api/", tmp_path).status == 0


# What a server claims


def test_what_a_server_does_not_claim_is_skipped_and_said(
    monkeypatch: pytest.MonkeyPatch, api: WSGIApplication, tmp_path: Path
) -> None:
    told = Told(inside(monkeypatch, api), tmp_path, "--claims", "deduplication")
    skipped = [case for case in told.report["cases"] if case["outcome"] == "skipped"]
    assert told.status == 0
    others = ("choices", "flags")
    assert {case["id"] for case in skipped} == {case.id for case in CASES if case.claim in others}
    assert {case["reason"] for case in skipped} == {f"the server does not claim {claim}" for claim in others}
    assert "which claims deduplication\n" in told.out


@pytest.mark.parametrize("claims", [[], ["--claims", "none"]])
def test_a_server_without_a_description_claims_nothing(
    monkeypatch: pytest.MonkeyPatch, api: WSGIApplication, tmp_path: Path, claims: list[str]
) -> None:
    missing = b'{"message": "no route", "data": {}, "error": {"code": "ERR_NOT_FOUND"}}'
    real = speaking_with(api)

    def send(method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> Answer:
        return Answer(404, {}, missing) if path == "/openapi.json" else real(method, path, body, headers)

    monkeypatch.setattr(command, "Target", lambda url, timeout: send)
    told = Told("http://other.example", tmp_path, *claims)
    assert told.status == 0
    assert told.report["totals"]["skipped"] == len([case for case in CASES if case.claim])
    assert "which claims nothing besides\n" in told.out


# What it says


def forgetful(request: Request, reply: Reply) -> Reply:
    """Does not answer the traits of an update."""
    if reply.ok and request.method == "POST" and request.name:
        reply.body["data"]["profile"]["traits"] = {}
    return reply


def test_a_failure_says_what_was_sent_what_was_expected_and_what_came(
    monkeypatch: pytest.MonkeyPatch, api: WSGIApplication, tmp_path: Path
) -> None:
    told = Told(inside(monkeypatch, with_fault(api, in_answer(forgetful))), tmp_path)
    said = told.out[told.out.index("FAIL  media/media-text:") :].splitlines()[:7]
    assert said[0] == "FAIL  media/media-text: a body may be called text/plain"
    assert said[1] == "      step 1 of 1"
    assert said[2].startswith("        sent      POST /v2/organizations/acme/environments/main/profiles/contract-")
    assert said[2].endswith("  Content-Type: text/plain")
    assert said[3].startswith('                  {"events": [{"type": "identify"')
    assert said[4].startswith('        expected  {"status": 200, "body": {"data": {"profile": {"id": "contract-')
    assert said[5].startswith('        came      200 {"data": {"profile": {"id": "contract-')
    assert said[6] == "        breach    body.data.profile.traits.a: found nothing, expected 1"
    assert "\nfailed: " in told.out
    assert "media/media-text, " in told.out.splitlines()[-1]


def test_a_terminal_gets_counted_progress_and_colours_and_a_file_gets_plain_lines(
    monkeypatch: pytest.MonkeyPatch, api: WSGIApplication
) -> None:
    url = inside(monkeypatch, api)

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    outputs = [Terminal(), io.StringIO()]
    cases = [case for case in CASES if case.area == "media"]
    monkeypatch.setattr(command, "load_cases", lambda: cases)
    for out in outputs:
        parser = ArgumentParser()
        add_arguments(parser)
        assert command.run(parser.parse_args(["--base-url", url, "--organization", "acme"]), out, io.StringIO()) == 0
    total = len(cases)
    assert f"[ 1/{total}] \x1b[32mok  \x1b[0m  " in outputs[0].getvalue()
    assert f"[{total}/{total}] " in outputs[0].getvalue()
    assert "\x1b" not in outputs[1].getvalue()


def test_what_a_server_sends_cannot_steer_the_terminal_or_break_the_xml(
    monkeypatch: pytest.MonkeyPatch, api: WSGIApplication, tmp_path: Path
) -> None:
    def answer(request: Request, reply: Reply) -> Reply:
        return Reply(500, {"content-type": "text/plain"}, "\x1b[2J\x00\ufffe") if request.name else reply

    with_some_cases(monkeypatch)
    told = Told(inside(monkeypatch, with_fault(api, in_answer(answer))), tmp_path)
    assert told.status == 1
    assert "\x1b" not in told.out
    ElementTree.parse(told.xml)


# What it writes


def test_the_reports_name_each_case_with_its_outcome_and_each_breach(
    monkeypatch: pytest.MonkeyPatch, api: WSGIApplication, tmp_path: Path
) -> None:
    told = Told(inside(monkeypatch, with_fault(api, in_answer(forgetful))), tmp_path, "--claims", "none")
    cases = {case["id"]: case for case in told.report["cases"]}
    assert set(cases) == {case.id for case in CASES}
    breach = cases["media-text"]["breach"]
    assert (breach["step"], breach["steps"], breach["sent"]["method"]) == (1, 1, "POST")
    assert json.loads(breach["sent"]["body"])["events"][0]["traits"] == {"a": 1}
    assert (breach["expected"]["status"], breach["came"]["status"]) == (200, 200)
    assert breach["problems"] == ["body.data.profile.traits.a: found nothing, expected 1"]
    suites = {suite.attrib["name"]: suite for suite in ElementTree.parse(told.xml).getroot()}
    assert int(suites["media"].attrib["tests"]) == len([case for case in CASES if case.area == "media"])
    failures = {
        case.attrib["name"]: case.find("failure") for case in suites["media"] if case.find("failure") is not None
    }
    failure = failures["media-text: a body may be called text/plain"]
    assert failure is not None
    assert failure.attrib["message"] == breach["problems"][0]
    assert "  sent      POST " in (failure.text or "")
    assert sum(int(suite.attrib["skipped"]) for suite in suites.values()) == told.report["totals"]["skipped"] > 0


def test_a_report_that_cannot_be_written_is_said_and_ends_with_1(
    monkeypatch: pytest.MonkeyPatch, api: WSGIApplication, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with_some_cases(monkeypatch)
    folder = tmp_path / "report.json"
    folder.mkdir()
    assert main([*CONTRACT, "--base-url", inside(monkeypatch, api), "--report", str(folder)]) == 1
    assert f"--report {folder}: Is a directory" in capsys.readouterr().err


# What it leaves behind


class Watched:
    """An app that knows which profiles are there, by who was created and who deleted."""

    def __init__(self, app: WSGIApplication) -> None:
        self.posts = 0
        self.there: set[str] = set()
        self.interrupt_at = 0
        self.app = with_fault(app, self._fault)

    def _fault(self, ask: Ask) -> Ask:
        def asked(request: Request) -> Reply:
            reply = ask(request)
            if request.method == "POST":
                self.posts += 1
                data = reply.body.get("data") or {}  # answers about flags have none
                profiles = data.get("profiles", [data.get("profile")])
                if "preflight" not in request.query:
                    self.there |= {profile["id"] for profile in profiles if profile}
                if self.posts == self.interrupt_at:
                    raise KeyboardInterrupt
            if request.method == "DELETE" and reply.ok:
                self.there.discard(request.name)
            return reply

        return asked


@pytest.mark.parametrize("post", [1, 5, 40])
def test_after_an_interruption_the_profiles_are_deleted_and_the_reports_written(
    monkeypatch: pytest.MonkeyPatch, api: WSGIApplication, tmp_path: Path, post: int
) -> None:
    watched = Watched(api)
    watched.interrupt_at = post
    told = Told(inside(monkeypatch, watched.app), tmp_path)
    assert told.status == 130
    assert "stopped before the end\n" in told.out
    assert told.report["interrupted"] is True
    assert told.report["profiles"]["left"] == []
    known = speaking_with(api)
    prefix = "/v2/organizations/acme/environments/main/profiles/"
    assert [name for name in watched.there if known("GET", prefix + name, None, {}).status == 200] == []


def test_when_nobody_reads_on_the_profiles_are_deleted_all_the_same(
    monkeypatch: pytest.MonkeyPatch, api: WSGIApplication
) -> None:
    class Closed(io.StringIO):
        def write(self, text: str) -> int:
            if "limits-" in text:
                raise BrokenPipeError
            return super().write(text)

    watched = Watched(api)
    parser = ArgumentParser()
    add_arguments(parser)
    given = parser.parse_args(["--base-url", inside(monkeypatch, watched.app), "--organization", "acme"])
    with pytest.raises(BrokenPipeError):
        command.run(given, Closed(), io.StringIO())
    assert watched.posts > 10
    assert watched.there == set()


def test_profiles_that_cannot_be_deleted_are_counted_and_named(
    monkeypatch: pytest.MonkeyPatch, api: WSGIApplication, tmp_path: Path
) -> None:
    def refused(ask: Ask) -> Ask:
        body = {"message": "no", "data": {}, "error": {"code": "ERR_INTERNAL_SERVER_ERROR"}}
        return lambda request: Reply(503, {}, body) if request.method == "DELETE" else ask(request)

    told = Told(inside(monkeypatch, with_fault(api, refused)), tmp_path)
    left = told.report["profiles"]["left"]
    assert told.status == 1
    assert len(left) > 200
    assert f"0 profiles were made and deleted; {len(left)} could not be deleted: {left[0]}, " in told.out


def test_two_runs_at_once_do_not_meet(monkeypatch: pytest.MonkeyPatch, api: WSGIApplication, tmp_path: Path) -> None:
    with_some_cases(monkeypatch)
    statuses: list[int] = []
    with behind_a_port(api) as url:
        arguments = [*CONTRACT, "--base-url", url]
        threads = [threading.Thread(target=lambda: statuses.append(main(arguments))) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert statuses == [0, 0]


def test_a_server_that_dies_ends_the_run_after_three_cases(
    monkeypatch: pytest.MonkeyPatch, api: WSGIApplication, tmp_path: Path
) -> None:
    real, calls = speaking_with(api), iter(range(10_000))

    def send(*arguments: object) -> object:
        if next(calls) > 20:
            raise command.NoAnswer("Connection refused")
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(command, "Target", lambda url, timeout: send)
    told = Told("http://dying.example", tmp_path)
    assert told.status == 1
    assert told.report["totals"]["failed"] == 3
    assert told.report["cases"][-1]["reason"] == "the server stopped answering"
    assert "        came      nothing\n        breach    Connection refused\n" in told.out


@pytest.fixture
def slow(api: WSGIApplication) -> Iterator[tuple[str, threading.Event]]:
    """A server that never answers its tenth POST, and says that it got it."""
    got, go = threading.Event(), threading.Event()
    posts = iter(range(10_000))

    def stuck(request: Request) -> Request:
        if request.method == "POST" and next(posts) == 9:
            got.set()
            go.wait(60)
        return request

    with behind_a_port(with_fault(api, in_request(stuck))) as url:
        yield url, got
        go.set()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_whoever_stops_the_command_gets_the_profiles_deleted(
    slow: tuple[str, threading.Event], number: signal.Signals
) -> None:
    url, got = slow
    process = subprocess.Popen(
        [sys.executable, "-m", "ninetailed_wsgi", *CONTRACT, "--base-url", url],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert got.wait(60)
        process.send_signal(number)
        out, err = process.communicate(timeout=120)
    finally:
        process.kill()
    assert (process.returncode, err) == (130, "")
    assert "profiles were made and deleted\nstopped before the end\n" in out
