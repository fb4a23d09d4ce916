"""What a person reads when the server listens: where, what was found, and a command to try."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from urllib.parse import quote

from ninetailed_wsgi import __version__
from ninetailed_wsgi.core.names import Environment
from ninetailed_wsgi.operations.terminal import in_line
from ninetailed_wsgi.server.checks import Finding
from ninetailed_wsgi.settings import Settings


def announcement(settings: Settings, findings: Sequence[Finding], host: str, port: int) -> str:
    """Return what a person reads when the server listens: where, what was found, a command that works when pasted."""
    processes = "1 process" if settings.workers == 1 else f"{settings.workers} processes"
    threads = "1 thread" if settings.threads == 1 else f"{settings.threads} threads"
    lines = [f"ninetailed-wsgi {__version__} listens on {_url(host, port)} ({processes}, {threads} each)"]
    for line in findings:
        warning = "warning: " if line.status == "warn" else ""
        lines.append(f"  {line.subject:<12}  {warning}{line.text}")
    lines += ["Try it:", f"  {curl_line(settings, host, port)}"]
    return "\n".join(map(in_line, lines))


def curl_line(settings: Settings, host: str, port: int) -> str:
    """Return one shell command that creates a profile with a page event and shows its location."""
    here = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # nobody can call "every address"
    organization, environment = Environment.parse((settings.environments or ("default/main",))[0])
    path = f"/v2/organizations/{quote(organization, safe='')}/environments/{quote(environment, safe='')}/profiles"
    page = {"path": "/", "query": {}, "referrer": "", "search": "", "url": "https://www.example.com/"}
    event = {
        "type": "page",
        "channel": "server",
        "messageId": "first-visit",
        "context": {"library": {"name": "curl", "version": "8.0.0"}},
        "properties": page,
    }
    body = json.dumps({"events": [event], "options": {"features": ["location"]}}, separators=(",", ":"))
    words = ["curl", _url(here, port) + path, "-H", "Content-Type: application/json", "--data", body]
    return " ".join(shlex.quote(word) for word in words)


def _url(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
