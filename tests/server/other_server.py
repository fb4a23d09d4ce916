"""Serves the app under a server other than gunicorn: ``other_server.py waitress|wsgiref DATA_DIR``."""

from __future__ import annotations

import sys
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import waitress

from ninetailed_wsgi import create_app


class ThreadingServer(ThreadingMixIn, WSGIServer):
    """A thread for each connection, as Python's own server needs it to serve two at a time."""

    daemon_threads = True


class Quiet(WSGIRequestHandler):
    def log_message(self, *args: Any) -> None:
        """Requests are not written to the log."""


def main(name: str, data_dir: str) -> None:
    app = create_app(data_dir=data_dir, max_body_bytes=100_000, access="open")
    if name == "waitress":
        server = waitress.create_server(app, host="127.0.0.1", port=0)
        print(f"http://127.0.0.1:{server.effective_port}", flush=True)
        server.run()
    else:
        with make_server("127.0.0.1", 0, app, ThreadingServer, Quiet) as plain:
            print(f"http://127.0.0.1:{plain.server_port}", flush=True)
            plain.serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
