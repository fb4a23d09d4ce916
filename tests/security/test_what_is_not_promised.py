"""Where the promises of docs/security.md end, as the page says."""

from __future__ import annotations

from typing import Any

import pytest
from support import identify, page

from ninetailed_wsgi.core.ids import PageIds
from ninetailed_wsgi.errors import ProfileNotFound
from ninetailed_wsgi.service.access import Terms
from ninetailed_wsgi.testing import Harness


@pytest.mark.parametrize("protected", [(), ("company",)])
def test_a_private_trait_may_be_overwritten_unless_it_is_protected(protected: tuple[str, ...]) -> None:
    with Harness(access="guarded", private_traits=["company"], protected_traits=[*protected]) as harness:
        key = {"Authorization": f"Bearer {harness.key()}"}
        set_ = harness.client.post("/profiles", {"events": [identify("", {"company": "ours"})]}, headers=key)
        id = set_.document["data"]["profile"]["id"]
        answer = harness.client.post(f"/profiles/{id}", {"events": [identify("", {"company": "theirs"})]})
        assert answer.document["data"]["profile"]["traits"] == {}
        stored = harness.client.get(f"/profiles/{id}", headers=key).document["data"]["profile"]["traits"]
        assert stored == {"company": "ours" if protected else "theirs"}


def test_an_id_that_a_batch_identifies_keeps_leading_to_its_profile() -> None:
    with Harness(access="guarded") as harness:
        key = {"Authorization": f"Bearer {harness.key()}"}
        id = harness.client.post("/profiles", {"events": [page()]}).document["data"]["profile"]["id"]
        batch = {"events": [{**identify("anna", {"plan": "pro"}), "anonymousId": id}]}
        assert harness.client.post("/events", batch, headers=key).status == 200
        harness.clock.advance(seconds=61)
        assert harness.client.get(f"/profiles/{id}").document["data"]["profile"]["traits"] == {"plan": "pro"}


@pytest.mark.parametrize("site", ["same-origin", ""])
def test_a_page_that_rebinds_its_name_is_a_stranger(site: str) -> None:
    with Harness(access="guarded", metrics=True) as harness:
        key = {"Authorization": f"Bearer {harness.key()}"}
        body: dict[str, Any] = {"events": [identify("anna", {"company": "x"})]}
        own = harness.client.post("/profiles", body, headers=key).document["data"]["profile"]
        rebound = {"Host": "evil.example", "Origin": "http://evil.example"}
        rebound |= {"Sec-Fetch-Site": site} if site else {}
        for method, path, status in (
            ("GET", "/profiles/anna", 404),
            ("DELETE", "/profiles/anna", 401),
            ("DELETE", f"/profiles/{own['id']}", 401),
            ("GET", f"/profiles/{own['id']}/explain", 401),
            ("GET", "/preview/entries", 401),
        ):
            assert harness.client.call(method, harness.client.prefix + path, headers=rebound).status == status, path
        assert harness.client.call("GET", "/metrics", headers=rebound).status == 401
        assert harness.client.call("GET", "/openapi.json", headers=rebound).status == 401
        created = harness.client.post("/profiles", body, headers=rebound)
        assert created.headers["x-ninetailed-identity"] == "unverified"
        assert created.document["data"]["profile"]["id"] != own["id"]
        assert "access-control-allow-origin" not in created.headers


@pytest.mark.parametrize("before", [[], [page()]], ids=["login alone", "page, then login"])
def test_an_id_that_a_page_made_leads_to_the_user_for_a_minute_at_most(before: list[Any]) -> None:
    with Harness(access="guarded") as harness:
        service, where, terms = harness.service, harness.environment, Terms(guarded=True)
        anna = service.upsert(where, None, {"events": [identify("anna", {"plan": "pro"})]}, terms=terms)["profile"]
        ids = PageIds()
        made = service.new_ids(where, ids).profile()  # in the cookie before the answer, where that is late
        login: dict[str, Any] = {"events": [*before, identify("anna")]}
        assert service.upsert(where, None, login, ids=ids, terms=terms)["profile"]["id"] == anna["id"]
        harness.clock.advance(seconds=61)
        with pytest.raises(ProfileNotFound):
            service.get(where, made, guarded=True)
        begun = service.upsert(where, made, {"events": [page()]}, terms=terms)["profile"]
        assert begun["id"] != anna["id"]
        assert begun["traits"] == {}
