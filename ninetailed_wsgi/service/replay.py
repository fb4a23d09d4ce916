"""Finds the profile that a create begins whose first message was evaluated before, by a preflight (spec section 6)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ninetailed_wsgi.core.ids import REPLAY
from ninetailed_wsgi.core.names import Environment, Key
from ninetailed_wsgi.service.application import Application
from ninetailed_wsgi.service.guarded import leads
from ninetailed_wsgi.service.profile_ids import ProfileIds


def replayed(
    ids: ProfileIds, environment: Environment, application: Application, body: Mapping[str, Any], now: int
) -> Key | None:
    """Return the profile that a create with this first message begins; None: one of which nobody was told.

    A preflight of the same message answered its id. A profile that it began leads on only for `REPLAY`: after that the
    message id may have leaked, or be in a page that many visitors get (spec section 6).
    """
    if (id := ids.replayed(environment, body["events"][0]["messageId"])) is None:
        return None
    record = application.owner(key := environment.key(id)).record
    if record is None or (now - record.get("arrived", 0) <= REPLAY and leads(record, id, now)):
        return key
    return None
