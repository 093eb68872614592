"""Which indicators match a destination: one case per line, and the index compared with a plain scan."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.address import canonical_ip, is_ip
from schemas.indicator_input import Given, indicator_of
from schemas.indicators import Indicator, IndicatorAction, IndicatorType, url_parts
from streams.indicators import validity as in_force
from streams.indicators.index import IndicatorSet, process_matches
from streams.indicators.precedence import ACTION_RANK, rank


class To(NamedTuple):
    """A request: its destination as far as it is known."""

    host: str
    port: int = 443
    url: str = ""
    ip: str = ""
    at: int = 10
    logged_ms: int = 10
    groups: tuple[str, ...] = ()


def one(value: str, action: str = "block", **more: object) -> Indicator:
    """Make an indicator; its title is `ACTION VALUE` as given."""
    made = indicator_of(Given(value, action=action, title=f"{action} {value}")._replace(**more), now=0)  # type: ignore[arg-type]  # fields by name
    assert isinstance(made, Indicator), made
    return made


def matches(ones: list[Indicator], to: To) -> list[str]:
    """Return the titles of the matching indicators, in order; `~` marks a partial match."""
    known = IndicatorSet()
    for indicator in ones:
        known.put(indicator)
    found = known.match(to.host, to.port, to.url, to.ip, not to.url, to.at, to.logged_ms, to.groups)
    return [match.indicator.title + ("~" if match.partial else "") for match in found]


def until(at: int, value: str, action: str = "block") -> Indicator:
    """Make an indicator that expires."""
    made = one(value, action)
    return Indicator(**{name: getattr(made, name) for name in made.__struct_fields__} | {"expires": at})


E = "e.example"
PLAIN = To(E, 80, "http://e.example/a/b?c=d")

CASES: list[tuple[str, list[Indicator], To, list[str]]] = [
    # precedence: allow > warn > block > audit
    ("allow over block", [one(E), one(E, "allow", port=443)], To(E), [f"allow {E}"]),
    ("warn over block", [one(E), one(f"*.{E}", "warn", port=443)], To(E), [f"warn *.{E}"]),
    ("block over audit", [one(E, "audit"), one(E, port=443)], To(E), [f"block {E}"]),
    ("allow of all over block of one", [one(E, "allow"), one(f"www.{E}")], To(f"www.{E}"), [f"allow {E}"]),
    ("audit when nothing else", [one(E, "audit"), one("other.example")], To(E), [f"audit {E}"]),
    ("address allowed, name blocked", [one(E), one("192.0.2.1", "allow")], To(E, ip="192.0.2.1"), ["allow 192.0.2.1"]),
    # longer first
    ("longer name first", [one(E), one(f"www.{E}")], To(f"www.{E}"), [f"block www.{E}"]),
    ("longer name first, deeper", [one(E), one(f"www.{E}")], To(f"a.www.{E}"), [f"block www.{E}"]),
    ("longer prefix first", [one(f"http://{E}/a"), one(f"http://{E}/a/b")], PLAIN, [f"block http://{E}/a/b"]),
    ("URL before name", [one(E), one(f"http://{E}/a")], PLAIN, [f"block http://{E}/a"]),
    ("name before address", [one(E), one("192.0.2.1")], To(E, ip="192.0.2.1"), [f"block {E}"]),
    ("address before network", [one("192.0.2.0/24"), one("192.0.2.1")], To("192.0.2.1"), ["block 192.0.2.1"]),
    ("longer network first", [one("192.0.2.0/24"), one("192.0.0.0/16")], To("192.0.2.1"), ["block 192.0.2.0/24"]),
    # expiry, by the event's time
    ("before its end", [until(11, E)], To(E, at=10), [f"block {E}"]),
    ("at its end", [until(11, E)], To(E, at=11), []),
    ("expired allow is none", [until(5, E, "allow"), one(E, port=443)], To(E), [f"block {E}"]),
    # subdomains
    ("name below", [one(E)], To(f"a.b.{E}"), [f"block {E}"]),
    ("name itself", [one(f"*.{E}")], To(E), [f"block *.{E}"]),
    ("exact, name itself", [one(E, exact=True)], To(E), [f"block {E}"]),
    ("exact, name below", [one(E, exact=True)], To(f"www.{E}"), []),
    ("not a label's end", [one(E)], To(f"bad{E}"), []),
    ("not the name above", [one(f"www.{E}")], To(E), []),
    ("exact private suffix", [one("github.io", exact=True)], To("x.github.io"), []),
    # ports
    ("its port", [one(E, port=8443)], To(E, 8443), [f"block {E}"]),
    ("another port", [one(E, port=8443)], To(E, 443), []),
    ("port behind the value", [one(f"{E}:8443")], To(E, 443), []),
    ("address with port", [one("192.0.2.1:25")], To("192.0.2.1", 25), ["block 192.0.2.1:25"]),
    # addresses and names
    ("address where a name is known", [one("192.0.2.1")], To(E, ip="192.0.2.1"), ["block 192.0.2.1"]),
    ("address unknown", [one("192.0.2.1")], To(E), []),
    ("network where a name is known", [one("192.0.2.0/24")], To(E, ip="192.0.2.1"), ["block 192.0.2.0/24"]),
    ("just outside the network", [one("192.0.2.0/25")], To("192.0.2.128"), []),
    ("name is no address", [one("1.example")], To("192.0.2.1"), []),
    # IPv6
    ("IPv6 in full", [one("2001:DB8:0:0::1")], To("2001:db8::1"), ["block 2001:DB8:0:0::1"]),
    ("IPv6 network", [one("2001:db8::/32")], To("2001:db8:1::1"), ["block 2001:db8::/32"]),
    ("IPv6 network, outside", [one("2001:db8::/32")], To("2001:db9::1"), []),
    ("IPv4 in IPv6", [one("::ffff:192.0.2.1")], To("192.0.2.1"), ["block ::ffff:192.0.2.1"]),
    ("IPv4 network in IPv6", [one("::ffff:192.0.2.0/120")], To("192.0.2.9"), ["block ::ffff:192.0.2.0/120"]),
    ("asked in IPv6", [one("192.0.2.0/24")], To(E, ip="::ffff:192.0.2.9"), ["block 192.0.2.0/24"]),
    ("IPv6 with port", [one("[2001:db8::1]:443")], To("2001:db8::1"), ["block [2001:db8::1]:443"]),
    # spelling
    ("IDN", [one("bücher.example")], To("xn--bcher-kva.example"), ["block bücher.example"]),
    ("sharp s as browsers have it", [one("faß.example")], To("xn--fa-hia.example"), ["block faß.example"]),
    ("case", [one("E.Example")], To(E), ["block E.Example"]),
    ("trailing dot", [one("e.example.")], To(E), ["block e.example."]),
    ("underscore", [one("_dmarc.e.example")], To("_dmarc.e.example"), ["block _dmarc.e.example"]),
    # URL prefixes, the URL known
    ("prefix", [one(f"http://{E}/a")], PLAIN, [f"block http://{E}/a"]),
    ("prefix with a slash behind", [one(f"http://{E}/a/")], PLAIN, [f"block http://{E}/a/"]),
    ("prefix up to the query", [one(f"http://{E}/a/b")], PLAIN, [f"block http://{E}/a/b"]),
    ("prefix with query", [one(f"http://{E}/a/b?c=d")], PLAIN, [f"block http://{E}/a/b?c=d"]),
    ("prefix with another query", [one(f"http://{E}/a/b?c=e")], PLAIN, []),
    ("not in the middle of a part", [one(f"http://{E}/a/bb")], PLAIN, []),
    ("not half a part", [one(f"http://{E}/a")], To(E, 80, f"http://{E}/ab"), []),
    ("path has case", [one(f"http://{E}/A")], PLAIN, []),
    ("another scheme", [one(f"https://{E}/a")], PLAIN, []),
    ("no scheme", [one(f"{E}/a")], PLAIN, [f"block {E}/a"]),
    ("another port than the scheme's", [one(f"http://{E}/a")], To(E, 8080, f"http://{E}:8080/a"), []),
    ("prefix is of one host", [one(f"http://{E}/a")], To(f"www.{E}", 80, f"http://www.{E}/a"), []),
    (
        "of an address",
        [one("http://192.0.2.1/a")],
        To("192.0.2.1", 80, "http://192.0.2.1/a"),
        ["block http://192.0.2.1/a"],
    ),
    # URL prefixes on encrypted connections: host and port only
    ("partial", [one(f"https://{E}/a")], To(E), [f"block https://{E}/a~"]),
    ("whole site is not partial", [one(f"https://{E}/")], To(E), [f"block https://{E}/"]),
    ("http prefix on port 443", [one(f"http://{E}/a")], To(E), []),
    ("partial without scheme", [one(f"{E}/a")], To(E), [f"block {E}/a~"]),
    ("partial allows nothing", [one(f"https://{E}/a", "allow")], To(E), []),
    ("block over partial audit", [one(E), one(f"https://{E}/a", "audit")], To(E), [f"block {E}"]),
    ("partial warn over block", [one(E), one(f"https://{E}/a", "warn")], To(E), [f"warn https://{E}/a~"]),
    ("full before partial", [one(E), one(f"https://{E}/a")], To(E), [f"block {E}"]),
    ("full allow over partial block", [one(E, "allow"), one(f"https://{E}/a")], To(E), [f"allow {E}"]),
    # device groups
    ("device of the group", [one(E, groups=("servers",))], To(E, groups=("all", "servers")), [f"block {E}"]),
    ("device of another group", [one(E, groups=("servers",))], To(E, groups=("all",)), []),
    ("device of no group", [one(E, groups=("servers",))], To(E), []),
    ("allow for one group", [one(E), one(E, "allow", groups=("lab",))], To(E, groups=("lab",)), [f"allow {E}"]),
    ("allow for another group", [one(E), one(E, "allow", groups=("lab",))], To(E, groups=("x",)), [f"block {E}"]),
    # processes: what holds for some processes only comes with what holds for all
    ("process beside all", [one(E), one(E, "allow", process="Curl")], To(E), [f"allow {E}", f"block {E}"]),
    ("process behind all", [one(E, "allow"), one(E, process="curl")], To(E), [f"allow {E}"]),
    (
        "two processes",
        [one(E, process="a"), one(f"www.{E}", process="b")],
        To(f"www.{E}"),
        [f"block www.{E}", f"block {E}"],
    ),
    # nothing
    ("empty", [], To(E), []),
    ("no host", [one(E)], To(""), []),
    ("single label", [one("intranet", exact=True)], To("intranet"), ["block intranet"]),
]


@pytest.mark.parametrize(("ones", "to", "expected"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_match(ones: list[Indicator], to: To, expected: list[str]) -> None:
    """The indicators match in the order of precedence, whatever the order in which they were added."""
    assert matches(ones, to) == expected
    assert matches(ones[::-1], to) == expected


@pytest.mark.parametrize(
    ("wanted", "name", "path", "fits"),
    [
        ("", "", "", True),
        ("curl.exe", "CURL.EXE", "", True),
        ("CURL.exe", "", r"C:\Windows\curl.exe", True),
        ("curl", "curl.exe", "", False),
        ("curl", "", "", False),
        (r"c:\windows\curl.exe", "curl.exe", r"C:\Windows\curl.exe", True),
        (r"c:\windows\curl.exe", "curl.exe", r"\Device\HarddiskVolume3\Windows\curl.exe", True),
        (r"c:\windows\curl.exe", "curl.exe", r"C:\Temp\curl.exe", False),
        (r"c:\windows\curl.exe", "curl.exe", "", False),
        ("/usr/bin/curl", "curl", "/usr/bin/curl", True),
        ("/usr/bin/curl", "curl", "/tmp/curl", False),
    ],
)
def test_process(wanted: str, name: str, path: str, fits: bool) -> None:
    """A process matches by file name or full path, in any case and with any name of the drive."""
    assert process_matches(one(E, process=wanted), name, path) is fits


def test_added_after_the_fact() -> None:
    """An indicator applies from its log time on; a change ends the version before; a removal ends it."""
    known = IndicatorSet()
    known.put(one(E, "audit"), 100)
    known.put(one(E, "block"), 200)
    known.remove(one(E).id, 300)

    def at(logged_ms: int) -> list[str]:
        return [match.indicator.action for match in known.match(E, 443, "", "", True, 1, logged_ms, ())]

    assert [at(ms) for ms in (99, 100, 199, 200, 299, 300)] == [[], ["audit"], ["audit"], ["block"], ["block"], []]
    assert (len(known), known.empty) == (0, False)
    known.forget(200)
    assert [at(ms) for ms in (150, 250)] == [[], ["block"]]
    known.forget(300)
    assert (at(250), known.empty) == ([], True)


def test_past_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bounded number of ended indicators is kept; the index evicts the others."""
    monkeypatch.setattr(in_force, "PAST_MAX", 3)
    known = IndicatorSet()
    values = [E, "_dmarc.e.example", "192.0.2.1", "192.0.2.0/24", f"https://{E}/a", f"http://{E}/b"]
    for number, value in enumerate(values):
        known.put(one(value), number)
        known.remove(one(value).id, number + 10)

    assert len(list(known._index_by_time)) == 3
    known.forget(1_000)
    assert known.empty
    assert (known._domains, known._ips, known._sites, known._heads, known._singles) == ({}, {}, {}, {}, 0)
    assert (known._networks.v4.items, known._networks.v6.items) == ({}, {})


def test_value_of_another_type_is_refused() -> None:
    """A value of another type raises and changes nothing."""
    known = IndicatorSet()
    for type_, value in ((IndicatorType.CIDR, "x"), (IndicatorType.IP, E), (IndicatorType.URL, "ftp://x")):
        with pytest.raises(ValueError, match=r"."):
            known.put(Indicator("id", type_, value, IndicatorAction.BLOCK))
    assert known.empty


NAMES = ("example", "a.example", "b.a.example", "c.b.a.example", "ab.example", "b.example")
ADDRESSES = ("192.0.2.1", "192.0.2.129", "192.0.3.1", "2001:db8::1", "2001:db8:1::1")
NETWORKS = (
    "192.0.2.0/24",
    "192.0.2.128/25",
    "192.0.0.0/16",
    "192.0.0.0/9",
    "2001:db8::/32",
    "2001:db8::/48",
    "2001::/16",
)
PATHS = ("", "/a", "/a/b", "/a/b?c=d", "/ab", "/a?b", "/a/b/c/d/e")


VALUES = {
    IndicatorType.DOMAIN: NAMES,
    IndicatorType.IP: ADDRESSES,
    IndicatorType.CIDR: NETWORKS,
    IndicatorType.URL: [
        scheme + host + path for scheme in ("http://", "https://", "") for host in NAMES[1:3] for path in PATHS
    ],
}


@st.composite
def indicators(draw: st.DrawFn) -> Indicator:
    """Draw an indicator over few values, so that many match."""
    type_ = draw(st.sampled_from(IndicatorType))
    return Indicator(
        str(draw(st.integers(0, 20))),
        type_,
        draw(st.sampled_from(VALUES[type_])),
        draw(st.sampled_from(IndicatorAction)),
        subdomains=draw(st.booleans()),
        port=draw(st.sampled_from((0, 0, 80, 443))),
        process=draw(st.sampled_from(("", "curl"))),
        expires=draw(st.sampled_from((0, 0, 10))),
        groups=draw(st.sampled_from(((), ("g",)))),
    )


CHANGES = st.lists(st.tuples(st.integers(0, 9), indicators(), st.booleans()), max_size=25)


@st.composite
def requests(draw: st.DrawFn) -> To:
    """Draw a request over the same values."""
    host = draw(st.sampled_from((*NAMES, *ADDRESSES)))
    plain = draw(st.booleans())
    port = draw(st.sampled_from((80, 443)))
    path = draw(st.sampled_from((*PATHS, "/", "/a/b/c", "/a/")))
    url = f"http://{host}{'' if port == 80 else ':443'}{path}" if plain and not is_ip(host) else ""
    ip = "" if is_ip(host) else draw(st.sampled_from(("", *ADDRESSES)))
    return To(
        host,
        port,
        url,
        ip,
        draw(st.sampled_from((5, 10))),
        draw(st.integers(0, 100)),
        draw(st.sampled_from(((), ("g",)))),
    )


@settings(max_examples=400)
@given(CHANGES, st.lists(requests(), min_size=1, max_size=6))
def test_the_index_finds_what_a_scan_finds(changes: list[tuple[int, Indicator, bool]], asked: list[To]) -> None:
    """After any additions, changes and removals the index and a scan give the same result."""
    known = IndicatorSet()
    history: list[tuple[Indicator, int, int]] = []
    now = 0
    for step, indicator, removed in changes:
        now += step
        latest = next((one for one in history if one[0].id == indicator.id and one[2] == 1_000), None)
        if removed:
            known.remove(indicator.id, now)
        else:
            known.put(indicator, now)
        if latest is not None and (removed or latest[0] != indicator):
            history[history.index(latest)] = (latest[0], latest[1], now)
        if not removed and (latest is None or latest[0] != indicator):
            history.append((indicator, now, 1_000))

    for to in asked:
        found = known.match(to.host, to.port, to.url, to.ip, not to.url, to.at, to.logged_ms, to.groups)
        assert [(match.indicator, match.partial) for match in found] == scan(history, to)


def scan(history: list[tuple[Indicator, int, int]], to: To) -> list[tuple[Indicator, bool]]:
    """Examine each indicator in turn."""
    found = []
    for indicator, since_ms, to_ms in history:
        fits, partial = applies(indicator, to)
        if (
            fits
            and since_ms <= to.logged_ms < to_ms
            and (not indicator.expires or to.at < indicator.expires)
            and indicator.port in (0, to.port)
            and (not indicator.groups or set(indicator.groups) & set(to.groups))
            and not (partial and indicator.action is IndicatorAction.ALLOW)
        ):
            found.append((indicator, partial))
    found.sort(key=lambda one: (ACTION_RANK[one[0].action], one[1], rank(one[0])))
    unbound = next((at for at, one in enumerate(found) if not one[0].process), len(found))
    return found[: unbound + 1]


def applies(indicator: Indicator, to: To) -> tuple[bool, bool]:
    """Return whether an indicator's value matches this destination, and whether only in part."""
    value = indicator.value
    addresses = {canonical_ip(one) for one in (to.ip, to.host) if one and is_ip(one)}
    match indicator.type:
        case IndicatorType.DOMAIN:
            return to.host == value or (indicator.subdomains and to.host.endswith("." + value)), False
        case IndicatorType.IP:
            return value in addresses, False
        case IndicatorType.CIDR:
            network = ip_network(value)
            return any(ip_address(one) in network for one in addresses), False
        case IndicatorType.URL:
            parts = url_parts(value)
            if parts.host != to.host or parts.port not in (0, to.port):
                return False, False
            if not to.url:
                return True, bool(parts.path)
            path = to.url.partition("://")[2].partition("/")
            rest = path[1] + path[2]
            longer = rest[len(parts.path) :]
            fits = rest.startswith(parts.path) and (not longer or longer[0] in "/?&#")
            return fits and parts.scheme in ("", "http"), False
