"""Checks everything that startup depends on, and reports each thing in a line."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from ninetailed_wsgi.errors import NinetailedError, SettingsError
from ninetailed_wsgi.operations.terminal import in_line
from ninetailed_wsgi.settings import Settings

if TYPE_CHECKING:
    from ninetailed_wsgi.content.live import LiveContent
    from ninetailed_wsgi.service.access import Hosting
    from ninetailed_wsgi.store.protocol import QueueState

# Each check imports what it needs, so that a damaged installation becomes a line here and not a traceback.

DEMO_TYPE = "Demo-City"  # the made-up places of fixtures/geo do not move
OLD_AFTER_DAYS = 30  # MaxMind publishes new City databases twice a week; after a month addresses have moved


class Finding(NamedTuple):
    """What was found about one thing.

    Attributes:
        status: ``fail`` stops startup, ``warn`` does not.
        subject: the thing, such as ``data folder``.
        text: what was found; for a failure also what would be right.
        details: more lines, for ``ninetailed-wsgi check``.
    """

    status: Literal["ok", "warn", "fail"]
    subject: str
    text: str
    details: tuple[str, ...] = ()

    def __str__(self) -> str:
        first = f"{self.status:<5} {self.subject:<12}  {self.text}"
        return "\n".join(map(in_line, [first, *(f"{'':<20}{line}" for line in self.details)]))


def check_all(settings: Settings, *, now: datetime | None = None, strict: bool = False) -> list[Finding]:
    """Look at everything without changing anything; for ``ninetailed-wsgi check``.

    Args:
        now: the time from which ages are computed, aware; default: the present.
        strict: as for `check_content`.
    """
    return [
        check_store(settings),
        *([] if settings.store else [check_files(settings)]),
        check_environments(settings),
        check_access(settings),
        check_location(settings, now=now),
        *check_companies(settings),
        check_schemas(),
        _with_unsent_metrics(*_content(settings, read_only=True, strict=strict), settings),
        check_imports(settings),
    ]


def check_start(settings: Settings, *, now: datetime | None = None) -> list[Finding]:
    """Check what ``serve`` needs before its workers start; create the data folder and its store if missing."""
    store = _started_store(settings)
    findings = [store, check_environments(settings), check_access(settings)]
    findings += [check_location(settings, now=now), *check_companies(settings), check_content(settings)]
    if settings.store is None and store.status != "fail":
        files = check_files(settings, rows=False)
        if files.status == "fail":
            findings.insert(1, files._replace(status="warn"))  # the other files are served
    return findings


def _started_store(settings: Settings) -> Finding:
    from ninetailed_wsgi.store.disk.store import DiskStore

    if settings.store is not None:
        return check_store(settings)
    try:
        DiskStore(settings.data_dir, shards=settings.store_shards)
    except SettingsError as error:
        return _failed("data folder", error, "data_dir")
    return check_data_folder(settings)


def failures(findings: Sequence[Finding]) -> list[Finding]:
    """Return the findings that stop startup."""
    return [finding for finding in findings if finding.status == "fail"]


def check_store(settings: Settings) -> Finding:
    """Check where profiles are stored, and whether they can be."""
    if settings.store is None:
        return check_data_folder(settings)
    try:
        from ninetailed_wsgi.store.redis.server import RedisServer

        fitness = RedisServer(settings.store, timeout=settings.store_timeout).fitness(look_only=True)
    except NinetailedError as error:
        return _failed("store", error, "store")
    text = f"{settings.store} ({fitness.version}, {fitness.persistence})"
    if fitness.warnings:
        return Finding("warn", "store", f"{text}: {'; '.join(fitness.warnings)}")
    return Finding("ok", "store", text)


def check_data_folder(settings: Settings) -> Finding:
    """Check that the folder holds a store or nothing, and can be written, with a temporary file without a name."""
    from ninetailed_wsgi.store.disk.folder import FORMAT, examine, refuse_filling

    folder = settings.data_dir.absolute()
    try:
        refuse_filling(folder)
        mode = stat.S_IMODE(folder.stat().st_mode)
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(b"probe")
        shards = examine(folder)
    except FileNotFoundError:
        return _missing_data_folder(folder)
    except SettingsError as error:
        return _failed("data folder", error, "data_dir")
    except OSError as error:
        reason = error.strerror or str(error)
        return Finding("fail", "data folder", f"{folder} cannot be written: {reason} (--data-dir)")
    if mode & 0o077:
        text = f"{folder} (writable; its mode {mode:04o} lets others in; startup changes it to 0700)"
        return Finding("warn", "data folder", text)
    if shards is None:
        return Finding("ok", "data folder", f"{folder} (writable, empty)")
    return Finding("ok", "data folder", f"{folder} (writable, mode 0700, store format {FORMAT})")


def _missing_data_folder(folder: Path) -> Finding:
    parent = next(parent for parent in folder.parents if parent.exists())
    if parent.is_dir() and os.access(parent, os.W_OK | os.X_OK):
        return Finding("ok", "data folder", f"{folder} (does not exist yet; the service creates it)")
    return Finding("fail", "data folder", f"{folder} cannot be created: {parent} is not writable (--data-dir)")


def check_files(settings: Settings, *, rows: bool = True) -> Finding:
    """Check that every database file that was made is intact; requests that need a damaged one are answered 503.

    Args:
        rows: check all rows, which takes a second for some hundred MB; otherwise only the headers of the files.
    """
    from ninetailed_wsgi.store.disk.folder import made_files
    from ninetailed_wsgi.store.disk.upkeep import verify

    broken = []
    try:
        files = made_files(settings.data_dir.absolute())
    except OSError as error:
        return Finding("fail", "store files", f"the data folder cannot be read: {error.strerror}")
    for file in files:
        try:
            verify(file, settings.store_timeout, rows=rows)
        except NinetailedError as error:
            broken.append(str(error))
    if broken:
        return Finding("fail", "store files", f"{len(broken)} of {len(files)} cannot be served:", tuple(broken))
    return Finding("ok", "store files", f"{len(files)}, all intact" if files else "none yet")


def check_environments(settings: Settings) -> Finding:
    """Report which environments are served."""
    environments = ", ".join(settings.environments) or "any organization and environment; restrict with --environments"
    return Finding("ok", "environments", environments)


def hosting_of(bind: str) -> Hosting:
    """Return whether a server on this address serves this machine alone or a network (spec section 16)."""
    host = bind.rpartition(":")[0].strip("[]")
    if host == "localhost":
        return "local"
    try:
        return "local" if ip_address(host).is_loopback else "network"
    except ValueError:
        return "network"


def check_access(settings: Settings) -> Finding:
    """Read the files of keys and of the identity secret, and warn if everybody may do everything (section 16)."""
    from ninetailed_wsgi.service.access import Access

    place = hosting_of(settings.bind)
    try:
        access = Access.of(settings, place)
    except SettingsError as error:
        return Finding("fail", "access", "; ".join(error.problems))
    if access.guarded:
        return Finding("ok", "access", "guarded: strangers can use a profile only by its own id")
    if access.local:
        return Finding("ok", "access", "open, for loopback hosts and pages only")
    text = f"open: anybody who reaches {settings.bind} can read, change and delete every profile; see docs/security.md"
    return Finding("warn", "access", text)


def check_location(settings: Settings, *, now: datetime | None = None) -> Finding:
    """Report the location database's type, build date and age."""
    if settings.geoip_database is None:
        return Finding("warn", "location", "no database: visitors get no location (set one with --geoip-database)")
    from ninetailed_wsgi.enrichment.geoip import HAS_C_EXTENSION, WITHOUT_C_EXTENSION, LocationDatabase

    try:
        database = LocationDatabase(settings.geoip_database)
    except NinetailedError as error:
        return _failed("location", error, "geoip_database")
    age = max(0, ((now or datetime.now(UTC)) - database.built).days)
    text = f"{database.database_type}, built {database.built:%Y-%m-%d}, {age} {'day' if age == 1 else 'days'} old"
    if age > OLD_AFTER_DAYS and not database.database_type.endswith(DEMO_TYPE):
        return Finding("warn", "location", f"{text}: addresses move, so a newer database is more accurate")
    if not HAS_C_EXTENSION:
        return Finding("warn", "location", f"{text}; {WITHOUT_C_EXTENSION}")
    return Finding("ok", "location", text)


def check_companies(settings: Settings) -> list[Finding]:
    """Report which sources of company data are configured; nothing if none is."""
    from ninetailed_wsgi.enrichment.company_database import CompanyDatabase
    from ninetailed_wsgi.service.sources import albacross_key, is_readable_by_all

    names: list[str] = []
    try:
        if settings.company_database:
            database = CompanyDatabase(settings.company_database)
            names.append(f"{database.database_type}, built {database.built:%Y-%m-%d}")
        if albacross_key(settings.albacross_key_file):
            names.append(f"Albacross at {settings.albacross_url}")
    except NinetailedError as error:
        option = "company_database" if settings.company_database and not names else "albacross_key_file"
        return [_failed("companies", error, option)]
    if settings.albacross_key_file and is_readable_by_all(settings.albacross_key_file):
        names.append(f"every user of this machine can read {settings.albacross_key_file}: chmod o-r prevents that")
        return [Finding("warn", "companies", "; ".join(names))]
    return [Finding("ok", "companies", "; ".join(names))] if names else []


def check_schemas() -> Finding:
    """Check that the JSON Schemas of the package are there, and that those of requests compile."""
    from ninetailed_wsgi.api.validation.schemas import REQUESTS, schemas

    try:
        schemas().compile(REQUESTS)
        count = len(schemas().documents)
    except Exception as error:  # any error of an installation becomes its line, not a traceback
        return Finding("fail", "schemas", f"{type(error).__name__}: {error}")
    if not count:
        return Finding("fail", "schemas", "none found: the installation is incomplete")
    return Finding("ok", "schemas", f"{count} found, those of requests compiled")


def check_content(settings: Settings, *, read_only: bool = False, strict: bool = False) -> Finding:
    """Check where experiences and audiences come from, and what can be served of them.

    Args:
        settings: name the content.
        read_only: keep no copy of what is read.
        strict: fail also if something is left out or stored oddly, although everything else can be served.
    """
    return _content(settings, read_only=read_only, strict=strict)[0]


def _content(settings: Settings, *, read_only: bool, strict: bool) -> tuple[Finding, LiveContent | None]:
    """Return the finding about the content, and the content if it can be served."""
    if not settings.content:
        text = "none: visitors get no audiences and no experiences (set it with --content)"
        return Finding("ok", "content", text), None
    from ninetailed_wsgi.content import content_source, report

    try:
        source = content_source(settings, read_only=read_only)
    except SettingsError as error:
        return _failed("content", error, "content"), None
    try:
        source.load()
    except SettingsError:
        text = f"{source.name} cannot be served, it has errors (--content):"
        return Finding("fail", "content", text, tuple(report(source))), None
    return _of_content(source, settings, strict=strict), source


def _of_content(source: LiveContent, settings: Settings, *, strict: bool) -> Finding:
    from ninetailed_wsgi.content import STRICT, report

    text = f"{source.name} ({source.origin()})" if source.origin() else source.name
    severities = [problem.severity for problem in source.problems()]
    if strict and STRICT.intersection(severities):
        text = f"{source.name} has content that --strict does not accept:"
        return Finding("fail", "content", text, tuple(report(source)))
    if "error" in severities:
        text = f"{source.name} cannot be served; until it can, the copy kept in {settings.data_dir} is:"
        return Finding("warn", "content", text, tuple(report(source)))
    if "left out" in severities:
        text = f"{text}: what is left out cannot be understood, everything else is served"
        return Finding("warn", "content", text, tuple(report(source)))
    return Finding("ok", "content", text, tuple(report(source)))


def _with_unsent_metrics(finding: Finding, source: LiveContent | None, settings: Settings) -> Finding:
    """Add to the finding about the content the metrics whose event nobody has sent, if profiles can be read."""
    from ninetailed_wsgi.core.names import Environment
    from ninetailed_wsgi.server.unsent import unsent_metrics
    from ninetailed_wsgi.store.disk.folder import examine
    from ninetailed_wsgi.store.opening import open_store

    if source is None or finding.status == "fail":
        return finding
    try:
        if settings.store is None and examine(settings.data_dir) is None:
            return finding
        catalogs = {name: each for name, each in source.catalogs().items() if each.metrics.metrics}
        if not catalogs:
            return finding
        store, _ = open_store(settings)
        lines = [
            line
            for name, catalog in catalogs.items()
            for line in unsent_metrics(store, None if name == "*/*" else Environment.parse(name), catalog)
        ]
        store.close()
    except (NinetailedError, OSError):
        return finding  # the line of the store says why
    return finding._replace(details=(*finding.details, *lines))


def check_imports(settings: Settings) -> Finding:
    """Report how many accepted batches wait to be applied, and how many could not be."""
    from ninetailed_wsgi.store.disk.queue import ImportQueue

    try:
        state = _redis_queue(settings) if settings.store else ImportQueue(settings.data_dir).state()
    except NinetailedError as error:
        return Finding("warn", "imports", str(error))
    text = f"{state.waiting} of at most {settings.import_queue} waiting"
    if state.waiting:
        text += f", the oldest for {state.oldest:.0f} s"
    return Finding("warn" if state.aside else "ok", "imports", f"{text}, {state.aside} set aside")


def _redis_queue(settings: Settings) -> QueueState:
    from ninetailed_wsgi.store.redis.queue import RedisQueue
    from ninetailed_wsgi.store.redis.server import RedisServer

    assert settings.store is not None
    server = RedisServer(settings.store, timeout=settings.store_timeout)
    server.fitness(look_only=True)
    return RedisQueue(server).state()


def _failed(subject: str, error: NinetailedError, option: str) -> Finding:
    text = str(error).removeprefix(f"{option}: ")
    return Finding("fail", subject, f"{text} (--{option.replace('_', '-')})")
