"""The contract command with a key: the access table against a guarded server."""

from __future__ import annotations

from pathlib import Path

import pytest
from serving import serving

from ninetailed_wsgi.commands.main import main
from ninetailed_wsgi.contract.access import CALLERS, access_cases
from ninetailed_wsgi.testing import Harness
from tests.contract.servers import Told, behind_a_port

CASES = access_cases()
SCOPES = ("events", "read", "delete", "admin")


def test_every_access_case_holds_at_a_guarded_server_and_nothing_is_left(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = str(tmp_path / "keys.json")
    assert main(["key", "new", "contract", "--scope", ",".join(SCOPES), "--keys-file", keys]) == 0
    key = capsys.readouterr().out.strip()
    options = ("--keys-file", keys, "--explain", "--metrics", "--inspector", "--new-profiles-per-minute", "1000000")
    with serving(tmp_path, "--access", "guarded", "--environments", "acme/main", *options) as server:
        told = Told(server.url, tmp_path, "--key", key)
    assert (told.status, told.failed(), told.err) == (0, [], "")
    assert told.report["totals"] == {"passed": len(CASES), "failed": 0, "skipped": 0}
    assert told.report["profiles"]["left"] == []
    assert told.report["profiles"]["deleted"] > len(CASES)
    assert key not in told.out + told.xml.read_text() + str(told.report)


def test_an_open_server_fails_the_cases_that_guard_and_no_report_shows_the_key(tmp_path: Path) -> None:
    with Harness(access="open", organization="acme") as harness, behind_a_port(harness.app) as url:
        told = Told(url, tmp_path, "--key", "nt_everything")
    assert told.status == 1
    assert {"access-batch-stranger", "access-delete-own-stranger", "access-get-user-wrong"} <= set(told.failed())
    assert "access-create-stranger" not in told.failed()
    assert "nt_everything" not in told.out + told.xml.read_text() + str(told.report)
    breach = next(one["breach"] for one in told.report["cases"] if one["id"] == "access-batch-wrong")
    assert breach["sent"]["caller"] == "wrong"


def test_a_key_that_the_server_does_not_know_or_that_lacks_scopes_is_2_and_said(tmp_path: Path) -> None:
    with Harness(access="guarded", organization="acme") as harness, behind_a_port(harness.app) as url:
        for key, status in (("nt_unknown", 401), (harness.key("events"), 403)):
            told = Told(url, tmp_path, "--key", key)
            assert (told.status, told.out) == (2, "")
            assert f"refuses the key ({status}); it needs all scopes: events, read, delete, admin" in told.err
            assert key not in told.err


def test_every_operation_has_a_case_for_each_caller_that_one_key_allows() -> None:
    assert len({case.id for case in CASES}) == len({case.name for case in CASES}) == len(CASES)
    assert len(CASES) % len(CALLERS) == 0
