"""Reads MaxMind database files: validates them, replaces them while in use, finds the record of an address.

Source: the MaxMind DB format. A `DatabaseKind` says what to read from a record.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import stat
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import lru_cache, partial
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import geoip2.database
import maxminddb
from maxminddb.reader import Metadata

from ninetailed_wsgi.errors import SettingsError
from ninetailed_wsgi.operations.forks import PerProcess
from ninetailed_wsgi.operations.watching import Watcher

try:
    import maxminddb.extension

    HAS_C_EXTENSION = hasattr(maxminddb.extension, "Reader")
except ImportError:
    HAS_C_EXTENSION = False

log = logging.getLogger("ninetailed_wsgi.location")


class DatabaseKind(NamedTuple):
    """What a database is for.

    Attributes:
        option: the option that names its file, for messages.
        types: a part of the type in the file's metadata must be one of these.
        expected: what a correct file is, in words.
        missed: what visitors do not get if their record is damaged.
        read: makes an answer from a record (or None if there is none) and an argument of the look-up.
    """

    option: str
    types: tuple[str, ...]
    expected: str
    missed: str
    read: Callable[[object, str], Any]


# How much of a new file is read before it is used (measured: 70 microseconds a record): all of a file with up to this
# many nodes in the search tree, else this many addresses of each family, evenly spread.
SMALL_DATABASE = 2000
SAMPLE = 1500
MOST_RECORDS = 8000

LONGEST_ADDRESS = 64  # characters: 45 of an IPv6 address, and a zone


class _Stamp(NamedTuple):
    """What changes when a file is replaced or written to."""

    modified_ns: int
    size: int
    inode: int

    @classmethod
    def of(cls, status: os.stat_result) -> _Stamp:
        return cls(status.st_mtime_ns, status.st_size, status.st_ino)


class _RecordReader(geoip2.database.Reader):
    """geoip2's reader, but it returns raw records: geoip2's model objects would double the time of a look-up."""

    def record(self, address: str | IPv4Address | IPv6Address) -> object:
        """Return the record of an address, or None; raise ValueError for text that is not an address."""
        return self._db_reader.get(address)


class _Opened:
    """One version of the database file, open as long as a lookup uses it."""

    __slots__ = ("answers", "built", "database_type", "has_ipv6", "reader", "stamp", "warned")

    def __init__(self, reader: _RecordReader, metadata: Metadata, stamp: _Stamp, kind: DatabaseKind) -> None:
        self.reader = reader
        self.stamp = stamp
        self.database_type = metadata.database_type
        self.has_ipv6 = metadata.ip_version == 6
        self.built = datetime.fromtimestamp(metadata.build_epoch, UTC)
        self.warned = False
        # PERF: a visitor sends several requests; a look-up takes 13 microseconds, a cached one a quarter of one.
        self.answers = lru_cache(maxsize=4096)(partial(_answer, self, kind))


WITHOUT_C_EXTENSION = (
    "maxminddb runs without its C extension: a look-up of a location takes about fifteen times as long. "
    "Install a wheel of maxminddb for this platform, or libmaxminddb before building it"
)


class MaxMindDatabase:
    """Answers from the record of an address in a MaxMind database file.

    The file is copied when it is opened, and only the copy is read: the reader maps it into memory, and truncating or
    overwriting a mapped file would kill the process. After `follow`, a thread of each process opens new versions of the
    file, so that no look-up waits for this. While a new version is invalid, the old one stays in use. Threads may share
    one instance, and so may processes forked after it was created.

    Args:
        path: the ``.mmdb`` file.
        kind: what the file is for.
        check_every: seconds between two checks of the file by that thread.

    Raises:
        SettingsError: the file is missing, unreadable, damaged or of another type; or it cannot be copied.
    """

    def __init__(self, path: str | Path, kind: DatabaseKind, *, check_every: float = 1.0) -> None:
        self._kind = kind
        # Absolute from the start: a server may change its working folder later.
        self._path = Path(os.path.abspath(path))
        self._lock = PerProcess(threading.Lock)
        self._watcher = Watcher(self.look, check_every, "ninetailed-location")
        self._followed = False
        self._refused: _Stamp | None = None
        self._reported = ""
        try:
            self._current = _open(self._path, self._kind)
        except OSError as problem:
            raise SettingsError([_cannot_read(self._path, problem, self._kind)]) from problem
        if not HAS_C_EXTENSION:
            log.warning("%s", WITHOUT_C_EXTENSION)

    @property
    def database_type(self) -> str:
        """Return the type in the file's metadata, such as ``GeoLite2-City``."""
        return self._current.database_type

    @property
    def built(self) -> datetime:
        """Return when the publisher built the file, in UTC."""
        return self._current.built

    def state(self) -> tuple[float, bool]:
        """Return when the database was built (seconds since the epoch), and whether the current file is rejected."""
        if self._followed:
            self._watcher.ensure()
        return self._current.built.timestamp(), self._reported != ""

    def answer(self, ip: str, argument: str = "") -> Any:
        """Return what the `DatabaseKind` reads from an address's record; None if that fails. Never raise.

        Args:
            ip: an IPv4 or IPv6 address as text; an IPv4 address inside an IPv6 one is looked up as IPv4.
            argument: for `DatabaseKind.read`; results are cached by ``ip`` and ``argument``.
        """
        if self._followed:
            self._watcher.ensure()  # the first request after a fork starts the thread
        opened = self._current
        try:
            if not isinstance(ip, str) or len(ip) > LONGEST_ADDRESS:
                return None
            return opened.answers(ip, argument)
        except Exception as problem:  # damage inside the file can raise nearly any exception
            if not opened.warned:
                opened.warned = True
                log.warning(
                    "%s is damaged (%s); visitors whose record cannot be read get no %s. "
                    "Replace the file; it is picked up without a restart.",
                    self._path,
                    type(problem).__name__,  # the exception's text may contain the address
                    self._kind.missed,
                )
            return None

    def follow(self) -> None:
        """Follow changes of the file in the background from now on, in this process and in those forked from it."""
        self._followed = True
        self._watcher.ensure()

    def look(self) -> None:
        """Open the file now if it is a new version; the thread that `follow` starts calls this repeatedly."""
        with self._lock():
            self._look()

    def _look(self) -> None:
        try:
            stamp = _Stamp.of(self._path.stat())
            if stamp == self._current.stamp:
                self._refused = None
                self._reported = ""
            elif stamp != self._refused:
                self._refused = stamp
                self._current = _open(self._path, self._kind)
                self._refused = None
                self._reported = ""
                log.info("%s: now serving %s built %s", self._path, self.database_type, f"{self.built:%Y-%m-%d}")
        except OSError as problem:
            # Permissions and free space do not change the stamp, so the same version is tried again.
            self._refused = None
            self._report(_cannot_read(self._path, problem, self._kind))
        except Exception as problem:
            self._report(str(problem))

    def _report(self, problem: str) -> None:
        if problem != self._reported:
            self._reported = problem
            log.warning("%s. The previous version stays in use.", problem)


def _cannot_read(path: Path, problem: OSError, kind: DatabaseKind) -> str:
    if isinstance(problem, FileNotFoundError) and not path.exists():
        return f"{kind.option}: {path} does not exist; {kind.expected}"
    # Leave out the file name in the error: a temporary file has a different name at each attempt.
    return f"{kind.option}: {path} cannot be opened ({problem.strerror or problem})"


_CHECKED: set[tuple[Path, _Stamp]] = set()
"""Versions of files that passed `_check`: startup opens each file twice, the first time to report errors."""


def _open(path: Path, kind: DatabaseKind) -> _Opened:
    """Open a private copy of the file; raise OSError, or SettingsError if the content is not what is needed."""
    with _open_file(path, kind) as source:
        # Taken before the copy: a file that is still being written has a different stamp at the next check.
        stamp = _Stamp.of(os.fstat(source.fileno()))
        with _private_copy(source) as copy:
            return _open_copy(path, copy, stamp, kind)


@contextmanager
def _private_copy(source: BinaryIO) -> Iterator[str]:
    """Yield the name of a temporary copy; a memory map of it stays valid after its removal, then frees the space."""
    copy = ""
    try:
        try:
            handle, copy = tempfile.mkstemp(prefix="ninetailed-location-", suffix=".mmdb")
            with os.fdopen(handle, "wb") as target:
                shutil.copyfileobj(source, target, 1 << 20)
        except OSError as problem:
            raise OSError(
                problem.errno, f"copying it to the temporary folder (TMPDIR): {problem.strerror}"
            ) from problem
        yield copy
    finally:
        with suppress(OSError):
            os.unlink(copy)


def _open_file(path: Path, kind: DatabaseKind) -> BinaryIO:
    try:
        status = path.stat()
    except ValueError as problem:
        raise SettingsError([f"{kind.option}: {str(path)!r} is not the name of a file ({problem})"]) from problem
    if not stat.S_ISREG(status.st_mode):
        # Opening a pipe would wait for its writer.
        raise SettingsError([f"{kind.option}: {path} is not a file; {kind.expected}"])
    return path.open("rb")


def _open_copy(path: Path, copy: str, stamp: _Stamp, kind: DatabaseKind) -> _Opened:
    try:
        with maxminddb.open_database(copy, maxminddb.MODE_MMAP) as slow:
            metadata = slow.metadata()
            if not any(accepted in metadata.database_type for accepted in kind.types):
                raise SettingsError([f'{kind.option}: {path} is of type "{metadata.database_type}"; {kind.expected}'])
            if (path, stamp) not in _CHECKED:
                _check(slow)
                _CHECKED.add((path, stamp))
        reader = _RecordReader(copy, mode=maxminddb.MODE_MMAP_EXT if HAS_C_EXTENSION else maxminddb.MODE_MMAP)
        return _Opened(reader, metadata, stamp, kind)
    except (SettingsError, OSError):  # OSError: too many open files and the like, not damage
        raise
    except Exception as problem:  # damage inside the file can raise nearly any exception
        # The name of our copy means nothing to the person who reads this.
        reason = str(problem).replace(copy, str(path))
        raise SettingsError(
            [f"{kind.option}: {path} is damaged or not a MaxMind database ({reason}); {kind.expected}"]
        ) from problem


def _check(slow: maxminddb.Reader) -> None:
    """Read records with the pure Python reader, and raise for one that would crash the C extension.

    Measured with maxminddb 3.2.0: of all files that differ from our demo database in one bit, 0.6 percent crash the
    process inside the C extension, which assumes that every key of a map is text. The Python reader raises for most of
    these files, and a check of the keys finds the rest. A small database is read completely. The sample of a large one
    finds a part that was damaged while it was written or sent, but not a single wrong bit.
    """
    metadata = slow.metadata()
    _check_keys(metadata.description)
    families: list[tuple[type[IPv4Address] | type[IPv6Address], int]] = [(IPv4Address, 32)]
    if metadata.ip_version == 6:
        families.append((IPv6Address, 128))
    for family, bits in families:
        least_step = 1 if metadata.node_count <= SMALL_DATABASE else (1 << bits) // SAMPLE
        number = 0
        for _ in range(MOST_RECORDS):
            record, prefix_length = slow.get_with_prefix_len(family(number))
            _check_keys(record)
            # Continue with the address after this network.
            number = max(number + least_step, (number | ((1 << (bits - prefix_length)) - 1)) + 1)
            if number >> bits:
                break


def _check_keys(value: object) -> None:
    if isinstance(value, dict):
        for key, member in value.items():
            if not isinstance(key, str):
                raise maxminddb.InvalidDatabaseError("a map has a key that is not text")
            _check_keys(member)
    elif isinstance(value, list):
        for member in value:
            _check_keys(member)


def _answer(opened: _Opened, kind: DatabaseKind, ip: str, argument: str) -> Any:
    return kind.read(_find(opened, ip), argument)


def _find(opened: _Opened, ip: str) -> object:
    """Return the record of an address, None for other text; a damaged file can raise any exception."""
    if ":" not in ip:
        # The reader raises for text that is not an address; here such text only means an unknown location.
        return opened.reader.record(ip) if _LIKE_IPV4.fullmatch(ip) else None
    try:
        address = IPv6Address(ip)
    except ValueError:
        return None
    if address.ipv4_mapped is not None:
        return opened.reader.record(address.ipv4_mapped)
    return opened.reader.record(address) if opened.has_ipv6 else None


_OCTET = "(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_LIKE_IPV4 = re.compile(rf"{_OCTET}(?:\.{_OCTET}){{3}}")


def member(record: object, name: str) -> dict[str, Any]:
    """Return an object within a record; empty if the record lacks it."""
    value = record.get(name) if isinstance(record, dict) else None
    return value if isinstance(value, dict) else {}


def text(value: object) -> str | None:
    """Return a non-empty text, else None."""
    return value if isinstance(value, str) and value else None
