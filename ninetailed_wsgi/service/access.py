"""Decides who may do what: from the caller, the operation and the mode alone, without a look-up (spec section 16)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Literal, NamedTuple

from ninetailed_wsgi.core.names import Environment
from ninetailed_wsgi.errors import Forbidden, InvalidData, Unauthorized
from ninetailed_wsgi.service.identity_tokens import TRAIT, IdentityTokens
from ninetailed_wsgi.service.keys import SCOPES, Keys
from ninetailed_wsgi.service.new_profiles import Allowance, NewProfiles
from ninetailed_wsgi.settings import Settings

Issued = Callable[[Environment, str], bool]
"""Whether a name is a profile id that was issued for an environment."""

Hosting = Literal["site", "local", "network"]
"""Where the API runs: mounted in a site, on a server that listens on loopback (or a harness), on any other server."""

SENDER_SCOPES = frozenset(("events", "read"))
"""What a request from an address in ``trusted_senders`` may do."""


LONGEST_NAME = 1024
"""The most bytes of a user id, and of an id that a client chose."""


class Caller(NamedTuple):
    """Who sends a request.

    Attributes:
        scopes: what the caller's key or address allows; empty for visitors and strangers.
        inside: whether the caller is code of the host site.
    """

    scopes: frozenset[str] = frozenset()
    inside: bool = False

    @property
    def trusted(self) -> bool:
        """Whether the caller may see private traits and state another address for the visitor."""
        return self.inside or bool(self.scopes)

    def may(self, scope: str) -> bool:
        """Return whether a scope is allowed."""
        return self.inside or scope in self.scopes


STRANGER = Caller()
INSIDE = Caller(inside=True)
EVERYBODY = Caller(frozenset(SCOPES))
"""What any caller is in the mode ``open``."""


class Permission(Enum):
    """How the service treats an operation."""

    ALLOWED = "allowed"
    FRESH = "fresh"
    """Treat it as a create: the answer has an id that the service issues."""
    ABSENT = "absent"
    """Answer that there is no such profile, whether or not there is one."""
    REFUSED = "refused"
    """Answer 401 without a valid key, 403 with a key that lacks the scope."""


class _Requirement(NamedTuple):
    """Who may do an operation in the mode ``guarded``, and what other callers get.

    Attributes:
        scopes: each of them allows it; empty: everybody may do it.
        own: whether an id that certifies itself allows it too.
        otherwise: what all other callers get.
    """

    scopes: tuple[str, ...] = ()
    own: bool = False
    otherwise: Permission = Permission.REFUSED


_REQUIREMENTS: Mapping[str, _Requirement] = {
    "create": _Requirement(),
    "update": _Requirement(("events",), own=True, otherwise=Permission.FRESH),
    "get": _Requirement(("read",), own=True, otherwise=Permission.ABSENT),
    "batch": _Requirement(("events",)),
    "import": _Requirement(("events",)),
    "delete": _Requirement(("delete",)),
    "insights": _Requirement(),
    "flags": _Requirement(("read", "events"), own=True, otherwise=Permission.FRESH),
    "explain": _Requirement(("admin",)),
    "results": _Requirement(("admin",)),
    "preview": _Requirement(("admin",)),
    "inspector": _Requirement(("admin",)),
    "metrics": _Requirement(("admin",)),
    "openapi": _Requirement(("admin",)),
    "refresh": _Requirement(("admin",)),
    "reasons": _Requirement(("admin",)),
}

OPERATIONS = tuple(_REQUIREMENTS)


def decide(operation: str, caller: Caller, *, guarded: bool, own: bool = False) -> Permission:
    """Return how to treat an operation (the table of spec section 16).

    Args:
        operation: one of `OPERATIONS`.
        caller: who sent the request.
        guarded: whether the mode is ``guarded``; in ``open`` everybody may do everything.
        own: whether the profile is named by an id that certifies itself.
    """
    rule = _REQUIREMENTS[operation]
    if not guarded or not rule.scopes or (rule.own and own) or any(map(caller.may, rule.scopes)):
        return Permission.ALLOWED
    return rule.otherwise


class Terms(NamedTuple):
    """The terms on which events are applied.

    Attributes:
        guarded: whether user ids were verified, and names that do not certify themselves are user ids.
        allowance: how many new profiles the address of the request may have; None: any number.
        renames: whether the caller reads the answer, and so learns the new id that an identify event gives.
        address: the visitor's, empty if it is unknown; None: a trusted caller does not name it.
    """

    guarded: bool = False
    allowance: Allowance | None = None
    renames: bool = True
    address: str | None = None


ANY_TERMS = Terms()
"""The terms of the mode ``open``."""


class Verdict(NamedTuple):
    """Events as they may be applied, and how many claimed user ids were rejected."""

    events: Sequence[dict[str, Any]]
    unverified: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """The access rules of the place where the API runs.

    Attributes:
        guarded: the mode.
        local: only loopback hosts and origins are answered.
        origins: origins whose pages may call the API; ``*``: any.
        keys: those of trusted callers.
        tokens: make and check proofs of who a visitor is.
        senders: networks whose requests are trusted.
        private: traits that visitors may not see.
        protected: traits that visitors may not set.
        new_profiles: limits how many profiles one address begins; None: there is no limit.
    """

    guarded: bool = False
    local: bool = False
    origins: tuple[str, ...] = ("*",)
    keys: Keys | None = None
    tokens: IdentityTokens | None = None
    senders: tuple[str, ...] = ()
    private: frozenset[str] = frozenset()
    protected: frozenset[str] = frozenset()
    new_profiles: NewProfiles | None = None

    @classmethod
    def of(cls, settings: Settings, place: Hosting, *, now: Callable[[], float] | None = None) -> Access:
        """Return the rules that follow from settings at a place, with the defaults of spec section 16.

        Args:
            now: returns seconds since 1970; for tests with a clock of their own.

        Raises:
            SettingsError: the file of keys or of the identity secret cannot be used.
        """
        guarded = (settings.access or ("open" if place == "local" else "guarded")) == "guarded"
        local = place == "local" and not guarded
        timed = {} if now is None else {"now": now}
        secret_file = settings.identity_secret_file
        return cls(
            guarded=guarded,
            local=local,
            origins=settings.cors_origins or (() if guarded or local else ("*",)),
            keys=Keys(settings.keys_file, **timed) if settings.keys_file else None,
            tokens=IdentityTokens.of_file(secret_file, **timed) if secret_file else None,
            senders=settings.trusted_senders,
            private=frozenset(settings.private_traits if guarded else ()),
            protected=frozenset(settings.protected_traits if guarded else ()),
            new_profiles=NewProfiles(settings.new_profiles_per_minute) if guarded else None,
        )

    def reload_keys(self) -> None:
        """Read the key file again now, instead of within a second."""
        if self.keys:
            self.keys.reload()

    def check(self, operation: str, caller: Caller, *, own: bool = False) -> Permission:
        """Return how to treat an operation; raise an error if it is refused.

        Raises:
            Unauthorized: the caller has no valid key.
            Forbidden: the caller's key lacks the scope.
        """
        decision = decide(operation, caller, guarded=self.guarded, own=own)
        if decision is Permission.REFUSED:
            if caller.trusted:
                scope = " or ".join(_REQUIREMENTS[operation].scopes)
                raise Forbidden(f"this key or address lacks the scope {scope}")
            raise Unauthorized("expected Authorization: Bearer KEY with a valid key")
        return decision

    def judge(self, events: Sequence[dict[str, Any]], caller: Caller, where: Environment, issued: Issued) -> Verdict:
        """Return the events of a request in the form that this caller may send (spec section 16).

        Proofs are removed. Without a proof, an identify event of a visitor keeps its traits and loses its user id.

        Args:
            issued: recognizes issued profile ids: these are never user ids, whatever the caller claims.

        Raises:
            InvalidData: a proof has a user id that is too long.
        """
        if not any(event["type"] == "identify" for event in events):
            return Verdict(events)
        verdicts, unverified = [], 0
        for event in events:
            if event["type"] == "identify":
                event, is_doubtful = self._judge_identify(event, caller, where, issued)
                unverified += is_doubtful
            verdicts.append(event)
        return Verdict(verdicts, unverified)

    def _judge_identify(
        self, event: dict[str, Any], caller: Caller, where: Environment, issued: Issued
    ) -> tuple[dict[str, Any], bool]:
        traits, user_id = event["traits"], event.get("userId") or ""
        hidden = (TRAIT,) if caller.may("events") else (TRAIT, *self.protected)
        if any(name in traits for name in hidden):
            event = {**event, "traits": {name: value for name, value in traits.items() if name not in hidden}}
        if not self.guarded:
            return event, False
        owner = user_id
        if not caller.may("events"):
            token = traits.get(TRAIT)
            proven = self.tokens.user(token, *where) if token and self.tokens else None
            owner = proven if proven and user_id in ("", proven) else ""
            check_name(f"events.traits.{TRAIT}: sub", owner)
        is_doubtful = bool(user_id) and not owner
        if owner and issued(where, owner):
            owner = ""
        return (event if owner == user_id else {**event, "userId": owner}), is_doubtful

    def terms(self, caller: Caller, address: str | None) -> Terms:
        """Return the terms on which a caller's events are applied; ``address`` is as for `Terms`."""
        if not self.guarded:
            return ANY_TERMS
        if caller.scopes:
            return Terms(guarded=True, address=address)
        allowance = None if self.new_profiles is None else Allowance(self.new_profiles, address)
        return Terms(guarded=True, allowance=allowance, address=address)

    def visible(self, data: dict[str, Any], caller: Caller) -> dict[str, Any]:
        """Return an answer without the traits that this caller may not see."""
        if not self.private or caller.trusted:
            return data
        profile = data["profile"]
        if self.private.isdisjoint(profile["traits"]):
            return data
        traits = {name: value for name, value in profile["traits"].items() if name not in self.private}
        return {**data, "profile": {**profile, "traits": traits}}


def is_short(name: str) -> bool:
    """Return whether a name is short enough for a profile or a user to have it (spec section 16)."""
    return len(name) <= LONGEST_NAME // 4 or len(name.encode("utf-8", "surrogatepass")) <= LONGEST_NAME


def check_name(where: str, name: str) -> None:
    """Raise InvalidData if a name that a client chose is too long (spec section 16)."""
    if not is_short(name):
        size = len(name.encode("utf-8", "surrogatepass"))
        raise InvalidData(f"{where}: found an id of {size} bytes, expected at most {LONGEST_NAME}")


def check_names(events: Sequence[dict[str, Any]]) -> None:
    """Raise InvalidData if an event names a profile or a user with too long a name."""
    for index, event in enumerate(events):
        for member in ("anonymousId", "userId"):
            if isinstance(name := event.get(member), str):
                check_name(f"events[{index}].{member}", name)


OPEN = Access()
"""The rules of the hosted API: everybody may do everything."""

__all__ = [
    "EVERYBODY",
    "INSIDE",
    "OPEN",
    "OPERATIONS",
    "STRANGER",
    "Access",
    "Caller",
    "Permission",
    "Verdict",
    "decide",
]
