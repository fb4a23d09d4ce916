"""The two commands as a person meets them: what they print, how they end, and what they refuse."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import shlex
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest
from mmdb_writer import MMDBWriter
from netaddr import IPSet

from ninetailed_wsgi import Settings
from ninetailed_wsgi.commands.main import COMMANDS, main
from ninetailed_wsgi.server.announcement import announcement, curl_line
from ninetailed_wsgi.server.arrival import LONGEST_REQUEST_LINE
from ninetailed_wsgi.server.checks import check_all, check_location
from ninetailed_wsgi.server.gunicorn_server import configuration
from ninetailed_wsgi.settings import OPTIONS, USES
from tests.serving import MODULES

ROOT = Path(__file__).parent.parent
PROFILES = "/v2/organizations/default/environments/main/profiles"
AN_EVENT = {
    "type": "track",
    "event": "Signed up",
    "channel": "server",
    "messageId": "m1",
    "context": {"library": {"name": "test", "version": "4.0.0"}},
    "properties": {},
}


def environment(**variables: str) -> dict[str, str]:
    """This process's environment without settings of the service and options of gunicorn, and with ours on top."""
    ours = ("NINETAILED_", "GUNICORN_", "LISTEN_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return {**kept, "PYTHONPATH": MODULES, **variables}


@dataclass
class Serving:
    """A running server: its process, where it listens, and what it printed up to the line for curl."""

    process: subprocess.Popen[str]
    host: str
    port: int
    printed: str

    def request(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        connection = http.client.HTTPConnection(self.host, self.port, timeout=120)
        with contextlib.closing(connection):
            sent = None if body is None else json.dumps(body)
            connection.request(method, path, sent, {"Content-Type": "application/json"})
            response = connection.getresponse()
            raw = response.read()
            is_json = response.headers.get_content_type() == "application/json"
            return response.status, json.loads(raw) if is_json else raw


@contextlib.contextmanager
def serving(*command: str, folder: Path, until: str, **variables: str) -> Iterator[Serving]:
    """Run a server until the block ends; it listens when it has printed a line with `until`."""
    process = subprocess.Popen(
        command, cwd=folder, env=environment(**variables), text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    too_long = threading.Timer(300, process.kill)  # where the server does not get that far
    too_long.start()
    try:
        assert process.stdout is not None
        lines: list[str] = []
        while not (lines and until in lines[-1]):
            line = process.stdout.readline()
            assert line, "the server ended: " + "".join(lines)
            lines.append(line)
        too_long.cancel()
        printed = "".join(lines)
        where = next(word for word in printed.split() if word.startswith("http://"))
        host, _, port = where.removeprefix("http://").partition("/")[0].rpartition(":")
        yield Serving(process, host, int(port), printed)
    finally:
        too_long.cancel()
        process.terminate()
        process.wait(60)
        process.stdout.close()


def ninetailed(*arguments: str) -> tuple[str, ...]:
    return (sys.executable, "-m", "ninetailed_wsgi", *arguments)


def run(*arguments: str, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ninetailed(*arguments), cwd=folder, env=environment(**variables), text=True, capture_output=True, timeout=120
    )


def write_database(path: Path, *, database_type: str = "Test-City") -> Path:
    """A database that knows 127.0.0.0/8 as Berlin."""
    writer = MMDBWriter(6, database_type, languages=["en"], ipv4_compatible=True)
    record = {"city": {"names": {"en": "Berlin"}}, "country": {"iso_code": "DE", "names": {"en": "Germany"}}}
    writer.insert_network(IPSet(["127.0.0.0/8"]), record)
    writer.to_db_file(str(path))
    return path


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("NINETAILED_")]:
        monkeypatch.delenv(name)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    folder = tmp_path_factory.mktemp("served")
    (folder / "gunicorn.conf.py").write_text("raise SystemExit('gunicorn.conf.py was read')")
    database = write_database(folder / "city.mmdb")
    with serving(
        *ninetailed("serve", "--bind", "127.0.0.1:0", "--geoip-database", str(database), "--data-dir", "data"),
        folder=folder,
        until="  curl ",
        GUNICORN_CMD_ARGS="--bind=127.0.0.1:1 --workers=0",
    ) as running:
        yield running


# serve


def test_the_start_says_where_it_listens_and_what_it_found(server: Serving) -> None:
    assert f"listens on http://127.0.0.1:{server.port} (2 processes, 4 threads each)" in server.printed
    assert "data (writable, mode 0700, store format 3)" in server.printed
    assert "any organization and environment; restrict with --environments" in server.printed
    assert "Test-City, built " in server.printed
    assert "warning" not in server.printed


def test_the_curl_line_that_the_start_prints_works_when_pasted(server: Serving) -> None:
    words = shlex.split(server.printed.splitlines()[-1])
    assert [words[0], words[2], words[4]] == ["curl", "-H", "--data"]
    header, _, value = words[3].partition(": ")
    with urlopen(Request(words[1], words[5].encode(), {header: value}), timeout=120) as response:
        answer = json.load(response)
    assert answer["error"] is None
    assert answer["data"]["profile"]["location"]["city"] == "Berlin"


def test_neither_a_gunicorn_conf_file_nor_its_variable_changes_the_service(server: Serving) -> None:
    assert server.process.poll() is None
    assert server.request("GET", PROFILES + "/nobody")[0] == 404


def test_names_of_ten_thousand_bytes_are_served_although_each_byte_is_percent_encoded(server: Serving) -> None:
    long = "%C3%A4" * 5_000
    path = f"/v2/organizations/{long}/environments/{long}/profiles/{long[:1020]}"
    status, answer = server.request("POST", path, {"events": [AN_EVENT]})
    assert (status, answer["error"]) == (200, None)
    assert server.request("GET", path)[1]["data"]["profile"]["id"] == answer["data"]["profile"]["id"]


def test_a_request_line_without_end_is_refused_and_the_server_lives(server: Serving) -> None:
    with socket.create_connection((server.host, server.port), timeout=120) as client:
        with contextlib.suppress(ConnectionError):  # the refusal may come while we still send
            client.sendall(b"GET /" + b"a" * (4 * LONGEST_REQUEST_LINE))
        assert client.recv(100).startswith(b"HTTP/1.1 414")
    assert server.request("GET", PROFILES + "/nobody")[0] == 404


def test_a_stop_signal_ends_the_server_with_status_zero_and_the_data_stays(tmp_path: Path) -> None:
    command = ninetailed("serve", "--bind", "127.0.0.1:0", "--workers", "1", "--environments", "acme/site")
    path = "/v2/organizations/acme/environments/site/profiles/someone"
    with serving(*command, folder=tmp_path, until="  curl ") as first:
        assert "acme/site" in first.printed
        assert "warning: no database: visitors get no location" in first.printed
        assert "/organizations/acme/environments/site/profiles" in first.printed.splitlines()[-1]
        assert first.request("POST", path, {"events": [AN_EVENT]})[0] == 200
        first.process.send_signal(signal.SIGTERM)
        assert first.process.wait(60) == 0
    assert stat.S_IMODE((tmp_path / "ninetailed-data").stat().st_mode) == 0o700
    with serving(*command, folder=tmp_path, until="  curl ") as second:
        assert second.request("GET", path)[0] == 200


def test_gunicorn_itself_serves_the_app_with_settings_from_the_environment(tmp_path: Path) -> None:
    command = (sys.executable, "-m", "gunicorn", "--bind", "127.0.0.1:0", "--no-control-socket")
    with serving(
        *command,
        "ninetailed_wsgi:create_app(access='open')",
        folder=tmp_path,
        until="Listening at",
        NINETAILED_DATA_DIR="stored",
        NINETAILED_ENVIRONMENTS="default/main",
    ) as running:
        assert running.request("POST", PROFILES, {"events": [AN_EVENT]})[0] == 200
        assert running.request("POST", PROFILES.replace("main", "other"), {"events": [AN_EVENT]})[0] == 404
    assert (tmp_path / "stored").is_dir()


def test_a_port_that_is_taken_is_said_in_one_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = run("serve", "--bind", f"127.0.0.1:{port}", folder=tmp_path)
    assert ended.returncode == 1
    assert ended.stderr == (
        f"ninetailed-wsgi serve: cannot listen on 127.0.0.1:{port}: another process listens there already; "
        "stop it, or choose another port with --bind\n"
    )
    assert ended.stdout == ""


def test_wrong_settings_stop_the_start_with_one_message_that_lists_them_all(tmp_path: Path) -> None:
    flags = ("--bind", "here", "--workers", "0")
    ended = run("serve", *flags, folder=tmp_path, NINETAILED_HISTORY_DAYS="x", NINETAILED_WORKER="")
    assert ended.returncode == 2
    assert ended.stdout == ""
    first, *problems = ended.stderr.splitlines()
    assert first == "ninetailed-wsgi serve: cannot start:"
    options = [problem.split()[0].rstrip(":") for problem in problems]
    assert options == ["bind", "workers", "history_days", "NINETAILED_WORKER"]


def test_a_data_folder_that_cannot_be_made_is_refused_before_anything_starts(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    ended = run("serve", "--data-dir", "file/data", folder=tmp_path)
    assert ended.returncode == 2
    assert ended.stderr.startswith("ninetailed-wsgi serve: cannot start:\n  data folder: ")
    assert "Not a directory (--data-dir)" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_folder_with_other_files_is_refused_before_anything_starts(tmp_path: Path) -> None:
    ended = run("serve", "--data-dir", str(ROOT / "tests"), folder=tmp_path)
    assert ended.returncode == 2
    assert "contains other files and no store" in ended.stderr


def test_content_with_errors_is_refused_before_anything_starts_and_all_of_them_are_listed(tmp_path: Path) -> None:
    (tmp_path / "content.json").write_text('{"audiences": [{"id": "a"}, {"id": 5}], "experiences": 7}')
    ended = run("serve", "--content", "content.json", folder=tmp_path)
    assert ended.returncode == 2
    assert "content.json" in ended.stderr
    assert len(ended.stderr.splitlines()) > 2
    assert "Traceback" not in ended.stderr


def test_a_location_database_of_another_type_is_refused_before_anything_starts(tmp_path: Path) -> None:
    database = write_database(tmp_path / "isp.mmdb", database_type="Test-ISP")
    ended = run("serve", "--geoip-database", str(database), folder=tmp_path)
    assert ended.returncode == 2
    assert "Test-ISP" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_flag_that_does_not_exist_or_is_cut_short_is_refused(tmp_path: Path) -> None:
    ended = run("serve", "--data", "x", folder=tmp_path)
    assert ended.returncode == 2
    assert "unrecognized arguments: --data x" in ended.stderr


def test_the_usage_text_names_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["serve", "--help"])
    usage = capsys.readouterr().out
    assert all(f"--{name.replace('_', '-')}" in usage for name in Settings.__dataclass_fields__)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_shows_and_accepts_only_the_options_that_it_uses(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main([name, *(["show"] if name == "content" else []), "--help"])
    shown = set(re.findall(r"^  (--[a-z-]+)", capsys.readouterr().out, re.MULTILINE))
    for option in OPTIONS:
        wanted = _has_option(name, USES[option.use]) and not option.secret
        # It signs, and has no other option of a server.
        wanted = wanted or (name, option.name) == ("preview-link", "identity_secret_file")
        assert (option.flag in shown) == wanted, option.flag


def _has_option(command: str, users: str) -> bool:
    """Read the table's column `used by`: what it says of a command."""
    if command in ("contract", "init", "key"):
        return False
    if command == "content":  # stores nothing
        return "`content`" in users
    if command in ("serve", "check") or users == "all":
        return True
    return (f"`{command}`" in users) != users.startswith("all but")


def test_an_option_of_another_command_is_refused_as_a_flag_and_ignored_as_a_variable(tmp_path: Path) -> None:
    ended = run("stats", "--bind", "127.0.0.1:80", folder=tmp_path)
    assert ended.returncode == 2
    assert "unrecognized arguments: --bind" in ended.stderr
    ended = run("stats", folder=tmp_path, NINETAILED_WORKERS="none")
    assert ended.stderr == (
        "ninetailed-wsgi stats: wrong usage:\n"
        f"  data_dir: no profiles are stored in {tmp_path / 'ninetailed-data'} (--data-dir)\n"
    )


def test_a_stop_waits_longer_than_a_writer_waits_for_its_turn() -> None:
    assert configuration(Settings(store_timeout=20))["graceful_timeout"] > 20


@pytest.mark.parametrize(
    ("host", "called"),
    [("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "127.0.0.1"), ("::", "[::1]"), ("::1", "[::1]"), ("10.1.2.3", "10.1.2.3")],
)
def test_the_curl_line_calls_an_address_that_can_be_called(host: str, called: str) -> None:
    assert shlex.split(curl_line(Settings(), host, 8000))[1].startswith(f"http://{called}:8000/v2/")


def test_the_curl_line_names_the_first_environment_that_is_served_percent_encoded() -> None:
    line = curl_line(Settings(environments=("söme org/main",)), "127.0.0.1", 8000)
    assert "/organizations/s%C3%B6me%20org/environments/main/profiles" in line


def test_one_process_with_one_thread_is_announced_in_the_singular() -> None:
    assert "(1 process, 1 thread each)" in announcement(Settings(workers=1, threads=1), [], "::1", 80)


# check


def check(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, str]]:
    """The exit status, and each subject's line without the subject."""
    status = main(["check", *arguments])
    lines = [line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines()]
    found = {subject: f"{word} {rest.removeprefix(subject).strip()}" for word, rest in lines for subject in _in(rest)}
    return status, found


def _in(rest: str) -> list[str]:
    subjects = ("data folder", "environments", "location", "schemas", "content", "settings")
    return [subject for subject in subjects if rest.startswith(subject)]


def test_check_says_ok_to_a_good_installation_and_ends_with_zero(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "data").mkdir(mode=0o700)
    (tmp_path / "content.json").write_text('{"experiences": [], "audiences": []}')
    database = write_database(tmp_path / "city.mmdb")
    status, found = check(
        capsys,
        *("--data-dir", str(tmp_path / "data")),
        *("--geoip-database", str(database)),
        *("--content", str(tmp_path / "content.json")),
    )
    assert status == 0
    assert found["data folder"] == f"ok {tmp_path}/data (writable, empty)"
    assert found["location"].startswith("ok Test-City, built ")
    assert found["location"].endswith("0 days old")
    assert found["schemas"].startswith("ok ")
    assert found["schemas"].endswith(" compiled")
    assert found["content"].startswith(f"ok {tmp_path}/content.json")
    assert found["environments"].startswith("ok any organization and environment")


def test_check_changes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, found = check(capsys, "--data-dir", str(tmp_path / "not" / "there"))
    assert status == 0
    assert found["data folder"] == f"ok {tmp_path}/not/there (does not exist yet; the service creates it)"
    assert list(tmp_path.iterdir()) == []


def test_check_ends_with_one_for_a_data_folder_that_cannot_be_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    status, found = check(capsys, "--data-dir", str(tmp_path / "file" / "data"))
    assert status == 1
    assert found["data folder"].startswith("fail ")


def test_check_warns_of_a_data_folder_that_others_can_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tmp_path.chmod(0o755)
    status, found = check(capsys, "--data-dir", str(tmp_path))
    assert status == 0
    assert found["data folder"].startswith("warn ")


@pytest.mark.parametrize("mode", [0o700, 0o755])
def test_check_ends_with_one_for_a_folder_of_something_else(
    mode: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "thesis.txt").touch()
    tmp_path.chmod(mode)
    status, found = check(capsys, "--data-dir", str(tmp_path))
    assert (status, found["data folder"].split()[0]) == (1, "fail")
    assert "contains other files and no store" in found["data folder"]
    assert stat.S_IMODE(tmp_path.stat().st_mode) == mode


def test_check_warns_of_no_location_database_and_of_an_old_one(tmp_path: Path) -> None:
    database = write_database(tmp_path / "city.mmdb")
    in_a_while = datetime.now(UTC) + timedelta(days=31, hours=1)
    assert check_location(Settings()).status == "warn"
    assert check_location(Settings(geoip_database=database)).status == "ok"
    old = check_location(Settings(geoip_database=database), now=in_a_while)
    assert old.status == "warn"
    assert "31 days old" in old.text


@pytest.mark.parametrize("damage", [b"", b"this is no database", b"\xab\xcd\xefMaxMind.com\xff\xff\xff"])
def test_check_ends_with_one_for_a_location_database_that_cannot_be_opened(
    damage: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "broken.mmdb").write_bytes(damage)
    status, found = check(capsys, "--data-dir", str(tmp_path), "--geoip-database", str(tmp_path / "broken.mmdb"))
    assert status == 1
    assert found["location"].startswith("fail ")


def test_check_shows_letters_that_the_terminal_lacks_by_their_codes(tmp_path: Path) -> None:
    content = {"audiences": [{"id": "tea", "name": "Tee – 茶", "rules": {"any": []}}], "experiences": []}
    (tmp_path / "content.json").write_text(json.dumps(content))
    ended = run("check", "--content", "content.json", folder=tmp_path, PYTHONIOENCODING="latin-1")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert r"audience tea: Tee \u2013 \u8336" in ended.stdout


def test_check_ends_quietly_when_its_reader_has_seen_enough(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as closed:
        ended = subprocess.run(
            ninetailed("check"), cwd=tmp_path, env=environment(), stdout=closed, stderr=subprocess.PIPE, timeout=120
        )
    assert (ended.returncode, ended.stderr) == (1, b"")


def test_check_lists_wrong_settings_and_ends_with_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--workers", "none", "--bind", "x"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:3] for line in lines] == [["fail", "settings", "bind"], ["fail", "settings", "workers"]]


def test_every_line_of_check_starts_its_text_in_the_same_column() -> None:
    lines = [str(finding) for finding in check_all(Settings())]
    assert {line[18:20] for line in lines} == {"  "}
    assert all(line[20] != " " for line in lines)


@pytest.mark.parametrize(
    ("installed", "says"),
    [
        (None, "serve requires an extra: pip install 'ninetailed-wsgi[serve]'"),
        (None, "serve requires an extra: pip install 'ninetailed-wsgi[granian]'"),
        ("21.2.0", "serve requires gunicorn 27, found 21.2.0: pip install 'ninetailed-wsgi[serve]'"),
        ("28.0.0", "serve requires gunicorn 27, found 28.0.0: pip install 'ninetailed-wsgi[serve]'"),
        ("3.0.0", "serve requires granian 2, found 3.0.0: pip install 'ninetailed-wsgi[granian]'"),
    ],
)
def test_serve_without_its_server_is_refused_in_one_line(
    installed: str | None,
    says: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def version(name: str) -> str:
        if installed is None:
            raise PackageNotFoundError(name)
        return installed

    monkeypatch.setattr("ninetailed_wsgi.commands.serve.version", version)
    assert main(["serve", "--server", "granian" if "granian" in says else "gunicorn"]) != 0
    assert says in capsys.readouterr().err
