"""Keys over HTTP: one that is new, revoked or expired while the service runs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from ninetailed_wsgi.commands.main import main
from ninetailed_wsgi.service.keys import read_keys
from ninetailed_wsgi.testing import Client, Harness
from tests.serving import PREFIX, SERVERS, Server, page, serving, wait_until

IN_A_ROW = 20
"""Requests that are answered alike: then every worker has read the file."""


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def import_status(server: Server, headers: Mapping[str, str]) -> int:
    event = {**page("a"), "anonymousId": "somebody"}
    return server.call("POST", f"{PREFIX}/import/events", {"events": [event]}, headers).status


def answers(server: Server, key: str, status: int) -> bool:
    return all(import_status(server, bearer(key)) == status for _ in range(IN_A_ROW))


@pytest.mark.parametrize("kind", SERVERS)
def test_a_key_that_is_made_or_revoked_while_servers_run_counts_in_each_process(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "keys.json"

    def new(name: str) -> str:
        assert main(["key", "new", name, "--scope", "events", "--keys-file", str(file)]) == 0
        return capsys.readouterr().out.strip()

    first = new("crm")
    options = ["--server", kind, "--workers", "2", "--access", "guarded", "--keys-file", str(file)]
    with serving(tmp_path, *options, "--environments", "acme/main") as server:
        assert import_status(server, bearer(first)) == 200
        assert import_status(server, {}) == 401
        second = new("crm")
        wait_until(lambda: answers(server, second, 200), "every worker knows the new key")
        assert answers(server, first, 200)
        (id,) = (entry.id for entry in read_keys(file)[:1])
        assert main(["key", "revoke", id, "--keys-file", str(file)]) == 0
        wait_until(lambda: answers(server, first, 401), "no worker knows the old key")
        assert answers(server, second, 200)
        assert main(["key", "revoke", "crm", "--keys-file", str(file)]) == 0
        wait_until(lambda: answers(server, second, 401), "no worker knows any key")
    assert not re.search("|".join((first, second)), server.printed.read_text() + file.read_text())


def test_a_new_key_is_printed_once_alone_and_two_of_one_name_are_told_apart(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "keys.json"
    keys = []
    for scopes in ("events", "read,delete"):
        assert main(["key", "new", "crm", "--scope", scopes, "--expires", "30", "--keys-file", str(file)]) == 0
        printed = capsys.readouterr()
        assert re.fullmatch(r"nt_[\w-]{43}\n", printed.out)
        keys.append(printed.out.strip())
        assert keys[-1] not in printed.err
    assert keys[0] != keys[1]
    assert file.stat().st_mode & 0o777 == 0o600
    assert main(["key", "list", "--keys-file", str(file)]) == 0
    listed = capsys.readouterr().out
    for key, entry in zip(keys, read_keys(file), strict=True):
        assert key not in listed + file.read_text()
        assert entry.id in listed
    assert main(["key", "revoke", "crm", "--keys-file", str(file)]) == 2  # which of them?
    assert main(["key", "revoke", read_keys(file)[0].id, "--keys-file", str(file)]) == 0
    assert [sorted(entry.scopes) for entry in read_keys(file)] == [["delete", "read"]]


@pytest.mark.parametrize("way", ["app", "mount"])
def test_a_key_is_401_from_the_moment_on_at_which_it_expires(way: str) -> None:
    with Harness(access="guarded") as harness:
        key, lasting = harness.key("delete", days=1), harness.key("delete")
        client, prefix = harness.client, ""
        if way == "mount":
            client, prefix = Client(harness.mount(lambda environ, start: [], prefix="/api")), "/api"

        def status(key: str) -> int:
            path = f"{prefix}{harness.client.prefix}/profiles/nobody"
            answer = client.call("DELETE", path, headers=bearer(key))
            assert ("www-authenticate" in answer.headers) is (answer.status == 401)
            return answer.status

        assert [status(key), status(lasting)] == [404, 404]
        harness.clock.advance(seconds=86_399)
        assert [status(key), status(lasting)] == [404, 404]
        harness.clock.advance(seconds=1)
        assert [status(key), status(lasting)] == [401, 404]
