"""What pages ask is done in few threads, begins while somebody waits for it, and costs no page another's answer."""

from __future__ import annotations

import gc
import threading
import weakref
from typing import Any
from urllib.parse import parse_qsl

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ninetailed_wsgi.api.validation.schemas import schemas
from ninetailed_wsgi.site.conversation import Conversation
from ninetailed_wsgi.site.page_view import Visit
from ninetailed_wsgi.site.reaching import visitor_of
from ninetailed_wsgi.site.visitor import Visitor
from ninetailed_wsgi.site.workers import Call, Workers
from tests.mount.conftest import Mounted
from tests.serving import wait_until

LATIN = st.text(st.characters(max_codepoint=255, exclude_characters="\r\n\0"), max_size=30)


def test_a_call_that_no_thread_has_taken_can_be_withdrawn_and_then_leaves_nothing() -> None:
    workers, begun, go_on, done = Workers(1), threading.Event(), threading.Event(), []
    first = Call[Any](lambda call: (begun.set(), go_on.wait(60)))
    workers.submit(first)
    assert begun.wait(60)
    late = Call[Any](lambda call: done.append("late"))
    workers.submit(late)
    assert not late.wait(0.01)
    assert workers.withdraw(late)
    assert not workers.withdraw(first)
    gone = weakref.ref(late._work)
    del late
    gc.collect()
    assert gone() is None
    go_on.set()
    assert first.wait(60)
    last = Call[Any](lambda call: done.append("last"))
    workers.submit(last)
    assert last.wait(60)
    assert done == ["last"]
    workers.close()


def test_calls_beyond_the_threads_are_done_in_the_order_in_which_they_came() -> None:
    workers, go_on, done = Workers(2), threading.Event(), []
    calls = [Call[Any](lambda call: go_on.wait(60)) for _ in range(2)]
    calls += [Call[Any](lambda call, number=number: done.append(number)) for number in range(20)]
    for call in calls:
        workers.submit(call)
    go_on.set()
    assert all(call.wait(60) for call in calls)
    assert sorted(done) == list(range(20))
    workers.close()


def test_a_call_begins_or_is_cancelled_never_both() -> None:
    call = Call[Any](lambda call: None)
    assert call.begin()
    assert not call.cancel()
    other = Call[Any](lambda call: None)
    assert other.cancel()
    assert not other.begin()


def test_threads_end_when_the_workers_are_closed_and_take_nothing_more() -> None:
    before = set(threading.enumerate())
    workers, go_on = Workers(2), threading.Event()
    busy, quick = Call[Any](lambda call: go_on.wait(60)), Call[Any](lambda call: 1)
    workers.submit(busy)
    workers.submit(quick)
    assert quick.wait(60)
    started = [thread for thread in threading.enumerate() if thread not in before and thread.name[:10] == "ninetailed"]
    assert (quick.answer, quick.error) == (1, None)
    workers.close()
    with pytest.raises(RuntimeError, match="closed"):
        workers.submit(Call[Any](lambda call: None))
    go_on.set()
    assert len(started) == 2
    wait_until(lambda: not any(thread.is_alive() for thread in started), "the threads end")


def test_what_fails_in_a_thread_is_told_and_the_thread_works_on() -> None:
    def fail(call: Call[Any]) -> None:
        raise OSError("gone")

    workers = Workers(1)
    failing, next_one = Call[Any](fail), Call[Any](lambda call: "fine")
    for call in (failing, next_one):
        workers.submit(call)
        assert call.wait(60)
    assert (str(failing.error), next_one.answer) == ("gone", "fine")
    workers.close()


def test_a_page_may_change_what_it_gets_and_no_other_page_sees_that(bare: Mounted) -> None:
    def use(visitor: Visitor) -> object:
        visitor.identify(plan="pro")
        seen = [len(visitor.experiences), len(visitor.changes), "mine" in visitor.profile["traits"]]
        visitor.profile["traits"]["mine"] = "changed"
        visitor.experiences.clear()
        for change in visitor.changes:
            change["value"] = "changed"
        visitor.audiences.append("vip")
        return [*seen, visitor.merge_tag("traits.mine"), len(visitor.experiences)]

    browser = bare.visited_by(use)
    first, second = browser.get().text, browser.get().text
    assert first == second
    assert first.endswith("'changed', 0]")
    assert "changed" not in str(bare.profile(browser.cookies["ntaid"]))


@given(st.fixed_dictionaries({}, optional={
    "SCRIPT_NAME": LATIN, "PATH_INFO": LATIN, "QUERY_STRING": LATIN, "HTTP_REFERER": LATIN, "HTTP_USER_AGENT": LATIN,
    "HTTP_ACCEPT_LANGUAGE": LATIN, "HTTP_COOKIE": LATIN, "HTTP_HOST": LATIN,
}))  # fmt: skip
def test_the_page_event_of_any_request_is_valid(environ: dict[str, str]) -> None:
    visitor = visitor_of({})
    conversation = Conversation(environ, visitor.backend, False)
    conversation.record({"type": "page", "properties": {}})
    [(event, _)] = conversation._waiting
    schemas().check("profile-request", {"events": [event]})


@given(st.text(st.sampled_from("ab=&%+;2 é"), max_size=12))
@example("a&b=&=c&&a=2")
def test_the_query_of_a_page_is_read_as_forms_are(query: str) -> None:
    visit = Visit({"QUERY_STRING": query.encode().decode("latin-1")}, lambda environ: ("http", "shop.example"))
    assert visit.page["query"] == dict(parse_qsl(query, keep_blank_values=True))
