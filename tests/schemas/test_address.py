"""One spelling for each address and host name, so that what is equal compares equal."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import address
from schemas.address import authority as written
from schemas.address import (
    canonical_host,
    canonical_ip,
    host_type,
    ip_type,
    is_ip,
    registrable_domain,
    split_authority,
    split_url,
)
from schemas.events import flow_of


@pytest.mark.parametrize(
    ("written", "canonical"),
    [
        ("2001:0db8:0000:0000:0000:0000:0000:0001", "2001:db8::1"),
        ("2001:DB8::A", "2001:db8::a"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("0000:0000:0000:0000:0000:ffff:c000:0207", "192.0.2.7"),
        ("fe80::1%eth0", "fe80::1"),
        ("192.0.2.7", "192.0.2.7"),
    ],
)
def test_addresses_have_one_spelling(written: str, canonical: str) -> None:
    """IPv6 is shortened, IPv4-mapped IPv6 is IPv4, a zone is left out."""
    assert canonical_ip(written) == canonical


@pytest.mark.parametrize("text", ["", "example.com", "192.0.2", "192.0.2.256", "192.0.2.07", "1234"])
def test_what_is_no_address_is_refused(text: str) -> None:
    """Nothing is guessed into an address."""
    with pytest.raises(ValueError, match="IP"):
        canonical_ip(text)


@given(st.ip_addresses(v=6))
def test_spelling_of_ipv6_does_not_matter(address: ipaddress.IPv6Address) -> None:
    """The long and the short spelling are one."""
    assert canonical_ip(address.exploded) == canonical_ip(address.compressed.upper())


@pytest.mark.parametrize(
    ("written", "canonical"),
    [
        ("WWW.Example.COM.", "www.example.com"),
        (" example.com ", "example.com"),
        ("[2001:DB8::1]", "2001:db8::1"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("_sip._tcp.example.com", "_sip._tcp.example.com"),
        ("192.0.2.7.", "192.0.2.7"),
        ("localhost", "localhost"),
    ],
)
def test_hosts_have_one_spelling(written: str, canonical: str) -> None:
    """Lower case, ASCII, no trailing dot, no brackets."""
    assert canonical_host(written) == canonical


@pytest.mark.parametrize(
    "text",
    ["", " ", ".", "a b", "exa/mple", "192.0.2.999", "12345", "a" * 254, "ü" * 300, "a:b", "ü" * 60 + ".x\0", "0\xad"],
)
def test_what_cannot_be_a_host_is_empty(text: str) -> None:
    """A wrong name is worse than none."""
    assert canonical_host(text) == ""


@given(st.text(max_size=300))
def test_a_canonical_host_stays_as_it_is(text: str) -> None:
    """Whatever comes in, it never raises, and a second time changes nothing."""
    host = canonical_host(text)

    assert canonical_host(host) == host
    assert host.isascii()
    assert len(host) <= 253


@pytest.mark.parametrize(
    ("authority", "default", "found"),
    [
        ("example.com:8443", 0, ("example.com", 8443)),
        ("Example.COM.:443", 0, ("example.com", 443)),
        ("example.com", 80, ("example.com", 80)),
        ("example.com:", 80, ("example.com", 80)),
        ("[2001:db8::1]:443", 0, ("2001:db8::1", 443)),
        ("[2001:db8::1]", 443, ("2001:db8::1", 443)),
        ("example.com:0044300", 0, ("example.com", 44300)),
    ],
)
def test_authority_gives_host_and_port(authority: str, default: int, found: tuple[str, int]) -> None:
    """Host and port as RFC 3986 writes them; the port may be left out where there is a default."""
    assert split_authority(authority, default) == found


@pytest.mark.parametrize("place", ["a.example:443", "192.0.2.1:3128", "[2001:db8::1]:3128"])
def test_authority_is_written_as_it_is_read(place: str) -> None:
    """An IPv6 address stands in brackets."""
    assert written(*split_authority(place, 0)) == place


@pytest.mark.parametrize(
    "authority",
    [
        "",
        "example.com",
        "example.com:",
        "example.com:0",
        "example.com:65536",
        "example.com:99999999",
        "example.com:http",
        "example.com:4\N{SUPERSCRIPT TWO}",
        "example.com:-1",
        "[2001:db8::1",
        "[2001:db8::1]443",
        "2001:db8::1",
        ":443",
    ],
)
def test_unusable_authority_gives_nothing(authority: str) -> None:
    """Neither half is returned if the whole cannot be right."""
    assert split_authority(authority, 0) == ("", 0)


@given(st.text(max_size=60), st.sampled_from([0, 80]))
def test_authority_never_raises(text: str, default: int) -> None:
    """For any input, host and port are both returned or neither is."""
    host, port = split_authority(text, default)

    assert bool(host) == (0 < port < 65_536)


@pytest.mark.parametrize(
    ("host", "domain"),
    [
        ("www.shop.example.co.uk", "example.co.uk"),
        ("example.com", "example.com"),
        ("com", "com"),
        ("localhost", "localhost"),
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8::1", "2001:db8::1"),
    ],
)
def test_registrable_domain(host: str, domain: str) -> None:
    """Public suffix plus one label; an address, or a name without more, is its own."""
    assert registrable_domain(host) == domain


@pytest.mark.parametrize(
    ("ip", "kind"),
    [
        ("8.8.8.8", "Public"),
        ("2600::1", "Public"),
        ("203.0.113.9", "Public"),
        ("2001:db8::1", "Public"),
        ("10.1.2.3", "Private"),
        ("fd00::1", "Private"),
        ("127.0.0.1", "Loopback"),
        ("::1", "Loopback"),
        ("169.254.1.1", "LinkLocal"),
        ("fe80::1", "LinkLocal"),
        ("224.0.0.251", "Multicast"),
        ("0.0.0.0", "Reserved"),
        ("240.0.0.1", "Reserved"),
        ("100.64.0.1", "Reserved"),
        ("", ""),
    ],
)
def test_ip_type(ip: str, kind: str) -> None:
    """The words of Defender's column; documentation addresses stand for public ones."""
    assert ip_type(ip) == kind


@pytest.mark.parametrize(
    ("host", "kind"),
    [
        ("www.example.com", "Public"),
        ("203.0.113.9", "Public"),
        ("10.1.2.3", "Private"),
        ("fd00::1", "Private"),
        ("127.0.0.1", "Loopback"),
        ("localhost", "Loopback"),
        ("app.localhost", "Loopback"),
        ("intranet", "Private"),
        ("printer.local", "Private"),
        ("db.eu.internal", "Private"),
        ("nas.lan", "Private"),
        ("router.home.arpa", "Private"),
        ("home.arpa", "Private"),
        ("wiki.corp", "Private"),
        ("local.example.com", "Public"),
        ("athome.arpa", "Public"),
        ("notlocal", "Private"),
        ("evil.notlocal", "Public"),
        ("0x08080808", "Public"),
        ("134744072", "Public"),
        ("01002004010", "Public"),
        ("ai", "Public"),
        ("xn--p1ai", "Public"),
        ("", "Public"),
    ],
)
def test_host_type(host: str, kind: str) -> None:
    """Private only where the name cannot be one of the Internet: a hunt for public destinations misses none."""
    assert host_type(host) == kind


@pytest.mark.parametrize(
    ("text", "is_address"), [("192.0.2.7", True), ("::1", True), ("a.example", False), ("", False)]
)
def test_is_ip(text: str, is_address: bool) -> None:
    """An address literal, and nothing else."""
    assert is_ip(text) is is_address


def test_long_authorities_are_not_remembered() -> None:
    """Results are cached, but not for a text of a megabyte."""
    before = address._remembered.cache_info().currsize, address.canonical_host.cache_info().currsize
    long = "u" * 100_000

    assert split_authority(f"{long}@a.example:443", 0) == ("", 0)
    assert split_url(f"https://{long}@a.example:443") == ("a.example", 443)
    assert split_authority(long, 80) == ("", 0)
    after = address._remembered.cache_info().currsize, address.canonical_host.cache_info().currsize
    assert after[0] <= before[0] + 1
    assert after[1] <= before[1] + 1


def test_addresses_without_end_are_refused() -> None:
    """An address may carry a zone, which may be anything; it is not taken in at any length."""
    with pytest.raises(ValueError, match="100009 and 8 characters"):
        flow_of(f"fe80::1%e{'z' * 100_000}", 1, "10.0.0.1", 2)

    assert flow_of("fe80::1%eth0", 1, "10.0.0.1", 2).key == "fe80::1 1 10.0.0.1 2"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("https://A.example./x:1", ("a.example", 0)),
        ("https://u:p@a.example:8443?x=@b", ("a.example", 8443)),
        ("a.example:80", ("a.example", 80)),
        ("2001:DB8::1", ("2001:db8::1", 0)),
        ("[2001:db8::1]:80", ("2001:db8::1", 80)),
        ("https://", ("", 0)),
        ("x" * 2_000_000, ("", 0)),
    ],
)
def test_host_and_port_of_what_was_asked_for(text: str, found: tuple[str, int]) -> None:
    """A URL, a host name or an address; a port only where it is written."""
    assert split_url(text) == found
