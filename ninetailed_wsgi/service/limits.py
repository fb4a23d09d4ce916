"""The limits of a request that no schema states: profiles of a batch, traits of a profile."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import orjson

from ninetailed_wsgi.content import EMPTY
from ninetailed_wsgi.core.events import Event
from ninetailed_wsgi.core.names import Key
from ninetailed_wsgi.errors import InvalidData
from ninetailed_wsgi.service.application import Application, Step
from ninetailed_wsgi.service.folding import Conditions
from ninetailed_wsgi.store.identity import Owner
from ninetailed_wsgi.store.overlay import Overlay
from ninetailed_wsgi.store.protocol import Store

MAX_BATCH_PROFILES = 50
"""The most distinct values of ``anonymousId`` in one batch (spec section 1)."""


def check_profiles(events: Sequence[Event]) -> None:
    """Raise InvalidData if a batch is about too many profiles."""
    if (number := len({event.body["anonymousId"] for event in events})) > MAX_BATCH_PROFILES:
        raise InvalidData(f"body.events: found {number} different anonymousId, expected at most {MAX_BATCH_PROFILES}")


def check_traits(steps: Sequence[Step], most: int, store: Store | None, owner: Callable[[Key], Owner]) -> None:
    """Refuse events that would make the traits of a profile too large, before anything is stored.

    If the sizes of all parts leave a doubt, the events are applied in memory to get the exact size.

    Args:
        steps: the events of a request, each with the name that it was sent for.
        most: how many bytes of JSON the traits may take; a profile that is already above this must not grow.
        store: where the profiles are; None: they are not known yet.
        owner: reads what a name leads to in the store.

    Raises:
        InvalidData: names each event that exceeds the limit.
    """
    if _most_bytes(steps, owner) <= most:
        return
    trial = Application(Overlay(store), EMPTY, Conditions(lambda: "trial", most))
    trial.apply(steps)
    problems = [
        f"events[{place}].traits: found {size} bytes of JSON with the profile's traits, expected at most {most}"
        for place, size in sorted({event.place: size for event, size in trial.excess}.items())
    ]
    if problems:
        raise InvalidData(problems[:10])


def _most_bytes(steps: Sequence[Step], owner: Callable[[Key], Owner]) -> int:
    """Return an upper bound of the bytes of a visitor's traits: the sum over all names that may be the visitor's."""
    bytes_: dict[Key, int] = {}
    successors: dict[Key, Key] = {}

    def visitor(name: Key) -> Key:
        profile = owner(name)
        key = profile.key
        while key in successors:
            key = successors[key]
        if key not in bytes_:
            bytes_[key] = len(orjson.dumps(profile.record["traits"])) if profile.record else 0
        return key

    for name, event in steps:
        if event.type != "identify" or not (event.body["traits"] or event.user_id):
            continue
        key = visitor(name)
        bytes_[key] += len(orjson.dumps(event.body["traits"]))
        if event.user_id and (other := visitor(name._replace(name=event.user_id))) != key:
            bytes_[key] += bytes_.pop(other)
            successors[other] = key
    return max(bytes_.values(), default=0)


def new_profile(name: Key) -> Owner:
    """Return an owner without a record, as the reader of `check_traits` when no profile is known yet."""
    return Owner(name, None)


def named_by(events: Sequence[Event], key: Callable[[str], Key]) -> list[Step]:
    """Return the events of a batch, each with the key of its ``anonymousId``."""
    return [(key(event.body["anonymousId"]), event) for event in events]
