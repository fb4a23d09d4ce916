"""Falcon middleware that counts each request and logs a line of it; only there when one of the two is on."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

import falcon

from ninetailed_wsgi.operations.metrics import Metrics

METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))
OTHER = "other"
"""Any further method, any path without a route: what clients make up must not become a label or a log line."""

ERROR = "ninetailed.error"
"""Where the environ of a request has the class of the error that it is answered with."""
_BEGAN = "ninetailed.began"

LINE = "%(method)s %(route)s %(status)d in %(seconds).4f s, %(bytes)d bytes, traceparent %(traceparent)s"

_log = logging.getLogger("ninetailed_wsgi.access")


class Observed:
    """Observes from the first byte of the body to the answer made; reading the head and sending are the server's.

    Args:
        metrics: counts, or None.
        access_log: whether a line is logged for each request, at INFO, by the logger ``ninetailed_wsgi.access``.
        clock: seconds, for how long a request took.
    """

    def __init__(
        self, metrics: Metrics | None, access_log: bool, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self._metrics = metrics
        self._access_log = access_log
        self._clock = clock

    def process_request(self, req: falcon.Request, resp: falcon.Response) -> None:
        req.env[_BEGAN] = self._clock()

    def process_response(
        self, req: falcon.Request, resp: falcon.Response, resource: object, req_succeeded: bool
    ) -> None:
        seconds = self._clock() - req.env[_BEGAN]
        method = req.method if req.method in METHODS else OTHER
        route = req.uri_template or OTHER
        if self._metrics:
            self._metrics.answered(method, route, resp.status, seconds, req.env.get(ERROR))
        if self._access_log:
            line: dict[str, Any] = {
                "method": method,
                "route": route,
                "status": resp.status_code,
                "seconds": round(seconds, 6),
                "bytes": len(resp.data or b""),
                "traceparent": resp.get_header("traceparent"),
            }
            _log.info(LINE, line)
