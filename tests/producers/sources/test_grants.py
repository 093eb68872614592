"""Grants: which client or source is which sender, and what it may report on."""

from __future__ import annotations

from typing import Any

import pytest

from producers.sources.grants import Grant, Grants
from schemas.sections.inputs import GrantSettings, InputSettings

TOKEN, OTHER = "a-token-of-one-sender", "a-token-of-another-one"


def grants_of(**grants: dict[str, Any]) -> Grants:
    """Grants as written in the settings."""
    return Grants(InputSettings.model_validate({"grants": grants}))


def name_of(grant: Grant | None) -> str:
    """The grant's name, "" for none."""
    return grant.name if grant is not None else ""


def test_without_devices_a_grant_is_for_the_device_of_its_name() -> None:
    """An endpoint reports on itself and on nothing else; letter case does not matter in a DeviceId."""
    grant = Grant.of("ws-1", GrantSettings(sources=("x",)))

    assert [device for device in ("ws-1", "WS-1", "ws-10", "aws-1", "ws-1\n", "") if grant.allows(device)] == [
        "ws-1",
        "WS-1",
    ]
    assert grant.only == "ws-1"


def test_devices_are_patterns() -> None:
    """Several devices, some of them by pattern; a dot in a pattern is a dot."""
    grant = Grant.of("lab", GrantSettings(sources=("x",), devices=("WS-*", "srv-1.", "db[12]", "a.b")))

    devices = ["ws-", "ws-7", "srv-1", "srv-11", "db1", "db3", "a.b", "axb", "x"]
    assert [device for device in devices if grant.allows(device)] == ["ws-", "ws-7", "srv-1", "db1", "a.b"]
    assert grant.only == ""
    assert Grant.of("tap", GrantSettings(sources=("x",), devices=("*",))).only == ""


def test_a_token_names_the_sender() -> None:
    """Each token has its grant; an unknown one, a part of one and none at all have none."""
    grants = grants_of(one={"token": TOKEN}, two={"token": OTHER})

    assert [name_of(grants.for_client(token=token)) for token in (TOKEN, OTHER, TOKEN[:-1], "é", "\udc80", "")] == [
        "one", "two", "", "", "", "",
    ]  # fmt: skip


def test_all_conditions_must_hold() -> None:
    """A stolen token is of no use from another network, nor a certificate without the token."""
    grants = grants_of(one={"token": TOKEN, "addresses": ["10.1.0.0/16"], "certificates": ["ws-1.example", "ws-1"]})

    def name(token: str, names: tuple[str, ...], address: str) -> str:
        return name_of(grants.for_client(token=token, certificate_names=names, address=address))

    assert name(TOKEN, ("ws-1",), "10.1.2.3") == "one"
    assert name(TOKEN, ("other", "ws-1.example"), "::ffff:10.1.2.3") == "one"
    assert name("", ("ws-1",), "10.1.2.3") == ""
    assert name(TOKEN, (), "10.1.2.3") == ""
    assert name(TOKEN, ("WS-1", "ws-1.example.net"), "10.1.2.3") == ""
    assert name(TOKEN, ("ws-1",), "10.2.0.1") == ""
    assert name(TOKEN, ("ws-1",), "") == ""


def test_an_unknown_token_matches_no_grant_without_token() -> None:
    """A client with a wrong token is refused, so that the mistake is seen, even where its address alone would do."""
    grants = grants_of(net={"addresses": ["10.0.0.0/8"]}, one={"token": TOKEN})

    assert name_of(grants.for_client(address="10.0.0.1")) == "net"
    assert name_of(grants.for_client(token=TOKEN, address="10.0.0.1")) == "one"
    assert grants.for_client(token=OTHER, address="10.0.0.1") is None


def test_the_more_certain_grant_goes_first_then_the_first_written() -> None:
    """A certificate proves more than an address; of two networks that of the first grant counts."""
    grants = grants_of(
        wide={"addresses": ["10.0.0.0/8"]},
        narrow={"addresses": ["10.1.0.0/16"]},
        shown={"certificates": ["ws-1"]},
    )

    assert name_of(grants.for_client(certificate_names=["ws-1"], address="10.1.0.1")) == "shown"
    assert name_of(grants.for_client(certificate_names=["ws-2"], address="10.1.0.1")) == "wide"
    assert grants.for_client(address="192.0.2.1") is None


@pytest.mark.parametrize(
    ("written", "address"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.0/120", "192.0.2.7"),
        ("192.0.2.0/24", "::ffff:192.0.2.7"),
        ("2001:db8::/32", "2001:db8::7"),
        ("fe80::/10", "fe80::1%eth0"),
    ],
)
def test_addresses_in_any_spelling(written: str, address: str) -> None:
    """IPv4-mapped IPv6 is IPv4, on both sides."""
    grants = grants_of(one={"addresses": [written]})

    assert name_of(grants.for_client(address=address)) == "one"
    assert grants.for_client(address="198.51.100.1") is None
    assert grants.for_client(address="2001:db9::1") is None


def test_sources_are_for_files_and_topics() -> None:
    """A source that no grant names is unrestricted; a grant of a source is for no client."""
    grants = grants_of(
        proxy={"sources": ["/var/log/squid/*.log", "-"], "devices": ["*"]},
        topic={"sources": ["kafka://broker:9092/ws-1.*"]},
    )

    paths = ["/var/log/squid/access.log", "-", "kafka://broker:9092/ws-1.telemetry", "/var/log/other.log"]
    assert [name_of(grants.for_source(path)) for path in paths] == ["proxy", "proxy", "topic", ""]
    assert not grants.has_clients(certificates=True)
    assert grants.for_client(address="10.0.0.1") is None


def test_without_grants_nothing_is_known() -> None:
    """No client may send, and files are unrestricted."""
    grants = grants_of()

    assert (grants.for_client(token=TOKEN), grants.for_source("x")) == (None, None)
    assert not grants.has_clients(certificates=True)


def test_a_grant_by_certificate_needs_certificates() -> None:
    """Where none is asked for, such a grant lets no client send."""
    grants = grants_of(one={"token": TOKEN, "certificates": ["ws-1"]})

    assert [grants.has_clients(certificates=verified) for verified in (True, False)] == [True, False]
    assert grants_of(one={"token": TOKEN}).has_clients(certificates=False)
