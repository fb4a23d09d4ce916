"""Serves a site under a server that has no command of its own: ``python -m hosts.serve cheroot|reloader PORT``."""

import signal
import sys
import threading

from hosts.sites import make


def cheroot(port: int) -> None:
    from cheroot.wsgi import Server

    server = Server(("127.0.0.1", port), make())
    # In a thread, because what a handler raises gets lost where Python cannot let it through.
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.stop).start())
    server.start()


def reloader(port: int) -> None:
    from werkzeug.serving import run_simple

    run_simple("127.0.0.1", port, make(), use_reloader=True, threaded=True)


if __name__ == "__main__":
    {"cheroot": cheroot, "reloader": reloader}[sys.argv[1]](int(sys.argv[2]))
