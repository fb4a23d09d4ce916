"""Falcon middleware that counts and logs each request; installed if one of the two is on."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

import falcon

from ninetailed_wsgi.operations.metrics import Metrics

METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))
OTHER = "other"
"""Any other method and any path without a route: made-up methods and paths must not become labels or log lines."""

ERROR = "ninetailed.error"
"""The environ key with the class of the error in the answer."""
_BEGAN = "ninetailed.began"

LINE = "%(method)s %(route)s %(status)d in %(seconds).4f s, %(bytes)d bytes, traceparent %(traceparent)s"

_log = logging.getLogger("ninetailed_wsgi.access")


class Observed:
    """Measures the time from the first byte of the body to the finished answer, without reading the head and sending.

    Args:
        metrics: counts the requests; None: nothing does.
        access_log: whether the logger ``ninetailed_wsgi.access`` logs a line for each request, at INFO.
        clock: seconds, to measure a request.
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
