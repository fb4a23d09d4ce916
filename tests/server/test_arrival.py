"""When a request is all there: heads, bodies of stated length, chunks, and what is refused anyway."""

from __future__ import annotations

import pytest

from ninetailed_wsgi.server.arrival import LONGEST_REQUEST_LINE, Arrival

HEAD = b"POST / HTTP/1.1\r\nHost: a\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"


def wholes(text: bytes, longest: int = 100) -> list[int]:
    """After how many bytes, sent one by one, the request is whole for the first time; empty: never."""
    arrival = Arrival(longest)
    for number, byte in enumerate(text, start=1):
        arrival.data.append(byte)
        if arrival.is_whole():
            return [number]
    return []


@pytest.mark.parametrize(
    "text",
    [
        HEAD + b"\r\n",
        HEAD + b"Content-Length: 0\r\n\r\n",
        HEAD + b"Content-Length: 5\r\n\r\n12345",
        HEAD + b"content-length:5\r\n\r\n12345",
        CHUNKED + b"0\r\n\r\n",
        CHUNKED + b"5\r\n12345\r\n0\r\n\r\n",
        CHUNKED + b"5;name=value\r\n12345\r\n3\r\n\r\n0\r\n0\r\nTrailer: a\r\n\r\n",
        CHUNKED + b"2\r\n0\r\r\n000\r\n\r\n",
    ],
)
def test_a_request_is_whole_with_its_last_byte_and_not_before(text: bytes) -> None:
    assert wholes(text) == [len(text)]
    arrival = Arrival(100, text + b"GET / HTTP/1.1\r\n")
    assert arrival.is_whole()
    assert not arrival.is_too_long


@pytest.mark.parametrize("text", [HEAD, HEAD + b"Content-Length: 5\r\n\r\n1234", CHUNKED + b"5\r\n12345\r\n"])
def test_a_part_of_a_request_is_not_whole(text: bytes) -> None:
    assert wholes(text) == []


def test_a_body_that_says_it_is_too_long_is_not_waited_for() -> None:
    arrival = Arrival(100, HEAD + b"Content-Length: 101\r\n\r\n")
    assert arrival.is_whole()
    assert arrival.is_too_long
    assert Arrival(100, HEAD + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n").is_whole()


@pytest.mark.parametrize("chunks", [b"65\r\n" + b"x" * 101, b"60\r\n" + b"x" * 96 + b"\r\n60\r\nxxxxx"])
def test_chunks_that_are_too_long_are_whole_once_there_is_a_byte_too_much(chunks: bytes) -> None:
    text = CHUNKED + chunks
    assert wholes(text) == [len(text)]


def test_what_is_no_chunk_and_what_never_ends_is_whole_so_that_it_is_refused() -> None:
    assert Arrival(100, CHUNKED + b"zz\r\n").is_whole()
    assert Arrival(100, CHUNKED + b"1\r\nx\r\n" * 200_000).is_whole()
    assert Arrival(100, b"GET / HTTP/1.1\r\nX: " + b"x" * (1 << 20)).is_whole()


@pytest.mark.parametrize("before", [b"", b"\r\n"])
def test_a_request_line_is_whole_once_it_is_too_long_and_not_before(before: bytes) -> None:
    longest = before + b"GET /".ljust(LONGEST_REQUEST_LINE, b"a")
    assert not Arrival(100, longest + b"\r\n").is_whole()
    assert not Arrival(100, longest + b"\r\nX: " + b"x" * LONGEST_REQUEST_LINE).is_whole()
    assert not Arrival(100, longest).is_whole()
    assert Arrival(100, longest + b"aaa").is_whole()


@pytest.mark.parametrize(("value", "leave"), [(b"100-continue", True), (b"100-Continue", True), (b"else", False)])
def test_a_sender_that_waits_for_leave_is_noticed(value: bytes, leave: bool) -> None:
    arrival = Arrival(100, HEAD + b"Content-Length: 5\r\nExpect: " + value + b"\r\n\r\n")
    assert not arrival.is_whole()
    assert arrival.expects_leave is leave
