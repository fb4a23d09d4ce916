"""Content straight from Contentful: followed, kept, shared by the processes of a server; a local space stands in."""

from __future__ import annotations

import json
import logging
import os
import random
import shutil
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ninetailed_wsgi import create_app
from ninetailed_wsgi.content import content_source, report
from ninetailed_wsgi.content.contentful.content import ContentfulContent
from ninetailed_wsgi.content.contentful.schedule import LONGEST_PAUSE, pause
from ninetailed_wsgi.content.contentful.space_state import SpaceState, packed, picked, unpacked
from ninetailed_wsgi.errors import SettingsError
from ninetailed_wsgi.settings import Settings
from ninetailed_wsgi.settings.contentful import SpaceAddress, Tokens, host
from ninetailed_wsgi.testing import ContentfulSpace, audience, experience, viewed

SHOP = Path(__file__).parents[2] / "fixtures" / "spaces" / "shop.json"
SECRET_TOKEN = "tok-that-nobody-may-see"


class Time:
    """A clock that sleeping moves."""

    def __init__(self) -> None:
        self.now = time.time()

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock() -> Time:
    return Time()


@pytest.fixture
def space() -> Iterator[ContentfulSpace]:
    with ContentfulSpace([hero("b")], token=SECRET_TOKEN) as opened:
        yield opened


def hero(*variants: str, id: str = "hero-test", **options: Any) -> dict[str, Any]:
    return experience("hero", variants, id=id, **options)


def spaces(given: str) -> list[SpaceAddress]:
    return [SpaceAddress.parse(item) for item in given.split(";")]


def source(space: ContentfulSpace, clock: Time, folder: Path | None, **options: Any) -> ContentfulContent:
    address = spaces(options.pop("address", space.address))
    tokens = Tokens.parse(options.pop("token", space.token))
    chosen = {"url": space.url, "wall_clock": clock, "sleep": clock.sleep, "check_every": 3600.0, **options}
    return ContentfulContent(address, tokens, folder=folder, **chosen)


def started(space: ContentfulSpace, clock: Time, folder: Path | None, **options: Any) -> ContentfulContent:
    read = source(space, clock, folder, **options)
    read.load()
    return read


def served(read: ContentfulContent, environment: str = "space1/master") -> list[str]:
    return [listed.id for listed in read.catalogs()[environment].experience_list]


def later(read: ContentfulContent, clock: Time, seconds: float = 6.0) -> ContentfulContent:
    clock.now += seconds
    read.look()
    return read


def logged(caplog: pytest.LogCaptureFixture, level: int = logging.ERROR) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= level]


def refusal(space: ContentfulSpace, clock: Time, folder: Path, **options: Any) -> str:
    with pytest.raises(SettingsError) as refused:
        started(space, clock, folder, **options)
    return str(refused.value)


# Following a space


def test_what_is_published_is_served_as_it_changes(space: ContentfulSpace, clock: Time, tmp_path: Path) -> None:
    read = started(space, clock, tmp_path)
    assert served(read) == ["hero-test"]

    space.publish(hero("b", id="second", audience=audience(viewed("/pricing"), id="readers")))
    read.look()
    assert served(read) == ["hero-test"], "a poll is not due yet"
    assert served(later(read, clock)) == ["hero-test", "second"]
    assert [listed.id for listed in read.catalogs()["space1/master"].audience_list] == ["readers"]

    space.unpublish("second")
    space.delete("hero-test")
    assert served(later(read, clock)) == []


def test_a_space_compiles_to_the_same_as_its_export(clock: Time, tmp_path: Path) -> None:
    with ContentfulSpace(SHOP, page_size=4) as shop:
        read = started(shop, clock, tmp_path)
    exported = content_source(Settings(content=SHOP))
    exported.load()

    catalog, wanted = read.catalogs()["space1/master"], exported.catalogs()["*/*"]
    assert (catalog.version, catalog.entry_experiences) == (wanted.version, wanted.entry_experiences)
    assert len(shop.requests) > 5, "in pages"


def test_a_space_whose_default_locale_was_changed_says_where_its_values_are(clock: Time, tmp_path: Path) -> None:
    old = {"en-US": {"any": [{"all": [{"type": "page", "operator": "greaterThanInclusive", "count": "1"}]}]}}
    fields = {"nt_name": {"de": "Leser", "en-US": "Readers"}, "nt_rules": old, "nt_audience_id": {"de": "readers"}}
    entry = {"sys": {"id": "readers", "contentType": {"sys": {"id": "nt_audience"}}}, "fields": fields}
    with ContentfulSpace([entry], locales=("de", "en-US")) as changed:
        read = started(changed, clock, tmp_path / "de")
        notes = [str(problem) for problem in read.problems() if "locale" in str(problem)]
        english = started(changed, clock, tmp_path / "en", locale="en-US")
    assert [note.partition(": entry ")[2] for note in notes] == [
        "readers: nt_rules: has a value in en-US and none in de, which is read: set content_locale to read another one"
    ]
    assert not english.problems()


def test_an_entry_that_lists_its_experiences_no_more_is_let_go(clock: Time, tmp_path: Path) -> None:
    def page(*ids: str) -> dict[str, Any]:
        links = [{"sys": {"type": "Link", "linkType": "Entry", "id": id}} for id in ids]
        return {"sys": {"id": "hero", "contentType": "page"}, "fields": {"title": "x", "nt_experiences": links}}

    with ContentfulSpace([hero("b"), page("hero-test")]) as space:
        read = started(space, clock, tmp_path)
        assert read.catalogs()["space1/master"].entry_experiences == {"hero": ("hero-test",)}
        space.publish(page())
        later(read, clock)

    assert read.catalogs()["space1/master"].entry_experiences == {}


def test_an_unchanged_space_is_asked_once_in_each_interval(space: ContentfulSpace, clock: Time, tmp_path: Path) -> None:
    read = started(space, clock, tmp_path)
    before, asked = read.catalogs()["space1/master"], len(space.requests)
    for _ in range(50):
        later(read, clock, 0.2)

    assert 1 <= len(space.requests) - asked <= 3, "10 seconds, at 5 seconds each"
    assert read.catalogs()["space1/master"] is before


def test_a_refresh_asks_at_once(space: ContentfulSpace, clock: Time, tmp_path: Path) -> None:
    read = started(space, clock, tmp_path)
    space.publish(hero("b", id="second"))
    read.refresh()
    read.look()

    assert served(read) == ["hero-test", "second"]


# What is kept


def test_a_restart_asks_for_changes_alone(space: ContentfulSpace, clock: Time, tmp_path: Path) -> None:
    started(space, clock, tmp_path)
    space.publish(hero("b", id="second"))
    space.requests.clear()
    clock.now += 60

    assert served(started(space, clock, tmp_path)) == ["hero-test", "second"]
    (request, *locales) = space.requests
    assert "sync_token=" in request
    assert "initial" not in request
    assert locales == []


def test_only_what_decides_is_kept_and_for_the_owner_alone(clock: Time, tmp_path: Path) -> None:
    others = [{"sys": {"id": f"p{n}", "contentType": "page"}, "fields": {"body": "SECRET-BODY"}} for n in range(20)]
    described = hero("b")
    with ContentfulSpace([described, *others], token=SECRET_TOKEN) as space:
        started(space, clock, tmp_path / "data")

    files = list((tmp_path / "data").iterdir())
    whole = b"".join(file.read_bytes() for file in files)
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    assert stat.S_IMODE((tmp_path / "data").stat().st_mode) == 0o700
    assert b"hero-test" in whole
    assert b"SECRET-BODY" not in whole
    assert SECRET_TOKEN.encode() not in whole


def test_a_change_that_decides_nothing_only_moves_the_token(
    space: ContentfulSpace, clock: Time, tmp_path: Path
) -> None:
    read = started(space, clock, tmp_path)
    before = read.catalogs()["space1/master"]
    space.publish({"sys": {"id": "p1", "contentType": "page"}, "fields": {"title": "x"}})
    later(read, clock)
    assert read.catalogs()["space1/master"] is before

    space.requests.clear()
    clock.now += 60
    started(space, clock, tmp_path)
    assert "initial" not in "".join(space.requests)


@pytest.mark.parametrize("damage", [b"", b"{}", b"x" * 50, b'{"format": 1}\n{}'])
def test_a_damaged_copy_is_read_again(space: ContentfulSpace, clock: Time, tmp_path: Path, damage: bytes) -> None:
    started(space, clock, tmp_path)
    (copy,) = [file for file in tmp_path.iterdir() if "-turn" not in file.name]
    copy.write_bytes(damage)
    clock.now += 60

    assert served(started(space, clock, tmp_path)) == ["hero-test"]
    assert unpacked(copy.read_bytes()) is not None


def test_a_copy_of_another_host_or_space_is_not_used(space: ContentfulSpace, clock: Time, tmp_path: Path) -> None:
    started(space, clock, tmp_path)
    with ContentfulSpace([hero("c", id="other")]) as other:
        assert served(started(other, clock, tmp_path)) == ["other"]


def test_a_refused_token_of_the_synchronization_reads_everything_again(
    space: ContentfulSpace, clock: Time, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    read = started(space, clock, tmp_path)
    space.delete("hero-test")
    space.publish(hero("b", id="second"))
    space.forget_tokens()

    assert served(later(read, clock)) == ["second"], "and what was deleted before is gone"
    assert any("everything is read again" in line for line in logged(caplog, logging.WARNING))


def test_a_look_before_a_startup_writes_nothing(space: ContentfulSpace, clock: Time, tmp_path: Path) -> None:
    read = started(space, clock, tmp_path / "data", read_only=True)

    assert served(read) == ["hero-test"]
    assert not (tmp_path / "data").exists()


def test_a_folder_that_cannot_be_written_costs_the_copy_and_nothing_else(
    space: ContentfulSpace, clock: Time, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("in the way")
    read = started(space, clock, tmp_path / "file" / "data")
    space.publish(hero("b", id="second"))

    assert served(later(read, clock)) == ["hero-test", "second"]
    assert len([line for line in logged(caplog, logging.WARNING) if "no copy" in line]) == 1


def test_a_folder_that_is_gone_costs_the_copy_and_hammers_nobody(
    space: ContentfulSpace, clock: Time, tmp_path: Path
) -> None:
    read = started(space, clock, tmp_path / "data")
    shutil.rmtree(tmp_path / "data")
    (tmp_path / "data").write_text("in the way")
    asked = len(space.requests)
    for _ in range(50):
        later(read, clock, 0.2)
    assert len(space.requests) - asked <= 4, "10 seconds, at 5 seconds each"

    asked = len(space.requests)
    space.fail(1000)
    for _ in range(500):
        later(read, clock, 1.0)
    assert len(space.requests) - asked <= 15
    assert served(read) == ["hero-test"]


# Several processes of a server


def test_one_of_several_sources_asks_and_the_others_take_over(
    space: ContentfulSpace, clock: Time, tmp_path: Path
) -> None:
    sources = [started(space, clock, tmp_path) for _ in range(4)]
    assert len([request for request in space.requests if "initial" in request]) == 1
    space.requests.clear()
    space.publish(hero("b", id="second"))
    clock.now += 6
    for read in sources * 2:
        read.look()

    assert [served(read) for read in sources] == [["hero-test", "second"]] * 4
    assert len([request for request in space.requests if "sync" in request]) == 1


def test_when_the_process_that_asked_is_gone_another_one_asks(
    space: ContentfulSpace, clock: Time, tmp_path: Path
) -> None:
    first, second = (started(space, clock, tmp_path) for _ in range(2))
    later(first, clock)
    del first
    space.publish(hero("b", id="second"))

    assert served(later(second, clock)) == ["hero-test", "second"]


def test_after_a_fork_the_children_share_the_turns(space: ContentfulSpace, tmp_path: Path) -> None:
    read = ContentfulContent(spaces(space.address), Tokens.parse(space.token), url=space.url, folder=tmp_path, poll=0.2)
    read.load()
    read.follow()
    children = []
    for _ in range(2):
        if (child := os.fork()) == 0:
            end = time.monotonic() + 60
            while "second" not in {one.id for one in read.catalog("space1", "master").experience_list}:
                if time.monotonic() > end:
                    os._exit(1)
                time.sleep(0.01)
            os._exit(0)
        children.append(child)
    space.publish(hero("b", id="second"))

    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0]


def test_a_request_never_waits_for_contentful(
    space: ContentfulSpace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = ContentfulContent(
        spaces(space.address),
        Tokens.parse(space.token),
        url=space.url,
        folder=tmp_path,
        poll=0.05,
        check_every=0.01,
    )
    read.load()
    asked, answered, go_on = threading.Event(), threading.Event(), threading.Event()
    answer = space.answer

    def late(target: str, authorization: str) -> Any:
        asked.set()
        go_on.wait(60)
        answered.set()
        return answer(target, authorization)

    monkeypatch.setattr(space, "answer", late)
    read.follow()
    assert asked.wait(60)
    for _ in range(1000):
        assert read.catalog("space1", "master").experience_list
    assert not answered.is_set()
    go_on.set()


# What goes wrong


def test_an_outage_is_said_once_and_the_old_content_stays(
    space: ContentfulSpace, clock: Time, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sources = [started(space, clock, tmp_path) for _ in range(3)]
    before = len(space.requests)
    space.fail(1000)
    for _ in range(100):
        for read in sources:
            later(read, clock, 5.0)
    asked = len(space.requests) - before

    assert [served(read) for read in sources] == [["hero-test"]] * 3
    assert logged(caplog) == [
        "contentful://space1/master answered 503: it cannot serve now; the previous version stays live"
    ]
    assert [read.state().errors for read in sources] == [1, 1, 1]
    assert 5 <= asked <= 25, "each time later, at least every 5 minutes"

    space.fail(0)
    space.publish(hero("b", id="second"))
    for read in sources * 2:
        later(read, clock, LONGEST_PAUSE)
    assert [served(read) for read in sources] == [["hero-test", "second"]] * 3
    assert [read.state().errors for read in sources] == [0, 0, 0]


def test_a_limit_is_waited_for_as_long_as_contentful_says(space: ContentfulSpace, clock: Time, tmp_path: Path) -> None:
    read = started(space, clock, tmp_path)
    space.publish(hero("b", id="second"))
    space.limit(1, reset=100)
    later(read, clock)
    asked = len(space.requests)
    for _ in range(9):
        read.refresh()  # not even then
        later(read, clock, 10.0)
    assert (served(read), len(space.requests)) == (["hero-test"], asked)

    assert served(later(read, clock, 12.0)) == ["hero-test", "second"]


def fail(space: ContentfulSpace, read: ContentfulContent, clock: Time, requests: int) -> None:
    """Let so many requests fail, and wait for them."""
    end = len(space.requests) + requests
    space.fail(requests)
    while len(space.requests) < end:
        later(read, clock, 5.0)


def test_an_outage_that_is_over_is_noticed_by_a_refresh_or_a_restart_at_once(
    space: ContentfulSpace, clock: Time, tmp_path: Path
) -> None:
    read = started(space, clock, tmp_path)
    fail(space, read, clock, 6)
    clock.now += 2.0  # and the next attempt is minutes away
    asked = len(space.requests)
    space.fail(2)
    space.publish(hero("b", id="second"))

    for _ in range(50):
        read.refresh()
        later(read, clock, 0.01)
    assert len(space.requests) == asked + 1, "however often somebody asks for one"
    read.refresh()
    later(read, clock, 1.0)
    read.refresh()
    assert served(later(read, clock, 1.0)) == ["hero-test", "second"]

    fail(space, read, clock, 6)
    clock.now += 2.0
    space.publish(hero("b", id="third"))
    assert served(started(space, clock, tmp_path)) == ["hero-test", "second", "third"]


@pytest.mark.parametrize("following", ["the same token", "a new token each time"])
def test_pages_that_do_not_end_are_refused(
    following: str, space: ContentfulSpace, clock: Time, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ninetailed_wsgi.content.contentful.follower.MOST_PAGES", 20)
    honest = space.answer

    def lying(target: str, authorization: str) -> tuple[int, dict[str, str], Any]:
        if "/sync" not in target:
            return honest(target, authorization)
        space.requests.append(target)
        token = "same" if following == "the same token" else len(space.requests)
        return 200, {}, {"items": [], "nextPageUrl": f"{space.url}/sync?sync_token={token}"}

    monkeypatch.setattr(space, "answer", lying)
    assert refusal(space, clock, tmp_path).endswith("answered an endless series of pages of a synchronization")


def test_limits_in_the_middle_of_many_pages_do_not_begin_again(clock: Time, tmp_path: Path) -> None:
    with ContentfulSpace([hero("b", id=f"e{n}") for n in range(30)], page_size=5) as space:
        space.limit(2, reset=1)
        read = started(space, clock, tmp_path)
        assert len(served(read)) == 30
        assert len([request for request in space.requests if "initial" in request]) == 1


def test_pages_that_are_too_large_are_read_in_smaller_ones(clock: Time, tmp_path: Path) -> None:
    def page(id: str, size: int) -> dict[str, Any]:
        return {"sys": {"id": id, "contentType": "page"}, "fields": {"body": "x" * size}}

    pages = [page(f"p{number}", 2000) for number in range(300)]
    with ContentfulSpace([hero("b"), *pages], largest_answer=300_000) as space:
        read = started(space, clock, tmp_path)
        assert served(read) == ["hero-test"]
        sizes = [request.partition("limit=")[2] for request in space.requests if "initial" in request]
        assert sizes == ["500", "100"]

        space.publish(*[page(f"q{number}", 50_000) for number in range(10)], hero("b", id="second"))
        assert served(later(read, clock)) == ["hero-test", "second"]


def test_a_pause_grows_is_bounded_and_differs_by_chance() -> None:
    chosen = random.Random(0)
    for failures in range(1, 100):
        for wanted in (None, 0.0, 7.0, 1e9):
            low, high = pause(failures, 5.0, wanted, 0.0), pause(failures, 5.0, wanted, 1.0)
            assert 5.0 <= low <= pause(failures, 5.0, wanted, chosen.random()) <= high <= LONGEST_PAUSE
    assert pause(1, 5.0, None, 0.0) < pause(3, 5.0, None, 0.0) < pause(5, 5.0, None, 0.0)


def test_a_startup_during_an_outage_serves_the_copy_with_a_warning(
    space: ContentfulSpace, clock: Time, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    started(space, clock, tmp_path)
    space.close()
    clock.now += 60

    assert served(started(space, clock, tmp_path)) == ["hero-test"]
    assert any("its copy is served" in line for line in logged(caplog, logging.WARNING))


def test_a_startup_without_a_copy_during_an_outage_is_refused(
    space: ContentfulSpace, clock: Time, tmp_path: Path
) -> None:
    space.close()

    assert refusal(space, clock, tmp_path) == (
        "content: contentful://space1/master: cannot be fetched: Connection refused"
    )


@pytest.mark.parametrize("status", [400, 404, 500, 502, 302])
def test_no_status_is_a_traceback(
    space: ContentfulSpace, clock: Time, tmp_path: Path, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    read = started(space, clock, tmp_path)
    space.fail(3, status=status)
    later(read, clock)

    assert served(read) == ["hero-test"]
    assert all("Traceback" not in line for line in logged(caplog))


WRONG = {
    "a wrong token": ({"token": "wrong"}, "refused the token (401)"),
    "a wrong space": ({"address": "contentful://spaceX/master"}, "knows no space spaceX that this token may read"),
    "a wrong environment": (
        {"address": "contentful://space1/staging"},
        "knows no environment staging in the space space1",
    ),
}


@pytest.mark.parametrize(("options", "text"), WRONG.values(), ids=WRONG.keys())
def test_what_is_wrong_is_said_in_words_with_what_to_do(
    space: ContentfulSpace, clock: Time, tmp_path: Path, options: dict[str, str], text: str
) -> None:
    said = refusal(space, clock, tmp_path, **options)

    assert text in said
    assert "Settings > API keys" in said or "--contentful-token-file" in said
    assert SECRET_TOKEN not in said


def test_a_space_without_content_types_of_personalization_is_pointed_out(clock: Time, tmp_path: Path) -> None:
    with ContentfulSpace(personalization=False) as bare, ContentfulSpace() as empty:
        assert "has no content types of personalization" in "\n".join(report(started(bare, clock, tmp_path / "a")))
        assert "and no published entry of them" in "\n".join(report(started(empty, clock, tmp_path / "b")))


def test_a_missing_token_is_said_before_anything_is_asked(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as refused:
        create_app(content="contentful://abc/master", data_dir=tmp_path)
    assert str(refused.value) == (
        "content: contentful://abc/master needs a token of its API keys: set NINETAILED_CONTENTFUL_TOKEN or "
        "--contentful-token-file"
    )


def test_a_page_that_leads_to_another_host_takes_the_token_nowhere(
    space: ContentfulSpace, clock: Time, tmp_path: Path
) -> None:
    answered = space._answers.of

    def of(path: str, query: dict[str, str], url: str, *, drafts: bool) -> dict[str, Any]:
        return answered(path, query, "http://evil.example", drafts=drafts)

    space._answers.of = of  # type: ignore[method-assign]
    read = started(space, clock, tmp_path)
    space.publish(hero("b", id="second"))

    assert served(later(read, clock)) == ["hero-test", "second"], "from the same host"


# Drafts, several spaces, names


def test_drafts_are_listed_from_the_preview_api(clock: Time, tmp_path: Path) -> None:
    listing = {"nt_experiences": [{"sys": {"type": "Link", "linkType": "Entry", "id": "draft"}}]}
    with ContentfulSpace([hero("b")]) as space:
        space.draft(hero("b", id="draft"), {"sys": {"id": "hero", "contentType": "page"}, "fields": listing})
        public = started(space, clock, tmp_path)
        drafts = started(space, clock, tmp_path, address=space.preview_address, token=space.preview_token)
        assert (served(public), served(drafts)) == (["hero-test"], ["draft", "hero-test"])
        assert drafts.catalogs()["space1/master"].entry_experiences == {"hero": ("draft",)}

        space.delete("draft")
        space.draft(hero("b", id="next"))
        assert served(later(drafts, clock)) == ["hero-test", "next"]
        assert "sync" not in "".join(request for request in space.requests[-3:])


def test_several_spaces_each_have_their_token_and_their_name(clock: Time, tmp_path: Path) -> None:
    with ContentfulSpace([hero("b")], space="one", token="t1") as one:
        address = spaces("contentful://one/master=acme/main;contentful://one/master")
        read = ContentfulContent(address, Tokens.parse("one=t1;two=t2"), url=one.url, folder=tmp_path)
        read.load()
        assert served(read, "acme/main") == served(read, "one/master") == ["hero-test"]
    with ContentfulSpace([hero("c", id="other")], space="two", token="t2") as two:
        address = spaces("contentful://two/master=*/*")
        read = ContentfulContent(address, Tokens.parse("one=t1\ntwo=t2"), url=two.url, folder=tmp_path)
        read.load()
        assert [listed.id for listed in read.catalog("any", "thing").experience_list] == ["other"]


@pytest.mark.parametrize(
    "given",
    [
        "contentful://",
        "contentful://abc",
        "contentful://abc/",
        "contentful://a b/c",
        "contentful://a/b=c",
        "contentful:",
    ],
)
def test_an_address_that_is_none_is_refused_with_an_example(given: str) -> None:
    with pytest.raises(SettingsError) as refused:
        Settings(content=given)
    assert "contentful://" in str(refused.value) or "no " in str(refused.value)


def test_a_token_in_the_address_is_not_shown() -> None:
    with pytest.raises(SettingsError) as refused:
        Settings(content=f"contentful://{SECRET_TOKEN}@abc/master")
    assert SECRET_TOKEN not in str(refused.value)


def test_a_token_is_never_shown(tmp_path: Path) -> None:
    settings = Settings(content="contentful://abc/master", contentful_token=SECRET_TOKEN)
    assert SECRET_TOKEN not in repr(settings)
    with pytest.raises(SettingsError) as refused:
        Settings(contentful_token=f"{SECRET_TOKEN} and more")
    assert SECRET_TOKEN not in str(refused.value)
    (tmp_path / "token").write_bytes(b"\xff" + SECRET_TOKEN.encode())
    with pytest.raises(SettingsError) as refused:
        content_source(Settings(content="contentful://abc/master", contentful_token_file=tmp_path / "token"))
    assert SECRET_TOKEN not in str(refused.value)


def test_hosts_follow_from_the_address_and_the_option() -> None:
    published, drafts = spaces("contentful://a/b;contentful-preview://a/b")
    assert host(published, "") == "https://cdn.contentful.com"
    assert host(drafts, "") == "https://preview.contentful.com"
    assert host(published, "https://cdn.eu.contentful.com") == "https://cdn.eu.contentful.com"
    assert host(drafts, "https://cdn.eu.contentful.com") == "https://preview.eu.contentful.com"
    assert host(drafts, "http://127.0.0.1:9000") == "http://127.0.0.1:9000"


# The pure part


def test_a_state_survives_its_copy() -> None:
    entry = {"sys": {"id": "a", "type": "Entry", "contentType": {"sys": {"id": "nt_audience"}}}, "fields": {}}
    state = SpaceState(locales=({"code": "en-US", "default": True, "fallbackCode": None},)).with_items([entry], "t")
    read = unpacked(packed(state, "of", 5.0))

    assert read is not None
    assert read[1] == state
    assert (read[0].of, read[0].at, read[0].token) == ("of", 5.0, "t")


@pytest.mark.parametrize(
    "item",
    [
        None,
        5,
        "x",
        [],
        {},
        {"sys": None},
        {"sys": {"id": 5}},
        {"sys": {"id": "a", "type": "Asset"}},
        {"sys": {"id": "b"}},
    ],
)
def test_odd_items_of_a_page_change_nothing(item: object) -> None:
    entry = {"sys": {"id": "a", "type": "Entry", "contentType": {"sys": {"id": "nt_audience"}}}, "fields": {}}
    state = SpaceState().with_items([entry], "t")
    assert state.with_items([item], "t") == state


def test_of_an_entry_only_what_decides_is_picked() -> None:
    sys = {"id": "a", "type": "Entry", "contentType": {"sys": {"id": "nt_audience"}}, "createdBy": "x"}
    kept = picked({"sys": sys, "fields": {"nt_rules": {"en": {}}, "nt_description": {"en": "long"}}, "metadata": {}})
    assert json.loads(json.dumps(kept)) == {
        "sys": {"id": "a", "type": "Entry", "contentType": {"sys": {"id": "nt_audience"}}},
        "fields": {"nt_rules": {"en": {}}},
    }


def test_threads_that_look_at_once_ask_once(space: ContentfulSpace, clock: Time, tmp_path: Path) -> None:
    read = started(space, clock, tmp_path)
    space.requests.clear()
    clock.now += 6
    threads = [threading.Thread(target=read.look) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(space.requests) == 1
