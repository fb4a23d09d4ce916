"""The device type of a user agent.

Source: spec section 5, rule type ``device``: ``desktop``, ``mobile``, ``tablet`` or ``unknown``.
ua-parser names families (system, device, bot). This module maps families to the four types;
``fixtures/devices.json`` has real user agents with the expected types.
"""

from __future__ import annotations

from functools import cache, lru_cache
from itertools import takewhile
from typing import Any, NamedTuple

import re2
import ua_parser
from ua_parser.loaders import load_lazy_builtins
from ua_parser.regex import Resolver

# Real user agents have nothing decisive beyond this length; reading more would help an attacker.
LONGEST_READ = 512


def _pattern(text: str, *, case_sensitive: bool = True) -> Any:
    """Compile for RE2: 200 unusual user agents took 120 ms with `re`, which tries every word at every position."""
    options = re2.Options()
    options.case_sensitive = case_sensitive
    options.never_capture = True
    return re2.compile(text, options)


# Neither mobile nor desktop: televisions, consoles, watches, headsets and cars, some of which claim a system such as
# Windows or Android. AFT... are models of the Fire TV, SM-R... are Samsung's watches.
_NEITHER = _pattern(
    r"\bTV\b|SmartTV|Smart-TV|SmartHub|HbbTV|AndroidTV|GoogleTV|AppleTV|Apple TV|NetCast|Web0S|BRAVIA|CrKey|Roku"
    r"|\bAFT[A-Z]|PlayStation|Xbox|Nintendo|\bWatch\b|\bSM-R\d|OculusBrowser|\bQuest \d|Tesla/|Automotive",
    case_sensitive=False,
)
# Crawlers that ua-parser does not know, some of which imitate a phone. CUBOT is a manufacturer of phones.
_BOT = _pattern(
    r"(?:(?:^|[^u]|[^c]u)bots?|spiders?|crawlers?)(?:[^a-z]|$)|(?-i:(?:(?:^|[^u])Bot|Spider|Crawler)[A-Z])",
    case_sensitive=False,
)
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


class _Parsers(NamedTuple):
    """The parts of ua-parser that are loaded: all of it would take another 22 MB and a fifth of a second.

    Attributes:
        first: knows systems, and the robots that come before every other device in ua-parser's list.
        others: knows the remaining robots.
    """

    first: ua_parser.Parser
    others: ua_parser.Parser


@cache
def _parsers() -> _Parsers:
    _, systems, devices = load_lazy_builtins()
    first = list(takewhile(_names_spiders, devices))
    others = list(filter(_names_spiders, devices[len(first) :]))
    return _Parsers(ua_parser.Parser(Resolver(([], systems, first))), ua_parser.Parser(Resolver(([], [], others))))


def _names_spiders(matcher: Any) -> bool:
    return bool(matcher.brand == "Spider")


def _is_spider(text: str) -> bool:
    """Return whether ua-parser, which returns the first matching device, considers a user agent a robot."""
    first, others = _parsers()
    if first.parse_device(text) is not None:
        return True
    if others.parse_device(text) is None:
        return False
    # A device earlier in the list may match as well. Few user agents get here, so loading the whole list is fine.
    device = ua_parser.parse_device(text)
    return device is not None and device.brand == "Spider"


def device_type(user_agent: str | None) -> str:
    """Return the device type of a user agent, for audience rules of type ``device`` (spec section 5).

    Bots, televisions, consoles, watches, headsets, cars and HTTP libraries are ``unknown``, even if they claim
    another type. Since iPadOS 13, an iPad has the same user agent as a Mac.

    Args:
        user_agent: the text of ``context.userAgent``, of any length and content; ``None`` when there is none.

    Returns:
        ``"desktop"``, ``"mobile"``, ``"tablet"`` or ``"unknown"``. Never raises; the latest 4096 answers are cached.
    """
    if not isinstance(user_agent, str) or not user_agent:
        return "unknown"
    return _device_type(user_agent[:LONGEST_READ])


def compile_patterns() -> None:
    """Compile every pattern in advance, so that no visitor waits for it and forks share the memory."""
    device_type("Mozilla/5.0 (X11; Linux x86_64) Gecko/")


def is_robot(user_agent: str | None) -> bool:
    """Return whether a user agent identifies itself as a crawler, a monitor or another robot."""
    return isinstance(user_agent, str) and _is_robot(user_agent[:LONGEST_READ])


@lru_cache(maxsize=4096)
def _is_robot(user_agent: str) -> bool:
    try:
        return bool(_BOT.search(user_agent)) or _is_spider(user_agent)
    except Exception:  # as in `_device_type`
        return False


@lru_cache(maxsize=4096)
def _device_type(user_agent: str) -> str:
    try:
        device = _type_of(user_agent)
        if device != "unknown" and _is_spider(user_agent):
            return "unknown"
    except Exception:  # RE2 and the parser reject text that is not valid Unicode, such as lone surrogates
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
        # Browsers on Android send "Mobile" on a phone and omit it on a tablet; apps never send it.
        return "tablet" if _RENDERS_PAGES.search(user_agent) else "mobile"
    if _BROWSER.search(user_agent) and _system(user_agent) in _DESKTOP_SYSTEMS:
        return "desktop"
    return "unknown"


def _system(user_agent: str) -> str:
    system = _parsers().first.parse_os(user_agent)
    return system.family if system is not None else ""
