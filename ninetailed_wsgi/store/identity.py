"""How a name finds its profile: aliases, claims, merges and deletion; each step is atomic, repeatable and crash-safe.

A name (an id, a user id) has one document: a profile record, or a pointer ``{"to": id, "nonce": n}`` to the profile it
is an alias of. **The record is the truth, the pointer an index entry**: a pointer counts only when the profile it names
lists the alias. So a pointer left behind by a cut-off step means nothing and may be overwritten. Each pointer has a
random number of its own, so that a writer overwrites or removes only the pointer that it has read.

To claim an alias: the pointer is written first, then the record that lists it, then the pointer once more. If the
pointer leads to another profile by then, the two profiles merge instead. After that, every reader finds an alias that
counts, and a writer that read the earlier pointer finds a different one.

To merge a source into a target: (1) the source is marked ``"into": target`` and changes no more; (2) the target absorbs
it, with its history, and lists it as an alias, in one write; (3) the source's aliases point to the target; (4) the
source becomes a pointer. To delete a profile is to merge it into nothing: (1) it is marked ``"into": None``; (2) its
aliases' pointers are removed, and what it absorbed; (3) the record is removed. A process that meets a marked record
finishes these steps first.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import NamedTuple, TypeGuard

import orjson

from ninetailed_wsgi.core import profile, retention
from ninetailed_wsgi.core.names import Key
from ninetailed_wsgi.store.protocol import Document, HistoryEntry, Store, StoreEntry, Write


class Owner(NamedTuple):
    """The profile that owns a name.

    Attributes:
        key: the key of the profile; the name's own if there is no profile.
        record: the profile, or None.
        next_ordinal: how many events it has had.
        stale: a pointer at the name that no longer means anything.
    """

    key: Key
    record: Document | None
    next_ordinal: int = 0
    stale: Document | None = None


def is_profile(document: Document | None) -> TypeGuard[Document]:
    """Return whether a document is a record that may change: neither a pointer nor marked."""
    return document is not None and "to" not in document and "into" not in document


def is_marked(document: Document) -> bool:
    """Return whether a document is a record whose merge or deletion was begun and not finished."""
    return "into" in document


def is_pointer(document: Document) -> bool:
    """Return whether a document is a pointer from an alias to its profile."""
    return "to" in document


def resolve(store: Store, key: Key) -> Owner:
    """Return the profile that an id or an alias stands for, after finishing the merges met on the way."""
    while True:
        entry = _settled(store, key)
        document = entry.document
        if document is None or "to" not in document:
            return Owner(key, document, entry.next_ordinal)
        target = _follow(partial(_settled, store), key, entry)
        if target.record is not None and key.name in target.record["aliases"]:
            if document["to"] != target.key.name:
                # Two simultaneous merges left a chain.
                _point(store, key, document, target.key)
            return target
        # A merge may have been finished between the two reads.
        if store.read(key).document == document:
            return Owner(key, None, stale=document)


def _settled(store: Store, key: Key) -> StoreEntry:
    while (entry := store.read(key)).document is not None and "into" in entry.document:
        finish_merge(store, key)
    return entry


def _follow(read: Callable[[Key], StoreEntry], key: Key, entry: StoreEntry) -> Owner:
    """Return the profile at the end of a chain of pointers; a cut-off claim may have made the chain a circle."""
    names = {key.name}
    while entry.document is not None and "to" in entry.document:
        key = key._replace(name=entry.document["to"])
        if key.name in names:
            return Owner(key, None)
        names.add(key.name)
        entry = read(key)
    return Owner(key, entry.document, entry.next_ordinal)


def claim(store: Store, name: Owner, owner: Key) -> bool:
    """Let a name without a profile (as `resolve` returned it) lead to ``owner``; return False if others were faster.

    The alias counts once the owner's record lists it; after that the claim has to be confirmed.
    """
    return _point(store, name.key, name.stale, owner)


def claim_unless_owned(store: Store, alias: Key, owner: Key) -> Key:
    """Claim an alias for ``owner`` if no profile has it; return the key of the profile that now has it."""
    while (name := resolve(store, alias)).record is None:
        if claim(store, name, owner):
            return owner
    return name.key


def confirm(store: Store, owner: Key, name: str) -> Key:
    """Complete the claim of an alias that the owner's record lists; return the key of the profile that has the alias.

    If two profiles claimed the alias at the same time, this may be the other one; the owner has to merge into it.
    """
    key = owner._replace(name=name)
    while key != owner:  # the claimant may have become part of the profile that it claimed
        pointer = store.read(key).document
        current = resolve(store, key)
        if current.record is not None and current.key != owner:
            return current.key
        deleted = current.record is None and resolve(store, owner).record is None
        if deleted or _point(store, key, pointer, owner):
            break
    return owner


def _point(store: Store, key: Key, document: Document | None, target: Key) -> bool:
    """Let a name point to a profile, unless the document there changed since it was read; return whether it does."""
    write = Write(_pointer(target))
    return store.update([key], lambda _, entry: write if entry.document == document else None)[key] is not None


def _pointer(target: Key) -> Document:
    return {"to": target.name, "nonce": secrets.randbits(52)}


def merge(store: Store, source: Key, target: Key, until: object = None) -> Key:
    """Let ``source`` become part of the profile ``target``, or an alias of it if ``source`` is no profile yet.

    The source's name leads to the target as ``until`` says, which the record notes (see service/guarded.py); None: for
    good.

    Returns the key of the joint profile; the source's own if the target is no longer a profile.
    """

    def freeze(_: Key, entry: StoreEntry) -> Write | None:
        record = entry.document
        return Write({**ending(record), "into": target.name}) if is_profile(record) else None

    def ending(record: Document) -> Document:
        return record if until is None else {**record, "until": {**record.get("until", {}), source.name: until}}

    def list_alias(_: Key, entry: StoreEntry) -> Write | None:
        record = entry.document
        if not is_profile(record) or source.name in record["aliases"]:
            return None
        return Write({**ending(record), "aliases": profile.with_alias(record, source.name)})

    if source == target:  # another request has merged them since
        return resolve(store, source).key
    store.update([source], freeze)
    finish_merge(store, source)
    if resolve(store, source).record is None and claim_unless_owned(store, source, target) == target:
        store.update([target], list_alias)
        if resolve(store, source).key == target:
            return confirm(store, target, source.name)
    return resolve(store, source).key


def release(store: Store, owner: Key, name: str) -> None:
    """Take a name from the profile that lists it; the pointer at the name then means nothing."""

    def without(_: Key, entry: StoreEntry) -> Write | None:
        record = entry.document
        if not is_profile(record) or name not in record["aliases"]:
            return None
        members = {member: value for member, value in record.items() if member != "until"}
        until = {other: time for other, time in record.get("until", {}).items() if other != name}
        aliases = [alias for alias in record["aliases"] if alias != name]
        return Write({**members, "aliases": aliases, **({"until": until} if until else {})})

    store.update([owner], without)


def finish_merge(store: Store, source: Key) -> None:
    """Finish the merge or the deletion that ``source`` is marked for, from the step where it was cut off."""
    while True:
        entry = store.read(source)
        document = entry.document
        if document is None or "into" not in document:
            return
        if document["into"] is None:
            _remove(store, source, document)
            return
        target = source._replace(name=document["into"])
        at_target = store.read(target)
        there = at_target.document
        if there is not None and "into" in there and source != _canonical_of_circle(store, source):
            finish_merge(store, target)
        elif there is None or "into" in there:
            _mark(store, source, document, None)
        elif "to" in there:
            end = _follow(store.read, target, at_target)
            counts = end.record is not None and target.name in end.record["aliases"]
            _mark(store, source, document, end.key if counts else None)
        elif _absorb(store, source, entry, target, there):
            _point_aliases(store, source, document, target)
            _become_pointer(store, source, document, target)


def _unmarked(record: Document) -> Document:
    return {member: value for member, value in record.items() if member != "into"}


def _absorb(store: Store, key: Key, source: StoreEntry, target: Key, at_target: Document) -> bool:
    """Absorb a source that was still marked after ``at_target`` was read, if the target is still that profile.

    This keeps a stalled merge from resurrecting deleted data in another profile that has taken the target's name.
    """
    past = source.history()
    if source.document is None or store.read(key).document != source.document:
        return False
    record = _unmarked(source.document)

    def absorb(_: Key, entry: StoreEntry) -> _Absorption | None:
        other = entry.document
        if not is_profile(other) or other.get("born") != at_target.get("born"):
            return None
        if record["id"] in other["merged"]:
            return _Absorption(None)
        merged = profile.merge(other, record)
        history = sorted([*entry.history(), *past], key=_time_of)
        events = [(at, orjson.dumps(event)) for _, at, event in history]
        retention.weigh_again(merged, entry.next_ordinal, [len(event) for _, event in events])
        return _Absorption(Write(merged, events, replace_history=True))

    return store.update([target], absorb)[target] is not None


class _Absorption(NamedTuple):
    """A target has absorbed its source: by this write, or by an earlier one."""

    write: Write | None


def _at_aliases(store: Store, key: Key, record: Document) -> dict[Key, Document | None]:
    """Return the documents at the aliases of a marked record; none after its merge, when others may use the aliases."""
    aliases = [key._replace(name=name) for name in record["aliases"]]
    documents = {alias: store.read(alias).document for alias in aliases}
    return documents if store.read(key).document == record else {}


def _point_aliases(store: Store, source: Key, record: Document, target: Key) -> None:
    documents = _at_aliases(store, source, record)
    writes = {alias: Write(_pointer(target)) for alias in documents}

    def point(alias: Key, entry: StoreEntry) -> Write | None:
        there = entry.document
        leads_to_source = there is not None and there == documents[alias] and there.get("to") == source.name
        return writes[alias] if leads_to_source else None

    store.update([*documents], point)


def _become_pointer(store: Store, source: Key, record: Document, target: Key) -> None:
    write = Write(_pointer(target), replace_history=True)
    store.update([source], lambda _, entry: write if entry.document == record else None)


def _mark(store: Store, source: Key, record: Document, new_target: Key | None) -> None:
    """Mark a source for another target; for none if the target is gone or waits for the source."""
    successor = _unmarked(record) if new_target in (None, source) else {**record, "into": new_target.name}
    store.update([source], lambda _, entry: Write(successor) if entry.document == record else None)


def _canonical_of_circle(store: Store, source: Key) -> Key | None:
    """Return which profile stays when simultaneous requests have marked several profiles for each other.

    It is the one with the least name among those that the next one has not absorbed; the one marked last is never
    absorbed.
    """
    circle: list[Key] = []
    candidates: list[Key] = []
    key, document = source, store.read(source).document
    while document is not None and document.get("into") is not None and key not in circle:
        circle.append(key)
        following = source._replace(name=document["into"])
        document = store.read(following).document
        if document is not None and key.name not in document.get("merged", ()):
            candidates.append(key)
        if following == source:
            return min(candidates, default=None)
        key = following
    return None


def profiles(store: Store, documents: Iterable[tuple[Key, Document]]) -> Iterator[Key]:
    """Yield the key of each profile among stored documents once; finish the unfinished merges among them."""
    for key, document in documents:
        if is_marked(document):
            owner = resolve(store, key)
            if owner.record is not None and owner.key == key:
                yield key
        elif not is_pointer(document):
            yield key


def settle(store: Store, documents: Iterable[tuple[Key, Document]]) -> None:
    """Finish every merge and deletion among stored documents that was cut off."""
    for key, document in documents:
        if is_marked(document):
            finish_merge(store, key)


def delete(store: Store, key: Key, only_if: Callable[[Document], bool] = lambda record: True) -> bool:
    """Remove the profile that an id or alias stands for, its history and all its aliases; return whether there was one.

    A record stays if ``only_if`` returns False for it; this is checked in the same step that decides the deletion.
    """
    while (owner := resolve(store, key)).record is not None and only_if(owner.record):

        def mark(_: Key, entry: StoreEntry) -> Write | None:
            record = entry.document
            return Write({**record, "into": None}) if is_profile(record) and only_if(record) else None

        if store.update([owner.key], mark)[owner.key]:
            finish_merge(store, owner.key)
            return True
    if owner.stale:
        _forget(store, key, owner.stale)
    return False


def sweep(store: Store, documents: Iterable[tuple[Key, Document]]) -> None:
    """Remove the pointers among stored documents that mean nothing, which claims that were cut off leave behind."""
    for key, document in documents:
        if is_pointer(document) and (owner := resolve(store, key)).stale:
            _forget(store, key, owner.stale)


def _forget(store: Store, key: Key, stale: Document) -> None:
    """Remove a pointer that means nothing. A claim that is about to make it count writes it again, see `confirm`."""
    store.update([key], lambda _, entry: Write(None) if entry.document == stale else None)


def _remove(store: Store, key: Key, record: Document) -> None:
    names = {key.name, *record["aliases"]}
    documents = _at_aliases(store, key, record)

    def leads_here(to: str | None) -> bool:
        # By way of another name only while that name leads here: another profile may have taken it by now.
        if to is None or to not in names or to == key.name:
            return to == key.name
        between = store.read(key._replace(name=to)).document or {}
        return between.get("to", between.get("into")) in names

    def is_left(alias: Key, there: Document) -> bool:
        # Also remove an absorbed profile whose merge was cut off before the profile became a pointer.
        return leads_here(there.get("to")) or (alias.name in record["merged"] and there.get("into") in names)

    pointers = {alias: there for alias, there in documents.items() if there is not None and is_left(alias, there)}
    store.update([*pointers], lambda alias, entry: Write(None) if entry.document == pointers[alias] else None)
    store.update([key], lambda _, entry: Write(None) if entry.document == record else None)


def _time_of(entry: HistoryEntry) -> int:
    return entry[1]
