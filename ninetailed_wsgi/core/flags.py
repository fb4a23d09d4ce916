"""Feature flags: the inline variables of published experiences, each decided for one visitor with its reason.

Source: spec section 17. An index built once maps each key to the experiences that set it; each costs two hashes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any, Literal, NamedTuple

from ninetailed_wsgi.core.experiences import Experience
from ninetailed_wsgi.core.variants import unwrapped
from ninetailed_wsgi.errors import NinetailedError

_NONE: Mapping[str, int] = {}

Reason = Literal["SPLIT", "TARGETING_MATCH", "STATIC", "UNKNOWN"]


class Flag(NamedTuple):
    """One flag as decided for a visitor.

    Attributes:
        reason: ``SPLIT`` for an experiment, ``TARGETING_MATCH`` for a personalization with an audience, ``STATIC`` for
            one without an audience, ``UNKNOWN`` if no experience gives the visitor a value.
        variant: ``experienceId:variantIndex``; empty with ``UNKNOWN``.
        metadata: ``experienceId``, ``variantIndex``, ``sticky``, and ``audienceId`` if it has one; empty with
            ``UNKNOWN``.
    """

    key: str
    reason: Reason
    variant: str
    metadata: Mapping[str, str | int | bool]
    value: Any = None


class FlagNotFound(NinetailedError):
    """No published experience sets a flag with this key (404); answered in OFREP's format."""

    status = 404
    code = "ERR_NOT_FOUND"


class FlagSet:
    """All flags of one environment. Immutable, shared by all threads."""

    def __init__(self, experiences: Iterable[Experience]) -> None:
        """Index the experiences by the flags they set; ``experiences`` in the order of the answer."""
        by_key: dict[str, list[Experience]] = {}
        for experience in experiences:
            for key in dict.fromkeys(variable.key for variable in experience.variables):
                by_key.setdefault(key, []).append(experience)
        # If two experiences set the same key, the last one wins, as in the SDK.
        self._by_key = {key: tuple(reversed(by_key[key])) for key in sorted(by_key)}

    def __contains__(self, key: str) -> bool:
        """Return whether any published experience sets this flag."""
        return key in self._by_key

    @property
    def keys(self) -> tuple[str, ...]:
        """Return every key, sorted."""
        return tuple(self._by_key)

    def values(self, indexes: Mapping[str, int | None]) -> dict[str, Any]:
        """Return the values of the flags that experiences set for a visitor, by key.

        Args:
            indexes: experience id to the visitor's variant index; None if the experience is not for them.
        """
        values = {}
        for key, experiences in self._by_key.items():
            for experience in experiences:
                index = indexes.get(experience.id)
                if index is not None and (change := _change(experience, index, key)) is not None:
                    values[key] = unwrapped(change["value"])
                    break
        return values

    def decide(
        self,
        key: str,
        stable_id: str,
        audiences: Collection[str],
        sticky: Mapping[str, int],
        forced: Mapping[str, int] = _NONE,
    ) -> Flag:
        """Decide one flag for a visitor.

        Args:
            stable_id: of the profile.
            audiences: ids that the profile belongs to.
            sticky: stored assignments, experience id to variant index.
            forced: variant indexes of a preview, which take precedence (spec section 13).

        Raises:
            KeyError: no published experience sets this flag.
        """
        for experience in self._by_key[key]:
            index = experience.previewed(forced) if forced else None
            if index is None:
                index = experience.assign(experience.allocated(stable_id), audiences, sticky)
            if index is not None and (change := _change(experience, index, key)) is not None:
                return _flag(key, experience, index, sticky, change["value"])
        return Flag(key, "UNKNOWN", "", {})


def _change(experience: Experience, index: int, key: str) -> Mapping[str, Any] | None:
    """Return the change that an experience makes to a flag; None if its value is null (spec section 6)."""
    return next((each for each in reversed(experience.outcome(index).changes) if each.get("key") == key), None)


def _flag(key: str, experience: Experience, index: int, sticky: Mapping[str, int], value: object) -> Flag:
    metadata: dict[str, str | int | bool] = {"experienceId": experience.id, "variantIndex": index}
    if experience.audience is not None:
        metadata["audienceId"] = experience.audience
    metadata["sticky"] = experience.sticky and experience.id in sticky
    return Flag(key, _reason(experience), f"{experience.id}:{index}", metadata, unwrapped(value))


def _reason(experience: Experience) -> Reason:
    if experience.type == "nt_experiment":
        return "SPLIT"
    return "STATIC" if experience.audience is None else "TARGETING_MATCH"
