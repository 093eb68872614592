"""The library of hunts, on the sample and on the Tuesday of `hunting_story`.

Expected answers come from what was put in: the proxies' logs (`truth.jsonl`), the kernel's records of connections
(`sockets.jsonl.gz`) and the story's text.
"""

from __future__ import annotations

import gzip
import ipaddress
import json
import re
from datetime import datetime, timedelta
from typing import Any

import msgspec
import pytest

from hunting.library import LibraryHunt, hunts
from schemas.tables import GapKind, GapStatus, SensorGap
from tests.sample import SAMPLE_FILES, TRUTH
from tests.unproxy.query.hunting_story import OTHER_PROXY, tables
from tests.unproxy.query.hunting_tables import ALWAYS, hunted, picked, sample_tables, settings_with
from unproxy.local.servers.engine import Engine
from unproxy.query.client import Client, of_settings
from unproxy.query.hunt import Answer

HUNTS = {one.name: one for one in hunts()}
SINCE_14_OCLOCK = "now() - datetime(2026-11-24T14:00:00Z)"
UNRESOLVED = {"older_than_sensor", "tls_to_proxy"}
"""Scenarios of the sample whose destination no sensor could see."""


@pytest.fixture(scope="module")
def on_sample(engine: Engine) -> Client:
    """Asks the tables of the sample."""
    return of_settings(settings_with(engine, "library_sample", sample_tables()))


@pytest.fixture(scope="module")
def on_story(engine: Engine) -> Client:
    """Asks the tables of that Tuesday; ws-2 has a gap in addition."""
    gap = SensorGap(
        DeviceId="ws-2", DeviceName="ws-2", Kind=GapKind.LOSS, Status=GapStatus.OPEN, FromTime=None, ToTime=None,
        Dialect="suricata", Sensor="", LinesMissing=7, FromSeq=1, ToSeq=8, DetectedAt="2026-11-24T12:00:00.000000Z",
        RecordId="gap", Version=1,
    )  # fmt: skip
    rows = {**tables(), "SensorGaps": [msgspec.json.encode(gap)]}
    return of_settings(settings_with(engine, "library_story", rows))


def ask(client: Client, name: str, **parameters: str) -> Answer:
    """Run a hunt of the library over all time, unless `parameters` name another."""
    return hunted(client, HUNTS[name].text, **{"Since": ALWAYS, **parameters})


def truth() -> list[dict[str, Any]]:
    """Return what the proxies logged of the sample."""
    return [json.loads(line) for line in TRUTH.read_text().splitlines()]


def sockets() -> list[dict[str, Any]]:
    """Return what the kernel recorded of the sample's connections."""
    with gzip.open(dict(SAMPLE_FILES)["sockets"]) as lines:
        return [json.loads(line) for line in lines]


def proxies() -> set[str]:
    """Return the addresses of the sample's proxies."""
    return {one["proxy_ip"] for one in truth()}


def is_literal(host: str) -> bool:
    """Return whether a host is an address."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def domain(host: str) -> str:
    """Return the registrable domain: in the sample its top level domains have no second level of their own."""
    return host if is_literal(host) else ".".join(host.rstrip(".").lower().split(".")[-2:])


@pytest.mark.parametrize("hunt", HUNTS.values(), ids=HUNTS)
def test_hunt_explains_itself(hunt: LibraryHunt) -> None:
    """A title, what it finds, how to read it, and each parameter that has a default."""
    values = set(re.findall(r"^let (\w+) = [^\n|]*;$", hunt.text, re.MULTILINE))

    assert re.fullmatch(r"[A-Z][\w ,-]+", hunt.title)
    assert hunt.description.startswith("Finds ")
    assert "\nReads: " in hunt.description
    assert values == set(re.findall(r"^(\w+) {2,}\S", hunt.description, re.MULTILINE))
    assert "Since" in values


@pytest.mark.parametrize("name", HUNTS)
def test_hunt_of_the_last_days_runs(on_sample: Client, name: str) -> None:
    """With its defaults: the query is complete, whatever the rows are."""
    assert hunted(on_sample, HUNTS[name].text).names == ask(on_sample, name).names


def test_first_seen_domains_of_the_sample(on_sample: Client) -> None:
    """With all rows in the time asked for, every domain that a process requested is new."""
    asked = {
        (one["device"], one["process"], domain(one["host"]))
        for one in truth()
        if one.get("process") and one.get("scenario") not in UNRESOLVED
    }
    found = picked(ask(on_sample, "first-seen-domain"), "DeviceName", "InitiatingProcessFileName", "DestinationDomain")

    assert asked <= set(found)
    assert len(found) == len(set(found))
    assert {(device, name) for device, _, name in found} <= {(one["device"], domain(one["host"])) for one in truth()}


def test_a_domain_of_the_history_is_not_new(on_story: Client) -> None:
    """ws-1 was blocked at 12:00 and fetched the same site at 15:00: new after 14:00 only without a history."""
    columns = "DeviceName", "InitiatingProcessFileName", "DestinationDomain"
    with_history = ask(on_story, "first-seen-domain", Since=SINCE_14_OCLOCK, History="1d")
    without = ask(on_story, "first-seen-domain", Since=SINCE_14_OCLOCK, History="0d")

    assert picked(with_history, *columns) == []
    assert picked(without, *columns) == [("ws-1", "curl", "bad1.example")]


def test_rare_domains(on_story: Client) -> None:
    """Reached by one device; `bad1.example` and `example.com` were reached by two."""
    rare = {"203.0.113.21", "front.test", "noted.example", "twice.example", "warned.example"}
    one, two = (picked(ask(on_story, "rare-domain", DevicesMax=most), "DestinationDomain") for most in "12")

    assert {name for (name,) in one} == rare
    assert {name for (name,) in two} == {*rare, "bad1.example", "example.com"}


def test_beacons(on_story: Client) -> None:
    """ws-1 fetches a page each minute from 6 to 7 o'clock; nothing else is regular."""
    columns = "DeviceName", "InitiatingProcessFileName", "DestinationHost", "Requests", "MeanSecs", "Jitter"

    assert picked(ask(on_story, "beacons"), *columns) == [("ws-1", "curl", "www.example.com", 60, 60, 0)]
    assert ask(on_story, "beacons", RequestsMin="61").rows == []
    assert ask(on_story, "beacons", IntervalMin="61s").rows == []


def test_long_tunnels(on_sample: Client) -> None:
    """The connections to a proxy that the kernel saw open for 20 seconds."""
    long = [
        (one["device"], one["pid"])
        for one in sockets()
        if one["ts_closed"] and one["remote_ip"] in proxies()
        and datetime.fromisoformat(one["ts_closed"]) - datetime.fromisoformat(one["ts_established"]) >= timedelta(seconds=20)
    ]  # fmt: skip
    found = ask(on_sample, "long-tunnels", Longest="20s")

    assert sorted(picked(found, "DeviceName", "InitiatingProcessId")) == sorted(long)
    assert {one["pid"] for one in truth() if one.get("scenario") == "long_tunnel"} & {pid for _, pid in long}


def test_domain_fronting(on_sample: Client) -> None:
    """The tunnels whose client sent another name inside, as the sample's generator noted."""
    fronted = {
        (one["device"], one["pid"], one["host"], one["inner_host"])
        for one in truth()
        if one.get("inner_host") and one["inner_host"] != one["host"]
    }
    columns = "DeviceName", "InitiatingProcessId", "DestinationHost", "HostMismatch"
    found = picked(ask(on_sample, "domain-fronting"), *columns)

    assert set(found) == fronted
    assert len(found) == len(fronted) == 3


def test_unconfirmed_proxies(on_sample: Client, on_story: Client) -> None:
    """The sample's settings name no proxy; the story's leave one out."""
    used = {address: {one["device"] for one in truth() if one["proxy_ip"] == address} for address in proxies()}
    found = picked(ask(on_sample, "unconfirmed-proxies"), "Proxy", "DeviceNames")

    assert sorted(found, key=str) == sorted(((name, sorted(users)) for name, users in used.items()), key=str)
    assert picked(ask(on_story, "unconfirmed-proxies"), "Proxy", "DeviceNames") == [(OTHER_PROXY, ["ws-4"])]


def test_proxy_bypass(on_story: Client) -> None:
    """ws-1 always uses its proxy, and connects directly at 11:00."""
    columns = "Timestamp", "DeviceName", "RemoteIP", "RemotePort"

    assert picked(ask(on_story, "proxy-bypass"), *columns) == [
        ("2026-11-24T11:00:00.000000Z", "ws-1", "203.0.113.21", 443)
    ]


def test_blocked_then_elsewhere(on_sample: Client) -> None:
    """Processes of dev-b whose request was blocked and that the proxy then served for another host."""
    logged = sorted(truth(), key=lambda one: one["ts"])
    pairs = {
        (blocked["pid"], blocked["host"], served["host"])
        for blocked in logged if blocked["verdict"] == "blocked_on_device"
        for served in logged
        if served["device"] == blocked["device"] and served.get("pid") == blocked["pid"]
        and served["verdict"] == "allowed" and served["ts"] > blocked["ts"] and served["host"] != blocked["host"]
    }  # fmt: skip
    found = ask(on_sample, "blocked-then-elsewhere")

    assert pairs
    assert pairs <= set(picked(found, "InitiatingProcessId", "BlockedHost", "DestinationHost"))
    assert {device for (device,) in picked(found, "DeviceName")} == {"dev-b"}


def test_the_same_host_the_same_way_is_no_other_place(on_story: Client) -> None:
    """ws-1 is blocked at 12:00, and the same process fetches the site at 15:00, through the same proxy."""
    assert ask(on_story, "blocked-then-elsewhere", Window="1d").rows == []


def test_unusual_tunnels(on_sample: Client) -> None:
    """CONNECT to an address, or to a port other than 80 and 443."""
    unusual = sorted(
        (one["device"], one["pid"], one["host"], one["port"])
        for one in truth()
        if one["method"] == "CONNECT" and (is_literal(one["host"]) or one["port"] not in (80, 443))
    )
    columns = "DeviceName", "InitiatingProcessId", "DestinationHost", "DestinationPort"

    assert unusual
    assert sorted(picked(ask(on_sample, "unusual-tunnels"), *columns)) == unusual


def test_direct_connections(on_sample: Client) -> None:
    """What the kernel saw go to another address than a proxy's; all three devices use the proxies."""
    direct = {
        (one["device"], one["process"], one["remote_ip"], one["remote_port"])
        for one in sockets()
        if one["remote_ip"] not in proxies() and not ipaddress.ip_address(one["remote_ip"]).is_loopback
    }
    columns = "DeviceName", "InitiatingProcessFileName", "RemoteIP", "RemotePort"

    assert direct
    assert set(picked(ask(on_sample, "direct-connections"), *columns)) == direct


def test_blind_devices(on_sample: Client, on_story: Client) -> None:
    """Off or unknown mode, open gaps, unresolved connections."""
    columns = "DeviceName", "Why", "Mode"

    # Modes of the sample are known from verdicts, and dev-c has none.
    assert picked(ask(on_sample, "blind-devices"), *columns) == [("dev-c", "mode", "unknown")]
    assert picked(ask(on_sample, "blind-devices", UnresolvedShare="0.001"), *columns) == [
        ("dev-a", "unresolved", "audit"), ("dev-b", "unresolved", "block"), ("dev-c", "mode, unresolved", "unknown"),
    ]  # fmt: skip
    assert picked(ask(on_story, "blind-devices"), *columns) == [
        ("srv-1", "mode", "off"), ("ws-2", "gap", "block"), ("ws-4", "mode", "unknown"), ("ws-6", "mode", "off"),
    ]  # fmt: skip
