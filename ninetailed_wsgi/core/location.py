"""The location in a request's events, and how it overrides the result of the database."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ninetailed_wsgi.core.events import is_before_3_14

LONGEST_TEXT = 256
"""Maximum characters of a member; longer text is ignored."""

Located = tuple[dict[str, Any], dict[str, Any]]
"""A location twice: with names in the visitor's language, and with English names."""

TEXT_MEMBERS = ("city", "postalCode", "region", "regionCode", "country", "countryCode", "continent", "timezone")

# ISO 3166-1 alpha-2 as officially assigned, and XK (Kosovo), which MaxMind uses and the SDK accepts.
COUNTRY_CODES = frozenset(
    """
AD AE AF AG AI AL AM AO AQ AR AS AT AU AW AX AZ BA BB BD BE BF BG BH BI BJ BL BM BN BO BQ BR BS BT BV BW BY
BZ CA CC CD CF CG CH CI CK CL CM CN CO CR CU CV CW CX CY CZ DE DJ DK DM DO DZ EC EE EG EH ER ES ET FI FJ FK
FM FO FR GA GB GD GE GF GG GH GI GL GM GN GP GQ GR GS GT GU GW GY HK HM HN HR HT HU ID IE IL IM IN IO IQ IR
IS IT JE JM JO JP KE KG KH KI KM KN KP KR KW KY KZ LA LB LC LI LK LR LS LT LU LV LY MA MC MD ME MF MG MH MK
ML MM MN MO MP MQ MR MS MT MU MV MW MX MY MZ NA NC NE NF NG NI NL NO NP NR NU NZ OM PA PE PF PG PH PK PL PM
PN PR PS PT PW PY QA RE RO RS RU RW SA SB SC SD SE SG SH SI SJ SK SL SM SN SO SR SS ST SV SX SY SZ TC TD TF
TG TH TJ TK TL TM TN TO TR TT TV TW TZ UA UG UM US UY UZ VA VC VE VG VI VN VU WF WS XK YE YT ZA ZM ZW
""".split()
)

# As MaxMind abbreviates them.
CONTINENTS = frozenset(("AF", "AN", "AS", "EU", "NA", "OC", "SA"))


def wants_lookup(events: Iterable[Mapping[str, Any]], features: Iterable[str]) -> bool:
    """Return whether to resolve the visitor's address (spec section 4).

    Resolve it if the request asks for the feature ``location`` or a library older than 3.14 sent an event, unless an
    event suppresses this with a ``context.location`` that is an empty text or whose members are all empty.
    """
    is_requested = "location" in features
    for event in events:
        context = event["context"]
        location = context.get("location")
        if location == "" or (location and not any(map(_filled, location.values()))):
            return False
        is_requested = is_requested or is_before_3_14(context["library"]["version"])
    return is_requested


def given_members(event: Mapping[str, Any]) -> dict[str, Any]:
    """Return the valid members of an event's ``context.location``; empty and invalid ones are left out."""
    location = event["context"].get("location")
    if not location:
        return {}
    members: dict[str, Any] = {
        key: value
        for key in TEXT_MEMBERS
        if isinstance(value := location.get(key), str) and 0 < len(value) <= LONGEST_TEXT
    }
    if members.get("countryCode", "DE") not in COUNTRY_CODES:
        del members["countryCode"]
    if members.get("continent", "EU") not in CONTINENTS:
        del members["continent"]
    coordinates = location.get("coordinates")
    if isinstance(coordinates, dict):
        latitude, longitude = coordinates.get("latitude"), coordinates.get("longitude")
        if _within(latitude, 90) and _within(longitude, 180):
            members["coordinates"] = {"latitude": latitude, "longitude": longitude}
    return members


def laid_over(located: Located, events: Iterable[Mapping[str, Any]]) -> Located:
    """Return a location in which the events' members replace its own, one by one; an empty location stays empty."""
    for members in map(given_members, events) if located[0] else ():
        located = ({**located[0], **members}, {**located[1], **members})
    return located


def _within(value: object, bound: int) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and -bound <= value <= bound


def _filled(member: object) -> bool:
    if isinstance(member, dict):
        return any(map(_filled, member.values()))
    return member not in (None, "")
