"""The address of a Redis or Valkey, as one text: a single server, one that Sentinels watch over, or a Cluster."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import unquote

FORMS = (
    "redis://HOST:PORT/DB, redis+sentinel://HOST:PORT,HOST:PORT/SERVICE/DB or redis+cluster://HOST:PORT,HOST:PORT, "
    "with rediss instead of redis for TLS, and USER:PASSWORD@ before the hosts where it is needed"
)

_URL = re.compile(r"(rediss?)(?:\+(sentinel|cluster))?://(?:([^/\s]*)@)?([^/@\s]+)((?:/[^/?#@\s]*)*)")
_HOST = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([^\s:\[\]]+))(?::([0-9]{1,5}))?")


@dataclass(frozen=True, slots=True)
class RedisUrl:
    """Where the servers are and how to connect to them. Its text and its repr omit user and password.

    Attributes:
        kind: ``single``, ``sentinel`` or ``cluster``.
        hosts: names and ports of the server, of the Sentinels, or of some servers of the Cluster.
        tls: whether connections use TLS.
        service: the name that the Sentinels give the servers; empty for the other kinds.
        database: number of the database; 0 on a Cluster.
        username, password: the login of the servers, None if there is none.
    """

    kind: str
    hosts: tuple[tuple[str, int], ...]
    tls: bool = False
    service: str = ""
    database: int = 0
    username: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)

    @classmethod
    def parse(cls, text: str) -> RedisUrl:
        """Read an address; raise ValueError that says what is valid, never what was given: it may hold a password."""
        match = _URL.fullmatch(text.strip())
        if match is None:
            raise ValueError(FORMS)
        scheme, kind, credentials, hosts, path = match.groups(default="")
        kind = kind or "single"
        if kind == "single" and "," in hosts:
            raise ValueError("one server after redis://; several are redis+sentinel:// or redis+cluster://")
        service, database = _path_parts(kind, path.split("/")[1:])
        username, _, password = credentials.partition(":")
        return cls(
            kind=kind,
            hosts=tuple(_host(host, 26379 if kind == "sentinel" else 6379) for host in hosts.split(",")),
            tls=scheme == "rediss",
            service=service,
            database=database,
            username=unquote(username) or None,
            password=unquote(password) or None,
        )

    def __str__(self) -> str:
        scheme = ("rediss" if self.tls else "redis") + ("" if self.kind == "single" else f"+{self.kind}")
        hosts = ",".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in self.hosts)
        path = {"single": f"/{self.database}", "sentinel": f"/{self.service}/{self.database}", "cluster": ""}
        return f"{scheme}://{hosts}{path[self.kind]}"


def _path_parts(kind: str, parts: list[str]) -> tuple[str, int]:
    """Return the name of the service and the number of the database."""
    parts = parts[:-1] if parts and not parts[-1] else parts
    service = ""
    if kind == "sentinel":
        if not parts:
            raise ValueError("the name of the service after the Sentinels, as in redis+sentinel://HOST:PORT/SERVICE")
        service, parts = unquote(parts[0]), parts[1:]
    if kind == "cluster" and parts:
        raise ValueError("nothing after the hosts of redis+cluster://: a Cluster has one database")
    if len(parts) > 1 or (parts and not re.fullmatch("[0-9]{1,5}", parts[0])):
        raise ValueError("the number of a database at the end, such as redis://HOST:PORT/0")
    return service, int(parts[0]) if parts else 0


def _host(text: str, port: int) -> tuple[str, int]:
    match = _HOST.fullmatch(text)
    if match is None or not 0 < int(match[3] or port) <= 65535:
        raise ValueError("hosts such as redis.example.com:6379 or [::1]:6379, with commas between them")
    return match[1] or match[2], int(match[3] or port)
