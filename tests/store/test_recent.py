"""Documents that a process remembers: never another one than that of the text, and not too many."""

from __future__ import annotations

import orjson

from ninetailed_wsgi.store import recent
from ninetailed_wsgi.store.recent import RecentDocuments


def test_the_same_text_gives_the_same_document_and_another_text_another_one() -> None:
    documents = RecentDocuments()
    first = documents.parse(b"anna", b'{"a":1}')
    assert documents.parse(b"anna", b'{"a":1}') is first
    assert documents.parse(b"anna", b'{"a":2}') == {"a": 2}
    assert documents.parse(b"bert", b'{"a":1}') is not first


def test_the_newest_documents_are_remembered_and_no_long_ones() -> None:
    documents = RecentDocuments()
    texts = {str(number).encode(): orjson.dumps({"n": number}) for number in range(recent._MOST + 1)}
    parsed = {name: documents.parse(name, text) for name, text in texts.items()}
    again = {name: documents.parse(name, text) for name, text in reversed(texts.items())}
    assert parsed == again
    assert [name for name in texts if parsed[name] is not again[name]] == [b"0"]
    long = orjson.dumps({"a": "x" * recent._LONGEST})
    assert documents.parse(b"long", long) is not documents.parse(b"long", long)


def test_a_document_that_is_gone_is_forgotten() -> None:
    documents = RecentDocuments()
    first = documents.parse(b"anna", b'{"a":1}')
    documents.forget(b"anna")
    documents.forget(b"unknown")
    assert documents.parse(b"anna", b'{"a":1}') is not first
