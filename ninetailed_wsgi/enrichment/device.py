"""The device type of a user agent.

Source: spec section 5, rule type ``device``: ``desktop``, ``mobile``, ``tablet`` or ``unknown``.
ua-parser names families (system, device, bot); the step from families to the four types is ours, and
``fixtures/devices.json`` is the table of real user agents that holds it.
"""

from __future__ import annotations

from functools import lru_cache

import re2
from ua_parser import parse_device, parse_os

# Real user agents have nothing decisive beyond this; reading more would help an attacker.
LONGEST_READ = 512


def _pattern(text: str, *, case_sensitive: bool = True) -> re2._Regexp[str]:
    """Compile for RE2: 200 odd user agents took 120 ms with `re`, which tries every word at every place."""
    options = re2.Options()
    options.case_sensitive = case_sensitive
    options.never_capture = True
    return re2.compile(text, options)


# Neither in a hand nor on a desk: televisions, consoles, watches, headsets and cars, some of which claim a system
# such as Windows or Android. AFT... are the models of the Fire TV, SM-R... Samsung's watches.
_NEITHER = _pattern(
    r"\bTV\b|SmartTV|Smart-TV|SmartHub|HbbTV|AndroidTV|GoogleTV|AppleTV|Apple TV|NetCast|Web0S|BRAVIA|CrKey|Roku"
    r"|\bAFT[A-Z]|PlayStation|Xbox|Nintendo|\bWatch\b|\bSM-R\d|OculusBrowser|\bQuest \d|Tesla/|Automotive",
    case_sensitive=False,
)
# Crawlers that ua-parser does not know, some of which imitate a phone. CUBOT is a maker of phones.
_BOT = _pattern(r"(?:(?:^|[^u]|[^c]u)bots?|spider|crawlers?)(?:[^a-z]|$)", case_sensitive=False)
# "Tablet PC" is a component of Windows that desktops announce as well.
_TABLET = _pattern(
    r"\biPad\b|\bTablet(?:$|[^ \w]| $| [^P]| P[^C])|PlayBook|TouchPad|Kindle|\bSilk/"
    r"|\bSM-[PTX]\d|\bGT-P\d|\bKF[A-Z]{3}|\bNexus (?:7|9|10)\b|Pixel C\b|\bTB-\w|MediaPad|MatePad|\bPad\b|\bTab\b"
)
_PHONE = _pattern(
    r"\biPhone\b|\biPod\b|\bMobile\b|\bPhone\b|IEMobile|Opera Mini|Opera Mobi|MIDP|Symbian|BlackBerry|\bwebOS/"
)
_ANDROID = _pattern(r"\bAndroid\b|OpenHarmony")
_BROWSER = _pattern(r"^(?:Mozilla/|Opera/)")
_RENDERS_PAGES = _pattern(r"AppleWebKit/|Gecko/")

# The spellings are ua-parser's.
_DESKTOP_SYSTEMS = frozenset(
    {
        "Windows",
        "Mac OS X",
        "Mac OS",
        "Chrome OS",
        "Linux",
        "Ubuntu",
        "Kubuntu",
        "Debian",
        "Fedora",
        "Red Hat",
        "CentOS",
        "SUSE",
        "Arch Linux",
        "Linux Mint",
        "Mageia",
        "Mandriva",
        "Gentoo",
        "Slackware",
        "PCLinuxOS",
        "FreeBSD",
        "OpenBSD",
        "NetBSD",
        "DragonFly",
        "Solaris",
    }
)


def device_type(user_agent: str | None) -> str:
    """Tell the device type of a user agent, for audience rules of type ``device`` (spec section 5).

    Bots, televisions, consoles, watches, headsets, cars and HTTP libraries are ``unknown``, whatever they claim
    to be. Since iPadOS 13 an iPad claims to be a Mac, and its user agent does not differ.

    Args:
        user_agent: the text of ``context.userAgent``, of any length and content; ``None`` when there is none.

    Returns:
        ``"desktop"``, ``"mobile"``, ``"tablet"`` or ``"unknown"``. Never raises; the newest 4096 answers are kept.
    """
    if not isinstance(user_agent, str) or not user_agent:
        return "unknown"
    return _device_type(user_agent[:LONGEST_READ])


@lru_cache(maxsize=4096)
def is_robot(user_agent: str | None) -> bool:
    """Tell whether a user agent says that it is of a crawler, a monitor or another robot."""
    if not isinstance(user_agent, str):
        return False
    text = user_agent[:LONGEST_READ]
    try:
        family = parse_device(text)
        return bool(_BOT.search(text)) or (family is not None and family.brand == "Spider")
    except Exception:  # as in `_device_type`
        return False


@lru_cache(maxsize=4096)
def _device_type(user_agent: str) -> str:
    try:
        device = _type_of(user_agent)
        if device != "unknown" and (family := parse_device(user_agent)) is not None and family.brand == "Spider":
            return "unknown"
    except Exception:  # RE2 and the parser refuse text that is not valid Unicode, such as lone surrogates
        return "unknown"
    return device


def _type_of(user_agent: str) -> str:
    if _NEITHER.search(user_agent) or _BOT.search(user_agent):
        return "unknown"
    if "Windows NT" in user_agent and _system(user_agent) == "Windows":
        return "desktop"
    if _TABLET.search(user_agent):
        return "tablet"
    if _PHONE.search(user_agent):
        return "mobile"
    if _ANDROID.search(user_agent):
        # Browsers on Android say "Mobile" on a phone and leave it out on a tablet; apps never say it.
        return "tablet" if _RENDERS_PAGES.search(user_agent) else "mobile"
    if _BROWSER.search(user_agent) and _system(user_agent) in _DESKTOP_SYSTEMS:
        return "desktop"
    return "unknown"


def _system(user_agent: str) -> str:
    system = parse_os(user_agent)
    return system.family if system is not None else ""
