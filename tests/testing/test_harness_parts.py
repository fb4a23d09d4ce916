"""What the harness puts in place of a part does all that the part does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ninetailed_wsgi.errors import SettingsError
from ninetailed_wsgi.testing import Harness, audience, trait

GEO = Path(__file__).parents[2] / "fixtures" / "geo" / "demo.mmdb"


class Places:
    """An object with a look-up and nothing else."""

    def lookup(self, ip: str, locale: str) -> tuple[dict[str, Any], dict[str, Any]]:
        return {"city": "Berlin"}, {"city": "Berlin"}


@pytest.mark.parametrize(
    "location",
    [None, {"203.0.113.0/24": "Berlin, DE"}, Places(), GEO],
    ids=["no location", "a dict", "an object with a look-up", "a database"],
)
def test_metrics_are_served_wherever_locations_come_from(location: Any) -> None:
    with Harness(audience_of_customers(), metrics=True, location=location) as harness:
        harness.visitor("anna").views("/")
        scrape = harness.client.call("GET", "/metrics")
        version = harness.catalog.version

    assert scrape.status == 200
    text = scrape.body.decode()
    assert f'ninetailed_content_info{{environment="default/main",version="{version}"}} 1.0' in text
    assert "ninetailed_content_errors 0.0" in text
    assert 'ninetailed_events_applied_total{environment="default/main",type="page"}' in text
    assert ("ninetailed_location_database_refused 0.0" in text) == (location is GEO)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("bind", "127.0.0.1:0"),
        ("workers", 8),
        ("threads", 8),
        ("log_format", "json"),
        ("store", "redis://127.0.0.1"),
        ("store_wait_replicas", 1),
        ("import_queue", 5),
        ("import_queue_bytes", 1 << 20),
        ("profile_concurrency", 1),
    ],
)
def test_an_option_that_a_harness_would_ignore_is_refused(option: str, value: object) -> None:
    with pytest.raises(SettingsError, match=f"^{option}: .*Harness") as refusal:
        Harness(**{option: value})

    assert len(refusal.value.problems) == 1


def test_a_misspelled_option_of_a_harness_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(SettingsError, match="max_body_byte: no such option; did you mean max_body_bytes"):
        Harness(max_body_byte=5)


def audience_of_customers() -> list[dict[str, Any]]:
    return [audience(trait("plan", "pro"), id="customers")]
