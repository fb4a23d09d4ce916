"""When a request is all there: heads, bodies of stated length, chunks, and what is refused anyway."""

from __future__ import annotations

import pytest

from ninetailed_wsgi.server.arrival import LONGEST_FIELD, LONGEST_REQUEST_LINE, MOST_FIELDS, Arrival

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


@pytest.mark.parametrize("before", [b"", b"\r\n"])
def test_a_request_line_is_whole_once_it_is_too_long_and_not_before(before: bytes) -> None:
    longest = before + b"GET /".ljust(LONGEST_REQUEST_LINE, b"a")
    assert not Arrival(100, longest + b"\r\n").is_whole()
    assert not Arrival(100, longest + b"\r\nX: " + b"x" * (LONGEST_FIELD - 3)).is_whole()
    assert not Arrival(100, longest).is_whole()
    assert Arrival(100, longest + b"aaa").is_whole()


@pytest.mark.parametrize("step", [1, 7, 100_000])
@pytest.mark.parametrize(
    ("rest", "first"),
    [
        (b"X: ".ljust(LONGEST_FIELD + 100, b"x"), LONGEST_FIELD + 3),
        (b"X: ".ljust(LONGEST_FIELD + 1, b"x") + b"\r\nY: 1\r\n", LONGEST_FIELD + 3),
        (b"X: 1\r\n" * (MOST_FIELDS + 5), 6 * MOST_FIELDS + 3),
    ],
    ids=["a field without an end", "a field that is too long", "too many fields"],
)
def test_fields_without_an_end_are_whole_at_gunicorns_limits_and_end_there(rest: bytes, first: int, step: int) -> None:
    line = b"GET / HTTP/1.1\r\n"
    arrival = Arrival(100)
    for begin in range(0, len(line + rest), step):
        arrival.data += (line + rest)[begin : begin + step]
        if arrival.is_whole():
            break
    assert arrival.is_whole()
    assert arrival.data.endswith(b"\r\n\r\n")
    assert step > 1 or len(arrival.data) == len(line) + first + 4


def test_as_many_fields_as_gunicorn_takes_are_waited_for() -> None:
    fields = b"GET / HTTP/1.1\r\n" + b"X: ".ljust(LONGEST_FIELD, b"x") + b"\r\n" + b"X: 1\r\n" * (MOST_FIELDS - 1)
    assert wholes(fields) == []
    assert wholes(fields + b"\r\n") == [len(fields) + 2]


@pytest.mark.parametrize(
    "rest", [b"5;name=" + b"x" * LONGEST_FIELD, b"0\r\nX: " + b"x" * LONGEST_FIELD, b"0\r\n" + b"X: 1\r\n" * 2000]
)
def test_what_stands_beside_chunks_without_an_end_is_whole_and_ends_the_connection(rest: bytes) -> None:
    arrival = Arrival(1 << 20, CHUNKED + rest)
    assert arrival.is_whole()
    assert arrival.is_too_long


@pytest.mark.parametrize(("value", "leave"), [(b"100-continue", True), (b"100-Continue", True), (b"else", False)])
def test_a_sender_that_waits_for_leave_is_noticed(value: bytes, leave: bool) -> None:
    arrival = Arrival(100, HEAD + b"Content-Length: 5\r\nExpect: " + value + b"\r\n\r\n")
    assert not arrival.is_whole()
    assert arrival.expects_leave is leave
