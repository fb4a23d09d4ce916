"""Serves a site under a server that has no command of its own: ``python -m hosts.serve cheroot|reloader PORT``."""

import signal
import sys

from hosts.sites import make


def cheroot(port: int) -> None:
    from cheroot.wsgi import Server

    server = Server(("127.0.0.1", port), make())
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        server.start()
    finally:
        server.stop()


def reloader(port: int) -> None:
    from werkzeug.serving import run_simple

    run_simple("127.0.0.1", port, make(), use_reloader=True, threaded=True)


if __name__ == "__main__":
    {"cheroot": cheroot, "reloader": reloader}[sys.argv[1]](int(sys.argv[2]))
