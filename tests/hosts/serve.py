"""Serves a site under cheroot: ``python -m tests.hosts.serve PORT``."""

import sys

from cheroot.wsgi import Server

from tests.hosts.sites import make

if __name__ == "__main__":
    server = Server(("127.0.0.1", int(sys.argv[1])), make())
    try:
        server.start()
    except KeyboardInterrupt:
        server.stop()
