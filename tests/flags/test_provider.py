"""The provider for the OpenFeature SDK, in the same process: every type of value, reasons, errors, events, tracking."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from queue import Queue
from typing import Any

import orjson
import pytest
from openfeature import api
from openfeature.client import OpenFeatureClient
from openfeature.evaluation_context import EvaluationContext
from openfeature.event import EventDetails, ProviderEvent, ProviderEventDetails
from openfeature.exception import ErrorCode
from openfeature.flag_evaluation import Reason
from openfeature.track import TrackingEventDetails

from ninetailed_wsgi import Settings
from ninetailed_wsgi.content.folder import ContentFolder
from ninetailed_wsgi.errors import SettingsError, StoreUnavailable
from ninetailed_wsgi.openfeature import NinetailedProvider
from ninetailed_wsgi.service.service import ExperienceService
from ninetailed_wsgi.testing import Harness, flag
from tests.flags.conftest import PRO

ANNA = EvaluationContext("anna")


@pytest.fixture
def provider(ninetailed: Harness) -> NinetailedProvider:
    return NinetailedProvider(ninetailed.service, watch_seconds=0)


@pytest.fixture
def client(provider: NinetailedProvider) -> Iterator[OpenFeatureClient]:
    api.set_provider_and_wait(provider)
    yield api.get_client()
    api.clear_providers()


# What the specification's evaluation features describe: each type by value and in detail, the context, two errors


@pytest.mark.parametrize(
    ("method", "key", "default", "value"),
    [
        ("boolean", "checkout", False, True),
        ("string", "banner", "", "sale"),
        ("integer", "limit", 1, 25),
        ("float", "ratio", 0.0, 0.5),
        ("object", "layout", {}, {"columns": 3}),
    ],
)
def test_a_flag_of_each_type_has_its_value(
    client: OpenFeatureClient, method: str, key: str, default: Any, value: Any
) -> None:
    pro = EvaluationContext("anna", {"plan": "pro"})
    assert getattr(client, f"get_{method}_value")(key, default, pro) == value


@pytest.mark.parametrize(
    ("method", "key", "default", "variant", "reason"),
    [
        ("boolean", "checkout", False, "for-pro:1", Reason.TARGETING_MATCH),
        ("string", "banner", "", "everyone:1", Reason.STATIC),
        ("integer", "limit", 1, "half:1", Reason.SPLIT),
        ("float", "ratio", 0.0, "ratio:1", Reason.STATIC),
        ("object", "layout", {}, "layout:1", Reason.STATIC),
    ],
)
def test_the_details_of_each_type_say_variant_and_reason(
    client: OpenFeatureClient, method: str, key: str, default: Any, variant: str, reason: Reason
) -> None:
    details = getattr(client, f"get_{method}_details")(key, default, EvaluationContext("anna", {"plan": "pro"}))
    assert (details.variant, details.reason, details.error_code) == (variant, reason, None)
    assert details.flag_metadata["experienceId"] == variant.partition(":")[0]


def test_what_a_caller_does_with_an_object_changes_nobodys_flag(client: OpenFeatureClient) -> None:
    value: Any = client.get_object_value("layout", {}, ANNA)
    value["columns"] = 99
    assert client.get_object_value("layout", {}, ANNA) == {"columns": 3}


def test_the_context_decides_and_without_it_the_default_serves(client: OpenFeatureClient) -> None:
    assert client.get_boolean_value("checkout", False, EvaluationContext("anna", {"plan": "pro"})) is True
    details = client.get_boolean_details("checkout", False, ANNA)
    assert (details.value, details.reason, details.error_code) == (False, Reason.UNKNOWN, None)


def test_a_flag_that_no_content_has_gives_the_default_and_its_error(client: OpenFeatureClient) -> None:
    details = client.get_string_details("nothing", "fallback", ANNA)
    assert (details.value, details.reason, details.error_code) == ("fallback", Reason.ERROR, ErrorCode.FLAG_NOT_FOUND)
    assert "nothing" in (details.error_message or "")


@pytest.mark.parametrize(
    ("method", "key", "default"),
    [
        ("integer", "banner", 13),
        ("boolean", "banner", True),
        ("float", "banner", 1.5),
        ("object", "banner", {"a": 1}),
        ("string", "limit", "x"),
        ("integer", "ratio", 7),
        ("object", "limit", [1]),
        ("string", "layout", "x"),
        ("boolean", "limit", False),
        ("integer", "checkout", 3),
        ("float", "checkout", 0.5),
    ],
)
def test_a_flag_of_another_type_gives_the_default_and_its_error(
    client: OpenFeatureClient, method: str, key: str, default: Any
) -> None:
    details = getattr(client, f"get_{method}_details")(key, default, EvaluationContext("anna", {"plan": "pro"}))
    assert (details.value, details.reason, details.error_code) == (default, Reason.ERROR, ErrorCode.TYPE_MISMATCH)


def test_a_whole_number_is_a_float_and_a_float_without_a_fraction_an_integer(
    ninetailed: Harness, client: OpenFeatureClient
) -> None:
    ninetailed.publish(flag("size", control=1, variants=[5.0]))
    assert client.get_integer_value("size", 0, ANNA) == 5
    value = client.get_float_value("limit", 0.0, ANNA)
    assert (value, type(value)) == (25.0, float)


# What is ours


NAMELESS = [None, EvaluationContext(), EvaluationContext(""), EvaluationContext(None, {"plan": "pro"})]


@pytest.mark.parametrize("context", NAMELESS)
def test_without_a_targeting_key_the_default_serves_with_that_reason(
    client: OpenFeatureClient, context: EvaluationContext | None
) -> None:
    details = client.get_string_details("banner", "fallback", context)
    assert (details.value, details.reason, details.error_code) == ("fallback", Reason.DEFAULT, None)


def test_an_evaluation_stores_nothing(ninetailed: Harness, client: OpenFeatureClient) -> None:
    client.get_string_value("banner", "", EvaluationContext("nobody", {"plan": "pro"}))
    assert ninetailed.events == []
    assert ninetailed.client.get("/profiles/nobody").status == 404


def test_attributes_that_are_no_json_do_not_fail(client: OpenFeatureClient) -> None:
    strange: Any = {"plan": "pro", "when": object(), "set": {1}}
    assert client.get_boolean_value("checkout", False, EvaluationContext("anna", strange)) is True


def test_tracking_stores_a_track_event_with_value_and_attributes(
    ninetailed: Harness, client: OpenFeatureClient
) -> None:
    client.track("ordered", ANNA, TrackingEventDetails(12.5, {"sku": "tea"}))
    (captured,) = ninetailed.events
    assert (captured.event["type"], captured.event["event"]) == ("track", "ordered")
    assert captured.event["properties"] == {"sku": "tea", "value": 12.5}
    assert ninetailed.client.get("/profiles/anna").status == 200


def test_tracking_without_a_targeting_key_stores_nothing(ninetailed: Harness, client: OpenFeatureClient) -> None:
    client.track("ordered", EvaluationContext(), TrackingEventDetails(1))
    assert ninetailed.events == []


Told = list[tuple[ProviderEvent, ProviderEventDetails]]


@pytest.fixture
def told(provider: NinetailedProvider) -> Told:
    """What the provider tells the SDK, in order."""
    events: Told = []
    provider.initialize(EvaluationContext())
    provider.attach(lambda _, event, details: events.append((event, details)))
    return events


def test_changed_content_is_told_once_with_its_flags(
    ninetailed: Harness, provider: NinetailedProvider, told: Told
) -> None:
    provider.observe()
    assert told == []
    ninetailed.publish(flag("new", control=0, variants=[1], audience=PRO))
    provider.observe()
    provider.observe()
    ((event, details),) = told
    assert event is ProviderEvent.PROVIDER_CONFIGURATION_CHANGED
    assert details.flags_changed == ["banner", "checkout", "layout", "limit", "new", "ratio"]


def test_a_store_that_cannot_serve_is_an_error_until_it_can(
    ninetailed: Harness, provider: NinetailedProvider, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise StoreUnavailable("the disk is gone")

    with monkeypatch.context() as broken:
        broken.setattr(ninetailed.service, "check", fail)
        provider.observe()
        provider.observe()
    provider.observe()
    assert [event for event, _ in told] == [ProviderEvent.PROVIDER_ERROR, ProviderEvent.PROVIDER_READY]


def test_content_with_an_error_makes_the_flags_stale(tmp_path: Path) -> None:
    path = tmp_path / "content.json"
    path.write_bytes(orjson.dumps({"experiences": [flag("banner", control="none", variants=["sale"])]}))
    source = ContentFolder(path)
    source.load()
    with Harness() as harness:
        service = ExperienceService(store=harness.service.store, content=source)  # a harness publishes no errors
        provider = NinetailedProvider(service, watch_seconds=0)
        events: Told = []
        provider.initialize(EvaluationContext())
        provider.attach(lambda _, event, details: events.append((event, details)))
        path.write_bytes(b"{")
        source.look()
        provider.observe()
        assert [event for event, _ in events] == [ProviderEvent.PROVIDER_STALE]
        assert provider.resolve_string_details("banner", "", ANNA).value == "sale"


def test_a_handler_of_a_site_hears_of_changed_content_by_itself(ninetailed: Harness) -> None:
    heard: Queue[EventDetails] = Queue()
    api.set_provider_and_wait(NinetailedProvider(ninetailed.service, watch_seconds=0.01))
    try:
        api.add_handler(ProviderEvent.PROVIDER_CONFIGURATION_CHANGED, heard.put)
        ninetailed.publish(flag("new", control=0, variants=[1]))
        assert "new" in (heard.get(timeout=60).flags_changed or ())
    finally:
        api.shutdown()


def test_a_provider_of_settings_opens_a_service_of_its_own(tmp_path: Path) -> None:
    content = {"experiences": [flag("banner", control="none", variants=["sale"])], "audiences": []}
    path = tmp_path / "content.json"
    path.write_bytes(orjson.dumps(content))
    provider = NinetailedProvider(Settings(data_dir=tmp_path / "data", content=path), watch_seconds=0)
    assert provider.resolve_string_details("banner", "", ANNA).value == "sale"
    with pytest.raises(SettingsError):
        NinetailedProvider(Settings(data_dir=tmp_path / "data", content=tmp_path / "none.json"))


# Exposures


def exposures_of(ninetailed: Harness, name: str) -> dict[str, Any]:
    kept = ninetailed.service.record(ninetailed.environment, name)["exposures"]
    return {id: next(iter(phases.values())) for id, phases in kept.items()}


def test_an_evaluation_exposes_a_known_visitor_once_where_the_site_says_so(ninetailed: Harness) -> None:
    ninetailed.visitor("anna").views("/")
    plain, counting = (
        NinetailedProvider(ninetailed.service, watch_seconds=0, exposures=exposures) for exposures in ("seen", "served")
    )
    assert plain.resolve_integer_details("limit", 1, ANNA).value == 25
    assert exposures_of(ninetailed, "anna") == {}
    assert counting.resolve_integer_details("limit", 1, ANNA).value == 25
    first = exposures_of(ninetailed, "anna")
    assert {id: (entry["index"], entry["how"]) for id, entry in first.items()} == {"half": (1, "served")}
    ninetailed.clock.advance(days=1)
    counting.resolve_integer_details("limit", 1, ANNA)
    assert exposures_of(ninetailed, "anna") == first


def test_an_evaluation_makes_nobody_and_a_store_that_fails_takes_no_flag_away(
    ninetailed: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider = NinetailedProvider(ninetailed.service, watch_seconds=0, exposures="served")
    assert provider.resolve_integer_details("limit", 1, EvaluationContext("nobody")).value == 25
    assert ninetailed.client.get("/profiles/nobody").status == 404

    def fail(*_: object) -> None:
        raise StoreUnavailable("gone")

    ninetailed.visitor("anna").views("/")
    monkeypatch.setattr(ninetailed.service.store, "update", fail)
    assert provider.resolve_integer_details("limit", 1, ANNA).value == 25


def test_exposures_are_seen_or_served(ninetailed: Harness) -> None:
    with pytest.raises(SettingsError, match="exposures: found 'yes', expected seen or served"):
        NinetailedProvider(ninetailed.service, exposures="yes")


@pytest.mark.parametrize(
    ("context", "code"),
    [
        (EvaluationContext(7), ErrorCode.INVALID_CONTEXT),  # type: ignore[arg-type]
        (EvaluationContext("anna", {"note": "\ud800"}), ErrorCode.INVALID_CONTEXT),
    ],
)
def test_a_context_that_cannot_be_used_gives_the_default_and_its_error(
    client: OpenFeatureClient, context: EvaluationContext, code: ErrorCode
) -> None:
    details = client.get_string_details("banner", "fallback", context)
    assert (details.value, details.error_code) == ("fallback", code)


@pytest.mark.parametrize(
    ("target", "note"),
    [("anna", "\ud800"), (7, "")],
)
def test_an_event_that_cannot_be_stored_fails_no_page(
    client: OpenFeatureClient, caplog: pytest.LogCaptureFixture, target: Any, note: str
) -> None:
    client.track("ordered", EvaluationContext(target), TrackingEventDetails(attributes={"note": note}))
    assert "an event was not stored" in caplog.text
