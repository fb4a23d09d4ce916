"""The names table of an import queue: which batches have events of a visitor, so that a deletion reads no others.

The table is in the file of the batches, and each statement here runs in the transaction that changes them. A name is
the digest of an environment and an id or alias. A batch without a row is not indexed yet: it came from an older version
or another store, or was rewritten since.
"""

from __future__ import annotations

from collections.abc import Collection

from ninetailed_wsgi.core.names import Key
from ninetailed_wsgi.store.disk.rows import Rows
from ninetailed_wsgi.store.keys import digest_of

_TABLE = "CREATE TABLE IF NOT EXISTS Names (name BLOB, number INTEGER, PRIMARY KEY (name, number)) WITHOUT ROWID"
_BY_NUMBER = "CREATE INDEX IF NOT EXISTS Names_number ON Names (number)"
_ADD = "INSERT OR IGNORE INTO Names (name, number) VALUES (?, ?)"
_FIND = "SELECT number FROM Names WHERE name = ?"
_DROP = "DELETE FROM Names WHERE number = ?"
_DROP_ALL = "DELETE FROM Names"
# Batches are applied in order, so those that are gone come before the first that still exists.
_DROP_GONE = (
    "DELETE FROM Names WHERE number <"
    " (SELECT coalesce(min(key), 9223372036854775807) FROM Cache"
    " WHERE key > 0 AND key < 9223372036854775807 AND raw = 1)"
)
_MISSING = (
    "SELECT key FROM Cache WHERE key > 0 AND key < 9223372036854775807 AND raw = 1"
    " AND NOT EXISTS (SELECT 1 FROM Names WHERE number = key) ORDER BY key"
)


def make(rows: Rows) -> None:
    """Create the table if there is none."""
    if not rows.rows("SELECT 1 FROM sqlite_master WHERE name = 'Names_number'"):
        rows.run(_TABLE)
        rows.run(_BY_NUMBER)


def add(rows: Rows, number: int, names: Collection[Key]) -> None:
    """Record whom a batch is about."""
    for name in names:
        rows.run(_ADD, (digest_of(name), number))


def find(rows: Rows, names: Collection[Key]) -> list[int]:
    """Return the numbers of the batches that are about any of these visitors, in order."""
    return sorted({number for name in names for (number,) in rows.rows(_FIND, (digest_of(name),))})


def missing(rows: Rows) -> list[int]:
    """Return the numbers of the batches that are not indexed, in order."""
    return [number for (number,) in rows.rows(_MISSING)]


def drop(rows: Rows, number: int) -> None:
    """Forget whom a batch is about."""
    rows.run(_DROP, (number,))


def drop_gone(rows: Rows) -> None:
    """Forget the batches that are gone, because an older version applies them without updating this table."""
    rows.run(_DROP_GONE)


def drop_all(rows: Rows) -> None:
    """Forget every batch."""
    rows.run(_DROP_ALL)
