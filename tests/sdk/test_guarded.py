"""The official client works unchanged where visitors are not trusted: create, update, login with and without proof."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from ninetailed_wsgi.service.identity_tokens import IdentityTokens
from ninetailed_wsgi.service.keys import changing, new_key
from tests.sdk.client import Sdk
from tests.sdk.test_sdk import built, identify, page
from tests.serving import serving

UUID = "5f0e5c1a-3f0b-4c8e-9d1e-6b1f2a7c9d10"


class Guarded(NamedTuple):
    """A browser's client and a Node server's, of one guarded server; and what makes proofs."""

    browser: Sdk
    node: Sdk
    tokens: IdentityTokens

    def proven(self, user_id: str, **traits: Any) -> dict[str, Any]:
        return identify(user_id, **traits, nt_identity=self.tokens.make(user_id, "acme", "main"))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str, IdentityTokens]]:
    folder: Path = tmp_path_factory.mktemp("guarded")
    secret = folder / "secret"
    secret.write_bytes(b"s" * 32)
    key, entry = new_key("node", ["events", "read"], 0)
    with changing(folder / "keys.json") as keys:
        keys.append(entry)
    options = ["--access", "guarded", "--environments", "acme/main", "--keys-file", str(folder / "keys.json")]
    with serving(folder, *options, "--identity-secret-file", str(secret)) as server:
        yield server.url, key, IdentityTokens.of_file(secret)


@pytest.fixture
def guarded(files: tuple[str, str, IdentityTokens], ask: Callable[[dict[str, Any]], dict[str, Any]]) -> Guarded:
    url, key, tokens = files
    browser = Sdk(ask, url)
    return Guarded(browser, replace(browser, headers={"Authorization": f"Bearer {key}"}), tokens)


def test_a_browser_creates_and_updates_by_the_id_that_it_was_answered(guarded: Guarded) -> None:
    browser = guarded.browser
    id = browser.call("createProfile", page())["profile"]["id"]
    event = built("buildTrackEvent", event="add_to_cart")
    assert browser.call("updateProfile", event, profile_id=id)["profile"]["id"] == id
    assert browser.call("getProfile", profile_id=id)["profile"]["id"] == id


def test_a_preflight_of_a_server_and_the_browser_after_it_speak_of_one_profile(guarded: Guarded) -> None:
    rendered = guarded.node.call("upsertProfile", page(), options={"preflight": True})["profile"]
    real = guarded.browser.call("upsertProfile", page(), profile_id=rendered["id"])["profile"]
    assert (real["id"], real["stableId"]) == (rendered["id"], rendered["stableId"])


def test_an_id_that_a_client_made_up_is_answered_with_one_that_it_keeps(guarded: Guarded) -> None:
    made = guarded.browser.call("upsertProfile", page(), profile_id=UUID)["profile"]
    assert made["id"] != UUID
    assert guarded.browser.call("upsertProfile", page(), profile_id=made["id"])["profile"]["id"] == made["id"]


def test_a_user_id_without_proof_sets_traits_and_no_alias(guarded: Guarded) -> None:
    id = guarded.browser.call("createProfile", page())["profile"]["id"]
    answer = guarded.browser.call("upsertProfile", identify("unproven", plan="pro"), profile_id=id)["profile"]
    assert (answer["id"], answer["traits"]) == (id, {"plan": "pro"})
    assert guarded.node.try_to("getProfile", profile_id="unproven").received[-1]["status"] == 404


def test_a_proof_gives_an_alias_a_new_id_and_the_profile_of_the_other_device(guarded: Guarded) -> None:
    browser = guarded.browser
    before = browser.call("createProfile", page())["profile"]
    laptop = browser.call("upsertProfile", guarded.proven("anna", plan="pro"), profile_id=before["id"])["profile"]
    assert laptop["id"] != before["id"]
    assert laptop["stableId"] == before["stableId"]
    other_tab = browser.call("upsertProfile", page(), profile_id=before["id"])["profile"]
    assert other_tab["id"] == laptop["id"]
    assert guarded.node.call("getProfile", profile_id="anna")["profile"]["id"] == laptop["id"]
    phone = browser.call("createProfile", page())["profile"]["id"]
    joined = browser.call("upsertProfile", guarded.proven("anna"), profile_id=phone)["profile"]
    assert (joined["id"], joined["traits"]) == (laptop["id"], {"plan": "pro"})


def test_a_node_server_with_a_key_identifies_and_reads_by_user_id(guarded: Guarded) -> None:
    made = guarded.node.call("upsertProfile", identify("bert", plan="free"), profile_id="bert")["profile"]
    assert len(made["id"]) == 64
    assert guarded.node.call("getProfile", profile_id="bert")["profile"]["id"] == made["id"]
    assert guarded.browser.try_to("getProfile", profile_id="bert").received[-1]["status"] == 404
