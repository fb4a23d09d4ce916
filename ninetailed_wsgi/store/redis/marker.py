"""The two keys that make Redis a store: the marker (the format, or the source of a migration) and the key of ids.

They correspond to ``store.json``, ``migration.txt`` and ``ids.key`` in a data folder.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any

from ninetailed_wsgi.errors import SettingsError, StoreUnavailable
from ninetailed_wsgi.settings.redis_url import RedisUrl
from ninetailed_wsgi.store.protocol import KEY_BYTES
from ninetailed_wsgi.store.redis.commands import RedisCommand
from ninetailed_wsgi.store.redis.connections import FAILURES, Connections

FORMAT = 2
"""1 had no key of ids; `upgrade` makes it."""

MARKER = "nt:store"
ID_KEY = "nt:ids"
_FROM = b"%d, being filled from " % FORMAT


class Marker:
    """The marker of one store, and the key of its profile ids.

    Args:
        url: where the servers are.
        connections: the connections to them, for use before they are admitted.
        ask: returns the answer to a command, for use after they are admitted.
        filling: whether to allow a store that an unfinished migration is filling.
    """

    def __init__(
        self, url: RedisUrl, connections: Connections, ask: Callable[[RedisCommand], Any], *, filling: bool
    ) -> None:
        self._url = url
        self._connections = connections
        self._ask = ask
        self._filling = filling

    def check(self, *, look_only: bool, partly: bool) -> None:
        """Check the marker, as ``store.json`` of a folder is checked; create a missing one unless ``look_only``.

        Raises:
            SettingsError: this software cannot use the store, or must not use it yet.
            one of FAILURES: the server does not answer; not raised with ``partly`` on a Cluster.
        """
        client = self._connections.client()
        try:
            mark = client.get(MARKER)
            if mark is None and not look_only:
                self._make_id_key(client)
                client.set(MARKER, b"%d" % FORMAT, nx=True)
                mark = client.get(MARKER)
        except FAILURES:
            if partly and self._url.kind == "cluster":
                return
            raise
        if mark is not None and mark.startswith(_FROM):
            if self._filling:
                return
            source = mark.removeprefix(_FROM).decode(errors="replace")
            raise SettingsError([f"store: {self._url} is being filled from {source}, see `ninetailed-wsgi migrate`"])
        if mark not in (None, b"%d" % FORMAT):
            text = mark[:20].decode(errors="replace")
            remedy = "; stop every server that uses it and run `ninetailed-wsgi upgrade`" if mark == b"1" else ""
            raise SettingsError(
                [
                    f"store: {self._url} has store format {text!r}, this software reads format {FORMAT} "
                    f"(key {MARKER}){remedy}"
                ]
            )

    def upgrade(self) -> bool:
        """Upgrade the store to the format of this software; return whether it had an older one.

        Raises:
            SettingsError: there is no store, or its format cannot be upgraded.
            StoreUnavailable: the servers do not answer.
        """
        try:
            client = self._connections.client()
            mark = client.get(MARKER)
            if mark is None:
                raise SettingsError([f"store: no profiles are stored in {self._url}"])
            if mark != b"1":
                self.check(look_only=True, partly=False)
                return False
            self._make_id_key(client)
            client.set(MARKER, b"%d" % FORMAT)
        except FAILURES as error:
            raise self._connections.unavailable(error) from error
        return True

    def id_key(self) -> bytes:
        """Return the key that certifies profile ids; raise StoreUnavailable if it is gone or damaged."""
        key: bytes | None = self._ask(RedisCommand(ID_KEY, ("GET", ID_KEY)))
        if key is None or len(key) != 2 * KEY_BYTES:
            raise StoreUnavailable(f"{ID_KEY} of {self._url}, the key of all profile ids, is gone: restore it")
        return bytes.fromhex(key.decode())

    def take_id_key(self, key: bytes) -> None:
        """Certify ids with this key, that of the store from which this one is filled."""
        self._ask(RedisCommand(ID_KEY, ("SET", ID_KEY, key.hex())))

    def filled_from(self) -> str | None:
        """Return the source of the unfinished migration into this store, or None."""
        mark: bytes = self._ask(RedisCommand(MARKER, ("GET", MARKER))) or b""
        return mark.removeprefix(_FROM).decode(errors="surrogateescape") if mark.startswith(_FROM) else None

    def fill_from(self, source: str | None) -> None:
        """Mark this store as one that a migration from ``source`` is filling; None: the migration is complete."""
        mark = b"%d" % FORMAT if source is None else _FROM + source.encode(errors="surrogateescape")
        self._ask(RedisCommand(MARKER, ("SET", MARKER, mark)))

    def _make_id_key(self, client: Any) -> None:
        client.set(ID_KEY, secrets.token_bytes(KEY_BYTES).hex(), nx=True)
