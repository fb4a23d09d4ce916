"""How a name finds its profile: aliases, claims and merges, each step atomic, repeatable and safe to be cut off.

A name (an id, a user id) has one document: a profile record, or a pointer ``{"to": id}`` to the profile it is an alias
of. **The record is the truth, the pointer an index entry**: a pointer counts only when the profile it names lists the
alias. So a pointer left behind by a cut-off step or a deletion means nothing and may be overwritten.

To claim an alias: the pointer is written first, then the record that lists it, then the pointer is looked at again:
whoever finds it taken by another confirmed profile merges into that one.

To merge a source into a target: (1) the source is marked ``"into": target`` and changes no more; (2) the target absorbs
it, with its history, and lists it as an alias, in one write; (3) the source's aliases point to the target; (4) the
source becomes a pointer. Whoever meets a marked source finishes these steps first.
"""

from __future__ import annotations

from typing import NamedTuple

import orjson

from ninetailed_wsgi.core import profile
from ninetailed_wsgi.store.base import Document, Entry, HistoryEntry, Key, Store, Write


class Found(NamedTuple):
    """What a name leads to.

    Attributes:
        key: of the profile; the name's own where there is none.
        record: the profile, or None.
        next_ordinal: how many events it has had.
        stale: a pointer at the name that means nothing any more.
    """

    key: Key
    record: Document | None
    next_ordinal: int = 0
    stale: Document | None = None


def resolve(store: Store, key: Key) -> Found:
    """The profile that an id or an alias stands for; unfinished merges met on the way are finished."""
    while True:
        entry = _settled(store, key)
        document = entry.document
        if document is None or "to" not in document:
            return Found(key, document, entry.next_ordinal)
        target = _follow(store, key, entry)
        if target.record is not None and key.name in target.record["aliases"]:
            return target
        # A merge may have been finished between the two reads.
        if store.read(key).document == document:
            return Found(key, None, stale=document)


def _settled(store: Store, key: Key) -> Entry:
    while (entry := store.read(key)).document is not None and "into" in entry.document:
        finish_merge(store, key)
    return entry


def _follow(store: Store, key: Key, entry: Entry) -> Found:
    """The profile at the end of a chain of pointers, which a cut-off claim can even have closed to a circle."""
    passed = {key.name}
    while entry.document is not None and "to" in entry.document:
        key = key._replace(name=entry.document["to"])
        if key.name in passed:
            return Found(key, None)
        passed.add(key.name)
        entry = _settled(store, key)
    return Found(key, entry.document, entry.next_ordinal)


def claim(store: Store, owner: Key, name: str) -> Key:
    """Make ``name`` an alias of ``owner`` unless it leads to a profile already; the key of the profile it belongs to.

    The alias counts once the owner's record lists it. Called again after that, it confirms the claim.
    """
    key = owner._replace(name=name)
    pointer = {"to": owner.name}
    while True:
        found = resolve(store, key)
        if found.record is not None:
            return found.key
        if found.stale == pointer:
            return owner
        taken = False

        def point(_: Key, entry: Entry, stale: Document | None = found.stale) -> Write | None:
            nonlocal taken
            taken = entry.document != stale
            return None if taken else Write(pointer)

        store.update([key], point)
        if not taken:
            return owner


def merge(store: Store, source: Key, target: Key) -> Key:
    """Let ``source`` become part of the profile ``target``; the key of the profile that both are then.

    A source that is no profile yet becomes an alias.
    """

    def freeze(_: Key, entry: Entry) -> Write | None:
        if entry.document is None or "to" in entry.document or "into" in entry.document:
            return None
        return Write({**entry.document, "into": target.name})

    def list_alias(_: Key, entry: Entry) -> Write | None:
        known = entry.document
        if known is None or "to" in known or "into" in known or source.name in known["aliases"]:
            return None
        return Write({**known, "aliases": [*known["aliases"], source.name]})

    store.update([source], freeze)
    finish_merge(store, source)
    if resolve(store, source).record is None and claim(store, target, source.name) == target:
        store.update([target], list_alias)
    return resolve(store, source).key


def finish_merge(store: Store, source: Key) -> None:
    """Finish the merge that ``source`` is marked for, from wherever it was cut off."""
    while True:
        entry = store.read(source)
        document = entry.document
        if document is None or "into" not in document:
            return
        target = source._replace(name=document["into"])
        met = store.read(target).document
        if met is None:
            _unmark(store, source, target)
        elif "into" in met:
            if source == _canonical_of_circle(store, source):
                _unmark(store, source, target)
            else:
                finish_merge(store, target)
        elif "to" in met:
            _mark(store, source, target, met["to"])
        elif _absorb(store, entry, target):
            _point_aliases(store, source, [*document["aliases"], *document["merged"]], target)
            _become_pointer(store, source, target)


def _absorb(store: Store, source: Entry, target: Key) -> bool:
    past = source.history()
    record = {member: value for member, value in (source.document or {}).items() if member != "into"}
    absorbed = False

    def absorb(_: Key, entry: Entry) -> Write | None:
        nonlocal absorbed
        known = entry.document
        absorbed = known is not None and "to" not in known and "into" not in known
        if known is None or not absorbed or record["id"] in known["merged"]:
            return None
        merged = profile.merge(known, record)
        history = sorted([*entry.history(), *past], key=_time_of)
        return Write(merged, [(at, orjson.dumps(event)) for _, at, event in history], replace_history=True)

    store.update([target], absorb)
    return absorbed


def _point_aliases(store: Store, source: Key, aliases: list[str], target: Key) -> None:
    def point(_: Key, entry: Entry) -> Write | None:
        return Write({"to": target.name}) if entry.document == {"to": source.name} else None

    store.update([source._replace(name=alias) for alias in aliases], point)


def _become_pointer(store: Store, source: Key, target: Key) -> None:
    def replace(_: Key, entry: Entry) -> Write | None:
        if entry.document is None or entry.document.get("into") != target.name:
            return None
        return Write({"to": target.name}, replace_history=True)

    store.update([source], replace)


def _mark(store: Store, source: Key, target: Key, new_target: str) -> None:
    def mark(_: Key, entry: Entry) -> Write | None:
        if entry.document is None or entry.document.get("into") != target.name:
            return None
        return Write({**entry.document, "into": new_target})

    store.update([source], mark)


def _unmark(store: Store, source: Key, target: Key) -> None:
    """The target is gone, or is marked for the source in turn: the source is an ordinary profile again."""

    def unmark(_: Key, entry: Entry) -> Write | None:
        if entry.document is None or entry.document.get("into") != target.name:
            return None
        return Write({key: value for key, value in entry.document.items() if key != "into"})

    store.update([source], unmark)


def _canonical_of_circle(store: Store, source: Key) -> Key | None:
    """Of profiles marked for each other, as two simultaneous requests can leave them, the one with the least name."""
    circle = [source]
    while True:
        document = store.read(circle[-1]).document
        if document is None or "into" not in document:
            return None
        following = source._replace(name=document["into"])
        if following == source:
            return min(circle)
        if following in circle:
            return None
        circle.append(following)


def delete(store: Store, key: Key) -> bool:
    """Remove the profile that an id or alias stands for, its history and all its aliases; whether there was one."""
    found = resolve(store, key)
    if found.record is None:
        return False
    removed: Document = {}

    def remove(_: Key, entry: Entry) -> Write | None:
        nonlocal removed
        if entry.document is None or "to" in entry.document or "into" in entry.document:
            return None
        removed = entry.document
        return Write(None)

    def forget(_: Key, entry: Entry) -> Write | None:
        return Write(None) if entry.document == {"to": found.key.name} else None

    store.update([found.key], remove)
    if not removed:
        return delete(store, key)
    # The record is gone, and with it what made its aliases count: the pointers are only cleared away.
    store.update([found.key._replace(name=alias) for alias in removed["aliases"]], forget)
    return True


def _time_of(entry: HistoryEntry) -> int:
    return entry[1]
