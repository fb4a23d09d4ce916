"""The catalogs of the spaces that ``--content contentful://...`` names, replaced when anything in a space changes."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from ninetailed_wsgi.content.contentful.delivery import DeliveryApi
from ninetailed_wsgi.content.contentful.follower import Follower
from ninetailed_wsgi.content.entries import Content, Problem
from ninetailed_wsgi.content.files import EVERY
from ninetailed_wsgi.content.formats.contentful import read_space
from ninetailed_wsgi.content.live import LiveContent
from ninetailed_wsgi.core.names import Environment
from ninetailed_wsgi.errors import SettingsError
from ninetailed_wsgi.settings.contentful import SpaceAddress, Tokens, host

CHECK_EVERY = 0.2
"""Seconds between two checks whether another process read anything new, or a poll is due."""

_log = logging.getLogger("ninetailed_wsgi.content")


class ContentfulContent(LiveContent):
    """The catalogs of spaces, by the environment that each is served as (spec section 18).

    Args:
        spaces: the spaces to read, in the order of the option.
        tokens: the tokens that can read them.
        url: the host; empty: Contentful's own.
        folder: the data folder, for a copy of what is needed of each space; None: no copy is kept.
        poll: seconds between two polls of a server.
        read_only: write nothing, for a check before startup.
        sleep: waits for a number of seconds while Contentful is busy.

    The other arguments and the attributes are those of `LiveContent`.

    Raises:
        SettingsError: a space has no token.
    """

    def __init__(
        self,
        spaces: Sequence[SpaceAddress],
        tokens: Tokens,
        *,
        url: str = "",
        folder: Path | None = None,
        poll: float = 5.0,
        read_only: bool = False,
        locale: str | None = None,
        history_events: int = 500,
        history_days: int = 365,
        check_every: float = CHECK_EVERY,
        wall_clock: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        super().__init__(
            ";".join(map(str, spaces)),
            locale=locale,
            history_events=history_events,
            history_days=history_days,
            check_every=check_every,
            wall_clock=wall_clock,
        )
        self._read_only = read_only
        self._failed: tuple[Problem, ...] = ()
        self._followers: list[Follower] = []
        missing = []
        for space in spaces:
            token, where = tokens.of(space), host(space, url)
            if token is None:
                missing.append(
                    f"content: {space.name} needs a token of its API keys: set NINETAILED_CONTENTFUL_TOKEN or "
                    "--contentful-token-file"
                )
                continue
            api = DeliveryApi(space, where, token)
            self._followers.append(Follower(space, api, where, folder, poll=poll, wall_clock=wall_clock, sleep=sleep))
        if missing:
            raise SettingsError(missing)

    def load(self) -> None:
        """Read every space for the first time; serve a space from its copy if it cannot be read now.

        Raises:
            SettingsError: a space cannot be read and has no copy.
        """
        with self._lock():
            troubles = []
            for follower in self._followers:
                trouble = follower.look_only() if self._read_only else follower.first()
                if trouble:
                    troubles.append(problem := Problem("error", follower.address.name, "", trouble))
                    if follower.state is not None:
                        _log.warning("%s; its copy is served", problem)
            self._troubles = tuple(troubles)
            refused = [trouble for trouble, follower in _each(troubles, self._followers) if follower.state is None]
            if not refused:
                refused = self._take()
        if refused:
            raise SettingsError([f"content: {problem}" for problem in refused])

    def refresh(self) -> None:
        """Make the process of the server that looks next poll at once; return before that is done."""
        for follower in self._followers:
            follower.refresh()

    def origin(self) -> str:
        """Describe what was read of each space."""
        return ", ".join(
            f"{len(follower.state.entries)} entries decide" for follower in self._followers if follower.state
        )

    def _look(self) -> None:
        changed = [follower.look() for follower in self._followers]  # a list, so that every follower looks
        self.seen_at = max((follower.seen_at for follower in self._followers if follower.seen_at), default=self.seen_at)
        troubles = [
            Problem("error", follower.address.name, "", follower.trouble)
            for follower in self._followers
            if follower.trouble
        ]
        if any(changed):
            self._failed = tuple(self._take())
            for problem in self._failed:
                _log.error("%s; the previous version stays live", problem)
        self._troubles = (*troubles, *self._failed)

    def _take(self) -> list[Problem]:
        """Compile and serve what the spaces contain; return the errors that prevent this."""
        read: dict[Environment, Content] = {}
        for follower in self._followers:
            if (state := follower.state) is not None:
                # Sorted, so that if two have the same id, every process serves the same one.
                entries = [state.entries[id] for id in sorted(state.entries)]
                content = read_space(entries, state.locales, follower.address.name, self._locale)
                content.problems += _nothing_there(follower)
                read.setdefault(Environment.parse(follower.address.served_as), Content()).add(content)
        every = read.get(EVERY, Content())
        for environment, content in read.items():
            if environment != EVERY:
                content.add(every)
        catalogs = {environment: self._compiled(content) for environment, content in read.items()}
        self._latest = catalogs
        errors = list(dict.fromkeys(error for catalog in catalogs.values() for error in catalog.errors))
        if not errors:
            self._serve_only(catalogs)
        return errors


def _each(troubles: Iterable[Problem], followers: list[Follower]) -> Iterable[tuple[Problem, Follower]]:
    by_name = {follower.address.name: follower for follower in followers}
    return ((trouble, by_name[trouble.file]) for trouble in troubles)


def _nothing_there(follower: Follower) -> list[Problem]:
    state, name = follower.state, follower.address.name
    if state is None or state.content_types is None:
        return []
    if not state.content_types:
        message = (
            "has no content types of personalization (nt_experience, nt_audience): is it the right space and "
            "environment? Install the personalization app of the vendor in it"
        )
    else:
        message = f"has the content types {', '.join(state.content_types)}, and no published entry of them"
    return [Problem("note", name, "", message)]
