"""Serves the API, or a bare Falcon app that echoes its body, under gunicorn with the service's own configuration.

``python benchmarks/contender.py echo`` and ``python benchmarks/contender.py service --data-dir DIR ...`` listen on a
free port and print their address; ``--worker-class`` and ``--threads`` change only that. Used by over_http.py.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import falcon
import orjson
from gunicorn.app.base import BaseApplication

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from ninetailed_wsgi import Settings, create_app
from ninetailed_wsgi.server import configuration


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


class Contender(BaseApplication):
    """gunicorn with the configuration of ``ninetailed_wsgi.server`` and what the command line changes of it."""

    def __init__(self, name: str, settings: Settings, worker_class: str) -> None:
        self.name = name
        self.settings = settings
        self.worker_class = worker_class
        super().__init__()

    def load_config(self) -> None:
        options = configuration(self.settings, when_ready=_announce)
        for option, value in {**options, "worker_class": self.worker_class}.items():
            self.cfg.set(option, value)

    def load(self) -> Any:
        return echo_app() if self.name == "echo" else create_app(self.settings)


def _announce(server: Any) -> None:
    print(f"http://127.0.0.1:{server.LISTENERS[0].getsockname()[1]}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=["echo", "service"])
    parser.add_argument("--worker-class", default="gthread")
    for option in ("workers", "threads", "data-dir", "geoip-database", "content"):
        parser.add_argument("--" + option, default=argparse.SUPPRESS)
    given = vars(parser.parse_args())
    name, worker_class = given.pop("name"), given.pop("worker_class")
    Contender(name, Settings(bind="127.0.0.1:0", **given), worker_class).run()


if __name__ == "__main__":
    main()
