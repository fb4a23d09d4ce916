"""Follows one environment of a space: reads the copy in the data folder, and polls in turn with other processes."""

from __future__ import annotations

import hashlib
import logging
import random
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from ninetailed_wsgi.content.contentful import schedule as schedules
from ninetailed_wsgi.content.contentful.delivery import MOST_PAGES, PAGES, Busy, DeliveryApi, TokenRefused, TooLarge
from ninetailed_wsgi.content.contentful.schedule import OwnSchedule, PollOutcome, Schedule, SharedSchedule
from ninetailed_wsgi.content.contentful.space_state import SpaceState, header, packed, unpacked
from ninetailed_wsgi.content.web import Unfetched
from ninetailed_wsgi.operations.files import replacement
from ninetailed_wsgi.settings.contentful import SpaceAddress

COPY = ".contentful-"
"""Prefix of a space's files in the data folder. The dot lets a folder with only these files still become a store."""

_TRIES = 5
"""How often one page is requested while Contentful is busy; earlier pages are not requested again."""

_LONGEST_WAIT = 60.0
"""Seconds between two tries of a page."""

_OTHERS_WITHIN = 120.0
"""Seconds that startup waits for another process to read the space for the first time."""

_log = logging.getLogger("ninetailed_wsgi.content")
_Answer = TypeVar("_Answer")


class Follower:
    """What one process knows of a space.

    Args:
        address: the space.
        api: reads the space.
        host: of the API; copies of different hosts are kept apart.
        folder: the data folder; None: no copy is kept, and this process polls for itself.
        poll: seconds between two polls.
        wall_clock: seconds since the epoch.
        sleep: waits for a number of seconds.

    Attributes:
        state: what was last read; None: nothing yet.
        seen_at: when Contentful was last read by this process, in seconds since the epoch; None: not yet.
    """

    def __init__(
        self,
        address: SpaceAddress,
        api: DeliveryApi,
        host: str,
        folder: Path | None,
        *,
        poll: float,
        wall_clock: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.address = address
        self.state: SpaceState | None = None
        self.seen_at: float | None = None
        self._api = api
        self._poll = poll
        self._wall_clock = wall_clock
        self._sleep = sleep
        self._of = hashlib.sha256(f"{host} {address.name}".encode()).hexdigest()
        self._copy = None if folder is None else folder / f"{COPY}{self._of[:16]}"
        self._copy_seen: tuple[int, int] | None = None
        self._digest = ""
        self._schedule: Schedule = OwnSchedule()
        self._shared = False
        self._is_unwritable = False

    def read_copy(self) -> bool:
        """Load the copy if it changed since it was last read; return whether its content differs."""
        if self._copy is None:
            return False
        try:
            status = self._copy.stat()
            if (signature := (status.st_mtime_ns, status.st_ino)) == self._copy_seen:
                return False
            with self._copy.open("rb") as file:
                copy_header = header(line := file.readline())
                if copy_header is None or copy_header.of != self._of:
                    return False
                if self.state is not None and copy_header.sha256 == self._digest:
                    self.state, self._copy_seen = replace(self.state, token=copy_header.token), signature
                    return False
                copy = unpacked(line + file.read())
        except OSError:
            return False
        if copy is None:  # damaged
            return False
        self._copy_seen = signature
        copy_header, self.state = copy
        self._digest = copy_header.sha256
        return True

    def share(self) -> None:
        """Take turns with the server's other processes, through the data folder; poll alone if it is read-only."""
        if self._copy is None or self._shared:
            return
        self._shared = True
        try:
            self._schedule = SharedSchedule(self._copy.with_name(self._copy.name + "-turn"))
        except OSError as error:
            _log.warning("%s: processes cannot take turns: %s", self._copy.parent, error.strerror or error)

    def first(self) -> str | None:
        """Read the space for the first time; if it cannot be read, use the copy as `state` and return the reason."""
        self.share()
        if self._schedule.outcome().trouble:
            self._schedule.hurry()  # the failure of an earlier run may be over
        end = self._wall_clock() + _OTHERS_WITHIN
        while True:
            self.read_copy()
            if self.state is not None and not self._schedule.due(self._wall_clock()):
                return self._schedule.outcome().trouble
            with self._schedule.turn() as ours:
                if ours:
                    self.read_copy()  # another process may have written it in the turn that just ended
                    self._ask()
                    return self._schedule.outcome().trouble
            if self.state is not None:
                return self._schedule.outcome().trouble
            if self._wall_clock() > end:
                return "is being read by another process, which does not finish"
            self._sleep(0.05)

    def look(self) -> bool:
        """Load what another process read, and poll if a poll is due; return whether anything changed."""
        self.share()
        changed = self.read_copy()
        if self._schedule.due(self._wall_clock()):
            with self._schedule.turn() as ours:
                if ours and self._schedule.due(self._wall_clock()):  # another process may have had its turn just now
                    changed = self.read_copy() or changed
                    changed = self._ask() or changed
        return changed

    def look_only(self) -> str | None:
        """Load the copy and poll once, without writing anything; return why that failed, as `first` does."""
        self.read_copy()
        self._ask(keep=False)
        return self._schedule.outcome().trouble

    def refresh(self) -> None:
        """Make a poll due at once, in the process of the server that looks next."""
        self._schedule.hurry()

    @property
    def trouble(self) -> str | None:
        """Return why the last poll of any process failed; None if it did not."""
        return self._schedule.outcome().trouble

    def _ask(self, *, keep: bool = True) -> bool:
        now, before = self._wall_clock(), self._schedule.outcome()
        self._schedule.begin(now, self._poll * random.uniform(0.9, 1.0))
        try:
            state = self._newest()
        except Unfetched as error:
            failures = before.failures + 1
            least = error.seconds if isinstance(error, Busy) else None
            wait = schedules.pause(failures, self._poll, least, random.random())
            end = self._wall_clock()
            alone = min(max(least or 0.0, schedules.SHORTEST_PAUSE), wait)
            self._schedule.end(PollOutcome(failures, end + wait, str(error), end + alone))
            if str(error) != before.trouble and self.state is not None:
                _log.error("%s %s; the previous version stays live", self.address.name, error)
            return False
        if before.trouble and self.state is not None:
            _log.info("%s can be read again", self.address.name)
        self.seen_at = now
        digest, earlier = state.digest(), self.state
        changed = digest != self._digest
        self.state, self._digest = state, digest
        if keep and (changed or earlier is None or state.token != earlier.token):
            self._keep(state)
        self._schedule.end(PollOutcome())  # last, so that other processes find the copy
        return changed

    def _newest(self) -> SpaceState:
        if self.address.drafts:
            return self._drafts()
        if self.state is not None and self.state.token is not None:
            try:
                return self._with_types(self._followed(self.state))
            except TokenRefused as error:
                _log.warning("%s %s: everything is read again", self.address.name, error)
        empty = SpaceState(locales=self._patiently(self._api.locales))
        for size in PAGES[:-1]:
            try:
                return self._with_types(self._followed(empty, size))
            except TooLarge:
                _log.info("%s: a page of %d entries is too large: smaller ones follow", self.address.name, size)
        return self._with_types(self._followed(empty, PAGES[-1]))

    def _followed(self, state: SpaceState, size: int = PAGES[0]) -> SpaceState:
        fresh, before = state.token is None, state.entries
        tries = _TRIES if fresh else 1  # an existing state can wait for the next poll
        tokens: set[str] = set()
        while True:
            page = self._patiently(partial(self._api.changes, state.token, size), tries)
            tries = _TRIES
            state = state.with_items(page.items, page.token)
            if page.last:
                return state if fresh or state.entries == before else self._with_locales(state)
            if page.token in tokens or len(tokens) >= MOST_PAGES:
                raise Unfetched("answered an endless series of pages of a synchronization")
            tokens.add(page.token)

    def _with_locales(self, state: SpaceState) -> SpaceState:
        """Read the locales again if an entry has an unknown one."""
        codes = {locale["code"] for locale in state.locales}
        used = {
            code
            for entry in state.entries.values()
            for values in entry["fields"].values()
            if isinstance(values, dict)
            for code in values
        }
        return state if used <= codes else replace(state, locales=self._patiently(self._api.locales))

    def _with_types(self, state: SpaceState) -> SpaceState:
        """Read the content types if no entry shows that there are any."""
        if state.entries:
            return replace(state, content_types=None)
        if state.content_types is not None:
            return state
        return replace(state, content_types=self._patiently(self._api.content_types))

    def _drafts(self) -> SpaceState:
        locales = self._patiently(self._api.locales)
        empty = SpaceState(locales=locales)
        return self._with_types(self._patiently(lambda: empty.with_items(self._api.drafts(), None)))

    def _patiently(self, ask: Callable[[], _Answer], tries: int = 3) -> _Answer:
        """Retry a few times while Contentful is busy, waiting a little longer each time."""
        for failures in range(tries):
            try:
                return ask()
            except Busy as busy:
                if failures == tries - 1 or (busy.seconds or 0) > _LONGEST_WAIT:
                    raise
                self._sleep((busy.seconds or 0) + random.random() * 2.0 ** (failures - 1))
        raise AssertionError("the last try returns or raises")

    def _keep(self, state: SpaceState) -> None:
        if self._copy is None:
            return
        try:
            self._copy.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with replacement(self._copy, durable=True) as output:
                output.write(packed(state, self._of, self._wall_clock()))
            status = self._copy.stat()
            self._copy_seen, self._is_unwritable = (status.st_mtime_ns, status.st_ino), False
        except OSError as error:
            if not self._is_unwritable:
                _log.warning("%s: no copy of the content can be kept: %s", self._copy, error.strerror)
            self._is_unwritable = True
