"""The middleware as a guest in the process of a site: its threads, what it logs once, and how the process ends."""

from __future__ import annotations

import logging
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from freezegun import freeze_time

from ninetailed_wsgi import Ninetailed
from ninetailed_wsgi.errors import SettingsError
from ninetailed_wsgi.service.service import ExperienceService
from tests.mount.conftest import ENVIRONMENT, SHOP, Mounted
from tests.mount.sites import Reply
from tests.serving import wait_until

CHEROOT = """
import signal, sys, urllib.request, threading
from cheroot.wsgi import Server
from ninetailed_wsgi import Ninetailed, visitor_of

def site(environ, start_response):
    visitor_of(environ).page()
    start_response("200 OK", [("Content-Length", "4")])
    return [b"page"]

server = Server(("127.0.0.1", 0), Ninetailed(site, content=sys.argv[1], data_dir=sys.argv[2], time_budget_ms=20_000))
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
server.prepare()
thread = threading.Thread(target=server.serve)
thread.start()
try:
    with urllib.request.urlopen(f"http://127.0.0.1:{server.bind_addr[1]}/") as page:
        print(page.read().decode(), "ntaid" in page.headers["Set-Cookie"], flush=True)
    threading.Event().wait()
finally:
    server.stop()
    thread.join()
"""


def server_event(visitor: str) -> dict[str, Any]:
    library = {"name": "test", "version": "1"}
    time = "2026-11-26T12:00:00.000Z"
    return {
        "type": "identify",
        "anonymousId": visitor,
        "userId": "",
        "traits": {"plan": "pro"},
        "channel": "server",
        "messageId": f"message of {visitor}",
        "originalTimestamp": time,
        "sentAt": time,
        "timestamp": time,
        "context": {"library": library},
    }


def names_of_threads() -> set[str]:
    return {thread.name for thread in threading.enumerate()}


def test_a_site_under_cheroot_that_used_its_visitor_ends_at_the_first_sigterm(tmp_path: Path) -> None:
    command = [sys.executable, "-c", CHEROOT, str(SHOP), str(tmp_path / "data")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "page True\n"
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0
        finally:
            process.kill()


def waiting(service: ExperienceService) -> int:
    state = service.imports()
    assert state is not None
    return state.waiting


def test_the_thread_for_imports_starts_with_the_first_import(bare: Mounted) -> None:
    before = names_of_threads()
    site = bare.visited_by(lambda visitor: visitor.page(), access="open")
    assert site.get("/").status == 200
    assert "ninetailed-imports" not in names_of_threads() - before
    service = bare.service
    service.import_many(ENVIRONMENT, {"events": [server_event("anna")]})
    assert "ninetailed-imports" in names_of_threads()
    wait_until(lambda: waiting(service) == 0, "the batch is applied")
    assert bare.profile("anna")["traits"] == {"plan": "pro"}
    assert bare.latest is not None
    bare.latest.close()


def test_the_mocks_and_the_frozen_clock_of_a_site_do_not_reach_our_threads(bare: Mounted) -> None:
    with mock.patch("time.sleep") as slept, freeze_time("2020-01-01"):
        site = bare.visited_by(lambda visitor: visitor.flag("free-shipping-from", 50))
        assert site.get("/").status == 200
        service = bare.service
        service.import_many(ENVIRONMENT, {"events": [server_event("anna")]})
        real = threading.Event()  # wait_until would meet the mocks
        assert any(waiting(service) == 0 or real.wait(0.01) for _ in range(6000))
    assert slept.call_count == 0
    assert bare.latest is not None
    bare.latest.close()


def test_content_that_is_left_out_is_told_at_the_first_page_and_once(
    bare: Mounted, caplog: pytest.LogCaptureFixture
) -> None:
    site = bare.visited_by(lambda visitor: visitor.variant("banner"), content=None)
    with caplog.at_level(logging.WARNING):
        assert caplog.messages == []
        assert [site.get("/").text for _ in range(3)] == ["banner"] * 3
    assert [message for message in caplog.messages if "content" in message] == [
        "the option content is not set, so there are no audiences and no experiences, and every page shows its "
        'baselines: Ninetailed(app, content="content.json")'
    ]


def test_a_call_with_wrong_arguments_is_told_without_their_values(
    bare: Mounted, caplog: pytest.LogCaptureFixture
) -> None:
    def calls(visitor: Any) -> str:
        visitor.track("ordered", {"price": 5})
        visitor.identify("anna@example.org", {"plan": "pro"})
        return "page"

    site = bare.visited_by(calls)
    with caplog.at_level(logging.WARNING):
        assert [site.get("/").text for _ in range(2)] == ["page"] * 2
    assert [message for message in caplog.messages if "arguments" in message] == [
        "visitor.track: found wrong arguments, expected visitor.track(event, **properties); nothing was done",
        "visitor.identify: found wrong arguments, expected visitor.identify(user_id='', **traits); nothing was done",
    ]
    assert not [message for message in caplog.messages if "anna" in message or "without personalization" in message]


def test_an_entry_id_that_no_content_names_is_told_once(bare: Mounted, caplog: pytest.LogCaptureFixture) -> None:
    entries = ["baner", "banner", "banner-offer", {"id": "some-entry"}, {"sys": {"id": "other"}, "fields": {}}]
    site = bare.browser(
        lambda environ: Reply(str([environ["ninetailed.visitor"].variant(e) for e in entries]).encode())
    )
    with caplog.at_level(logging.WARNING):
        assert [site.get("/").status for _ in range(3)] == [200] * 3
    assert [message for message in caplog.messages if "entry" in message] == [
        'visitor.variant: no content names the entry "baner"; shown as it is'
    ]


@pytest.mark.parametrize("option", ["content", "geoip_database", "identity_secret_file", "data_dir"])
def test_an_error_names_the_whole_path_that_was_tried(
    option: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if option == "data_dir":
        Path("nothing").write_text("")
    with pytest.raises(SettingsError) as refused:
        Ninetailed(lambda environ, start_response: [], **{option: "nothing"})
    assert str(tmp_path / "nothing") in str(refused.value)
