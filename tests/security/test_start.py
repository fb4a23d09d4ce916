"""A start says who may do what, and is refused where the files that decide it cannot be used."""

from __future__ import annotations

from pathlib import Path

import pytest

from ninetailed_wsgi import Settings
from ninetailed_wsgi.server.checks import check_access


@pytest.mark.parametrize(
    ("bind", "access", "status", "text"),
    [
        ("127.0.0.1:0", "", "ok", "open, for loopback hosts"),
        ("[::1]:0", "", "ok", "open, for loopback hosts"),
        ("localhost:0", "guarded", "ok", "guarded"),
        ("0.0.0.0:0", "", "ok", "guarded"),
        ("[::]:0", "", "ok", "guarded"),
        ("0.0.0.0:0", "open", "warn", "delete every profile"),
    ],
)
def test_the_mode_is_that_of_the_place_and_an_open_network_is_warned_of(
    bind: str, access: str, status: str, text: str
) -> None:
    finding = check_access(Settings(bind=bind, access=access))
    assert finding.status == status
    assert text in finding.text


def test_missing_keys_and_a_short_secret_refuse_the_start(tmp_path: Path) -> None:
    assert "ninetailed-wsgi key new" in check_access(Settings(keys_file=tmp_path / "keys.json")).text
    (tmp_path / "secret").write_text("short")
    finding = check_access(Settings(identity_secret_file=tmp_path / "secret"))
    assert (finding.status, "32 bytes" in finding.text) == ("fail", True)
