from __future__ import annotations

import json
import logging
import os
import threading
from pathlib import Path
from typing import Any

import pytest
from serving import wait_until

from ninetailed_wsgi.content import Catalog, ContentFolder
from ninetailed_wsgi.content import folder as folder_module
from ninetailed_wsgi.errors import SettingsError

LOGGER = "ninetailed_wsgi.content"


def content(version: int | str) -> bytes:
    """Content whose every part names its version."""
    name = f"v{version}"
    rules = {"any": [{"all": [{"type": "identify", "key": "plan", "operator": "equal", "value": name}]}]}
    experience = {"id": "test", "name": name, "type": "nt_experiment", "audience": "people", "config": {"traffic": 1}}
    return json.dumps(
        {
            "audiences": [{"id": "people", "name": name, "rules": rules}],
            "experiences": [experience],
            "mergeTags": [{"id": "traits.name", "fallback": name}],
        }
    ).encode()


def versions(catalog: Catalog) -> set[str | None]:
    """The versions that the parts of a catalogue come from: one, where it was swapped as a whole."""
    named = {audience.name for audience in catalog.audience_list} | {listed.name for listed in catalog.experience_list}
    return named | {tag.fallback for tag in catalog.merge_tags.values()}


def put(path: Path, raw: bytes) -> None:
    """Replace a file at once, as careful tools do."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.new")
    new.write_bytes(raw)
    new.replace(path)


def started(path: Path, **options: Any) -> ContentFolder:
    opened = ContentFolder(path, **{"wall_clock": lambda: 0.0, **options})
    opened.load()
    return opened


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]


BROKEN = {
    "half written": content(2)[:100],
    "empty": b"",
    "of an unknown form": b'{"something": "else"}',
    "with a list that is none": b'{"audiences": {"id": "a", "rules": {"any": []}}}',
}


def test_a_changed_file_is_served_after_the_next_look_and_no_request_looks(tmp_path: Path) -> None:
    path = tmp_path / "shop.json"
    put(path, content(1))
    opened = started(path)
    put(path, content(2))

    assert versions(opened.catalog("acme", "main")) == {"v1"}
    opened.look()
    assert versions(opened.catalog("acme", "main")) == {"v2"}


def test_a_followed_file_is_served_by_a_thread_without_any_request(tmp_path: Path) -> None:
    path = tmp_path / "shop.json"
    put(path, content(1))
    opened = started(path, check_every=0.01)
    opened.follow()
    put(path, content(2))

    wait_until(lambda: versions(opened.catalogs()["*/*"]) == {"v2"}, "the new version is served")


def test_after_a_fork_the_childs_first_request_follows_the_file(tmp_path: Path) -> None:
    path = tmp_path / "shop.json"
    put(path, content(1))
    opened = started(path, check_every=0.01)
    opened.follow()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            put(path, content(2))
            wait_until(lambda: versions(opened.catalog("acme", "main")) == {"v2"}, "the child serves the new version")
            status = 0
        finally:
            os._exit(status)

    assert os.waitpid(child, 0)[1] == 0


def test_it_is_known_when_content_was_swapped_and_when_its_files_were_last_seen(tmp_path: Path) -> None:
    path = tmp_path / "shop.json"
    put(path, content(1))
    now = 100.0
    opened = started(path, wall_clock=lambda: now)
    now = 102.0
    opened.look()
    assert (opened.loaded_at(), opened.seen_at) == ({"*/*": 100.0}, 102.0)
    path.unlink()
    now = 104.0
    opened.look()
    assert opened.seen_at == 102.0
    put(path, content(2))
    now = 106.0
    opened.look()

    assert (opened.loaded_at(), opened.seen_at) == ({"*/*": 106.0}, 106.0)


def test_an_unchanged_file_keeps_its_catalogue(tmp_path: Path) -> None:
    path = tmp_path / "shop.json"
    put(path, content(1))
    opened = started(path)
    before = opened.catalog("acme", "main")
    opened.look()

    assert opened.catalog("acme", "main") is before


def test_a_replaced_file_of_the_same_size_and_time_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "shop.json"
    put(path, content(1))
    opened = started(path)
    status = path.stat()
    put(path, content(2))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    opened.look()

    assert path.stat().st_size == status.st_size
    assert versions(opened.catalog("acme", "main")) == {"v2"}


def test_a_second_change_within_one_tick_of_the_file_systems_clock_is_noticed_too(tmp_path: Path) -> None:
    path = tmp_path / "shop.json"
    path.write_bytes(content(1))
    os.utime(path, (1000, 1000))
    now = 1000.0
    opened = started(path, wall_clock=lambda: now)
    path.write_bytes(content(2))
    os.utime(path, (1000, 1000))
    now = 1003.0
    opened.look()

    assert versions(opened.catalog("acme", "main")) == {"v2"}


def test_reading_unchanged_content_again_reports_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "shop.json"
    put(path, content(1))
    opened = started(path)
    before = opened.catalog("acme", "main")
    put(path, b"{")
    for _ in range(3):
        put(path, b"{")
        opened.look()
        assert opened.catalog("acme", "main") is before

    assert len(errors(caplog)) == 1


@pytest.mark.parametrize("raw", BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_version_is_reported_once_and_the_old_one_stays(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, raw: bytes
) -> None:
    path = tmp_path / "shop.json"
    put(path, content(1))
    opened = started(path)
    put(path, raw)
    for _ in range(5):
        opened.look()
        assert versions(opened.catalog("acme", "main")) == {"v1"}

    (line,) = errors(caplog)
    assert line.startswith(f"{path}: ")
    assert line.endswith("; the previous version stays live")
    assert [problem.severity for problem in opened.problems()] == ["error"]


@pytest.mark.parametrize("raw", BROKEN.values(), ids=BROKEN.keys())
def test_a_sound_version_after_a_broken_one_is_served(tmp_path: Path, raw: bytes) -> None:
    path = tmp_path / "shop.json"
    put(path, content(1))
    opened = started(path)
    put(path, raw)
    opened.look()
    put(path, content(3))
    opened.look()

    assert versions(opened.catalog("acme", "main")) == {"v3"}
    assert opened.problems() == ()


def test_the_report_of_a_broken_version_names_file_entry_place_and_expectation(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "shop.json"
    put(path, content(1))
    opened = started(path)
    put(path, content(2).replace(b'"equal"', b'"equls"'))
    opened.look()

    (line,) = errors(caplog)
    assert line.startswith(
        f'{path}: entry people: rules.any[0].all[0].operator: found "equls", expected one of equal, '
    )


def test_each_further_broken_version_is_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "shop.json"
    put(path, content(1))
    opened = started(path)
    for raw in BROKEN.values():
        put(path, raw)
        opened.look()

    assert len(errors(caplog)) == len(BROKEN)


def test_a_new_version_is_announced_with_what_it_holds(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "shop.json"
    put(path, content(1))
    opened = started(path)
    put(path, content(2))
    with caplog.at_level(logging.INFO, LOGGER):
        opened.look()
    version = opened.catalog("acme", "main").version

    assert caplog.messages == [f"content of */* is version {version}: 1 audiences, 1 experiences, 1 merge tags"]


# Several environments


def test_a_broken_file_holds_back_its_own_environment_only(tmp_path: Path) -> None:
    for environment in ("main", "dev"):
        put(tmp_path / "acme" / f"{environment}.json", content(1))
    opened = started(tmp_path)
    put(tmp_path / "acme" / "main.json", b"{")
    put(tmp_path / "acme" / "dev.json", content(2))
    opened.look()

    assert versions(opened.catalog("acme", "main")) == {"v1"}
    assert versions(opened.catalog("acme", "dev")) == {"v2"}


def test_an_environment_whose_files_did_not_change_keeps_its_catalogue(tmp_path: Path) -> None:
    for environment in ("main", "dev"):
        put(tmp_path / "acme" / f"{environment}.json", content(1))
    opened = started(tmp_path)
    before = opened.catalog("acme", "main")
    put(tmp_path / "acme" / "dev.json", content(2))
    opened.look()

    assert opened.catalog("acme", "main") is before


def test_a_new_environment_is_picked_up(tmp_path: Path) -> None:
    put(tmp_path / "acme" / "main.json", content(1))
    opened = started(tmp_path)
    put(tmp_path / "other" / "main.json", content(2))
    opened.look()

    assert versions(opened.catalog("other", "main")) == {"v2"}
    assert versions(opened.catalog("acme", "main")) == {"v1"}


def test_a_new_environment_that_is_broken_has_the_shared_content_until_it_is_mended(tmp_path: Path) -> None:
    put(tmp_path / "shared.json", content(1))
    opened = started(tmp_path)
    put(tmp_path / "other" / "main.json", b"{")
    opened.look()
    assert versions(opened.catalog("other", "main")) == {"v1"}

    put(tmp_path / "other" / "main.json", b'{"mergeTags": [{"id": "own"}]}')
    opened.look()
    assert set(opened.catalog("other", "main").merge_tags) == {"traits.name", "own"}


def test_a_changed_shared_file_changes_every_environment(tmp_path: Path) -> None:
    put(tmp_path / "shared.json", content(1))
    put(tmp_path / "acme" / "main.json", b'{"mergeTags": []}')
    opened = started(tmp_path)
    put(tmp_path / "shared.json", content(2))
    opened.look()

    assert versions(opened.catalog("acme", "main")) == versions(opened.catalog("any", "other")) == {"v2"}


# Files that go away


@pytest.mark.parametrize(
    "layout", ["shop.json", "content/shop.json", "content/acme/main.json", "content/acme/main/shop.json"]
)
def test_content_whose_file_is_gone_stays_and_that_is_reported_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, layout: str
) -> None:
    path = tmp_path / layout
    put(path, content(1))
    opened = started(path if layout == "shop.json" else tmp_path / "content")
    path.unlink()
    for _ in range(5):
        opened.look()
        assert versions(opened.catalog("acme", "main")) == {"v1"}

    (line,) = errors(caplog)
    assert line.startswith(f"{path}: ")

    put(path, content(2))
    opened.look()
    assert versions(opened.catalog("acme", "main")) == {"v2"}
    assert opened.problems() == ()


def test_a_folder_that_is_gone_leaves_its_content_serving(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "content"
    put(folder / "acme" / "main.json", content(1))
    opened = started(folder)
    folder.rename(tmp_path / "away")
    for _ in range(3):
        opened.look()
        assert versions(opened.catalog("acme", "main")) == {"v1"}

    assert errors(caplog) == [f"{folder}: cannot be read: No such file or directory; the previous version stays live"]


def test_one_of_several_files_that_is_gone_counts_at_the_second_look(tmp_path: Path) -> None:
    put(tmp_path / "one.json", content(1))
    put(tmp_path / "two.json", b'{"mergeTags": [{"id": "two"}]}')
    opened = started(tmp_path)
    (tmp_path / "two.json").unlink()

    opened.look()
    assert "two" in opened.catalog("acme", "main").merge_tags
    opened.look()
    assert "two" not in opened.catalog("acme", "main").merge_tags
    assert opened.problems() == ()


def test_files_that_are_deleted_and_copied_anew_one_by_one_are_never_served_in_part(tmp_path: Path) -> None:
    names = ("one", "two", "three")

    def tags() -> set[str]:
        opened.look()
        return set(opened.catalog("acme", "main").merge_tags)

    def copy(name: str) -> None:
        put(tmp_path / f"{name}.json", json.dumps({"mergeTags": [{"id": name}]}).encode())

    for name in names:
        copy(name)
    opened = started(tmp_path)
    for name in names:
        (tmp_path / f"{name}.json").unlink()
        assert tags() == set(names)
    for name in names:
        copy(name)
        assert tags() == set(names)


# Many threads


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_while_new_content_is_read_requests_get_the_old(tmp_path: Path) -> None:
    path = tmp_path / "shop.json"
    put(path, content(1))
    opened = started(path)
    path.unlink()
    os.mkfifo(path)  # reading a pipe waits until someone writes
    looking = threading.Thread(target=opened.look, daemon=True)
    looking.start()
    with path.open("wb") as pipe:  # opens when the other thread reads
        assert versions(opened.catalog("acme", "main")) == {"v1"}
        pipe.write(content(2))
    looking.join(timeout=60)

    assert versions(opened.catalog("acme", "main")) == {"v2"}


def test_every_thread_sees_each_version_as_a_whole_while_content_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "shop.json"
    put(path, content(0))
    opened = started(path)
    seen: set[frozenset[str | None]] = set()
    done = threading.Event()

    def ask() -> None:
        while not done.wait(0.001):
            seen.add(frozenset(versions(opened.catalog("acme", "main"))))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for version in range(1, 51):
        put(path, content(version) if version % 3 else content(version)[: version * 4])
        opened.look()
    done.set()
    for thread in threads:
        thread.join()

    assert all(len(one) == 1 for one in seen)
    assert frozenset().union(*seen) <= {f"v{version}" for version in range(51) if version % 3 or not version}
    assert versions(opened.catalog("acme", "main")) == {"v50"}


def test_an_error_of_our_own_while_looking_is_logged_and_does_not_end_the_thread(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "shop.json"
    put(path, content(1))
    opened = started(path, check_every=0.01)

    def fail(*_: object) -> None:
        raise RuntimeError("a defect")

    monkeypatch.setattr(folder_module, "find_files", fail)
    opened.follow()
    # Folders of earlier tests may still be followed: they fail, too, and are tried again in other times.
    line = "ninetailed-content failed and is tried again in 0.01 s\nbuiltins.RuntimeError"
    wait_until(lambda: any(error.startswith(line) for error in errors(caplog)), "the defect is logged")
    assert versions(opened.catalog("acme", "main")) == {"v1"}

    monkeypatch.undo()
    put(path, content(2))
    wait_until(lambda: versions(opened.catalog("acme", "main")) == {"v2"}, "the new version is served")


def test_a_start_with_broken_content_is_refused_with_every_error(tmp_path: Path) -> None:
    for name, raw in BROKEN.items():
        put(tmp_path / "acme" / f"{name}.json", raw)

    with pytest.raises(SettingsError) as refusal:
        started(tmp_path)

    assert len(refusal.value.problems) == len(BROKEN)
