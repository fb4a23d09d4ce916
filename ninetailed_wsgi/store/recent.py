"""Caches the documents that a process has just read or written, so that the same text is not parsed twice.

A visitor's requests come in a row: a page is evaluated, then its events are stored, then those of its components. If
the text in the store equals the cached one, the cached document is right, even if others wrote in between.
"""

from __future__ import annotations

from collections import OrderedDict

import orjson

from ninetailed_wsgi.store.protocol import Document

_MOST = 128
"""The most cached documents, some 8 kB each."""

_LONGEST = 8192
"""The most bytes of a text that is cached."""


class RecentDocuments:
    """The newest documents by name, for all threads of a process. They are shared, so they must not be changed."""

    def __init__(self) -> None:
        self._documents: OrderedDict[bytes, tuple[bytes, Document]] = OrderedDict()

    def parse(self, name: bytes, text: bytes) -> Document:
        """Return the document of a JSON text; raise ValueError if the text is invalid."""
        entry = self._documents.get(name)
        if entry is not None and entry[0] == text:
            return entry[1]
        document: Document = orjson.loads(text)
        self.remember(name, text, document)
        return document

    def remember(self, name: bytes, text: bytes, document: Document) -> None:
        """Remember what `parse` returns for a text."""
        documents = self._documents
        documents.pop(name, None)  # so that it becomes the newest
        if len(text) <= _LONGEST:
            documents[name] = (text, document)
            if len(documents) > _MOST:
                documents.popitem(last=False)

    def forget(self, name: bytes) -> None:
        """Forget a document that no longer exists."""
        self._documents.pop(name, None)
