"""The keys of trusted callers: a file of hashes that `ninetailed-wsgi key` writes and every process follows."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import hmac
import logging
import os
import secrets
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from ninetailed_wsgi.errors import SettingsError
from ninetailed_wsgi.operations.files import replacement

SCOPES = ("events", "read", "delete", "admin")
"""What a key may allow (spec section 16)."""

_PREFIX = "nt_"
_LOOK_EVERY = 1.0  # seconds between two looks at the file

_log = logging.getLogger("ninetailed_wsgi")


class ApiKey(NamedTuple):
    """A key as the file stores it; the key itself is not stored.

    Attributes:
        id: the first characters of the hash, which tell keys of the same name apart.
        name: who uses the key.
        hash: SHA-256 of the key, hexadecimal.
        scopes: what it allows, a part of `SCOPES`.
        created, expires: seconds since 1970; ``expires`` None: it never expires.
    """

    id: str
    name: str
    hash: str
    scopes: frozenset[str]
    created: int
    expires: int | None


def new_key(name: str, scopes: Sequence[str], now: int, expires: int | None = None) -> tuple[str, ApiKey]:
    """Return a new key, 256 random bits that are shown only here, and what the file stores of it."""
    key = _PREFIX + secrets.token_urlsafe(32)
    hashed = _hash(key)
    return key, ApiKey(hashed[:8], name, hashed, frozenset(scopes), now, expires)


def read_keys(file: Path) -> list[ApiKey]:
    """Return the keys of a file, in the order they were made; none if there is no file.

    Raises:
        SettingsError: the file cannot be read, is damaged, or users other than its owner can write it.
    """
    try:
        with open(file, "rb") as handle:
            if stat.S_IMODE(os.fstat(handle.fileno()).st_mode) & 0o022:
                raise SettingsError([f"keys_file: users other than the owner can write {file}; run chmod 600 {file}"])
            content = handle.read()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise SettingsError([f"keys_file: {file} cannot be read: {error.strerror}"]) from error
    try:
        return [_key_of(entry) for entry in orjson.loads(content)["keys"]]
    except (ValueError, TypeError, KeyError) as error:
        raise SettingsError(
            [f"keys_file: {file} is damaged; restore it, or remove it and make new keys with `ninetailed-wsgi key new`"]
        ) from error


@contextlib.contextmanager
def changing(file: Path) -> Iterator[list[ApiKey]]:
    """Yield the list of a file's keys to change; at the end of the block, replace the whole file, with mode 0600.

    Raises:
        SettingsError: as for `read_keys`, or the file cannot be written.
    """
    folder = file.absolute().parent
    try:
        lock = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise SettingsError([f"keys_file: the folder {folder} cannot be used: {error.strerror}"]) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        keys = read_keys(file)
        yield keys
        _replace(file, orjson.dumps({"keys": list(map(_entry_of, keys))}, option=orjson.OPT_INDENT_2) + b"\n")
    finally:
        os.close(lock)


def _replace(file: Path, content: bytes) -> None:
    try:
        with replacement(file, durable=True) as output:
            output.write(content)
    except OSError as error:
        raise SettingsError([f"keys_file: {file} cannot be written: {error.strerror}"]) from error


class Keys:
    """The keys of a file that may change at any time: a process notices a new or revoked key within a second.

    Args:
        file: a file for `read_keys`.
        now: returns seconds since 1970.
        clock: returns seconds that never go back.

    Raises:
        SettingsError: as for `read_keys`, or there is no such file.
    """

    def __init__(
        self, file: Path, *, now: Callable[[], float] = time.time, clock: Callable[[], float] = time.monotonic
    ) -> None:
        if not file.exists():
            raise SettingsError([f"keys_file: there is no file {file.absolute()}; `ninetailed-wsgi key new` makes it"])
        self._file = file
        self._now = now
        self._clock = clock
        self._version = self._look()
        self._keys = read_keys(file)
        self._next_look = clock() + _LOOK_EVERY

    def scopes(self, key: str) -> frozenset[str]:
        """Return what a key allows: nothing if it is unknown, revoked or expired."""
        self._follow()
        hashed, now = _hash(key), self._now()
        allowed: frozenset[str] = frozenset()
        for entry in self._keys:
            # Every key is compared, each in constant time, so the time taken reveals nothing about any key.
            if hmac.compare_digest(entry.hash, hashed) and (entry.expires is None or now < entry.expires):
                allowed = entry.scopes
        return allowed

    def find(self, key: str = "", id: str = "") -> ApiKey | None:
        """Return a key's entry, found by the key or by its id; None if it is unknown, revoked or expired."""
        self._follow()
        hashed, now = _hash(key), self._now()
        return next(
            (
                each
                for each in self._keys
                if (each.id == id if id else hmac.compare_digest(each.hash, hashed))
                and (each.expires is None or now < each.expires)
            ),
            None,
        )

    def reload(self) -> None:
        """Read the file again now, if it has changed."""
        self._next_look = 0.0
        self._follow()

    def _follow(self) -> None:
        if (now := self._clock()) < self._next_look:
            return
        self._next_look = now + _LOOK_EVERY
        if (version := self._look()) == self._version:
            return
        self._version = version
        try:
            self._keys = read_keys(self._file)
        except SettingsError as error:  # keep the previous keys: a half-edited file must not lock callers out
            _log.error("%s; the keys read before stay valid", error)

    def _look(self) -> tuple[int, int, int] | None:
        try:
            status = os.stat(self._file)
        except OSError:
            return None
        return status.st_ino, status.st_mtime_ns, status.st_size


def _hash(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


def _key_of(entry: dict[str, Any]) -> ApiKey:
    scopes, expires = frozenset(entry["scopes"]), entry["expires"]
    if not scopes <= set(SCOPES) or len(entry["hash"]) != 64 or not isinstance(expires, int | None):
        raise ValueError("damaged")
    return ApiKey(entry["hash"][:8], str(entry["name"]), str(entry["hash"]), scopes, int(entry["created"]), expires)


def _entry_of(key: ApiKey) -> dict[str, Any]:
    scopes = [scope for scope in SCOPES if scope in key.scopes]
    return {
        "name": key.name,
        "hash": key.hash,
        "scopes": scopes,
        "created": key.created,
        "expires": key.expires,
    }
