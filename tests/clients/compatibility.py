"""Makes ``docs/compatibility.md`` of the tests' markers: ``python -m tests.clients.compatibility > docs/...``.

A test says what it proves with ``@pytest.mark.client(client, operation, ..., how=...)``; ``how`` is one of `WAYS`.
"""

from __future__ import annotations

import contextlib
import io
import sys
from collections import defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("tests/clients", "tests/sdk")

WAYS = {
    "client": "the unchanged client itself calls a running server",
    "schema": "requests written by hand from its published description, answers checked against its published schema",
    "request": "requests written by hand from the documentation, answers not checked against a schema of the client",
}
OPERATIONS = (
    *("create", "update", "identify", "merge", "preflight", "batch", "sticky", "flags", "locale", "consent", "reset"),
    *("hidden variants", "entity variants", "insights"),
)
CLIENTS = {
    "optimization 2.x, web": "no",
    "optimization 2.x, Node": "no",
    "optimization 2.x, React Native": "no",
    "optimization 2.x, iOS": "no",
    "optimization 2.x, Android": "no",
    "optimization 1.x": "no",
    "experience.js 7.26": "client",
    "experience.js-react 7.26": "client",
    "experience.js-next 7.26": "client",
    "experience.js-plugin-ssr 7.26": "client",
    "experience.js-plugin-privacy 7.26": "client",
    "experience.js-plugin-preview 7.26": "client",
    "experience.js-plugin-insights 7.26": "client",
    "experience.js-node 7.23": "client",
    "experience.js-shared 7.26": "client",
    "RudderStack": "no",
    "plain HTTP": "no",
}
"""The clients in the order of the table; which of them can be installed and run by the tests."""

_BROWSER = ("preflight", "entity variants")
_BESIDE = (*_BROWSER, "insights")  # the plugin for Insights alone sends to it
ABSENT: dict[str, tuple[str, ...]] = {
    **dict.fromkeys([client for client in CLIENTS if client.startswith("experience.js")], _BESIDE),
    "experience.js-plugin-insights 7.26": _BROWSER,
    "experience.js-node 7.23": ("consent", "reset", "entity variants", "insights"),
    "experience.js-shared 7.26": ("consent", "reset", "entity variants", "insights"),
    "RudderStack": (
        *("update", "preflight", "sticky", "flags", "locale", "consent", "reset", "hidden variants"),
        *("entity variants", "insights"),
    ),
    "optimization 1.x": ("entity variants",),
    "plain HTTP": ("entity variants",),
}
"""Operations that a client does not have; plain HTTP is tested on the routes that have none."""

HEAD = """# Compatibility

You want to know whether your client works with this API. The table says which operations are tested
with which client, and how. `python -m tests.clients.compatibility > docs/compatibility.md` makes this page
from marks in the tests.

| word | meaning |
| --- | --- |
"""
_ABSENT = "—"
TAIL = """
A dash: the client has no such operation. The SDKs for browsers send no preflight, and RudderStack sends only batches.
Variants of entities are only on the routes of spaces, which the newest clients use.

No `optimization` client has run against this API. Of its packages, the npm registry that the tests use had only
`@contentful/optimization-react-web` 2.0.1 in November 2026, which needs `@contentful/optimization-web` 2.0.1; `-web`,
`-node`, `-core`, `-api-client`, `-api-schemas`, `-nextjs` and `-react-native` were missing. The SDKs for iOS and
Android are no npm packages. Their rows follow published descriptions of their requests and answers
(`fixtures/cases/clients`). In these tests, the requests of the five 2.x clients differ only in library, channel and
first event.

The tests run the same visits in jsdom with `experience.js` alone, with each of its plugins, in `experience.js-react`
and in `experience.js-next`. React 18 renders the components. For `-next`, the event emitter of Next.js 14 announces the
routes; its compiler and server are not part of the tests. `experience.js-node` runs in Node.

**Next:** [point a client at this API](clients.md).
"""


class _Collector:
    """A pytest plugin that notes what the markers say."""

    def __init__(self) -> None:
        self.cells: dict[tuple[str, str], set[str]] = defaultdict(set)
        self.unknown: list[str] = []

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        for item in session.items:
            for mark in item.iter_markers("client"):
                client, *operations = mark.args
                how = mark.kwargs["how"]
                known = client in CLIENTS and how in WAYS and set(operations) <= set(OPERATIONS)
                known = known and not set(operations) & set(ABSENT.get(client, ()))
                if not known or (how == "client") != (CLIENTS[client] == "client"):
                    self.unknown.append(f"{item.nodeid}: {mark.args} {how}")
                for operation in operations:
                    self.cells[client, operation].add(how)


def table() -> str:
    """Return the page; ValueError names each marker with a client, operation or way that the page does not know."""
    collector = _Collector()
    options = ["--collect-only", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-p", "no:randomly"]
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        status = pytest.main([*options, *(str(ROOT / folder) for folder in FOLDERS)], plugins=[collector])
    if status:
        raise ValueError(printed.getvalue())
    if collector.unknown:
        raise ValueError("\n".join(collector.unknown))
    lines = [f"| {how} | {meaning} |" for how, meaning in WAYS.items()]
    lines += ["", f"| client | {' | '.join(OPERATIONS)} |", f"|{' --- |' * (1 + len(OPERATIONS))}"]
    for client in CLIENTS:
        cells = [_cell(client, each, collector.cells[client, each]) for each in OPERATIONS]
        lines.append(f"| {client} | {' | '.join(cells)} |")
    return HEAD + "\n".join(lines) + "\n" + TAIL


def _cell(client: str, operation: str, ways: set[str]) -> str:
    return _ABSENT if operation in ABSENT.get(client, ()) else " ".join(how for how in WAYS if how in ways)


if __name__ == "__main__":
    sys.stdout.write(table())
