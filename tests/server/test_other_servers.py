"""The app under other WSGI servers than ours: bodies of chunks, and a boot beside a Django that nobody configured."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.serving import PROFILES, Server, call, free_port, page, running, wait_until

SERVERS = {
    "gunicorn": ["gunicorn", "--bind", "127.0.0.1:{port}", "--threads", "2", "--no-control-socket", "app:app"],
    "gevent": ["gunicorn", "--bind", "127.0.0.1:{port}", "-k", "gevent", "--preload", "--no-control-socket", "app:app"],
    "granian": ["granian", "--interface", "wsgi", "--host", "127.0.0.1", "--port", "{port}", "app:app"],
    "waitress": ["waitress", "--listen", "127.0.0.1:{port}", "app:app"],
}


@pytest.fixture(params=SERVERS)
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    (tmp_path / "app.py").write_text(
        "from ninetailed_wsgi import create_app\n\n"
        f"app = create_app(data_dir={str(tmp_path / 'data')!r}, access='open')\n"
    )
    port = free_port()
    words = [word.format(port=port) for word in SERVERS[request.param]]
    with running([sys.executable, "-m", *words], tmp_path) as started:
        wait_until(lambda: _answers(started), "the server answers")  # Granian says that it listens before it does
        yield started


def _answers(server: Server) -> bool:
    try:
        return server.call("GET", "/health/live").status == 200
    except ConnectionRefusedError:
        return False


def chunked(server: Server, body: bytes, size: int = 10_000) -> tuple[int, Any]:
    with server.connection() as connection:
        parts = (body[start : start + size] for start in range(0, len(body), size))
        connection.request("POST", PROFILES, parts, {"Transfer-Encoding": "chunked"}, encode_chunked=True)
        response = connection.getresponse()
        return response.status, json.loads(response.read())


def test_a_body_of_chunks_is_read_up_to_the_limit(server: Server) -> None:
    body = json.dumps({"events": [page("chunked", "/" + "x" * 50_000)]}).encode()
    status, answer = chunked(server, body)
    assert (status, answer["data"]["profile"]["session"]["count"]) == (200, 1)
    status, answer = chunked(server, b" " * (1 << 20) + body)
    assert (status, answer["error"]) == (413, {"code": "ERR_INVALID_DATA"})
    with server.connection() as connection:
        assert call(connection, "GET", "/health/live").status == 200
