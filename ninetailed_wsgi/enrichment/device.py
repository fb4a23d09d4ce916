"""The device type that a user agent stands for.

Source: spec section 5, rule type ``device``: ``desktop``, ``mobile``, ``tablet`` or ``unknown``.
ua-parser names families (system, device, bot); the step from families to the four types is ours, and
``fixtures/devices.json`` is the table of real user agents that holds it.
"""

from __future__ import annotations

import re
from functools import lru_cache

from ua_parser import parse

# Real user agents end below 600 characters; what lies beyond decides nothing and must not cost anything.
LONGEST_READ = 2048

# Neither in a hand nor on a desk: televisions, consoles, watches, headsets and cars, some of which claim a system
# such as Windows or Android. AFT... are the models of the Fire TV, SM-R... Samsung's watches.
_NEITHER = re.compile(
    r"\bTV\b|SmartTV|Smart-TV|SmartHub|HbbTV|AndroidTV|GoogleTV|AppleTV|Apple TV|NetCast|Web0S|BRAVIA|CrKey|Roku"
    r"|\bAFT[A-Z]|PlayStation|Xbox|Nintendo|\bWatch\b|\bSM-R\d|OculusBrowser|\bQuest \d|Tesla/|Automotive",
    re.IGNORECASE,
)
# "Tablet PC" is a component of Windows that desktops announce as well.
_TABLET = re.compile(
    r"\biPad\b|\bTablet\b(?! PC)|PlayBook|TouchPad|Kindle|\bSilk/"
    r"|\bSM-[PTX]\d|\bGT-P\d|\bKF[A-Z]{3}|\bNexus (?:7|9|10)\b|Pixel C\b|\bTB-\w|MediaPad|MatePad|\bPad\b|\bTab\b"
)
_PHONE = re.compile(
    r"\biPhone\b|\biPod\b|\bMobile\b|\bPhone\b|IEMobile|Opera Mini|Opera Mobi|MIDP|Symbian|BlackBerry|\bwebOS/"
)
_ANDROID = re.compile(r"\bAndroid\b|OpenHarmony")
_BROWSER = re.compile(r"Mozilla/|Opera/")
_RENDERS_PAGES = re.compile(r"AppleWebKit/|Gecko/")

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

    Bots, televisions, consoles, watches, headsets, cars and HTTP libraries are ``unknown``, whatever else they claim
    to be. An iPad since iPadOS 13 says that it is a Mac, and nothing in its user agent tells the two apart.

    Args:
        user_agent: the text of ``context.userAgent``, of any length and content; ``None`` when there is none.

    Returns:
        ``"desktop"``, ``"mobile"``, ``"tablet"`` or ``"unknown"``. Never raises; the newest 4096 answers are kept.
    """
    if not isinstance(user_agent, str) or not user_agent:
        return "unknown"
    return _device_type(user_agent[:LONGEST_READ])


@lru_cache(maxsize=4096)
def _device_type(user_agent: str) -> str:
    try:
        families = parse(user_agent)
    except Exception:  # the parser's regex extension refuses text that is not valid Unicode, such as lone surrogates
        return "unknown"
    if families.device is not None and families.device.brand == "Spider":
        return "unknown"
    return _type_of(user_agent, families.os.family if families.os is not None else "")


def _type_of(user_agent: str, system: str) -> str:
    if _NEITHER.search(user_agent):
        return "unknown"
    if system == "Windows" and "Windows NT" in user_agent:
        return "desktop"
    if _TABLET.search(user_agent):
        return "tablet"
    if _PHONE.search(user_agent):
        return "mobile"
    if _ANDROID.search(user_agent):
        # Browsers on Android say "Mobile" on a phone and leave it out on a tablet; apps never say it.
        return "tablet" if _RENDERS_PAGES.search(user_agent) else "mobile"
    if system in _DESKTOP_SYSTEMS and _BROWSER.match(user_agent):
        return "desktop"
    return "unknown"
