"""A made-up Albacross on loopback: answers as its documentation says, or fails as it may."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

ACME: dict[str, Any] = {
    "name": "Acme",
    "country": "Germany",
    "url": "acme.example",
    "employees": {"from": 51, "to": 200, "range": "51-200"},
    "nace_code": {"code": "62.01", "category": "Computer programming activities"},
}


class FakeAlbacross:
    """The service; what it answers is set by attributes.

    Attributes:
        companies: address -> company; any other address is answered 204.
        status: answered to everybody, if it is not 200.
        body: sent instead of a company, if it is not None.
        mode: ``""``; ``"slow"``: answers only when `released`; ``"cut"``: ends the connection within the body.
        asked: the addresses that it was asked about.
        keys: the headers ``Authorization`` that it got.
    """

    def __init__(self) -> None:
        self.companies: dict[str, dict[str, Any]] = {}
        self.status = 200
        self.body: bytes | None = None
        self.mode = ""
        self.released = threading.Event()
        self.asked: list[str] = []
        self.keys: list[str] = []
        self.in_flight = 0
        self.most_in_flight = 0
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/reveal"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        self.released.set()
        self._server.shutdown()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                address = self.path.rpartition("/")[2]
                with fake._lock:
                    fake.asked.append(address)
                    fake.keys.append(self.headers.get("Authorization", ""))
                    fake.in_flight += 1
                    fake.most_in_flight = max(fake.most_in_flight, fake.in_flight)
                try:
                    self._answer(address)
                finally:
                    with fake._lock:
                        fake.in_flight -= 1

            def _answer(self, address: str) -> None:
                if fake.mode == "slow":
                    fake.released.wait(60)
                if self.path != f"/reveal/company/{address}":
                    self.send_error(404)
                    return
                if fake.status != 200:
                    body = json.dumps({"infos": [], "errors": ["made up"]}).encode()
                    self.send_response(fake.status)
                elif fake.body is not None:
                    body = fake.body
                    self.send_response(200)
                elif address in fake.companies:
                    body = json.dumps(fake.companies[address]).encode()
                    self.send_response(200)
                else:
                    self.send_response(204)
                    self.end_headers()
                    return
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body[: len(body) // 2] if fake.mode == "cut" else body)
                if fake.mode == "cut":
                    self.close_connection = True

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        return Handler
