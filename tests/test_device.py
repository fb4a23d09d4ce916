from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ua_parser

from ninetailed_wsgi.enrichment import device
from ninetailed_wsgi.enrichment.device import device_type, is_robot

TABLE = Path(__file__).parent.parent / "fixtures" / "devices.json"
CASES: list[dict[str, Any]] = json.loads(TABLE.read_text(encoding="utf-8"))["cases"]


def user_agent_of(case: dict[str, Any]) -> str | None:
    text = case["user_agent"]
    return None if text is None else text * case.get("times", 1) + case.get("then", "")


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_a_user_agent_stands_for_its_device_type(case: dict[str, Any]) -> None:
    assert device_type(user_agent_of(case)) == case["expected"]


def test_the_table_names_each_case_once_and_covers_all_four_types() -> None:
    names = [case["name"] for case in CASES]

    assert len(names) == len(set(names)) >= 60
    assert {case["expected"] for case in CASES} == {"desktop", "mobile", "tablet", "unknown"}


def test_something_that_is_not_text_is_an_unknown_device() -> None:
    assert device_type(["Mozilla/5.0 (iPhone)"]) == "unknown"  # type: ignore[arg-type]


def pieces() -> Iterator[str]:
    real = [text for case in CASES if isinstance(text := case["user_agent"], str)]
    for text in real:
        yield text[: len(text) // 2]
        yield text[len(text) // 2 :]
        yield text.lower()
        yield text[::-1]


def test_any_piece_of_a_user_agent_has_one_of_the_four_types() -> None:
    assert {device_type(piece) for piece in pieces()} <= {"desktop", "mobile", "tablet", "unknown"}


def test_odd_user_agents_cost_about_as_much_as_ordinary_ones() -> None:
    device_type("Mozilla/5.0 (X11; Linux x86_64) Gecko/")  # the first one compiles the parser's patterns
    ordinary = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.0.0 Safari/537.36"
    odd = [
        "x1y2 z;/(" * 200,
        "Mozilla/5.0 (Linux; Android 14; a) " + "Safari/1.0 " * 200,
        "Mozilla/5.0 " + "(a) " * 4000,
    ]

    def seconds(round_: int, *texts: str) -> float:
        new = [f"{text[:20]}{round_} {number} {text[20:]}" for number in range(70) for text in texts]
        started = time.thread_time()
        for text in new:
            device_type(text)
        return time.thread_time() - started

    rounds = [(seconds(number, *odd), seconds(number, *[ordinary] * 3)) for number in range(5)]
    strange, usual = (min(each) for each in zip(*rounds, strict=True))
    assert strange < 5 * usual  # six times as much if all of a text were read, twenty times with `re`


def test_what_stands_behind_512_characters_decides_nothing() -> None:
    assert device_type("Mozilla/5.0 (X11; Linux x86_64) " + "x" * 480 + " iPhone") == "desktop"
    assert device_type("Mozilla/5.0 (X11; Linux x86_64) " + "x" * 470 + " iPhone") == "mobile"


def test_a_robot_is_whom_the_whole_of_ua_parser_takes_for_one() -> None:
    real = [text for case in CASES if isinstance(text := case["user_agent"], str) and text.isascii()]
    # Words of robots, that come before or after those of a device, or decide nothing behind them.
    words = ("", "Yahoo", "Silk", "WhatsApp/2", "Nokia Googlebot-Mobile", "iPhone bot.html", " PTST/1", "PetalBot")
    for agent in (f"{start}{word} {text}"[:512] for text in real for word in words for start in ("", "Mozilla/5.0 ")):
        whole = ua_parser.parse_device(agent)
        assert is_robot(agent) >= (whole is not None and whole.brand == "Spider"), agent
        assert device_type(agent) == "unknown" or whole is None or whole.brand != "Spider", agent


def test_a_user_agent_seen_before_is_not_parsed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    phone = "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) seen-before"
    first = device_type(phone)

    def refuse(_: str) -> None:
        raise AssertionError("parsed again")

    monkeypatch.setattr(device, "_type_of", refuse)

    assert device_type(phone) == first == "mobile"
