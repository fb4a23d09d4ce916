"""The command ``preview-link``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from ninetailed_wsgi.commands.main import main
from ninetailed_wsgi.core.preview import Overrides
from ninetailed_wsgi.service.identity_tokens import IdentityTokens
from ninetailed_wsgi.site.previews import Previews

SHOP = str(Path(__file__).parents[2] / "fixtures" / "spaces" / "shop.json")
SECRET = b"0123456789abcdef0123456789abcdef"


@pytest.fixture
def options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    secret = tmp_path / "secret"
    secret.write_bytes(SECRET)
    monkeypatch.chdir(tmp_path)
    return ["--content", SHOP, "--identity-secret-file", str(secret)]


def overrides_of(url: str, organization: str = "default", environment: str = "main") -> dict[str, Any]:
    (token,) = parse_qs(urlsplit(url).query)["nt_preview"]
    content = IdentityTokens((SECRET,)).read("preview-link", organization, environment, token)
    assert content is not None
    return content


def test_a_link_has_every_override_that_was_typed(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    typed = ["--experience", "pricing-offer=1", "--audience", "members=on", "--audience", "big-spenders=off"]
    typed += ["--trait", "plan=pro", "--trait", "age=5", "--trait", "a=b=c", "--at", "2026-12-24T18:00:00Z"]
    assert main(["preview-link", "https://shop.example/pricing?x=1#top", *typed, *options]) == 0
    printed = capsys.readouterr().out.strip()
    url = urlsplit(printed)
    assert (url.netloc, url.path, url.fragment) == ("shop.example", "/pricing", "top")
    assert overrides_of(printed) == {
        "experiences": {"pricing-offer": 1},
        "audiences": {"members": True, "big-spenders": False},
        "traits": {"plan": "pro", "age": 5, "a": "b=c"},
        "at": 1_798_135_200_000,
    }
    assert Previews(IdentityTokens((SECRET,)), "default", "main").link(printed, Overrides.of(overrides_of(printed)))
    assert list(Path.cwd().iterdir()) == [Path.cwd() / "secret"], "nothing is written"


def test_a_link_is_for_the_environment_that_was_typed_or_the_only_one(
    options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["preview-link", "https://shop.example/", "--for", "acme/test", *options]) == 0
    assert overrides_of(capsys.readouterr().out, "acme", "test") == {}
    assert main(["preview-link", "https://shop.example/", "--environments", "acme/live", *options]) == 0
    assert overrides_of(capsys.readouterr().out, "acme", "live") == {}


def test_a_link_to_the_draft_names_what_the_draft_has(
    options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    draft = tmp_path / "draft.json"
    draft.write_text(json.dumps({"audiences": [{"id": "soon", "name": "Soon", "rules": {}}], "experiences": []}))
    typed = ["preview-link", "https://shop.example/", "--audience", "soon=on", *options]
    assert main(typed) == 1
    assert 'preview.audiences: found "soon", expected the id of a published audience' in capsys.readouterr().err
    assert main([*typed, "--draft"]) == 2
    assert "name the draft with --draft-content" in capsys.readouterr().err
    assert main([*typed, "--draft", "--draft-content", str(draft)]) == 0
    assert overrides_of(capsys.readouterr().out) == {"audiences": {"soon": True}, "content": "draft"}


@pytest.mark.parametrize(
    ("typed", "status", "told"),
    [
        (["--experience", "no-such=1"], 1, 'found "no-such", expected the id of a published experience'),
        (["--experience", "pricing-offer=7"], 1, "preview.experiences.pricing-offer: found 7, expected 0 to 1"),
        (["--at", "soon"], 1, 'preview.at: found "soon", expected an ISO 8601 time'),
        (["--trait", f"text={'x' * 4000}"], 1, "override fewer traits"),
        (["--for", "acme"], 2, "--for: found 'acme', expected ORGANIZATION/ENVIRONMENT, such as acme/main"),
    ],
)
def test_what_cannot_be_previewed_is_said(
    options: list[str], capsys: pytest.CaptureFixture[str], typed: list[str], status: int, told: str
) -> None:
    assert main(["preview-link", "https://shop.example/", *typed, *options]) == status
    captured = capsys.readouterr()
    assert captured.out == ""
    assert told in captured.err


@pytest.mark.parametrize(
    "typed",
    [
        ["--experience", "hero"],
        ["--experience", "hero=-1"],
        ["--experience", "hero=one"],
        ["--audience", "members=maybe"],
        ["--trait", "plan"],
        ["--hours", "25"],
        ["--hours", "0"],
    ],
)
def test_an_argument_that_means_nothing_is_wrong_usage(
    options: list[str], capsys: pytest.CaptureFixture[str], typed: list[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["preview-link", "https://shop.example/", *typed, *options])
    assert ended.value.code == 2
    assert "found" in capsys.readouterr().err


def test_without_a_secret_or_an_address_the_command_says_what_to_name(
    options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["preview-link", "https://shop.example/", "--content", SHOP]) == 2
    assert "--identity-secret-file FILE or NINETAILED_IDENTITY_SECRET_FILE" in capsys.readouterr().err
    assert main(["preview-link", "/pricing", *options]) == 2
    assert "expected an address that begins with http:// or https://" in capsys.readouterr().err
