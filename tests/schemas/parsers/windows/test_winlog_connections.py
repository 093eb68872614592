"""Connections in Windows events: whose they are, between which ends, and when there is none."""

from __future__ import annotations

import pytest

from schemas.clock import iso_micros
from schemas.events import Reason
from schemas.parsers.windows.winlog import device_of, parse, written_at
from tests.schemas.parsers.parsed_as import kind, opened, reject
from tests.schemas.parsers.windows.windows_events import filtering, sysmon
from tests.schemas.parsers.windows.windows_shippers import shapes, winlogbeat, xml


@pytest.mark.parametrize("shape", shapes(3, sysmon()))
def test_one_connection_in_every_shape(shape: str) -> None:
    """Sysmon 3: ends, process, user and time are the same whichever client shipped it; the PID is not that of the writer."""
    event = opened(parse(shapes(3, sysmon())[shape]))

    assert event.device == device_of(shapes(3, sysmon())[shape]) == "ws-0142.corp.example"
    assert event.flow.key == "198.51.100.11 52817 198.51.100.80 3128"
    assert (event.process.pid, event.process.name) == (7412, "browser.exe")
    assert event.process.path == "C:\\Program Files\\Browser\\browser.exe"
    assert (event.process.domain, event.process.account) == ("CORP", "a.meyer")
    assert iso_micros(event.at) == "2025-03-04T09:15:21.998000Z"
    assert event.at == event.started == event.established == written_at(shapes(3, sysmon())[shape])
    assert (event.failed, event.ended) == (False, 0)


@pytest.mark.parametrize("shape", shapes(5156, filtering()))
def test_one_filtered_connection_in_every_shape(shape: str) -> None:
    """5156: permitted is not established; the path is the device's own; no one reports the user."""
    event = opened(parse(shapes(5156, filtering())[shape]))

    assert event.flow.key == "198.51.100.11 52817 198.51.100.80 3128"
    assert (event.process.pid, event.process.name) == (812, "svchost.exe")
    assert event.process.path == "\\device\\harddiskvolume2\\windows\\system32\\svchost.exe"
    assert (event.process.domain, event.process.account) == ("", "")
    assert iso_micros(event.at)[:23] == "2025-03-04T09:15:22.345"
    assert (event.established, event.failed) == (0, False)


def test_fields_moved_to_the_common_schema() -> None:
    """Winlogbeat's module and Elastic's pipelines move values out of `event_data`, some of them under other names."""
    line = {
        "source": {"ip": "198.51.100.11", "port": 52817},
        "destination": {"ip": "198.51.100.80", "port": 3128, "domain": "proxy"},
        "network": {"transport": "tcp", "direction": "egress", "type": "ipv4"},
        "process": {"pid": 7412, "executable": "C:\\browser.exe"},
        "user": {"domain": "CORP", "name": "a.meyer", "id": "S-1-5-18"},
    }
    event = opened(parse(winlogbeat(3, {"RuleName": "-"}, **line)))

    assert event.flow.key == "198.51.100.11 52817 198.51.100.80 3128"
    assert (event.process.pid, event.process.path, event.process.account) == (7412, "C:\\browser.exe", "a.meyer")
    assert iso_micros(event.at) == "2025-03-04T09:15:22.345000Z"
    inbound = {**line, "network": {"transport": "tcp", "direction": "ingress"}}
    assert kind(parse(winlogbeat(3, {}, **inbound))) == "sysmon_3_inbound"
    neither = {**line, "network": {"transport": "tcp"}}
    assert reject(parse(winlogbeat(3, {}, **neither))).reason is Reason.INCOMPLETE


def test_the_device_is_the_computer_and_not_the_collector() -> None:
    """Upper and lower case are one name, the domain belongs to it."""
    line = winlogbeat(3, sysmon(), host={"name": "COLLECTOR"}, agent={"name": "COLLECTOR", "hostname": "COLLECTOR"})
    for written, name in ((b"WS-0142", "ws-0142"), (b"Ws-0142.Corp.Example.", "ws-0142.corp.example")):
        other = line.replace(b"WS-0142.corp.example", written)
        assert device_of(other) == opened(parse(other)).device == name


def test_a_collectors_channel_does_not_matter() -> None:
    """Forwarded events lie in `ForwardedEvents`, `Security` is also `security`: the provider states who wrote it."""
    line = winlogbeat(3, sysmon())
    assert opened(parse(line.replace(b"Microsoft-Windows-Sysmon/Operational", b"ForwardedEvents")))
    assert opened(parse(line.replace(b'"provider_name": "Microsoft-Windows-Sysmon"', b'"provider_name": ""')))
    assert kind(parse(line.replace(b"Microsoft-Windows-Sysmon", b"Microsoft-Windows-Kernel-General"))) == "other"


@pytest.mark.parametrize(
    ("source", "destination", "key"),
    [
        (
            "fe80:0:0:0:1958:16a1:813f:bbe8",
            "2001:db8:0:0:0:0:0:80",
            "fe80::1958:16a1:813f:bbe8 52817 2001:db8::80 3128",
        ),
        ("fe80::80ac:4126:fa58:1b81%4", "fe80::1", "fe80::80ac:4126:fa58:1b81 52817 fe80::1 3128"),
        ("::ffff:198.51.100.11", "0:0:0:0:0:ffff:c633:6450", "198.51.100.11 52817 198.51.100.80 3128"),
        ("127.0.0.1", "127.0.0.1", "127.0.0.1 52817 127.0.0.1 3128"),
        ("0:0:0:0:0:0:0:1", "::1", "::1 52817 ::1 3128"),
    ],
)
def test_addresses_have_one_spelling(source: str, destination: str, key: str) -> None:
    """IPv6 in full or shortened, whatever `SourceIsIpv6` states; a proxy on the device itself is one, too."""
    assert opened(parse(winlogbeat(3, sysmon(SourceIp=source, DestinationIp=destination)))).flow.key == key
    assert opened(parse(xml(5156, filtering(SourceAddress=source, DestAddress=destination)))).flow.key == key


def test_a_connection_from_outside_is_not_the_devices() -> None:
    """Not initiated, or inbound: the source is the other machine."""
    assert kind(parse(winlogbeat(3, sysmon(Initiated="false")))) == "sysmon_3_inbound"
    assert kind(parse(winlogbeat(3, sysmon(Initiated=False)))) == "sysmon_3_inbound"
    assert kind(parse(xml(3, sysmon(Initiated="False")))) == "sysmon_3_inbound"
    assert kind(parse(winlogbeat(5156, filtering(Direction="%%14592")))) == "security_5156_inbound"
    assert kind(parse(winlogbeat(5157, filtering(Direction="Inbound")))) == "security_5157_inbound"
    assert opened(parse(xml(3, sysmon(Initiated="True")))).flow.remote_port == 3128


def test_only_tcp_has_connections() -> None:
    """Sysmon names the protocol, the filtering platform numbers it."""
    assert kind(parse(winlogbeat(3, sysmon(Protocol="udp")))) == "sysmon_3_not_tcp"
    assert kind(parse(winlogbeat(5156, filtering(Protocol="17")))) == "security_5156_not_tcp"
    assert opened(parse(winlogbeat(5156, filtering(Protocol=6)))).flow.local_port == 52817


def test_a_blocked_connection_has_failed() -> None:
    """5157: the device's own firewall; that is no verdict on a destination's name."""
    event = opened(parse(winlogbeat(5157, filtering())))

    assert (event.failed, event.established) == (True, 0)
