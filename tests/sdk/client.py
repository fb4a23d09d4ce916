"""The official client as tests call it: installed once, run by node, its answers read by its own schemas."""

from __future__ import annotations

import fcntl
import hashlib
import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

FOLDER = Path(__file__).parent


def install(where: Path = FOLDER) -> None:
    """``npm ci`` into the ignored node_modules/, once for each version of the lock file, whoever comes first."""
    wanted = hashlib.sha256((where / "package-lock.json").read_bytes()).hexdigest()
    stamp = where / "node_modules" / ".installed-from"
    folder = os.open(where, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)  # test processes that run in parallel wait for the first
        if not stamp.exists() or stamp.read_text() != wanted:
            command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
            done = subprocess.run(command, cwd=where, capture_output=True, text=True, timeout=300)
            if done.returncode:
                raise RuntimeError(f"npm ci failed in {where}:\n{done.stdout}{done.stderr}")
            stamp.write_text(wanted)
    finally:
        os.close(folder)


class Outcome(NamedTuple):
    """What a call of the official client came to.

    Attributes:
        answer: what it returned, after its own schemas have parsed it; None where it threw.
        error: ``{"name", "message"}`` of what it threw; None where it returned.
        sent: its HTTP requests: method, url, headers, body.
        received: status and traceparent of the answers.
        log: what it wrote to its error log.
    """

    answer: Any
    error: dict[str, Any] | None
    sent: list[dict[str, Any]]
    received: list[dict[str, Any]]
    log: list[str]


@dataclass
class Sdk:
    """The official client of one environment of a server."""

    ask: Callable[[dict[str, Any]], dict[str, Any]]
    url: str
    clientId: str = "acme"
    environment: str = "main"
    options: dict[str, Any] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)  # what a server adds, as its key

    def try_to(
        self, call: str, *events: dict[str, Any], profile_id: str | None = None, options: dict[str, Any] | None = None
    ) -> Outcome:
        """Call a method of NinetailedApiClient."""
        order = {
            "url": self.url,
            "clientId": self.clientId,
            "environment": self.environment,
            "call": call,
            "profileId": profile_id,
            "events": events,
            # Not the SDK's 3 seconds: other tests may keep this machine busy.
            "headers": self.headers,
            "options": {"timeout": 30_000, **self.options, **(options or {})},
        }
        said = self.ask(order)
        return Outcome(said.get("answer"), said.get("error"), said["sent"], said["received"], said["log"])

    def call(self, call: str, *events: dict[str, Any], **arguments: Any) -> Any:
        """Call a method of NinetailedApiClient that is to succeed; what it returned."""
        outcome = self.try_to(call, *events, **arguments)
        assert outcome.error is None, outcome.error
        return outcome.answer


def install_all() -> None:
    """Install what any of the tests needs; `make modules` runs this."""
    root = FOLDER.parent.parent
    for file in [*root.glob("tests/*/package-lock.json"), *root.glob("tests/*/*/package-lock.json")]:
        install(file.parent)
    install(root / "examples" / "browser")


if __name__ == "__main__":
    install_all()
