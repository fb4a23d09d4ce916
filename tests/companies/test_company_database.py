"""Companies by a local database, in the service, the harness, a site and explanations."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from mmdb_writer import MMDBWriter
from netaddr import IPSet

from ninetailed_wsgi import Settings
from ninetailed_wsgi.authoring import audience, experience, merge_tag, trait
from ninetailed_wsgi.enrichment.company_database import CompanyDatabase
from ninetailed_wsgi.errors import SettingsError
from ninetailed_wsgi.server.checks import check_all
from ninetailed_wsgi.service import explanation
from ninetailed_wsgi.testing import Companies, Harness

GEO = Path(__file__).parent.parent.parent / "fixtures" / "geo"
COMPANY = GEO / "company.mmdb"
ACME = {"name": "Acme", "domain": "acme.example", "asn": 64500, "kind": "business"}
NETWORKS = {"203.0.113.0/24": "Acme", "198.51.100.0/24": {"albacross": {"name": "Umbrella", "country": "Germany"}}}


def database(tmp_path: Path, record: dict[str, Any], type: str = "Test-ISP") -> CompanyDatabase:
    writer = MMDBWriter(ip_version=6, ipv4_compatible=True, database_type=type, languages=["en"])
    writer.insert_network(IPSet(["192.0.2.0/24"]), record)
    writer.to_db_file(str(tmp_path / "test.mmdb"))
    return CompanyDatabase(tmp_path / "test.mmdb")


# The file


@pytest.mark.parametrize(
    ("address", "company"),
    [
        ("192.0.2.7", ACME),
        ("::ffff:192.0.2.7", ACME),
        ("2001:db8::1", ACME),
        ("198.51.100.7", {"name": "Example Telecom", "asn": 64501}),
        ("203.0.113.7", {"name": "Umbrella", "domain": "umbrella.example", "asn": 64502, "kind": "hosting"}),
        ("8.8.8.8", {}),
        ("unix", {}),
        ("", {}),
        ("1" * 1000, {}),
    ],
)
def test_an_address_has_a_company(address: str, company: dict[str, Any]) -> None:
    assert CompanyDatabase(COMPANY).company(address) == company


@pytest.mark.parametrize(
    ("record", "company"),
    [
        ({"isp": "I", "organization": "O", "autonomous_system_organization": "A"}, {"name": "O"}),
        ({"isp": "I", "autonomous_system_organization": "A"}, {"name": "A"}),
        ({"isp": "I"}, {"name": "I"}),
        ({"organization": ""}, {}),
        ({"organization": 5, "autonomous_system_number": "x", "asn": "AS12"}, {"asn": 12}),
        ({"organization": "x" * 1000}, {"name": "x" * 256}),
        ({"traits": "text", "name": "N"}, {"name": "N"}),
    ],
    ids=str,
)
def test_each_form_of_record_is_read(record: dict[str, Any], company: dict[str, Any], tmp_path: Path) -> None:
    assert database(tmp_path, record).company("192.0.2.1") == company


@pytest.mark.parametrize(
    "type",
    [
        "GeoIP2-ISP",
        "GeoLite2-ASN",
        "GeoIP2-Enterprise",
        "DBIP-ASN-Lite (compat=GeoLite2-ASN)",
        "ipinfo standard_asn.mmdb",
    ],
)
def test_databases_of_that_form_are_taken(type: str, tmp_path: Path) -> None:
    assert database(tmp_path, {"organization": "Acme"}, type).company("192.0.2.1") == {"name": "Acme"}


def test_a_database_of_another_type_is_refused() -> None:
    with pytest.raises(SettingsError, match=r'company_database: .*Demo-City"; expected an ISP, ASN or Enterprise'):
        CompanyDatabase(GEO / "demo.mmdb")


@pytest.mark.parametrize("content", [b"", b"no database", COMPANY.read_bytes()[:-100]], ids=["empty", "text", "cut"])
def test_a_damaged_file_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.mmdb").write_bytes(content)
    with pytest.raises(SettingsError, match=r"company_database: .*damaged or not a MaxMind database"):
        CompanyDatabase(tmp_path / "x.mmdb")


def test_a_new_file_is_taken_and_a_broken_one_is_not(tmp_path: Path) -> None:
    shutil.copy(COMPANY, tmp_path / "c.mmdb")
    source = CompanyDatabase(tmp_path / "c.mmdb")
    (tmp_path / "new").write_bytes(b"broken")
    (tmp_path / "new").rename(tmp_path / "c.mmdb")
    source.look()
    assert source.company("192.0.2.7") == ACME
    database(tmp_path, {"organization": "Other"})
    (tmp_path / "test.mmdb").rename(tmp_path / "c.mmdb")
    source.look()
    assert source.company("192.0.2.7") == {"name": "Other"}


# Decisions


def test_rules_and_merge_tags_read_companies() -> None:
    content = [
        experience("hero", ["hero-b2b"], audience=audience(trait("company.kind", "business"), id="business")),
        experience("note", ["note-germany"], audience=audience(trait("albacross.country", "Germany"), id="german")),
        merge_tag("traits.company.name", fallback="your company"),
    ]
    networks = {"192.0.2.0/24": ACME, **NETWORKS}
    with Harness(content, companies=networks) as harness:
        acme = harness.visitor().from_address("192.0.2.7").views("/")
        umbrella = harness.visitor().from_address("198.51.100.7").views("/")
        nobody = harness.visitor().from_address("8.8.8.8").views("/")
        assert [one.variant("hero") for one in (acme, umbrella, nobody)] == ["hero-b2b", "hero", "hero"]
        assert [one.variant("note") for one in (acme, umbrella, nobody)] == ["note", "note-germany", "note"]
        assert acme.traits == {"company": ACME}


def test_a_company_stays_where_the_next_network_has_none() -> None:
    with Harness(companies=NETWORKS) as harness:
        visitor = harness.visitor().from_address("203.0.113.7").views("/")
        assert visitor.from_address("8.8.8.8").views("/").traits == {"company": {"name": "Acme"}}
        assert visitor.from_address("198.51.100.7").views("/").traits == {
            "company": {"name": "Acme"},
            "albacross": {"name": "Umbrella", "country": "Germany"},
        }


def test_a_company_that_the_site_knows_is_not_replaced() -> None:
    with Harness(companies=NETWORKS) as harness:
        visitor = harness.visitor().from_address("203.0.113.7").identifies(company="Wayne Enterprises")
        assert visitor.views("/").traits == {"company": "Wayne Enterprises"}
        assert harness.explain(visitor)["enriched"] == {}
        other = harness.visitor().from_address("203.0.113.7").views("/").identifies(company="Wayne Enterprises")
        assert other.views("/").traits == {"company": "Wayne Enterprises"}


def test_an_explanation_says_where_companies_come_from() -> None:
    content = [audience(trait("company.name", "Acme"), id="acme")]
    with Harness(
        content, companies={**NETWORKS, "192.0.2.0/24": {"company": ACME, "albacross": {"name": "A\x1b[31m"}}}
    ) as harness:
        visitor = harness.visitor().from_address("192.0.2.7").views("/")
        explained = harness.explain(visitor)
        assert explained["enriched"] == {"company": "the company database", "albacross": "Albacross"}
        assert explained["audiences"][0]["groups"][0]["rules"][0]["found"] == "Acme"
        text = explanation.text(explained)
        assert 'trait company is from the company database: {"name": "Acme"' in text
        assert 'trait albacross is from Albacross: {"name": "A\\u001b[31m"}' in text


def test_a_merge_keeps_companies_and_their_origin() -> None:
    with Harness(companies=NETWORKS) as harness:
        first = harness.visitor().from_address("203.0.113.7").identifies("anna")
        harness.clock.advance(minutes=1)
        second = harness.visitor().from_address("198.51.100.7").views("/").identifies("anna")
        assert second.traits == {"company": {"name": "Acme"}, "albacross": {"name": "Umbrella", "country": "Germany"}}
        assert harness.explain(first)["enriched"] == {"company": "the company database", "albacross": "Albacross"}


def test_companies_beyond_the_limit_of_traits_are_left_out() -> None:
    with Harness(companies={"203.0.113.0/24": {"name": "x" * 300}}, max_traits_bytes=200) as harness:
        visitor = harness.visitor().from_address("203.0.113.7").identifies(plan="pro")
        assert visitor.traits == {"plan": "pro"}


def test_an_event_sent_again_changes_nothing() -> None:
    with Harness(companies={"203.0.113.7": "Acme", "203.0.113.8": "Other"}) as harness:
        visitor = harness.visitor("anna").from_address("203.0.113.7").views("/")
        body = {"events": [harness.events[0].event], "options": {"features": ["ip-enrichment"]}}
        answer = harness.client.post("/profiles/anna", body, address="203.0.113.8")
        assert answer.document["data"]["profile"]["traits"] == visitor.traits == {"company": {"name": "Acme"}}


def test_a_preflight_with_a_database_answers_the_same() -> None:
    with Harness(companies=NETWORKS) as harness:
        harness.visitor("anna").from_address("8.8.8.8").views("/")
        body = {
            "events": [{**harness.events[0].event, "messageId": "another"}],
            "options": {"features": ["ip-enrichment"]},
        }
        answer = harness.client.post("/profiles/anna?type=preflight", body, address="203.0.113.7")
        assert answer.document["data"]["profile"]["traits"] == {"company": {"name": "Acme"}}
        assert harness.client.get("/profiles/anna").document["data"]["profile"]["traits"] == {}


# In a site


@pytest.mark.parametrize("consents", [True, False], ids=["with consent", "without consent"])
def test_a_page_knows_the_company_of_a_visitor_who_consents(consents: bool) -> None:
    shown = []

    def page(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        visitor = environ["ninetailed.visitor"]
        visitor.page()
        shown.append(visitor.variant("hero"))
        start_response("200 OK", [])
        return [b""]

    content = [experience("hero", ["hero-acme"], audience=audience(trait("company.name", "Acme"), id="acme"))]
    with Harness(content, companies=NETWORKS) as harness:
        site = harness.mount(page, consent=lambda environ: consents)
        environ = {
            "PATH_INFO": "/",
            "REQUEST_METHOD": "GET",
            "HTTP_HOST": "shop.example",
            "wsgi.url_scheme": "https",
            "REMOTE_ADDR": "203.0.113.7",
        }
        assert list(site(environ, lambda *_: None)) == [b""]
    assert shown == ["hero-acme" if consents else "hero"]


def test_visitors_of_a_guarded_service_are_not_shown_their_company() -> None:
    content = [experience("hero", ["hero-acme"], audience=audience(trait("company.name", "Acme"), id="acme"))]
    with Harness(content, companies=NETWORKS, access="guarded") as harness:
        visitor = harness.visitor().from_address("203.0.113.7").views("/")
        assert visitor.variant("hero") == "hero-acme"
        assert visitor.traits == {}


# The harness


@pytest.fixture
def ninetailed_companies() -> dict[str, str]:
    return {"203.0.113.0/24": "Acme"}


def test_the_fixture_gives_companies(ninetailed: Harness) -> None:
    assert ninetailed.visitor().from_address("203.0.113.7").views("/").traits == {"company": {"name": "Acme"}}


def test_a_harness_takes_the_path_of_a_database() -> None:
    for options in ({"companies": COMPANY}, {"company_database": COMPANY}):
        with Harness(**options) as harness:  # type: ignore[arg-type]
            assert harness.visitor().from_address("192.0.2.7").views("/").traits == {"company": ACME}


def test_slips_in_companies_are_named_all_at_once() -> None:
    with pytest.raises(
        ValueError, match=r"'x': .*\n'10\.0\.0\.0/8': found 5, expected the name of a company.*\n'::1': alb"
    ):
        Companies({"x": "Acme", "10.0.0.0/8": 5, "::1": {"albacross": 5}})  # type: ignore[dict-item]


# Checks


def test_a_check_says_which_companies_are_known(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("k")
    lines = [
        str(finding)
        for finding in check_all(Settings(company_database=COMPANY, albacross_key_file=key, data_dir=tmp_path / "d"))
    ]
    line = next(line for line in lines if "companies" in line)
    assert "ninetailed-wsgi-Demo-Enterprise, built 2026-01-01" in line
    assert "Albacross at https://reveal.api.albacross.com" in line
    key.write_text("")
    lines = [str(finding) for finding in check_all(Settings(albacross_key_file=key, data_dir=tmp_path / "d"))]
    assert any(line.startswith("fail  companies") for line in lines)
    assert json.dumps("k") not in "".join(lines)
