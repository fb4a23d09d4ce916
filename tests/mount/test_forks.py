"""The middleware in servers of several processes and threads."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from serving import ROOT, Server, running, wait_until

import ninetailed_wsgi

PROFILE = "/ninetailed/v2/organizations/default/environments/main/profiles/anna"


@pytest.mark.parametrize("options", [["--preload"], [], ["--preload", "--threads", "4"]], ids=" ".join)
def test_two_workers_of_gunicorn_serve_one_visitor(tmp_path: Path, options: list[str]) -> None:
    gunicorn = [sys.executable, "-m", "gunicorn", "--workers", "2", "--bind", "127.0.0.1:0", "--no-control-socket"]
    with running([*gunicorn, *options, f"tests.mount.forking:make({str(tmp_path / 'data')!r})"], tmp_path) as server:
        answers = load_until_every_worker_answered(server)
        assert {answer["id"] for answer in answers} == {"anna"}
        assert answers[-1]["banner"] == "banner-offer"
        profile = server.call("GET", PROFILE).json()["data"]["profile"]
        assert (profile["session"]["count"], profile["audiences"]) == (1, ["pricing-visitors"])
    assert "Traceback" not in server.printed.read_text()


def load_until_every_worker_answered(server: Server) -> list[Any]:
    answers: list[Any] = []
    with ThreadPoolExecutor(4) as clients:

        def every_worker_answered() -> bool:
            visit = lambda _: server.call("GET", "/pricing", headers={"Cookie": "ntaid=anna"}).json()  # noqa: E731
            answers.extend(clients.map(visit, range(8)))
            return len({answer["pid"] for answer in answers}) == 2

        wait_until(every_worker_answered, "every worker answers")
    return answers


def test_processes_may_fork_before_and_after_the_first_page(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.mount.forking", str(tmp_path / "data")]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    answers = json.loads(run.stdout)
    assert len({answer["pid"] for answer in answers}) == 4
    assert [answer["id"] for answer in answers] == ["anna"] * 5
    assert [answer["banner"] for answer in answers] == ["banner", *["banner-offer"] * 4]
    assert "Traceback" not in run.stderr


def test_forks_are_noticed_in_one_place_only() -> None:
    package = Path(ninetailed_wsgi.__file__).parent
    asking = [
        str(file.relative_to(package))
        for file in package.rglob("*.py")
        if re.search(r"register_at_fork|_pid\b|[!=]= os\.getpid\(\)|os\.getpid\(\) [!=]=", file.read_text("utf-8"))
    ]
    assert asking == ["operations/forks.py"]
