"""Every option of the service, declared once: keyword argument, environment variable and flag have one name.

``python -m ninetailed_wsgi.settings`` prints the table of options that the README shows.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from ninetailed_wsgi.core.url_masks import MASKED
from ninetailed_wsgi.errors import SettingsError
from ninetailed_wsgi.settings import content_origins, contentful, readers
from ninetailed_wsgi.settings.declaration import PREFIX, Option
from ninetailed_wsgi.settings.masking import quoted, without_credentials
from ninetailed_wsgi.settings.misspellings import keyword_problems, variable_problems
from ninetailed_wsgi.settings.redis_url import RedisUrl

USES: Mapping[str, str] = {
    "server": "`serve`",
    "requests": "`serve`, app, mount",
    "events": "`serve`, app, mount, `import`",
    "decisions": "`serve`, app, mount, `content`, `explain`, `import`, `export`, `results`, `preview-link`, `what-if`",
    "environments": "all but `migrate`, `compact`, `backup`, `upgrade`",
    "store": "all",
}
"""The uses of an option: the word in a declaration or a command, and where the option then exists.

An app is `create_app`, a mount is `Ninetailed`; `check` checks every option.
"""


def _option(
    use: str, default: Any, read: Callable[[object], Any], metavar: str, text: str, *, secret: bool = False
) -> Any:
    """Declare an option; a secret one is never shown and has no flag, because other users could see the flag."""
    metadata = {"use": use, "read": read, "metavar": metavar, "help": text, "secret": secret}
    return field(default=default, metadata=metadata, repr=not secret)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All options of the service, checked when created; every option is declared here.

    A list may be given as a list or as text with commas, a path as text or as a path, a number as text too.

    Raises:
        SettingsError: one line for each invalid option, all of them at once.
    """

    bind: str = _option(
        "server", "127.0.0.1:8000", readers.address, "HOST:PORT", "Where `serve` listens; port 0 takes any free port."
    )
    server: str = _option(
        "server", "gunicorn", readers.one_of("gunicorn", "granian"), "gunicorn|granian", "The server under `serve`."
    )
    workers: int = _option(
        "server", 2, readers.whole_number(1, 256), "N", "Processes that `serve` starts; about one per core."
    )
    threads: int = _option(
        "server", 4, readers.whole_number(1, 256), "N", "Threads per process: requests that it handles at a time."
    )
    data_dir: Path = _option(
        "store",
        Path("ninetailed-data"),
        readers.folder,
        "DIR",
        "Folder of all stored data; made when missing, for its owner only.",
    )
    store: RedisUrl | None = _option(
        "store",
        None,
        readers.redis,
        "URL",
        "Redis or Valkey that stores profiles instead of `--data-dir`: `redis://HOST:PORT/DB`, also `rediss://`, "
        "`redis+sentinel://`, `redis+cluster://`; see docs/redis.md.",
    )
    content: tuple[content_origins.Origin, ...] = _option(
        "decisions",
        (),
        content_origins.content,
        "ORIGIN[;ORIGIN]",
        "Experiences and audiences: a file, a folder with one `organization/environment.json` per environment, Python "
        "(`package.module:name`), or a source that all servers share: `https://...`, `redis://HOST/DB?key=NAME`, a "
        "space of Contentful: `contentful://SPACE/ENVIRONMENT[=ORG/ENV]`, its drafts: `contentful-preview://...`. In "
        "code also a list of what the builders of `ninetailed_wsgi.authoring` return.",
    )
    contentful_token_file: Path | None = _option(
        "decisions",
        None,
        readers.existing_file(readers.SECRET, folder_too=False),
        "FILE",
        "File with the token of Contentful's Delivery API (Preview API for drafts); for several spaces, one line "
        "`SPACE=TOKEN` for each.",
    )
    contentful_token: str = _option(
        "decisions", "", contentful.token, "TOKEN", "The same tokens, separated by `;`.", secret=True
    )
    contentful_url: str = _option(
        "decisions",
        "",
        contentful.url,
        "URL",
        "Host to read content from, such as `https://cdn.eu.contentful.com`; default: `https://cdn.contentful.com`,"
        " for drafts `https://preview.contentful.com`.",
    )
    contentful_poll: float = _option(
        "decisions", 5.0, readers.seconds, "SECONDS", "How often each server asks Contentful for changes."
    )
    contentful_webhook_secret_file: Path | None = _option(
        "requests",
        None,
        readers.existing_file(readers.SECRET, folder_too=False),
        "FILE",
        "File with the secret that webhooks of Contentful send as `X-Ninetailed-Webhook-Secret` to `/content/refresh`.",
    )
    draft_content: tuple[content_origins.Origin, ...] = _option(
        "decisions",
        (),
        content_origins.content,
        "ORIGIN[;ORIGIN]",
        "Unpublished content that previews may show, in the forms of `--content`; drafts count as published.",
    )
    geoip_database: Path | None = _option(
        "requests",
        None,
        readers.existing_file(readers.DATABASE, folder_too=False),
        "FILE",
        "MaxMind City database that maps addresses to locations; without it, profiles have no location.",
    )
    company_database: Path | None = _option(
        "requests",
        None,
        readers.existing_file(readers.COMPANIES, folder_too=False),
        "FILE",
        "MaxMind ISP, ASN or Enterprise database, or one in that format, that maps addresses to the trait `company`.",
    )
    albacross_key_file: Path | None = _option(
        "requests",
        None,
        readers.existing_file(readers.SECRET, folder_too=False),
        "FILE",
        "File with the API key of Albacross, the source of the trait `albacross`. Needs the extra `companies`.",
    )
    albacross_url: str = _option(
        "requests", "https://reveal.api.albacross.com", readers.service_url, "URL", "Base URL of the API of Albacross."
    )
    trusted_proxies: tuple[str, ...] = _option(
        "requests",
        (),
        readers.list_of(readers.network),
        "CIDR[,CIDR]",
        "Proxies whose `X-Forwarded-For` and `Forwarded` headers are trusted; those of any other address are ignored.",
    )
    environments: tuple[str, ...] = _option(
        "environments",
        (),
        readers.list_of(readers.environment),
        "ORG/ENV[,ORG/ENV]",
        "Environments to serve; empty: any.",
    )
    access: str = _option(
        "requests",
        "",
        readers.one_of("open", "guarded", ""),
        "open|guarded",
        "Who may do what: `open` trusts every caller, `guarded` trusts keys and ids that were issued. Default: `open` "
        "where `serve` listens on loopback, else `guarded`. See docs/security.md.",
    )
    keys_file: Path | None = _option(
        "requests",
        None,
        readers.file,
        "FILE",
        "File with the keys of trusted callers; `ninetailed-wsgi key` creates and revokes them.",
    )
    identity_secret_file: Path | None = _option(
        "requests",
        None,
        readers.existing_file(readers.SECRET, folder_too=False),
        "FILE",
        "File with the secret that signs proofs of identity, at least 32 bytes; a second line holds the previous one.",
    )
    trusted_senders: tuple[str, ...] = _option(
        "requests",
        (),
        readers.list_of(readers.network),
        "CIDR[,CIDR]",
        "Addresses whose requests have the scopes `events` and `read` without a key.",
    )
    private_traits: tuple[str, ...] = _option(
        "requests",
        ("albacross", "company"),
        readers.list_of(str),
        "NAME[,NAME]",
        "Traits that rules can use but visitors cannot see (`guarded`).",
    )
    protected_traits: tuple[str, ...] = _option(
        "requests", (), readers.list_of(str), "NAME[,NAME]", "Traits that only trusted callers set (`guarded`)."
    )
    new_profiles_per_minute: int = _option(
        "requests",
        600,
        readers.whole_number(1, 1_000_000),
        "N",
        "New profiles that one client address (IPv6: /64) may create per minute (`guarded`); above it: 429. Counted "
        "per process.",
    )
    spaces: tuple[str, ...] = _option(
        "requests",
        (),
        readers.spaces,
        "SPACE/ENV=ORG/ENV[,...]",
        "Environment of each space of the `/v3/spaces` routes; any other space is the organization of that name.",
    )
    cors_origins: tuple[str, ...] = _option(
        "requests",
        (),
        readers.list_of(readers.origin),
        "ORIGIN[,ORIGIN]",
        "Origins whose pages may call the API from a browser; `*`: any. Default: none (`guarded`), those of loopback "
        "hosts (`open` on loopback), any (`open` elsewhere).",
    )
    max_body_bytes: int = _option(
        "events",
        1_048_576,
        readers.whole_number(1, 1_073_741_824),
        "BYTES",
        "Largest accepted request body; above it: 413.",
    )
    max_traits_bytes: int = _option(
        "events",
        65_536,
        readers.whole_number(2, 1_073_741_824),
        "BYTES",
        "Size limit of all traits of a profile as JSON; an `identify` event that would exceed it: 400.",
    )
    masked_query_parameters: tuple[str, ...] = _option(
        "events",
        MASKED,
        readers.list_of(readers.query_parameter),
        "NAME[,NAME]",
        "Query parameters whose values are removed from page URLs before the URLs are stored.",
    )
    history_events: int = _option(
        "decisions",
        500,
        readers.whole_number(1, 1_000_000),
        "N",
        "Events kept per profile; audiences are computed from them.",
    )
    history_days: int = _option(
        "decisions", 365, readers.whole_number(1, 36_500), "DAYS", "Days that an event is kept."
    )
    history_bytes: int = _option(
        "events",
        1_000_000,
        readers.whole_number(65_536, 1_073_741_824),
        "BYTES",
        "Size limit of the events kept per profile, as JSON; the oldest are dropped first and no longer count.",
    )
    sqlite_synchronous: str = _option(
        "store",
        "NORMAL",
        readers.one_of("NORMAL", "FULL"),
        "NORMAL|FULL",
        "NORMAL survives a killed process; FULL also a power failure, at the cost of a disk flush per write.",
    )
    store_shards: int = _option(
        "store",
        32,
        readers.whole_number(1, 256),
        "N",
        "Number of database files for profiles; writers of different files never wait for each other.",
    )
    store_timeout: float = _option(
        "store", 5.0, readers.seconds, "SECONDS", "How long a writer waits for its turn before it gives up."
    )
    store_wait_replicas: int = _option(
        "store", 0, readers.whole_number(0, 16), "N", "Replicas that confirm a write before it is answered."
    )
    import_queue: int = _option(
        "requests",
        10_000,
        readers.whole_number(1, 1_000_000),
        "N",
        "Batches of `/import/events` that may wait to be applied; when so many wait, the next one is answered 503.",
    )
    import_queue_bytes: int = _option(
        "requests",
        1_073_741_824,
        readers.whole_number(1_048_576, 1_099_511_627_776),
        "BYTES",
        "Size limit of the waiting batches; when it is reached, the next one is answered 503.",
    )
    content_locale: str | None = _option(
        "decisions",
        None,
        readers.locale,
        "LOCALE",
        "Locale to read from a Contentful export; default: the export's default locale.",
    )
    explain: bool = _option(
        "requests",
        False,
        readers.yes_or_no,
        "yes|no",
        "Serve `.../explain`, which says why a visitor gets each variant; it reveals rules.",
    )
    profile_concurrency: int = _option(
        "requests",
        6,
        readers.whole_number(1, 10_000),
        "N",
        "Requests of one process that may write the same profile or wait to write it; one more is answered 429.",
    )
    rate_limit: str = _option(
        "requests",
        "",
        readers.rate,
        "N/PERIOD[;N/PERIOD]",
        "Requests that one client address (IPv6: /64) may make, such as `100/second`; above it: 429. Counted per "
        "process. Needs the extra `limits`.",
    )
    inspector: bool | Callable[..., bool] = _option(
        "requests", False, readers.inspector, "yes|no", "Serve `/inspector/`: docs/inspector.md. Needs its extra."
    )
    metrics: bool = _option(
        "requests",
        False,
        readers.yes_with_extra("prometheus_client", "metrics"),
        "yes|no",
        "Serve `/metrics`. Needs the extra `metrics`.",
    )
    access_log: bool = _option(
        "requests",
        False,
        readers.yes_or_no,
        "yes|no",
        "Log a line per request: route, status, seconds, bytes; never who sent it.",
    )
    log_format: str = _option(
        "server", "text", readers.one_of("text", "json"), "text|json", "Format of the log of `serve`."
    )
    results_every: float = _option(
        "server", 0.0, readers.results_every, "SECONDS", "How often `serve` computes results; 0: never."
    )
    expire_after: int = _option(
        "server",
        0,
        readers.whole_number(0, 99_999),
        "DAYS",
        "While `serve` runs, delete visitors whose newest event is older than this; 0: never.",
    )

    def __post_init__(self) -> None:
        problems = []
        for each in OPTIONS:
            value = getattr(self, each.name)
            try:
                object.__setattr__(self, each.name, each.read(value))  # read-only for all other code
            except readers.MissingExtra as missing:
                problems.append(f"{each.spellings} {missing}")
            except ValueError as error:
                text = without_credentials(value) if each.name == "store" else quoted(value)
                text = "something else" if each.secret else text
                problems.append(f"{each.spellings}: found {text}, expected {error}")
        if problems:
            raise SettingsError(problems)

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ, **keywords: Any) -> Settings:
        """Read settings from keywords first, then ``NINETAILED_*`` variables, then the defaults.

        Args:
            environ: the environment variables. Those without the prefix are ignored. Those with the prefix that are no
                option are ignored with a warning, unless they look like a misspelled option.
            keywords: options by name, as the constructor takes them.

        Raises:
            SettingsError: invalid values and unknown names, all of them at once.
        """
        return cls.for_uses(USES, keywords, environ)

    @classmethod
    def for_app(cls, settings: Settings | None, keywords: Mapping[str, Any]) -> Settings:
        """Merge the arguments of an app or a mount: keywords first, then ``settings`` or the variables.

        Args:
            settings: all other options; None: the ``NINETAILED_*`` variables of this process, then the defaults.
            keywords: options by name, without those that only ``serve`` has.

        Raises:
            SettingsError: invalid values, unknown names and options of ``serve``, all of them at once.
        """
        uses = USES.keys() - {"server"}
        if settings is None:
            return cls.for_uses(uses, keywords, os.environ)
        others = {each.name: getattr(settings, each.name) for each in OPTIONS}
        return cls.for_uses(uses, keywords, {}, others)

    @classmethod
    def for_uses(
        cls,
        uses: Collection[str],
        keywords: Mapping[str, Any],
        environ: Mapping[str, str],
        others: Mapping[str, Any] | None = None,
    ) -> Settings:
        """Read the options of some `USES`, as `from_env` does; refuse keywords for options of another use.

        Args:
            uses: keys of `USES`.
            keywords, environ: as for `from_env`; a variable of another use is ignored.
            others: values for options that neither keywords nor variables set.
        """
        options = {each.name: each for each in OPTIONS}
        own = {name: value for name, value in keywords.items() if name in options and options[name].use in uses}
        variables = {each.name: each.variable for each in OPTIONS if each.use in uses and each.variable in environ}
        problems = [
            *variable_problems(environ, PREFIX, [each.variable for each in OPTIONS]),
            *keyword_problems(keywords.keys() - own.keys(), options.keys()),
        ]
        values = {**(others or {}), **{name: environ[variable] for name, variable in variables.items()}, **own}
        try:
            settings = cls(**values)
        except SettingsError as error:
            raise SettingsError([*error.problems, *problems]) from None
        if problems:
            raise SettingsError(problems)
        return settings


OPTIONS: tuple[Option, ...] = tuple(
    Option(name=each.name, default=each.default, **each.metadata) for each in fields(Settings)
)


def options_table() -> str:
    """Return the table of options for the documentation, in Markdown, one row for each."""
    rows = ["| flag | environment variable | default | used by | |", "| --- | --- | --- | --- | --- |"]
    for each in OPTIONS:
        metavar = each.metavar.replace("|", "\\|")
        default = f"`{each.default_text}`" if each.default_text else ""
        flag = "" if each.secret else f"`{each.flag} {metavar}`"
        rows.append(f"| {flag} | `{each.variable}` | {default} | {USES[each.use]} | {each.help} |")
    return "\n".join(rows)
