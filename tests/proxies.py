"""Runs nginx for tests, on a free port of the loopback address, with a configuration of examples/deploy/."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from serving import ROOT, Server, free_port, wait_until

DEPLOY = ROOT / "examples" / "deploy"


def installed(program: str) -> str | None:
    return shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")


@contextlib.contextmanager
def behind_nginx(folder: Path, example: str, port: int, *changes: tuple[str, str]) -> Iterator[Server]:
    """nginx with a file of examples/deploy/ in front of ``port``; skips the test where nginx is not installed.

    Args:
        changes: texts of the file, and what the test needs in their place.
    """
    log = ("/var/log/nginx", str(folder))
    with running_nginx(folder, (DEPLOY / example).read_text(), port, log, *changes) as proxy:
        yield proxy


@contextlib.contextmanager
def running_nginx(folder: Path, text: str, port: int, *changes: tuple[str, str]) -> Iterator[Server]:
    """As `behind_nginx`, with the text of a configuration that says ``listen 80;`` and ``127.0.0.1:8000``."""
    if (nginx := installed("nginx")) is None:
        pytest.skip("nginx is not installed (Debian: apt install nginx-light)")
    own = free_port()
    places = (("127.0.0.1:8000", f"127.0.0.1:{port}"), ("listen 80;", f"listen 127.0.0.1:{own};"))
    for old, new in (*places, *changes):
        assert old in text, f"the configuration does not say {old}"
        text = text.replace(old, new)
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    temporary = "\n".join(f"{kind}_temp_path {folder}/{kind};" for kind in kinds)
    whole = folder / "nginx.conf"
    user = "user root;" if os.geteuid() == 0 else ""
    whole.write_text(
        f"{user} daemon off; master_process off; pid {folder}/pid; error_log {folder}/error.log;\n"
        f"events {{}}\nhttp {{ access_log off; {temporary}\n{text}\n}}\n"
    )
    command = [nginx, "-c", str(whole), "-p", str(folder)]
    tested = subprocess.run([*command, "-t"], capture_output=True, text=True, timeout=120)
    assert tested.returncode == 0, tested.stderr
    assert "warn" not in tested.stderr
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    try:
        there = Server(process, own, folder / "error.log")
        wait_until(lambda: _listens(there), "nginx listens")
        yield there
    finally:
        process.terminate()
        process.wait(60)


def _listens(server: Server) -> bool:
    with contextlib.suppress(OSError), server.socket():
        return True
    return False
