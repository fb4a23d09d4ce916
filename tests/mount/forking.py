"""A small site for servers that fork; run as a program, it forks itself, before and after it has served a page.

``make`` is for gunicorn; ``forking.py DATA_DIR`` prints what the processes answered, as JSON.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ninetailed_wsgi import Ninetailed

SHOP = Path(__file__).parent.parent.parent / "fixtures" / "spaces" / "shop.json"


def site(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    visitor = environ["ninetailed.visitor"]
    visitor.page()
    shown = {"pid": os.getpid(), "id": visitor.id, "banner": visitor.variant("banner")}
    body = json.dumps(shown).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]


def make(data_dir: str) -> Ninetailed:
    """The site with the middleware around it, as a server that loads it before it forks would make it."""
    return Ninetailed(site, data_dir=data_dir, content=SHOP, time_budget_ms=20_000, access="open")


def visit(app: Ninetailed, path: str = "/pricing") -> Any:
    environ = {"REQUEST_METHOD": "GET", "PATH_INFO": path, "HTTP_COOKIE": "ntaid=anna", "wsgi.url_scheme": "http"}
    return json.loads(b"".join(app(environ, lambda status, headers: None)))


def in_a_child(app: Ninetailed) -> Any:
    """What a forked process answers."""
    reading, writing = os.pipe()
    if (child := os.fork()) == 0:
        os.write(writing, json.dumps(visit(app)).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        answer = json.loads(pipe.read())
    os.waitpid(child, 0)
    return answer


if __name__ == "__main__":
    app = make(sys.argv[1])
    answers = [in_a_child(app), visit(app), in_a_child(app), visit(app), in_a_child(app)]
    print(json.dumps(answers))
