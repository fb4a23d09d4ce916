"""A draft that is handed to the inspector: read in a request, counted in a process that serves nobody."""

from __future__ import annotations

import gzip
import html
import io
import json
import logging
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from serving import serving, wait_until

from ninetailed_wsgi.api.validation.schemas import Schemas
from ninetailed_wsgi.commands.main import main
from ninetailed_wsgi.core import operators
from ninetailed_wsgi.insights import drafts, population
from ninetailed_wsgi.testing import Answer, Harness
from tests.inspector.places import count as count_options
from tests.inspector.test_inspector import get, post, proof_of

SCHEMAS = Schemas()


def text(least: int) -> str:
    """Return a draft as a file of the generic form has it."""
    rules = {"type": "page", "operator": "greaterThanInclusive", "count": str(least)}
    path = {"id": "context_page_path", "key": "context_page_path", "value": ""}
    rules["conditions"] = [{"key": path, "operator": "equal", "value": "/pricing"}]  # type: ignore[assignment]
    fans = {"id": "fans", "name": "Fans", "rules": {"any": [{"all": [rules]}]}}
    return json.dumps({"audiences": [fans], "experiences": []})


@pytest.fixture
def harness() -> Iterator[Harness]:
    with Harness(json.loads(text(1)), inspector=True) as made:
        for number in range(5):
            made.visitor(f"visitor-{number}").views(*["/pricing"] * 1)
            if number == 0:
                made.visitor("visitor-0").views("/pricing")
        yield made


def hand_in(harness: Harness, draft: str | bytes, name: str = "", page: str = "what-if.json", **headers: str) -> Answer:
    """Hand in a draft: as a file where it has a name, else pasted."""
    proof = proof_of(get(harness, "find", **headers)) if not headers else ""
    if not name:
        return post(harness.client, f"/inspector/{page}", {"proof": proof, "draft": str(draft)}, **headers)
    raw = draft.encode() if isinstance(draft, str) else draft
    head = f'--limit\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n'
    body = b'--limit\r\nContent-Disposition: form-data; name="proof"\r\n\r\n' + proof.encode() + b"\r\n"
    body += head.encode() + b"Content-Type: application/json\r\n\r\n" + raw + b"\r\n--limit--\r\n"
    form = {"Content-Type": "multipart/form-data; boundary=limit", **headers}
    return harness.client.call("POST", f"/inspector/{page}", body, headers=form)


def count(harness: Harness) -> None:
    """Count what waits, as the process for results does every two seconds."""
    contents = population.PopulationContent(harness.service.content)
    population.compute_waiting(harness.settings.data_dir, harness.service.store, contents, harness.clock())


@pytest.mark.parametrize("name", ["", "autumn.json"])
def test_a_draft_waits_and_is_counted_elsewhere(harness: Harness, name: str) -> None:
    answer = hand_in(harness, text(2), name)
    SCHEMAS.check("inspector-what-if", answer.document)
    data = answer.document["data"]
    assert data["computedAt"] is None, "a request counts nothing"
    assert (data["draft"]["name"], data["draft"]["waits"]) == (name or "pasted", True)
    assert "waits to be counted" in get(harness, "what-if").body.decode()
    harness.clock.advance(minutes=2)
    count(harness)
    answer = get(harness, "what-if.json")
    SCHEMAS.check("inspector-what-if", answer.document)
    data = answer.document["data"]
    assert data["draft"]["waits"] is False
    fans = next(each for each in data["audiences"] if each["id"] == "fans")
    assert (fans["before"], fans["after"], fans["leave"]) == (5, 1, 4)
    assert data["visitorsChanged"]["any"] == 4
    harness.clock.advance(minutes=3)
    shown = get(harness, "what-if").body.decode()
    assert "Counted 3 minutes ago" in shown
    assert "4 visitors would get something else" in shown
    assert "waits to be counted" not in shown


def test_the_rules_that_the_draft_of_the_options_changes_stand_side_by_side() -> None:
    with Harness(json.loads(text(1)), inspector=True, draft_content=json.loads(text(3))) as harness:
        harness.visitor("anna").views("/pricing")
        count_options(harness)
        shown = html.unescape(get(harness, "what-if").body.decode())
        assert "with the draft that the options of the server name" in shown
        before, _, after = shown.partition("New rules of Fans")[2].partition("<h3>Draft</h3>")
        assert 'viewed a page whose path is "/pricing"</li>' in before.replace("\n", "")
        assert 'viewed a page whose path is "/pricing", at least 3 times' in after
        hand_in(harness, text(2))
        assert "New rules of Fans" not in get(harness, "what-if").body.decode(), "it is another draft"
    with Harness(json.loads(text(1)), inspector=True) as harness:
        harness.visitor("anna").views("/pricing")
        contents = population.PopulationContent(harness.service.content)
        population.compute(harness.settings.data_dir, harness.service.store, contents, harness.clock())
        assert "no draft is there that differs from what is published" in get(harness, "what-if").body.decode()


def test_a_newer_draft_takes_the_place_of_the_last_and_can_be_discarded(harness: Harness) -> None:
    hand_in(harness, text(2))
    count(harness)
    harness.clock.advance(seconds=1)
    assert hand_in(harness, text(9)).document["data"]["draft"]["waits"]
    count(harness)
    assert get(harness, "what-if.json").document["data"]["visitorsChanged"]["any"] == 5
    fields = {"proof": proof_of(get(harness, "find")), "discard": "yes"}
    assert post(harness.client, "/inspector/what-if.json", fields).document["data"]["draft"] is None
    assert drafts.environments(harness.settings.data_dir) == []


def test_a_person_is_led_back_to_the_page_and_it_says_how_to_count(harness: Harness) -> None:
    answer = hand_in(harness, text(2), "autumn.json", page="what-if")
    assert (answer.status, answer.headers["location"]) == (303, "/inspector/what-if")
    shown = get(harness, "what-if").body.decode()
    assert f"--data-dir {harness.settings.data_dir}" in shown
    assert "Discard the draft “autumn.json”" in shown
    assert "<p>Uploaded just now. This server does not count" in shown


def _zip() -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("draft.json", b"[" * 50_000_000)
    return packed.getvalue()


@pytest.mark.parametrize(
    ("draft", "status", "wrong"),
    [
        (b"", 400, "body: found nothing"),
        (b"{", 400, "body: "),
        (b"\xff\xfe\x00", 400, "body: "),
        (b"5", 400, "is not recognized"),
        (b"[" * 90_000 + b"]" * 90_000, 400, "body: "),
        (b'{"audiences": ' + b"[" * 900 + b"]" * 900 + b"}", 400, "nested too deeply"),
        (b" " * 1_048_577, 413, "expected at most"),
        (_zip(), 400, "body: "),
        (gzip.compress(b"[]"), 400, "body: "),
    ],
    ids=[
        "nothing",
        "half",
        "no text",
        "a number",
        "a tower",
        "a deep one",
        "too long",
        "zip",
        "gzip",
    ],
)
def test_what_is_no_draft_is_refused_with_the_reason(harness: Harness, draft: bytes, status: int, wrong: str) -> None:
    answer = hand_in(harness, draft, "draft.json")
    assert (answer.status, wrong in answer.document["message"]) == (status, True), answer.document["message"]
    shown = hand_in(harness, draft, "draft.json", page="what-if")
    assert shown.status == status
    assert drafts.environments(harness.settings.data_dir) == []


def test_a_body_that_is_packed_is_refused_unread(harness: Harness) -> None:
    bomb = gzip.compress(b"[" * 10_000_000)
    headers = {"Content-Type": "multipart/form-data; boundary=limit", "Content-Encoding": "gzip"}
    assert harness.client.call("POST", "/inspector/what-if.json", bomb, headers=headers).status == 415


@pytest.mark.parametrize(
    "form",
    [
        b"",
        b"--limit",
        b"--limit\r\n\r\n",
        b"--other\r\n\r\nx\r\n--other--\r\n",
        b"--limit\r\nContent-Disposition: form-data\r\n\r\nx\r\n--limit--\r\n",
        b'--limit\r\nContent-Disposition: form-data; name="draft"\r\n\r\n\xff\r\n--limit--\r\n',
        b'--limit\r\nContent-Disposition: form-data; name="' + b"x" * 20_000 + b'"\r\n\r\nx\r\n--limit--\r\n',
        b'--limit\r\nContent-Disposition: form-data; name="a"\r\n\r\nx\r\n' * 100 + b"--limit--\r\n",
    ],
    ids=range(8),
)
def test_a_form_that_is_none_is_400_or_403(harness: Harness, form: bytes) -> None:
    for content_type in (
        "multipart/form-data; boundary=limit",
        "multipart/form-data",
        "multipart/form-data; boundary=",
    ):
        answer = harness.client.call("POST", "/inspector/what-if.json", form, headers={"Content-Type": content_type})
        assert answer.status in (400, 403), answer.body


def test_the_name_of_a_file_is_text_and_leads_nowhere(harness: Harness) -> None:
    before = {file for file in harness.settings.data_dir.rglob("*") if file.is_file()}
    assert hand_in(harness, text(2), "../../<b>x</b>\u202e.json").status == 200
    new = {file for file in harness.settings.data_dir.rglob("*") if file.is_file()} - before
    assert [file.parent for file in new] == [harness.settings.data_dir / "population"]
    shown = get(harness, "what-if").body.decode()
    assert "<b>" not in shown
    assert "[U+202E]" in shown


def of_rules(*rules: object) -> str:
    return json.dumps({"audiences": [{"id": "x", "rules": {"any": [{"all": list(rules)}]}}]})


EXPRESSION = {
    "type": "page",
    "conditions": [{"key": {"key": "context_page_path"}, "operator": "regex", "value": "(tea"}],
}


@pytest.mark.parametrize(
    ("draft", "wrong"),
    [
        (of_rules({"type": "dance"}), 'entry x: rules.any[0].all[0].type: found "dance"'),
        (of_rules({"type": "page", "operator": "biggerThan"}), 'operator: found "biggerThan"'),
        (of_rules({"type": "page", "count": "many"}), 'count: found "many"'),
        (json.dumps({"experiences": [{"id": "x", "config": {"distribution": [2, -1]}}]}), "entry x: "),
    ],
    ids=["a rule of no type", "an unknown operator", "no number", "a config"],
)
def test_what_is_wrong_with_a_rule_is_told_when_it_is_handed_in(harness: Harness, draft: str, wrong: str) -> None:
    answer = hand_in(harness, draft, "autumn.json")
    assert (answer.status, wrong in answer.document["message"]) == (400, True), answer.document["message"]
    shown = html.unescape(hand_in(harness, draft, "autumn.json", page="what-if").body.decode())
    assert wrong in shown
    assert drafts.environments(harness.settings.data_dir) == []


@pytest.mark.parametrize(
    ("draft", "wrong"),
    [
        (of_rules(EXPRESSION), "a regular expression that RE2 can run"),
        (of_rules(*[{"type": "dance"}] * 10_000), "dance"),
        (json.dumps({"audiences": [{"id": str(n), "rules": {"type": "dance"}} for n in range(2001)]}), "dance"),
    ],
    ids=["a regular expression", "large rules", "many entries"],
)
def test_what_takes_long_to_find_is_told_when_it_is_counted(
    harness: Harness, draft: str, wrong: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow: list[str] = []
    compile = operators.re2.compile
    monkeypatch.setattr(
        operators.re2, "compile", lambda pattern, options: slow.append(pattern) or compile("x", options)
    )
    assert hand_in(harness, draft, "autumn.json").status == 200
    assert "(tea" not in slow
    monkeypatch.undo()
    count(harness)
    data = get(harness, "what-if.json").document["data"]
    assert wrong in data["problem"]
    assert data["visitorsChanged"]["any"] == 0
    assert "The draft could not be used" in get(harness, "what-if").body.decode()


def test_a_draft_that_broke_since_is_named_and_nothing_moves(harness: Harness) -> None:
    drafts.hand_in(harness.settings.data_dir, harness.environment, drafts.Draft(b"{", "autumn.json", 5, "anna"))
    count(harness)
    data = get(harness, "what-if.json").document["data"]
    assert data["visitorsChanged"]["any"] == 0
    assert data["problem"].startswith("autumn.json: is not JSON")
    assert "could not be used" in get(harness, "what-if").body.decode()


def test_who_hands_in_a_draft_needs_the_scope_and_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with Harness(json.loads(text(1)), inspector=True, access="guarded") as harness, caplog.at_level(logging.INFO):
        for scope, status in (("read", 403), ("admin", 200)):
            headers = {"Authorization": f"Bearer {harness.key(scope)}"}
            assert hand_in(harness, text(2), "x.json", **headers).status == status
        assert hand_in(harness, text(2), "x.json", Authorization="Bearer wrong").status == 401
        assert "test uploaded a draft in the inspector" in caplog.text


def test_the_command_counts_a_draft_that_was_handed_in(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "content.json"
    file.write_text(text(1), encoding="utf-8")
    options = ["--content", str(file), "--data-dir", str(tmp_path / "data")]
    with serving(tmp_path, "--content", str(file), "--inspector"):
        pass
    where = population.Environment("default", "main")
    drafts.hand_in(tmp_path / "data", where, drafts.Draft(text(2).encode(), "autumn.json", 5, "anna"))
    assert main(["what-if", "default/main", "--keep", *options]) == 0
    assert population.waiting(tmp_path / "data", where) is None
    drafts.hand_in(tmp_path / "data", where, drafts.Draft(b"{", "autumn.json", 6, "anna"))
    capsys.readouterr()
    assert main(["what-if", "default/main", *options]) == 2
    assert "uploaded in the inspector: autumn.json: is not JSON" in capsys.readouterr().err


def test_serve_counts_a_draft_within_seconds(tmp_path: Path) -> None:
    file = tmp_path / "content.json"
    file.write_text(text(1), encoding="utf-8")
    options = ["--content", str(file), "--inspector", "--results-every", "3600", "--workers", "1"]
    with serving(tmp_path, *options) as server:
        path = "/inspector/what-if.json"
        page = server.call("GET", "/inspector/what-if").body.decode()
        proof = page.partition('name="proof" value="')[2].partition('"')[0]
        body = b'--limit\r\nContent-Disposition: form-data; name="proof"\r\n\r\n' + proof.encode()
        body += b'\r\n--limit\r\nContent-Disposition: form-data; name="draft"\r\n\r\n' + text(2).encode()
        form = {"Content-Type": "multipart/form-data; boundary=limit"}
        answer = server.call("POST", path, body + b"\r\n--limit--\r\n", form)
        assert answer.json()["data"]["draft"]["waits"], answer.body

        def counted() -> bool:
            draft = server.call("GET", path).json()["data"]["draft"]
            return draft["waits"] is False

        wait_until(counted, "the process for results counted the draft", 60)
