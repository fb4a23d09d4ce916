"""Shows events that the API refused, and why, to people who watch: Falcon middleware, installed with the inspector."""

from __future__ import annotations

import re
from typing import Any

import falcon
import orjson

from ninetailed_wsgi.api.spaces import SpaceNames
from ninetailed_wsgi.core.names import Environment
from ninetailed_wsgi.service.live import Live

# The routes that take events: classic ones, those of spaces, and Insights.
_ROUTE = re.compile(
    r"/v[123]/(organizations|spaces)/([^/]{1,200})/environments/([^/]{1,200})/(?:profiles|events|import/events)(/.*)?"
)


class RefusalNotes:
    """Notes each refused request that brought events.

    Args:
        live: of the service.
        spaces: how spaces are named.
    """

    def __init__(self, live: Live, spaces: SpaceNames) -> None:
        self._live = live
        self._spaces = spaces

    def process_response(
        self, req: falcon.Request, resp: falcon.Response, resource: object, req_succeeded: bool
    ) -> None:
        if resp.status_code < 400 or req.method != "POST" or not self._live.look_for_watcher():
            return
        match = _ROUTE.fullmatch(req.path)
        if match is None:
            return
        where = Environment(match[2], match[3])
        if match[1] == "spaces":
            where = self._spaces.environment(*where)
        name = (match[4] or "").removeprefix("/")
        self._live.refused(where, "request", name, [], f"{resp.status_code}: {_why(resp)}")


def _why(resp: falcon.Response) -> str:
    try:
        answer: Any = orjson.loads(resp.data or b"")
    except orjson.JSONDecodeError:
        return ""
    return str(answer.get("message", "")) if isinstance(answer, dict) else ""
