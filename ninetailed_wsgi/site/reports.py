"""Logs what goes wrong around pages: failures once for each kind and minute, hints for the site once."""

from __future__ import annotations

import logging
import threading
import time

from ninetailed_wsgi.operations.logs import failure

REPORT_EVERY = 60.0
"""Seconds between two log lines about the same kind of failure."""

_MOST_HINTS = 200  # a hint may name an entry, and a page may name any number of them

_log = logging.getLogger("ninetailed_wsgi.middleware")


class Reports:
    """What one process has logged so far."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._failed_at: dict[str, float] = {}
        self._hints: set[str] = set()

    def failure(self, kind: str, error: Exception) -> None:
        """Log a failure of personalization, once for each kind and minute; its full text at DEBUG."""
        now = time.monotonic()
        with self._lock:
            if now - self._failed_at.get(kind, now - REPORT_EVERY) < REPORT_EVERY:
                return
            self._failed_at[kind] = now
        _log.error("pages are served without personalization: %s", failure(error))
        _log.debug("the failure in full", exc_info=error)

    def hint(self, kind: str, text: str) -> None:
        """Warn of something in the site that its developers should change, once for each kind."""
        with self._lock:
            if kind in self._hints or len(self._hints) >= _MOST_HINTS:
                return
            self._hints.add(kind)
        _log.warning("%s", text)
