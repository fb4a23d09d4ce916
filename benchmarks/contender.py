"""Serves a bare Falcon app that echoes its body, or the API with another of gunicorn's worker classes.

Both are run by the class and with the configuration that ``ninetailed-wsgi serve`` uses; ``--worker-class`` and
``--threads`` change only that. Listens on a free port and prints its address. Used by over_http.py.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import falcon
import orjson

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from ninetailed_wsgi import Settings
from ninetailed_wsgi.server import granian_server
from ninetailed_wsgi.server.gunicorn_server import GunicornServer
from ninetailed_wsgi.server.worker_app import WorkerApp


class Echo:
    """Parses the body and answers it: what any JSON API under Falcon costs at least."""

    def on_post(self, req: falcon.Request, resp: falcon.Response, organization: str, environment: str, id: str) -> None:
        body = orjson.loads(req.env["wsgi.input"].read(req.content_length or 0))
        resp.content_type = falcon.MEDIA_JSON
        resp.data = orjson.dumps(body)


def echo_app() -> Any:
    app = falcon.App()
    app.add_route("/v2/organizations/{organization}/environments/{environment}/profiles/{id}", Echo())
    return app


class Contender(GunicornServer):
    """The service's server with what the command line changes of it."""

    def __init__(self, name: str, settings: Settings, worker_class: str | None) -> None:
        self.name = name
        self.worker_class = worker_class
        super().__init__(settings, [])

    def load_config(self) -> None:
        super().load_config()
        if self.worker_class:
            self.cfg.set("worker_class", self.worker_class)

    def load(self) -> Any:
        return echo_app() if self.name == "echo" else super().load()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=["echo", "service"])
    parser.add_argument("--worker-class", help="instead of the service's own")
    for option in ("server", "workers", "threads", "data-dir", "geoip-database", "content"):
        parser.add_argument("--" + option, default=argparse.SUPPRESS)
    given = vars(parser.parse_args())
    name, worker_class = given.pop("name"), given.pop("worker_class")
    settings = Settings(bind="127.0.0.1:0", **given)
    if settings.server == "granian":
        granian_server.worker_app = lambda settings, sources: WorkerApp(None, echo_app())  # type: ignore[arg-type]
        granian_server.run(settings, [], None)  # type: ignore[arg-type]
    else:
        Contender(name, settings, worker_class).run()


if __name__ == "__main__":
    main()
