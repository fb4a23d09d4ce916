"""Asks Albacross which company an address belongs to: in the background, a few at a time, cached (spec section 10).

One thread of each process runs all look-ups. httpx provides the connection pool and cancellation of slow look-ups; its
transport is used directly, because its client logs each address.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import httpx
import orjson

from ninetailed_wsgi.enrichment.companies import digest_of, public_ipv4
from ninetailed_wsgi.enrichment.company_cache import CompanyCache
from ninetailed_wsgi.operations.forks import PerProcess
from ninetailed_wsgi.operations.logs import stack

AT_ONCE = 4
"""Maximum number of look-ups in flight."""

WITHIN = 2.0
"""Seconds that one look-up may take in total."""

MOST_WAITING = 1000
"""Maximum number of waiting addresses; others are looked up when their visitors return."""

LARGEST = 16_384
"""Bytes of an answer; a larger one counts as a failure."""

DEEPEST = 8
"""Maximum levels of nesting in an answer."""

KNOWN_FOR, UNKNOWN_FOR, FAILED_FOR = 30 * 86_400.0, 7 * 86_400.0, 300.0
"""Seconds for which these are cached: a company, an answer without a company, a failure."""

FIRST_PAUSE, LONGEST_PAUSE = 900.0, 86_400.0
"""Seconds without any look-up after a refusal; each further refusal doubles them."""

_IDLE = 10.0  # seconds after which the thread ends
_REASONS = {401: "does not know the key", 403: "does not allow this key to look up companies", 429: "has had too many"}
_log = logging.getLogger("ninetailed_wsgi")


class Albacross:
    """Companies as Albacross Reveal knows them: a `CompanySource`.

    Args:
        url: the base address.
        key: the API key.
        cache: stores the answers.
        hash_key: returns the key for the digests of addresses.
        wall_clock: seconds since the epoch.
        transport: sends requests; None: over the network.
        within: seconds that a look-up may take.
    """

    trait = "albacross"
    origin = "Albacross"

    def __init__(
        self,
        url: str,
        key: str,
        cache: CompanyCache,
        hash_key: Callable[[], bytes],
        *,
        wall_clock: Callable[[], float] = time.time,
        transport: httpx.AsyncBaseTransport | None = None,
        within: float = WITHIN,
    ) -> None:
        self._url = url.rstrip("/")
        self._headers = {"Authorization": f"Api-Key {key}", "Accept": "application/json", "Accept-Encoding": "identity"}
        self._cache = cache
        self._hash_key = hash_key
        self._wall_clock = wall_clock
        self._within = within
        self._pause = FIRST_PAUSE
        self._paused_until = 0.0
        opened = partial(_open_transport, url) if transport is None else lambda: transport
        self._lookups = PerProcess(lambda: _Lookups(self._ask, opened))

    def company(self, address: str, *, asks: bool) -> Mapping[str, Any]:
        """Return the cached company of an address; if none is cached and ``asks`` is set, let the thread ask for it."""
        public = public_ipv4(address)
        if public is None:
            return {}
        digest = digest_of(self._hash_key, address)
        if (cache_row := self._cache.get(digest)) is not None:
            return cache_row.company
        if asks and self._wall_clock() >= self._paused_until:
            self._lookups().add(str(public), digest)
        return {}

    def follow(self) -> None:
        """Do nothing: this source has no file."""

    def settle(self, seconds: float = 10.0) -> bool:
        """Wait until this process has no unfinished look-up; return false on timeout. For tests."""
        return self._lookups().settle(seconds)

    async def _ask(self, transport: httpx.AsyncBaseTransport, address: str, digest: str) -> None:
        """Ask about one address and cache the answer."""
        if self._wall_clock() < self._paused_until:
            return
        answer = _FAILED
        try:
            async with asyncio.timeout(self._within):
                answer = await self._answer(transport, address)
        except (TimeoutError, OSError, ValueError, httpx.HTTPError, httpx.InvalidURL, httpx.StreamError):
            pass  # a failure; an exception's text may name the address
        if answer.refused:
            self._begin_pause(answer.refused)
            return
        if answer.seconds != FAILED_FOR:
            if self._pause != FIRST_PAUSE:
                _log.info("Albacross answers again")
            self._pause = FIRST_PAUSE
        self._cache.keep(digest, answer.company, answer.seconds)

    async def _answer(self, transport: httpx.AsyncBaseTransport, address: str) -> _CompanyLookup:
        timeout = httpx.Timeout(self._within).as_dict()
        request = httpx.Request(
            "GET", f"{self._url}/company/{address}", headers=self._headers, extensions={"timeout": timeout}
        )
        response = await transport.handle_async_request(request)
        try:
            if response.status_code in _REASONS:
                return _CompanyLookup({}, 0, response.status_code)
            if response.status_code == 204:
                return _CompanyLookup({}, UNKNOWN_FOR)
            if response.status_code != 200 or response.headers.get("Content-Encoding", "identity") != "identity":
                return _FAILED
            body = b""
            async for part in response.aiter_raw():
                body += part
                if len(body) > LARGEST:
                    return _FAILED
            return _read(body)
        finally:
            await response.aclose()

    def _begin_pause(self, status: int) -> None:
        now = self._wall_clock()
        if now < self._paused_until:  # several look-ups were in flight
            return
        if self._pause == FIRST_PAUSE:
            _log.warning(
                "Albacross %s (%d): no company is asked for during %g minutes, longer if that goes on. "
                "Look at the key of --albacross-key-file and at your plan",
                _REASONS[status],
                status,
                self._pause / 60,
            )
        self._paused_until = now + self._pause
        self._pause = min(2 * self._pause, LONGEST_PAUSE)


class _CompanyLookup(NamedTuple):
    """The result of a look-up: a company or none, how many seconds to cache it, and the status of a refusal."""

    company: dict[str, Any]
    seconds: float
    refused: int = 0


_FAILED = _CompanyLookup({}, FAILED_FOR)


def _read(body: bytes) -> _CompanyLookup:
    company = orjson.loads(body)
    if not isinstance(company, dict) or not isinstance(company.get("name"), str) or not company["name"]:
        return _FAILED
    return _FAILED if _depth(company) > DEEPEST else _CompanyLookup(company, KNOWN_FOR)


def _depth(value: object) -> int:
    level, depth = [value], 0
    while level and depth <= DEEPEST:
        depth += 1
        inner = [one.values() if isinstance(one, dict) else one for one in level if isinstance(one, dict | list)]
        level = [each for one in inner for each in one]
    return depth


def _open_transport(url: str) -> httpx.AsyncBaseTransport:
    parts = urlsplit(url)
    proxy = None if proxy_bypass(parts.hostname or "") else getproxies().get(parts.scheme)
    limits = httpx.Limits(max_connections=AT_ONCE, max_keepalive_connections=AT_ONCE, keepalive_expiry=30)
    return httpx.AsyncHTTPTransport(limits=limits, proxy=proxy)


class _Lookups:
    """The look-ups of one process: the waiting addresses, and the thread that asks about them while there are any.

    Args:
        ask: asks about one address over a transport; receives the digest of the address as well.
        opened: opens the transport.
    """

    def __init__(
        self,
        ask: Callable[[httpx.AsyncBaseTransport, str, str], Coroutine[Any, Any, None]],
        opened: Callable[[], httpx.AsyncBaseTransport],
    ) -> None:
        self._ask = ask
        self._opened = opened
        self._changed = threading.Condition()
        self._waiting: dict[str, str] = {}  # digest -> address
        self._in_work: set[str] = set()
        self._thread: threading.Thread | None = None
        self._wake: Callable[[], object] = bool

    def add(self, address: str, digest: str) -> None:
        """Let the thread ask about an address, unless it already does or too many addresses are waiting."""
        with self._changed:
            if digest in self._waiting or digest in self._in_work or len(self._waiting) >= MOST_WAITING:
                return
            self._waiting[digest] = address
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="ninetailed-companies", daemon=True)
                try:
                    thread.start()
                except RuntimeError:  # the process is ending, or has too many threads: the next visit tries again
                    del self._waiting[digest]
                    return
                self._thread = thread
            with suppress(RuntimeError):  # the loop has just ended; the thread checks for more addresses before it ends
                self._wake()

    def settle(self, seconds: float) -> bool:
        """Wait until no look-up is waiting or running; return false on timeout."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._waiting and not self._in_work, seconds)

    def _run(self) -> None:
        while True:
            try:
                asyncio.run(self._serve())
            except Exception as error:  # a bug: nobody waits for this thread, so log it here
                _log.error("look-ups of companies failed\n%s", stack(error))
                with self._changed:
                    self._waiting.clear()
            with self._changed:
                if not self._waiting:
                    self._thread, self._wake = None, bool
                    return

    async def _serve(self) -> None:
        more = asyncio.Event()
        self._wake = partial(asyncio.get_running_loop().call_soon_threadsafe, more.set)
        transport = self._opened()
        try:
            await asyncio.gather(*(self._work(transport, more) for _ in range(AT_ONCE)))
        finally:
            await transport.aclose()

    async def _work(self, transport: httpx.AsyncBaseTransport, more: asyncio.Event) -> None:
        while True:
            digest, address = self._next()
            if not digest:
                try:
                    async with asyncio.timeout(_IDLE):
                        await more.wait()
                except TimeoutError:
                    return
                more.clear()
                continue
            try:
                await self._ask(transport, address, digest)
            finally:
                with self._changed:
                    self._in_work.discard(digest)
                    self._changed.notify_all()

    def _next(self) -> tuple[str, str]:
        with self._changed:
            if not self._waiting:
                return "", ""
            digest = next(iter(self._waiting))
            self._in_work.add(digest)
            return digest, self._waiting.pop(digest)
