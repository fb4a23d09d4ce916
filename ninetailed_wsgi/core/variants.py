"""Decides which entry to show in place of a baseline entry, by the client's priority rule (spec section 6).

Entries may have any of the forms of `entry_forms`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ninetailed_wsgi.core.entry_forms import id_of, is_link, members_of
from ninetailed_wsgi.core.events import ServedComponent


def entry_to_show(
    entry: Any, experiences: Iterable[Mapping[str, Any]], published: Callable[[str], tuple[str, ...]]
) -> Any:
    """Return the entry to show; None if it is hidden.

    Args:
        entry: the baseline, or just its id.
        experiences: what was chosen for the visitor, as the API answers it.
        published: the experiences of a baseline entry by priority, used if the entry itself has only links.

    Returns:
        The variant's entry as the experience contains it, or its id if ``entry`` is an id. As in the SDKs, the baseline
        if no experience replaces it, or if the variant is missing or only a link.
    """
    baseline = id_of(entry)
    if baseline is None:
        return entry
    experience, id = decision(entry, experiences, published)
    if id == baseline:
        return entry
    if id == "":
        return None
    if isinstance(entry, str):
        return id
    return _resolved(entry, experience, id)


def unresolved(
    entry: Any, experiences: Iterable[Mapping[str, Any]], published: Callable[[str], tuple[str, ...]]
) -> str | None:
    """Return the id of the variant that an entry should show but does not contain; None if nothing is missing."""
    id = _decided(entry, experiences, published)[1]
    return None if id in ("", id_of(entry)) or decision(entry, experiences, published)[1] == id else id


def decision(
    entry: Any, experiences: Iterable[Mapping[str, Any]], published: Callable[[str], tuple[str, ...]]
) -> tuple[Mapping[str, Any] | None, str]:
    """Return the experience that decides about a baseline entry, or None, and the id of the entry to show.

    Arguments as for `entry_to_show`; the entry has an id. The returned id is empty if the entry is hidden. An entry
    that does not contain its variant shows the baseline, without an experience.
    """
    experience, id = _decided(entry, experiences, published)
    if isinstance(entry, str) or id in ("", id_of(entry)) or _resolved(entry, experience, id) is not None:
        return experience, id
    return None, id_of(entry) or ""


def _decided(
    entry: Any, experiences: Iterable[Mapping[str, Any]], published: Callable[[str], tuple[str, ...]]
) -> tuple[Mapping[str, Any] | None, str]:
    baseline = id_of(entry) or ""
    selected = {each["experienceId"]: each for each in experiences}
    members = members_of(entry)
    rows = _rows_of(members)
    order: Sequence[str | None] = [_experience_id(each) for each in rows]
    if not rows or any(map(is_link, rows)):
        order = published(baseline) or order
    if not order and "nt_experiences" not in members:
        # Without a priority order, use the first experience by id that replaces this entry.
        order = [id for id, each in selected.items() if baseline in each["variants"]]
    # As in the SDKs, the first selected experience decides, even if it only replaces other entries.
    first = next((selected[id] for id in order if id in selected), None)
    if first is None or baseline not in first["variants"]:
        return None, baseline
    return first, first["variants"][baseline]


def served_entry(
    entry: Any, experiences: Iterable[Mapping[str, Any]], published: Callable[[str], tuple[str, ...]]
) -> ServedComponent:
    """Return what a page exposes the visitor to by showing an entry; arguments as for `decision`."""
    experience, component = decision(entry, experiences, published)
    if experience is None:
        return ServedComponent(component, None, 0)
    return ServedComponent(component, experience["experienceId"], experience["variantIndex"])


def served_flag(changes: Sequence[Mapping[str, Any]], key: str) -> ServedComponent:
    """Return what a page exposes the visitor to by reading a flag."""
    change = next((each for each in reversed(changes) if each.get("key") == key), None)
    if change is None:
        return ServedComponent(key, None, 0)
    return ServedComponent(key, change["meta"]["experienceId"], change["meta"]["variantIndex"])


def served_entity(changes: Iterable[Mapping[str, Any]], entity: str) -> ServedComponent:
    """Return what a page exposes the visitor to by asking for the variant of a Contentful experience."""
    change = next((each for each in changes if each["type"] != "Variable" and each["id"] == entity), None)
    if change is None:
        return ServedComponent(entity, None, 0)
    return ServedComponent(entity, change["meta"]["optimizationId"], change["meta"]["variantIndex"])


def entity_variant(changes: Iterable[Mapping[str, Any]], entity: str) -> str | None:
    """Return the chosen variant of a Contentful experience or fragment; None if no experience decides it."""
    return next((each["variantId"] for each in changes if each["type"] != "Variable" and each["id"] == entity), None)


def flag(changes: Sequence[Mapping[str, Any]], key: str, default: Any = None) -> Any:
    """Return the value of an inline variable, or ``default`` if it has none.

    If two experiences set the same key, the last in the order of the answer wins, as in the SDK (spec section 17).
    """
    change = next((each for each in reversed(changes) if each.get("key") == key), None)
    return default if change is None else unwrapped(change["value"])


def unwrapped(value: Any) -> Any:
    """Return the value of a change; remove the object that wraps a list for older clients (spec section 6)."""
    if isinstance(value, dict) and len(value) == 1 and isinstance(value.get("value"), list):
        return value["value"]
    return value


def _experiences_of(entry: Any) -> list[Any]:
    return _rows_of(members_of(entry))


def _rows_of(members: Mapping[str, Any]) -> list[Any]:
    rows = members.get("nt_experiences")
    return rows if isinstance(rows, list) else []


def _experience_id(experience: Any) -> str | None:
    id = members_of(experience).get("nt_experience_id")
    return id if isinstance(id, str) else id_of(experience)


def _variants_of(experience: Any) -> list[Any]:
    members = members_of(experience)
    variants = members.get("nt_variants", members.get("variants"))
    return variants if isinstance(variants, list) else []


def _resolved(entry: Any, experience: Mapping[str, Any] | None, id: str) -> Any:
    """Return the variant with this id as the entry's experience contains it; None if it does not."""
    first = experience and experience["experienceId"]
    holder = next((each for each in _experiences_of(entry) if _experience_id(each) == first), None)
    return next(
        (
            each
            for each in _variants_of(holder)
            if not isinstance(each, str) and id_of(each) == id and not is_link(each)
        ),
        None,
    )
