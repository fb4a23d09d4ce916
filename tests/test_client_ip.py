from __future__ import annotations

from typing import Any

import pytest

from ninetailed_wsgi.enrichment.client_ip import MOST_HOPS, ClientAddress

NOBODY = ClientAddress(())
PROXIES = ClientAddress(("10.0.0.0/8", "192.0.2.1", "fd00::/8"))
UNIX = ClientAddress(("unix", "10.0.0.0/8"))

PROXY = "10.0.0.1"
VISITOR = "203.0.113.7"


def behind_proxy(listed: str | None = None, forwarded: str | None = None, remote: str = PROXY) -> dict[str, Any]:
    environ = {"REMOTE_ADDR": remote}
    if listed is not None:
        environ["HTTP_X_FORWARDED_FOR"] = listed
    if forwarded is not None:
        environ["HTTP_FORWARDED"] = forwarded
    return environ


# Without proxies


@pytest.mark.parametrize(
    ("remote", "expected"),
    [
        ("203.0.113.7", "203.0.113.7"),
        (" 203.0.113.7 ", "203.0.113.7"),
        ("2001:DB8:0:0::7", "2001:db8::7"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("::FFFF:cb00:7107", "203.0.113.7"),
        ("fe80::1%eth0", "fe80::1"),
        ("127.0.0.1", "127.0.0.1"),
        ("::1", "::1"),
        ("", None),
        (" ", None),
        ("localhost", None),
        ("/run/app.sock", None),
        ("203.0.113.7:80", None),
        ("[::1]", None),
        ("203.0.113.07", None),
        ("３.3.3.3", None),
        ("203.0.113.7\0", None),
        ("1" * 100_000, None),
        ("::1%" + "x" * 100_000, None),
        (None, None),
        (b"203.0.113.7", None),
    ],
)
def test_the_peer_of_the_connection_is_the_visitor(remote: Any, expected: str | None) -> None:
    assert NOBODY.of({"REMOTE_ADDR": remote}) == expected


def test_a_request_that_names_no_peer_has_no_address() -> None:
    assert NOBODY.of({}) is None
    assert PROXIES.of({}) is None
    assert UNIX.of({}) is None


def test_forwarding_headers_are_not_believed_without_trusted_proxies() -> None:
    environ = behind_proxy("198.51.100.1", "for=198.51.100.2")

    assert NOBODY.of(environ) == PROXY


# X-Force-IP


@pytest.mark.parametrize(
    ("forced", "expected"),
    [
        ("198.51.100.9", "198.51.100.9"),
        ("  198.51.100.9\t", "198.51.100.9"),
        ("2001:0db8::0009", "2001:db8::9"),
        ("::ffff:198.51.100.9", "198.51.100.9"),
        ("fe80::1%eth0", "fe80::1"),
    ],
)
def test_a_forced_address_wins_over_everything_else(forced: str, expected: str) -> None:
    environ = {**behind_proxy(VISITOR), "HTTP_X_FORCE_IP": forced}

    assert PROXIES.of(environ) == expected
    assert NOBODY.of(environ) == expected
    assert NOBODY.of({"HTTP_X_FORCE_IP": forced}) == expected


@pytest.mark.parametrize(
    "forced",
    [
        "",
        " ",
        "rubbish",
        "198.51.100.9:80",
        "[2001:db8::9]",
        "198.51.100.9, 198.51.100.8",
        "198.51.100",
        "\ud800",
        "9" * 9999,
    ],
)
def test_a_forced_address_that_is_not_one_valid_address_is_ignored(forced: str) -> None:
    environ = {**behind_proxy(VISITOR), "HTTP_X_FORCE_IP": forced}

    assert PROXIES.of(environ) == VISITOR
    assert NOBODY.of(environ) == PROXY


# X-Forwarded-For


@pytest.mark.parametrize(
    ("listed", "expected"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("198.51.100.66, 203.0.113.7", "203.0.113.7"),
        ("198.51.100.66, 203.0.113.7, 10.1.2.3", "203.0.113.7"),
        ("203.0.113.7,192.0.2.1,10.1.2.3", "203.0.113.7"),
        ("203.0.113.7, fd00::5", "203.0.113.7"),
        ("203.0.113.7, ::ffff:10.9.9.9", "203.0.113.7"),
        ("203.0.113.7, [fd00::5]:443", "203.0.113.7"),
        ("203.0.113.7, 192.0.2.2", "192.0.2.2"),
        ("203.0.113.7:51234", "203.0.113.7"),
        ("[2001:db8::7]:51234", "2001:db8::7"),
        ("[2001:db8::7]", "2001:db8::7"),
        ("2001:DB8::7", "2001:db8::7"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("203.0.113.7, unknown", "203.0.113.7"),
        ("203.0.113.7, , ,, rubbish, 10.1.2.3", "203.0.113.7"),
        ("203.0.113.7, 999.1.1.1, [::1, ]:80, 1.2.3.4.5:80", "203.0.113.7"),
        ("10.9.9.9, 10.1.2.3", "10.9.9.9"),
        ("rubbish, 10.9.9.9, 10.1.2.3", "10.9.9.9"),
        ("", PROXY),
        ("rubbish, unknown", PROXY),
        (",,,,", PROXY),
    ],
)
def test_behind_trusted_proxies_the_visitor_is_the_right_most_address_that_is_not_trusted(
    listed: str, expected: str
) -> None:
    assert PROXIES.of(behind_proxy(listed)) == expected


def test_a_peer_that_is_not_trusted_is_the_visitor_whatever_it_forwards() -> None:
    assert PROXIES.of(behind_proxy("198.51.100.1", "for=198.51.100.2", remote=VISITOR)) == VISITOR


def test_a_trusted_peer_that_forwards_nothing_is_the_visitor_itself() -> None:
    assert PROXIES.of(behind_proxy()) == PROXY


def test_a_trusted_peer_is_recognised_as_ipv4_inside_ipv6_as_well() -> None:
    assert PROXIES.of(behind_proxy(VISITOR, remote="::ffff:10.0.0.1")) == VISITOR
    assert ClientAddress(["::ffff:10.0.0.0/104"]).of(behind_proxy(VISITOR)) == VISITOR


def test_no_more_than_the_last_hops_are_read() -> None:
    assert PROXIES.of(behind_proxy(VISITOR + ", 10.1.2.3" * (MOST_HOPS - 1))) == VISITOR
    assert PROXIES.of(behind_proxy(VISITOR + ", 10.1.2.3" * MOST_HOPS)) == "10.1.2.3"


@pytest.mark.parametrize("padding", range(12))
def test_a_header_too_long_to_read_whole_is_not_cut_through_an_address(padding: int) -> None:
    listed = "198.51.100.222" + "," * padding + " " * (8180 - padding) + ",10.1.2.3"

    assert PROXIES.of(behind_proxy(listed)) in {"198.51.100.222", "10.1.2.3"}


# Unix sockets


@pytest.mark.parametrize("remote", [{}, {"REMOTE_ADDR": ""}, {"REMOTE_ADDR": None}])
def test_a_proxy_on_a_unix_socket_is_believed_where_the_setting_says_unix(remote: dict[str, Any]) -> None:
    environ = {**remote, "HTTP_X_FORWARDED_FOR": "203.0.113.7, 10.1.2.3"}

    assert UNIX.of(environ) == VISITOR
    assert PROXIES.of(environ) is None
    assert NOBODY.of(environ) is None


def test_the_word_unix_alone_trusts_no_address() -> None:
    only_unix = ClientAddress(["unix"])

    assert only_unix.of(behind_proxy(VISITOR)) == PROXY
    assert only_unix.of({"HTTP_X_FORWARDED_FOR": f"{VISITOR}, 10.1.2.3"}) == "10.1.2.3"


def test_a_peer_that_is_rubbish_is_no_unix_socket() -> None:
    assert UNIX.of(behind_proxy(VISITOR, remote="rubbish")) is None


# Forwarded (RFC 7239)


@pytest.mark.parametrize(
    ("forwarded", "expected"),
    [
        ("for=203.0.113.7", "203.0.113.7"),
        ("For=203.0.113.7;proto=https;by=10.0.0.1", "203.0.113.7"),
        ("proto=https ; FOR = 203.0.113.7", "203.0.113.7"),
        ("for=198.51.100.66, for=203.0.113.7, for=10.1.2.3", "203.0.113.7"),
        ('for="203.0.113.7:51234"', "203.0.113.7"),
        ('for="[2001:db8:cafe::17]:4711"', "2001:db8:cafe::17"),
        ('for="[2001:db8:cafe::17]"', "2001:db8:cafe::17"),
        ('for="203.0.113.7:_port"', "203.0.113.7"),
        (r'for="203\.0.113.7"', "203.0.113.7"),
        ("for=203.0.113.7, for=_hidden, for=unknown, by=10.1.2.3", "203.0.113.7"),
        ('for=203.0.113.7;host="a, for=198.51.100.66"', "203.0.113.7"),
        ('for=203.0.113.7;host="a; for=198.51.100.66"', "203.0.113.7"),
        (r'for=203.0.113.7;host="a\", for=198.51.100.66"', "203.0.113.7"),
        ('for=", for=203.0.113.7', "203.0.113.7"),
        ('for=", for="203.0.113.7:80"', "203.0.113.7"),
        ("for=203.0.113.7, rubbish, ;;;, =, for=, for", "203.0.113.7"),
        ("before=198.51.100.66;for=203.0.113.7", "203.0.113.7"),
        ("for=10.9.9.9, for=10.1.2.3", "10.9.9.9"),
        ("", PROXY),
        ('"', PROXY),
        ("for=_hidden", PROXY),
    ],
)
def test_the_standard_header_is_read_like_the_usual_one(forwarded: str, expected: str) -> None:
    assert PROXIES.of(behind_proxy(forwarded=forwarded)) == expected


def test_the_standard_header_is_read_only_where_the_usual_one_is_absent() -> None:
    assert PROXIES.of(behind_proxy(VISITOR, "for=198.51.100.66")) == VISITOR
    assert PROXIES.of(behind_proxy("rubbish", "for=198.51.100.66")) == PROXY


@pytest.mark.parametrize(
    "text", ["", '"', "\\", '\\"', ",", ";", "=", "for=", "[", "]:", ":", "%", "\ud800", "\0", "1."]
)
@pytest.mark.parametrize("times", [1, 3, 50_000])
def test_no_header_raises(text: str, times: int) -> None:
    rubbish = text * times

    assert PROXIES.of(behind_proxy(rubbish)) == PROXY
    assert PROXIES.of(behind_proxy(forwarded=rubbish)) == PROXY
    assert PROXIES.of(behind_proxy(forwarded=f'for={rubbish}, for="{rubbish}"')) == PROXY
    assert PROXIES.of({"REMOTE_ADDR": PROXY, "HTTP_X_FORCE_IP": rubbish}) == PROXY


# Settings


@pytest.mark.parametrize("text", ["rubbish", "", "10.0.0.0/33", "10.1.2.3/8", "10.0.0", "Unix", "fe80::/129"])
def test_a_trusted_proxy_that_is_none_is_refused_by_name(text: str) -> None:
    with pytest.raises(ValueError, match="trusted proxy") as refusal:
        ClientAddress(["10.0.0.0/8", text])

    assert f'"{text}"' in str(refusal.value)
