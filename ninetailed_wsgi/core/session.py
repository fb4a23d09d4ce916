"""Sessions of one profile: which session an event belongs to, and what the API answers about them.

Stored as ``{"id", "landing", "landing_at", "spans", "older", "merged"?}``. ``spans`` holds the newest sessions as
``[first, last]`` event times in milliseconds, ordered by their end; the last one is the current session.
``older`` is ``[count, total length, begin of the oldest, end of the newest]`` of all earlier sessions, where each
session counts with a whole number of seconds.
``merged`` says that the sessions come from two profiles.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ninetailed_wsgi.core.events import page_of
from ninetailed_wsgi.core.operators import text_of

TIMEOUT = 30 * 60 * 1000
"""A session ends after this many milliseconds without an event (spec section 3)."""

SPANS_KEPT = 32
"""Sessions whose times are stored individually, so that a late event finds its own."""

LONGEST_TEXT = 8192
"""Maximum characters of a member of the landing page, and of its whole query; longer ones are left empty."""

Session = dict[str, Any]


def new_session() -> Session:
    """Return the session state of a profile without events."""
    return {"id": "", "landing": None, "landing_at": 0, "spans": [], "older": [0, 0, 0, 0]}


def touch(session: Session, at: int, page_event: Mapping[str, Any] | None, new_id: Callable[[], str]) -> None:
    """Add an event at time ``at`` (ms) to its session.

    The event belongs to the latest session that is at most ``TIMEOUT`` away. Without one it starts a session, in the
    past if the event is old. A late event that closes the gap between two sessions joins them.

    This replaces members of ``session`` but does not change their values, which other records share.

    Args:
        page_event: the event, which may come from the landing page; None if it has another type.
        new_id: makes a session id.
    """
    spans = session["spans"]
    if spans and (last := spans[-1])[1] <= at <= last[1] + TIMEOUT:  # nearly always
        session["spans"] = [*spans[:-1], [last[0], at]]
    elif not _place(session, at, new_id):
        return
    if page_event is not None and (session["landing"] is None or at < session["landing_at"]):
        session.update(landing=landing_page(page_of(page_event)), landing_at=at)


def _place(session: Session, at: int, new_id: Callable[[], str]) -> bool:
    """Add a time to the session that it belongs to; return whether that is the current one."""
    spans = session["spans"] = [*session["spans"]]
    for index in range(len(spans) - 1, -1, -1):
        first, last = spans[index]
        if first - TIMEOUT <= at <= last + TIMEOUT:
            if not first <= at <= last:
                spans[index] = [min(first, at), max(last, at)]
            if index and spans[index][0] - TIMEOUT <= spans[index - 1][1]:
                index -= _join_with_former(session, index)
            break
    else:
        if _add_to_older(session, at):
            return False
        index = _insert(spans, at)
        if index == len(spans) - 1:
            session.update(id=new_id(), landing=None, landing_at=0)
    is_current = index == len(spans) - 1
    if len(spans) > SPANS_KEPT:
        _fold_oldest(session)
    return is_current


def merge(one: Session, other: Session) -> Session:
    """Merge the sessions of two profiles of one visitor: counts and lengths add up, the latest session is current."""
    current, former = sorted((one, other), key=_end, reverse=True)
    return {
        **current,
        "merged": True,
        # Of sessions that end at the same moment, the last one in this list is the current one.
        "spans": sorted(former["spans"] + current["spans"], key=lambda span: span[1]),
        "older": _joined(one["older"], other["older"]),
    }


def count(session: Session) -> int:
    """Return the number of sessions, the current one included."""
    number: int = session["older"][0] + len(session["spans"])
    return number


def answer(session: Session) -> dict[str, Any]:
    """Return the ``session`` member of a profile as the API answers it; lengths in whole seconds (spec section 3).

    The average is the total of these lengths divided by the count, so it equals the length of a single session.
    """
    older, spans = session["older"], session["spans"]
    number, total, current = older[0] + len(spans), older[1] // 1000, 0
    for first, last in spans:
        current = (last - first) // 1000
        total += current
    return {
        "id": session["id"],
        "isReturningVisitor": number > 1,
        "landingPage": session["landing"] or landing_page({}),
        "count": number,
        "activeSessionLength": current,
        "averageSessionLength": total / number if number else 0,
    }


def landing_page(page: Mapping[str, Any]) -> dict[str, Any]:
    """Return the five members of a landing page; unknown ones are empty.

    Its query has each value as text; of several values, the last one that has a text.
    """
    query = page.get("query")
    query = _texts(query) if isinstance(query, dict) else {}
    texts = {
        key: value if isinstance(value := page.get(key), str) and len(value) <= LONGEST_TEXT else ""
        for key in ("path", "referrer", "search", "url")
    }
    fits = sum(len(key) + len(value) + 1 for key, value in query.items()) <= LONGEST_TEXT
    return {**texts, "query": query if fits else {}}


def _texts(query: Mapping[str, Any]) -> dict[str, str]:
    last = {key: _last_text(value if isinstance(value, list) else (value,)) for key, value in query.items()}
    return {key: text for key, text in last.items() if text is not None}


def _last_text(values: Sequence[object]) -> str | None:
    return next((text for value in reversed(values) if (text := text_of(value)) is not None), None)


def _insert(spans: list[list[int]], at: int) -> int:
    index = sum(span[1] < at for span in spans)
    spans.insert(index, [at, at])
    return index


def _join_with_former(session: Session, index: int) -> bool:
    """Join a session with the previous one if the gap is within the timeout; return whether they were joined.

    Sessions of merged profiles add up instead, however close they are.
    """
    spans = session["spans"]
    if session.get("merged"):
        return False
    (former, _), (first, last) = spans[index - 1 : index + 1]
    spans[index - 1 : index + 1] = [[min(former, first), last]]
    return True


def _add_to_older(session: Session, at: int) -> bool:
    """Add an event to the summed sessions if its time is among theirs; return whether it is."""
    number, total, first, last = session["older"]
    if not number or not first - TIMEOUT <= at <= last + TIMEOUT:
        return False
    session["older"] = [number, total + max(first - at, 0) + max(at - last, 0), min(first, at), max(last, at)]
    return True


def _fold_oldest(session: Session) -> None:
    spans = session["spans"]
    while len(spans) > SPANS_KEPT:
        first, last = spans.pop(0)
        session["older"] = _joined(session["older"], [1, (last - first) // 1000 * 1000, first, last])


def _joined(older: list[int], other: list[int]) -> list[int]:
    if not older[0] or not other[0]:
        return older if older[0] else other
    return [older[0] + other[0], older[1] + other[1], min(older[2], other[2]), max(older[3], other[3])]


def _end(session: Session) -> int:
    end: int = session["spans"][-1][1] if session["spans"] else -1
    return end
