"""Speaks HTTP with the server under test, each request on a connection of its own and within a bounded time."""

from __future__ import annotations

import contextlib
import http.client
import re
import time
from collections.abc import Mapping
from urllib.parse import quote

from ninetailed_wsgi.contract.answers import Answer

# No user name, query or fragment: they would not be sent.
_BASE_URL = re.compile(
    r"(?P<scheme>https?)://(?P<host>[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:(?P<port>[0-9]{1,5}))?(?P<path>(/[^\s?#]*)?)",
    re.ASCII | re.IGNORECASE,
)
_MOST_BYTES = 16 * 1024 * 1024


class NoAnswer(Exception):
    """The server could not be reached, or did not answer in time or in HTTP; the text says why."""


class Target:
    """The server under test.

    Args:
        base_url: its address, with the path that it is mounted under, such as ``https://shop.example/ninetailed``.
        timeout: seconds that a request may take.

    Raises:
        ValueError: ``base_url`` is not an address; the message shows one.
    """

    def __init__(self, base_url: str, timeout: float) -> None:
        match = _BASE_URL.fullmatch(base_url)
        if not match or int(match["port"] or 1) > 65535:
            raise ValueError(
                f"found {base_url!r}, expected an address such as http://127.0.0.1:8000 or https://shop.example/api"
            )
        self._secure = match["scheme"].lower() == "https"
        self._host, self._port = match["host"].strip("[]"), int(match["port"]) if match["port"] else None
        self._path = match["path"].rstrip("/")
        self._timeout = timeout

    def __call__(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> Answer:
        """Send one request; ``path`` is percent-encoded, includes the query, and is below the base URL.

        Raises:
            NoAnswer: there was none.
        """
        kind = http.client.HTTPSConnection if self._secure else http.client.HTTPConnection
        connection = kind(self._host, self._port, timeout=self._timeout)
        end = time.monotonic() + self._timeout
        try:
            # A server may answer a body that is too large before it has read it.
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                connection.request(method, self._path + path, body, dict(headers))
            return _read(connection.getresponse(), end)
        except TimeoutError:
            raise NoAnswer(f"no answer within {self._timeout:g} seconds") from None
        except http.client.HTTPException as error:
            raise NoAnswer(f"no answer in HTTP: {type(error).__name__} {error}".rstrip()) from error
        except OSError as error:
            raise NoAnswer(error.strerror or str(error)) from error
        finally:
            connection.close()


def _read(response: http.client.HTTPResponse, end: float) -> Answer:
    body = b""
    while part := response.read1(65536):
        body += part
        if time.monotonic() > end:
            raise TimeoutError
        if len(body) > _MOST_BYTES:
            raise NoAnswer(f"the answer is over {_MOST_BYTES} bytes")
    headers: dict[str, str] = {}
    for name, value in response.getheaders():
        # As a browser reads a header that comes twice.
        headers[name.lower()] = f"{headers[name.lower()]}, {value}" if name.lower() in headers else value
    return Answer(response.status, headers, body)


ROUTES = {"organizations": "/v2/organizations", "spaces": "/v3/spaces"}
"""How clients name an environment: the older ones by an organization, the newest by a Contentful space."""


def prefix(organization: str, environment: str, routes: str = "organizations") -> str:
    """Return the path under which an environment's routes are; ``routes`` is a name in `ROUTES`."""
    return f"{ROUTES[routes]}/{quote(organization, safe='')}/environments/{quote(environment, safe='')}"
