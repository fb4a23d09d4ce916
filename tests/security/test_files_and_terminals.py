"""Files that hold visitors are their owner's alone, and nothing from outside reaches a terminal unescaped."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from support import Server, page

from ninetailed_wsgi.commands.main import main
from ninetailed_wsgi.errors import SettingsError
from ninetailed_wsgi.operations.private_files import make_private, open_private, write_private
from ninetailed_wsgi.operations.terminal import escaped
from ninetailed_wsgi.service.keys import Keys, changing, new_key, read_keys
from ninetailed_wsgi.service.service import ExperienceService
from ninetailed_wsgi.settings import Settings
from ninetailed_wsgi.settings.masking import quoted

DATA = ("--data-dir", "data")


def mode(file: Path) -> int:
    return stat.S_IMODE(file.stat().st_mode)


@pytest.mark.parametrize("text", ["\x1b[31mred", "a\rb", "\x9b2J", "\x7f", "\u202eevil", "\u2066", "\u2028", "\0"])
def test_what_moves_a_cursor_or_turns_letters_is_escaped(text: str) -> None:
    assert escaped(text).isprintable()


def test_lines_and_letters_of_any_script_stay() -> None:
    assert escaped("Grüße\t茶\n") == "Grüße\t茶\n"


def test_a_private_file_is_made_for_its_owner_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        write_private(tmp_path / "new", b"x")
        make_private(tmp_path / "database")
    finally:
        os.umask(before)
    assert [mode(tmp_path / name) for name in ("new", "database")] == [0o600, 0o600]


def test_an_open_file_of_the_owner_becomes_private(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).write_bytes(b"long before")
        (tmp_path / name).chmod(0o644)
    write_private(tmp_path / "one", b"x")
    make_private(tmp_path / "two")
    assert [mode(tmp_path / name) for name in ("one", "two")] == [0o600, 0o600]
    assert (tmp_path / "one").read_bytes() == b"x"


def test_a_link_or_a_pipe_in_the_place_of_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "theirs").write_bytes(b"theirs")
    (tmp_path / "link").symlink_to(tmp_path / "theirs")
    os.mkfifo(tmp_path / "pipe")
    for name in ("link", "pipe"):
        with pytest.raises(OSError, match=r".+"):
            open_private(tmp_path / name, os.O_RDWR | os.O_TRUNC)
        with pytest.raises(OSError, match=r".+"):
            make_private(tmp_path / name)
    assert (tmp_path / "theirs").read_bytes() == b"theirs"


@pytest.fixture
def exporting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a visitor to export in it."""
    monkeypatch.chdir(tmp_path)
    service = ExperienceService.from_settings(Settings(data_dir=tmp_path / "data", store_shards=1))
    service.upsert(service.environment("acme", "main"), "anna", {"events": [page()]})
    service.store.close()
    (tmp_path / "theirs").write_bytes(b"theirs")
    (tmp_path / "link").symlink_to(tmp_path / "theirs")
    return tmp_path


@pytest.mark.parametrize("one", [["anna"], []], ids=["one visitor", "all"])
def test_exports_are_private_and_take_the_place_of_nothing_but_the_owners_files(
    one: list[str], exporting: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = os.umask(0)
    try:
        (exporting / "open").write_bytes(b"")
        for name in ("new", "open"):
            assert main(["export", "acme/main", *one, "--output", name, *DATA]) == 0
            assert mode(exporting / name) == 0o600
    finally:
        os.umask(before)
    os.mkfifo(exporting / "pipe")
    for name in ("link", "pipe", "/dev/null"):
        assert main(["export", "acme/main", *one, "--output", name, *DATA]) == 1
        assert "no regular file of this user; remove it, or choose another name" in capsys.readouterr().err
    assert (exporting / "link").is_symlink()
    assert (exporting / "theirs").read_bytes() == b"theirs"
    assert Path("/dev/null").is_char_device()


def test_the_progress_of_an_export_or_import_is_never_read_through_a_link(
    exporting: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (exporting / "events.ndjson").write_text("{}\n")
    (exporting / "all.progress").symlink_to(exporting / "theirs")
    (exporting / "events.progress").symlink_to(exporting / "theirs")
    assert main(["export", "acme/main", "--output", "all", *DATA]) == 1
    assert main(["import", "events.ndjson", "acme/main", *DATA]) == 1
    assert capsys.readouterr().err.count("Too many levels of symbolic links") == 2
    assert (exporting / "theirs").read_bytes() == b"theirs"


def test_the_progress_of_an_import_is_private(exporting: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (exporting / "events.ndjson").write_text("{}\n")
    modes = []
    real = Path.unlink
    monkeypatch.setattr(Path, "unlink", lambda file, **options: (modes.append(mode(file)), real(file, **options)))
    before = os.umask(0)
    try:
        assert main(["import", "events.ndjson", "acme/main", *DATA]) == 1
    finally:
        os.umask(before)
    assert modes == [0o600]  # of events.progress


def test_a_key_for_the_contract_comes_from_a_file_and_never_shows(
    exporting: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (exporting / "key").write_text("nt_s3cret\n")
    (exporting / "no-key").write_bytes(b"s3cret and more\xff")
    contract = ["contract", "--base-url", "http://127.0.0.1:1", "--organization", "acme"]
    assert main([*contract, "--key-file", "key"]) == 2
    told = capsys.readouterr()
    assert "cannot test http://127.0.0.1:1" in told.err
    for wrong in (["--key-file", "no-key"], ["--key-file", "nowhere"], ["--key-file", "key", "--key", "s3cret"]):
        with pytest.raises(SystemExit):
            main([*contract, *wrong])
    assert "s3cret" not in capsys.readouterr().err + told.err


def test_every_file_of_a_data_folder_is_private(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        server = Server(tmp_path)
        server.environment().create(page())
        files = [file for file in server.folder.rglob("*") if file.is_file()]
        assert len(files) > 3
        assert [file.name for file in files if mode(file) & 0o077] == []
        assert mode(server.folder) == 0o700
        server.close()
    finally:
        os.umask(before)


@pytest.mark.parametrize(
    "address",
    [
        "https://user:s3cret@host/x",
        "https://user:s3/cret@host/x",
        "https://user:12#s3cret@host/x",
        "https:///user:s3cret@host",
        "https:/user:s3cret@host",
        "https:user:s3cret@host",
        "htps//user:s3cret@host",
        "user:s3cret@host",
        "https://s3cret@host/x",
        "https://host/x?token=s3cret",
        "redis://:s3cret@host/0?key=content",
    ],
)
def test_an_address_never_shows_its_password_also_when_mistyped(address: str) -> None:
    assert "s3" not in quoted(address)
    assert "cret" not in quoted(address)


def test_keys_are_kept_as_hashes_in_a_private_file_and_followed(tmp_path: Path) -> None:
    file, now = tmp_path / "keys.json", [0.0]
    key, entry = new_key("crm", ["events", "read"], 0, 100)
    with changing(file) as keys:
        keys.append(entry)
    assert mode(file) == 0o600
    assert key not in file.read_text()
    known = Keys(file, now=lambda: now[0], clock=lambda: now[0])
    assert known.scopes(key) == {"events", "read"}
    assert known.scopes(key + "x") == known.scopes("") == frozenset()
    now[0] = 99
    assert known.scopes(key)
    now[0] = 100
    assert not known.scopes(key)
    other, entry = new_key("crm", ["admin"], 0)
    with changing(file) as keys:
        keys[:] = [entry]
    now[0] = 102
    assert (known.scopes(other), known.scopes(key)) == ({"admin"}, frozenset())
    file.write_text("{")
    now[0] = 104
    assert known.scopes(other) == {"admin"}  # what was read before stays


def test_a_file_of_keys_that_others_can_write_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    with changing(file):
        pass
    file.chmod(0o622)
    with pytest.raises(SettingsError, match="users other than the owner can write"):
        read_keys(file)
    with pytest.raises(SettingsError, match="ninetailed-wsgi key new"):
        Keys(tmp_path / "nowhere.json")
