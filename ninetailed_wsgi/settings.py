"""Every option of the service, declared once: keyword argument, environment variable and flag have one name.

``python -m ninetailed_wsgi.settings`` prints the table of options that the README shows.
"""

from __future__ import annotations

import difflib
import ipaddress
import logging
import math
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from ninetailed_wsgi.core.names import Environment
from ninetailed_wsgi.errors import SettingsError
from ninetailed_wsgi.operations.redis_url import RedisUrl

PREFIX = "NINETAILED_"
UNIX_SOCKET = "unix"

_log = logging.getLogger("ninetailed_wsgi")

_TRUE = ("1", "true", "yes", "on")
_FALSE = ("0", "false", "no", "off")


# Readers: each takes what was given, text or a typed value, and returns the checked value.
# A ValueError's text says what would have been right; the option and what was found are added by Settings.


def _address(given: object) -> str:
    match = re.fullmatch(r"(?:\[([0-9A-Fa-f:.]+)\]|([^\s:\[\]/]+)):([0-9]{1,5})", str(given))
    if match is None or int(match[3]) > 65535:
        raise ValueError("HOST:PORT such as 127.0.0.1:8000 or [::1]:8000")
    if match[1]:
        try:
            ipaddress.IPv6Address(match[1])
        except ValueError:
            raise ValueError("an IPv6 address between the brackets, such as [::1]:8000") from None
    return str(given)


def _whole(low: int, high: int) -> Callable[[object], int]:
    def read(given: object) -> int:
        if isinstance(given, int) and not isinstance(given, bool):
            number = given
        elif isinstance(given, str) and re.fullmatch(r"[+-]?[0-9]{1,18}", given.strip()):
            number = int(given)
        else:
            number = low - 1
        if not low <= number <= high:
            raise ValueError(f"a whole number from {low} to {high}")
        return number

    return read


def _seconds(given: object) -> float:
    try:
        number = float(given) if isinstance(given, (int, float, str)) and not isinstance(given, bool) else math.nan
    except ValueError:
        number = math.nan
    if not 0 < number <= 3600:  # also refuses NaN
        raise ValueError("a number of seconds above 0, at most 3600")
    return number


def _yes_or_no(given: object) -> bool:
    word = str(given).strip().lower()
    if word not in _TRUE + _FALSE:
        raise ValueError("yes or no (also true, false, on, off, 1, 0)")
    return word in _TRUE


def _yes_with(package: str, extra: str) -> Callable[[object], bool]:
    def read(given: object) -> bool:
        if not _yes_or_no(given):
            return False
        if find_spec(package) is None:
            raise ValueError(f"no, as the package for it is missing: pip install 'ninetailed-wsgi[{extra}]'")
        return True

    return read


def _rate(given: object) -> str:
    text = str(given or "").strip()
    if not text:
        return ""
    if find_spec("limits") is None:
        raise ValueError("nothing, as the package for it is missing: pip install 'ninetailed-wsgi[limits]'")
    from limits import parse_many

    try:
        rates = parse_many(text)
    except ValueError:
        rates = []
    if not rates or any(rate.amount < 1 or rate.get_expiry() < 1 for rate in rates):
        raise ValueError("a number per second, minute, hour or day, such as 100/second or 50/second;1000/minute")
    return text


def _path(given: object, kind: str) -> tuple[Path, str]:
    """The path, and what is there: ``"file"``, ``"folder"``, or ``""`` for nothing."""
    if not isinstance(given, (str, os.PathLike)) or not os.fspath(given):
        raise ValueError(f"the path of {kind}")
    try:
        path = Path(given).expanduser()
        return path, "folder" if path.is_dir() else "file" if path.exists() else ""
    except (OSError, RuntimeError) as error:  # no permission to look; ~nobody
        raise ValueError(f"the path of {kind}; {error}") from None


def _folder(given: object) -> Path:
    path, there = _path(given, "a folder")
    if there == "file":
        raise ValueError("the path of a folder; there is a file of that name")
    return path


def _existing(kind: str, *, folder_too: bool) -> Callable[[object], Path | None]:
    def read(given: object) -> Path | None:
        if given is None or given == "":
            return None
        path, there = _path(given, kind)
        if not there:
            raise ValueError(f"the path of {kind}; there is nothing at that path")
        if there == "folder" and not folder_too:
            raise ValueError(f"the path of {kind}; that is a folder")
        return path

    return read


def _content(given: object) -> Path | str | None:
    if not isinstance(given, str) or "://" not in given:
        return _existing(_CONTENT, folder_too=True)(given)
    scheme = given.partition("://")[0]
    if scheme not in ("http", "https", "redis", "rediss"):
        raise ValueError(
            f"the path of {_CONTENT}; or an address that begins with http://, https://, redis://, rediss://"
        )
    try:
        parts = urlsplit(given)
        sound = bool(parts.hostname) and parts.port != 0 and re.fullmatch(r"[!-~]+", given)
    except ValueError:
        sound = None
    if not sound:
        raise ValueError(f"{scheme}://HOST[:PORT]/..., what is special in a name or password percent-encoded")
    if scheme.startswith("redis") and len(parse_qs(parts.query).get("key", ())) != 1:
        raise ValueError(f"the key of a hash: {scheme}://HOST[:PORT]/DB?key=NAME")
    return given


def _redis(given: object) -> RedisUrl | None:
    if given is None or given == "":
        return None
    return given if isinstance(given, RedisUrl) else RedisUrl.parse(str(given))


def _text_or_none(given: object) -> str | None:
    if given is None or given == "":
        return None
    if not isinstance(given, str) or not re.fullmatch(r"[A-Za-z0-9_-]{1,35}", given):
        raise ValueError("a locale such as en-US")
    return given


def _one_of(*words: str) -> Callable[[object], str]:
    by_upper_case = {word.upper(): word for word in words}

    def read(given: object) -> str:
        word = by_upper_case.get(str(given).strip().upper())
        if word is None:
            raise ValueError(" or ".join(words))
        return word

    return read


def _list_of(read_item: Callable[[str], str]) -> Callable[[object], tuple[str, ...]]:
    def read(given: object) -> tuple[str, ...]:
        if isinstance(given, str):
            items = [part.strip() for part in given.split(",") if part.strip()]
        elif isinstance(given, Iterable) and not isinstance(given, (bytes, Mapping)):
            items = list(given)
        else:
            raise ValueError("a list, or text with commas between its items")
        wrong = [item for item in items if not isinstance(item, str)]
        if wrong:
            raise ValueError(f"only text in the list, not {wrong[0]!r}")
        return tuple(dict.fromkeys(read_item(item) for item in items))

    return read


def _network(item: str) -> str:
    if item == UNIX_SOCKET:
        return item
    try:
        ipaddress.ip_network(item)
    except ValueError:
        try:
            right = str(ipaddress.ip_network(item, strict=False))
        except ValueError:
            right = ""
        hint = (
            f"; did you mean {right}?"
            if right
            else f", such as 10.0.0.0/8, ::1, or {UNIX_SOCKET} for a proxy on a Unix socket"
        )
        raise ValueError(f"IP addresses or networks, which {item!r} is not{hint}") from None
    return item


def _environment(item: str) -> str:
    try:
        return str(Environment.parse(item))
    except ValueError:
        raise ValueError(f"items of the form organization/environment, which {item!r} is not") from None


def _origin(item: str) -> str:
    if item != "*" and not re.fullmatch(r"[a-z][a-z0-9+.-]*://[^/\s]+", item):
        raise ValueError(f"* or origins such as https://www.example.com (no path, no slash at the end), not {item!r}")
    return item


def _option(default: Any, read: Callable[[object], Any], metavar: str, text: str) -> Any:
    return field(default=default, metadata={"read": read, "metavar": metavar, "help": text})


_DATABASE = "a MaxMind City database (.mmdb)"
_CONTENT = "a content file, or of a folder with one file per environment"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All options of the service, checked when made; the one place where an option is declared.

    A list may be given as a list or as text with commas; a path as text or as a path; a number as text.

    Raises:
        SettingsError: one line for each bad option, all of them at once.
    """

    bind: str = _option("127.0.0.1:8000", _address, "HOST:PORT", "Where `serve` listens; port 0 takes any free port.")
    workers: int = _option(2, _whole(1, 256), "N", "Processes that `serve` starts; about one per core.")
    threads: int = _option(4, _whole(1, 256), "N", "Threads of each process: how many requests it works on at a time.")
    data_dir: Path = _option(
        Path("ninetailed-data"), _folder, "DIR", "Folder of all stored data; made when missing, for its owner only."
    )
    store: RedisUrl | None = _option(
        None,
        _redis,
        "URL",
        "Redis or Valkey that keeps the profiles instead of `--data-dir`: `redis://HOST:PORT/DB`, also `rediss://`, "
        "`redis+sentinel://`, `redis+cluster://`; see docs/redis.md.",
    )
    content: Path | str | None = _option(
        None,
        _content,
        "PATH|URL",
        "Experiences and audiences: a file, a folder with one `organization/environment.json` per environment, or what "
        "all servers share: `https://...`, `redis://HOST/DB?key=NAME`.",
    )
    geoip_database: Path | None = _option(
        None,
        _existing(_DATABASE, folder_too=False),
        "FILE",
        "MaxMind City database that turns addresses into locations; without one there are no locations.",
    )
    trusted_proxies: tuple[str, ...] = _option(
        (),
        _list_of(_network),
        "CIDR[,CIDR]",
        "Proxies whose `X-Forwarded-For` and `Forwarded` are believed; from anyone else they are ignored.",
    )
    environments: tuple[str, ...] = _option(
        (), _list_of(_environment), "ORG/ENV[,ORG/ENV]", "Environments that are served; empty: any."
    )
    cors_origins: tuple[str, ...] = _option(
        ("*",), _list_of(_origin), "ORIGIN[,ORIGIN]", "Origins whose pages may call the API from a browser; `*`: any."
    )
    max_body_bytes: int = _option(
        1_048_576, _whole(1, 1_073_741_824), "BYTES", "Largest accepted request body; over it: 413."
    )
    max_traits_bytes: int = _option(
        65_536,
        _whole(2, 1_073_741_824),
        "BYTES",
        "What all traits of a profile may take as JSON; an `identify` event that would make it more: 400.",
    )
    history_events: int = _option(
        500, _whole(1, 1_000_000), "N", "Events kept per profile; audiences are computed from them."
    )
    history_days: int = _option(365, _whole(1, 36_500), "DAYS", "Days that an event is kept.")
    sqlite_synchronous: str = _option(
        "NORMAL",
        _one_of("NORMAL", "FULL"),
        "NORMAL|FULL",
        "NORMAL survives a killed process; FULL also a power cut, at a disk flush for each write.",
    )
    store_shards: int = _option(
        32,
        _whole(1, 256),
        "N",
        "Database files that profiles are spread over; writers of different files never wait for each other.",
    )
    store_timeout: float = _option(5.0, _seconds, "SECONDS", "How long a writer waits for its turn before it gives up.")
    store_wait_replicas: int = _option(
        0, _whole(0, 16), "N", "Replicas of Redis that must have a write before it is answered."
    )
    import_queue: int = _option(
        10_000,
        _whole(1, 1_000_000),
        "N",
        "Batches of `/import/events` that may wait to be applied; while so many wait, another one is answered 503.",
    )
    content_locale: str | None = _option(
        None, _text_or_none, "LOCALE", "Locale that is read from a Contentful export; default: the export's own."
    )
    explain: bool = _option(
        False, _yes_or_no, "yes|no", "Serve `.../explain`, which says why a visitor gets what they get; it shows rules."
    )
    profile_concurrency: int = _option(
        6,
        _whole(1, 10_000),
        "N",
        "Requests of one process that may write the same profile at once, in turn; one more is answered 429.",
    )
    rate_limit: str = _option(
        "",
        _rate,
        "N/PERIOD[;N/PERIOD]",
        "Requests that one client address (IPv6: /64) may make, such as `100/second`; over it: 429. Each process counts"
        " for itself. Needs the extra `limits`.",
    )
    metrics: bool = _option(
        False, _yes_with("prometheus_client", "metrics"), "yes|no", "Serve `/metrics`. Needs the extra `metrics`."
    )
    access_log: bool = _option(
        False, _yes_or_no, "yes|no", "Log a line for each request: route, status, seconds, bytes; never who it was."
    )
    log_format: str = _option(
        "text", _one_of("text", "json"), "text|json", "How `serve` writes its log: lines of text, or of JSON."
    )

    def __post_init__(self) -> None:
        problems = []
        for each in OPTIONS:
            given = getattr(self, each.name)
            try:
                object.__setattr__(self, each.name, each.read(given))  # frozen for everybody else
            except ValueError as error:
                shown = _without_credentials(given) if each.name == "store" else _shown(given)
                problems.append(f"{each.spellings}: found {shown}, expected {error}")
        if problems:
            raise SettingsError(problems)

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ, **keywords: Any) -> Settings:
        """Settings from keywords first, then ``NINETAILED_*`` variables, then the defaults.

        Args:
            environ: the environment variables. Those without the prefix are ignored; so are, with a warning, those with
                it that are no option, unless they look like a misspelt one.
            keywords: options by name, as the constructor takes them.

        Raises:
            SettingsError: bad values and unknown names, all of them at once.
        """
        known = {each.name: each for each in OPTIONS}
        problems = []
        for name in sorted(environ):
            if name.startswith(PREFIX) and name[len(PREFIX) :].lower() not in known:
                if nearest := _nearest(name, [each.variable for each in OPTIONS], cutoff=0.85):
                    problems.append(f"{name}: no such environment variable{nearest}")
                else:  # the host site's own, say for the browser SDK
                    _log.warning("%s is no option of ninetailed-wsgi and is ignored", name)
        problems += [f"{name}: no such option{_nearest(name, known)}" for name in sorted(keywords) if name not in known]
        given: dict[str, Any] = {each.name: environ[each.variable] for each in OPTIONS if each.variable in environ}
        given.update((name, value) for name, value in keywords.items() if name in known)
        try:
            settings = cls(**given)
        except SettingsError as error:
            raise SettingsError([*error.problems, *problems]) from None
        if problems:
            raise SettingsError(problems)
        return settings


@dataclass(frozen=True, slots=True)
class Option:
    """One option of `Settings`, as the command line, the environment and the README need it.

    Attributes:
        name: the keyword argument, such as ``data_dir``.
        default: the value when nothing is given.
        metavar: stands for the value in usage texts.
        help: one sentence for the person who sets it.
        read: turns what was given into the checked value; a ValueError says what would be right.
    """

    name: str
    default: Any
    metavar: str
    help: str
    read: Callable[[object], Any]

    @property
    def flag(self) -> str:
        return "--" + self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        return PREFIX + self.name.upper()

    @property
    def spellings(self) -> str:
        return f"{self.name} ({self.flag}, {self.variable})"

    @property
    def default_text(self) -> str:
        """The default as it would be typed; empty where the option is off without one."""
        if isinstance(self.default, bool):
            return "yes" if self.default else "no"
        if isinstance(self.default, tuple):
            return ",".join(self.default)
        return "" if self.default is None else str(self.default)


OPTIONS: tuple[Option, ...] = tuple(
    Option(name=each.name, default=each.default, **each.metadata) for each in fields(Settings)
)


def options_table() -> str:
    """The README's table of options, in Markdown, one row for each."""
    rows = ["| flag | environment variable | default | |", "| --- | --- | --- | --- |"]
    for each in OPTIONS:
        metavar = each.metavar.replace("|", "\\|")
        default = f"`{each.default_text}`" if each.default_text else ""
        rows.append(f"| `{each.flag} {metavar}` | `{each.variable}` | {default} | {each.help} |")
    return "\n".join(rows)


def masked(address: str) -> str:
    """An address for logs: without its login and its query, which may be secret; a Redis key is shown."""
    scheme, _, rest = address.partition("://")
    try:
        sound = urlsplit(address).port != 0
    except ValueError:  # perhaps a password with a slash that is not percent-encoded
        sound = False
    rest, query, inner = re.sub(r"^[^/?#]*@" if sound else r"^.*@", "***@", rest).partition("?")
    key = re.search(r"(?:^|&)(key=[^&#]*)", inner) if scheme.startswith("redis") else None
    return f"{scheme}://{rest}{query}{key[1] if key else '...' if query else ''}"


def _shown(given: object) -> str:
    if isinstance(given, str) and "://" in given:
        given = masked(given)
    text = repr(str(given)) if isinstance(given, os.PathLike) else repr(given)
    return text if len(text) <= 200 else text[:200] + "..."


def _without_credentials(given: object) -> str:
    """Of an address that cannot be read, nothing that may be a password."""
    scheme, separator, _ = str(given).partition("://")
    return repr(scheme[:40] + "://...") if separator and "@" not in scheme else "no address"


def _nearest(name: str, known: Iterable[str], cutoff: float = 0.5) -> str:
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=cutoff)
    return f"; did you mean {close[0]}?" if close else ""


if __name__ == "__main__":
    print(options_table())
