"""One address begins no more new profiles in a minute than it may; only what was stored counts."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from folds import TwiceFolded
from support import Api, Clock, Server, data, error, identify, of, page

from ninetailed_wsgi.core.names import Environment, Key
from ninetailed_wsgi.errors import RateLimited, StoreUnavailable
from ninetailed_wsgi.service.access import Terms
from ninetailed_wsgi.service.new_profiles import Allowance, NewProfiles
from ninetailed_wsgi.service.service import ExperienceService
from ninetailed_wsgi.store import identity
from ninetailed_wsgi.store.disk.store import DiskStore
from ninetailed_wsgi.store.protocol import Fold, Store, StoreEntry

WHERE = Environment("org", "main")
ADDRESS = "192.0.2.1"


@pytest.fixture
def make_guarded(make_server: Callable[..., Server], tmp_path: Path) -> Callable[..., Server]:
    """Makes a guarded server that holds every fold to its promise, whatever runs it."""

    def make(**options: Any) -> Server:
        clock = Clock()
        store = TwiceFolded(DiskStore(tmp_path / "store", shards=2, timeout=0.2, clock=clock))
        options |= {"access": "guarded", "environments": ["org/main"], "new_id": lambda: secrets.token_hex(32)}
        return make_server(store=store, clock=clock, **options)

    return make


def create(api: Api, address: str = ADDRESS) -> Any:
    return api.send("/profiles", {"events": [page()]}, remote_addr=address)


def test_a_profile_too_many_is_429_and_nothing_of_it_is_stored(make_guarded: Callable[..., Server]) -> None:
    server = make_guarded(new_profiles_per_minute=2)
    api = server.environment(environment="main")
    first = data(create(api))["profile"]
    data(create(api))
    before = len(list(server.store.documents()))

    refused = create(api)

    assert error(refused, 429) == "ERR_PROFILE_OVERLOAD"
    assert 0 < int(refused.headers["retry-after"]) <= 60
    assert ADDRESS not in refused.text
    assert len(list(server.store.documents())) == before
    data(create(api, "192.0.2.2"))
    for _ in range(3):  # who has a profile goes on
        data(api.send(f"/profiles/{first['id']}", {"events": [page()]}, remote_addr=ADDRESS))


@pytest.mark.parametrize("name", ["none", "never stored", "a user id", "of another user"])
@pytest.mark.parametrize("claimed", ["by nobody", "by somebody unverified"])
def test_nothing_remains_of_a_login_that_is_one_profile_too_many(
    make_guarded: Callable[..., Server], name: str, claimed: str
) -> None:
    server = make_guarded()
    service, limits = server.service, Allowance(NewProfiles(0), ADDRESS)
    if claimed == "by somebody unverified":  # by the name alone, as before this mode
        service.upsert(WHERE, None, {"events": [identify("anna")]})
    bert = service.upsert(WHERE, None, {"events": [identify("bert")]}, terms=Terms(True))["profile"]["id"]
    names = {"none": None, "never stored": service.new_id(WHERE), "a user id": "carla", "of another user": bert}
    before = dict(server.store.documents())

    for event in (identify("anna", {"plan": "pro"}), identify("dora")):
        with pytest.raises(RateLimited):
            service.upsert(WHERE, names[name], {"events": [event]}, terms=Terms(True, limits))

    assert dict(server.store.documents()) == before


def test_a_login_with_an_id_that_was_never_stored_is_a_new_profile(make_guarded: Callable[..., Server]) -> None:
    service, counted = make_guarded().service, NewProfiles(2)
    for user_id in ("anna", "bert"):
        terms = Terms(True, Allowance(counted, ADDRESS))
        service.upsert(WHERE, service.new_id(WHERE), {"events": [identify(user_id)]}, terms=terms)
    with pytest.raises(RateLimited):
        service.upsert(WHERE, None, {"events": [page()]}, terms=Terms(True, Allowance(counted, ADDRESS)))


def test_a_preflight_and_an_update_use_up_nothing(make_guarded: Callable[..., Server]) -> None:
    api = make_guarded(new_profiles_per_minute=2).environment(environment="main")
    own = data(create(api))["profile"]["id"]
    for _ in range(3):
        data(api.send("/profiles?type=preflight", {"events": [page()]}, remote_addr=ADDRESS))
        data(api.send(f"/profiles/{own}", {"events": [page()]}, remote_addr=ADDRESS))
    data(create(api))
    assert error(create(api), 429) == "ERR_PROFILE_OVERLOAD"


def test_what_a_store_did_not_accept_does_not_count(
    make_guarded: Callable[..., Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = make_guarded(new_profiles_per_minute=1)
    api = server.environment(environment="main")

    def unavailable(keys: Sequence[Key], fold: Fold[Any]) -> Any:
        for key in keys:
            fold(key, StoreEntry(None, 0, list))
        raise StoreUnavailable("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(server.store, "update", unavailable, raising=False)
        for _ in range(3):
            assert create(api).status_code == 503
    data(create(api))
    assert create(api).status_code == 429


def test_addresses_of_one_ipv6_network_count_as_one_and_each_minute_begins_anew() -> None:
    now = [0.0]
    counted = NewProfiles(1, clock=lambda: now[0])
    Allowance(counted, "2001:db8:1:2::1").count(1)
    assert not Allowance(counted, "2001:db8:1:2:ffff::1").has_room()
    assert Allowance(counted, "2001:db8:1:3::1").has_room()
    now[0] = 59.9
    assert counted.refusal().retry_after == 1
    now[0] = 60.0
    assert Allowance(counted, "2001:db8:1:2::1").has_room()
    Allowance(counted, None).count(1)
    assert not Allowance(counted, None).has_room()


def test_profiles_begun_at_the_same_time_are_all_counted() -> None:
    counted = NewProfiles(100, clock=lambda: 0.0)
    threads = [threading.Thread(target=lambda: [counted.count(ADDRESS, 1) for _ in range(25)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not counted.has_room(ADDRESS)


def test_guarded_folds_decide_the_same_when_they_run_again(make_guarded: Callable[..., Server]) -> None:
    service = make_guarded().service
    name = service.new_id(WHERE)
    limits = Allowance(NewProfiles(10), ADDRESS)
    for events in ([page()], [identify("anna", {"plan": "pro"}), page()], [identify("bert")], [page("/again")]):
        answer = service.upsert(WHERE, name, {"events": events}, terms=Terms(True, limits))
        name = answer["profile"]["id"]
    batch = [of("anna", page()), of("carla", identify("carla", {"plan": "free"})), of("dora", identify("anna"))]
    profiles = service.upsert_many(WHERE, {"events": batch}, guarded=True)
    assert [each["traits"].get("plan") for each in profiles][:2] == ["pro", "free"]


def test_a_login_that_another_one_overtakes_deletes_nothing_but_the_id_that_nobody_was_told(
    make_guarded: Callable[..., Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    service, other = make_guarded().service, make_guarded().service  # as two workers
    before = service.upsert(WHERE, None, {"events": [page()]}, terms=Terms(True))["profile"]
    merge, overtaking = identity.merge, iter(["once"])

    def log_in(service: ExperienceService) -> Any:
        terms = Terms(True, address=ADDRESS)
        return service.upsert(WHERE, before["id"], {"events": [identify("anna")]}, terms=terms)["profile"]

    def overtaken(store: Store, source: Key, target: Key, until: int | None = None) -> Key:
        merge(store, source, target, until)
        for _ in overtaking:  # the login of another tab, before this one knows what its merge came to
            log_in(other)
        return identity.resolve(store, source).key

    monkeypatch.setattr(identity, "merge", overtaken)
    after = log_in(service)
    assert after["stableId"] == before["stableId"]
    assert service.get(WHERE, "anna")["profile"]["id"] == after["id"]
    assert len(service.record(WHERE, "anna", events=True)["events"]) == 3
