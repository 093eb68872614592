"""Lines and CEF messages in the tables of Azure Monitor. Constructed from the vendor's table reference and field mapping."""

from __future__ import annotations

import json

import msgspec
import pytest

from schemas.clock import parse_micros
from schemas.events import HttpExchange, ProxyDecision, ProxyLogged, Reason
from schemas.parsers import dialects
from schemas.parsers.common.azure import common_security_log, vendor_and_product
from tests.schemas.parsers.proxies.proxy_log_lines import (
    FORCEPOINT,
    HAPROXY,
    PROXYSG,
    SOPHOS,
    WSA,
    envoy,
    logged,
    native,
    zscaler,
)
from tests.schemas.parsers.reading import read, reason

AT = parse_micros("2022-03-31T08:18:20.276Z")
SYSLOG = {
    "TenantId": "00000000-0000-0000-0000-000000000001",
    "SourceSystem": "Linux",
    "TimeGenerated": "2022-03-31T08:18:21.000Z",
    "Computer": "collector-1",
    "EventTime": "2022-03-31T08:18:20Z",
    "Facility": "local0",
    "HostName": "gw-1",
    "SeverityLevel": "info",
    "ProcessID": None,
    "Type": "Syslog",
}
LINES = {
    "squid": native(),
    "haproxy": HAPROXY % (200, "----", "CONNECT a.example:443 HTTP/1.1"),
    "envoy": envoy(),
    "wsa": WSA % ("TCP_MISS/200 5", "GET http://a.example/", "ALLOW_X"),
    "w3c": PROXYSG % ("-", "OBSERVED", 200, "TCP_MISS"),
    "zscaler": zscaler(),
    "sophos": SOPHOS,
    "forcepoint": FORCEPOINT.partition(" - - - ")[2],
}
ZSCALER_ROW = {
    "TimeGenerated": "3/31/2022, 08:18:20.276 AM",
    "DeviceVendor": "Zscaler",
    "DeviceProduct": "NSSWeblog",
    "DeviceEventClassID": "Blocked",
    "LogSeverity": 3,
    "DeviceAction": "Blocked",
    "Computer": "nss-1",
    "DestinationIP": "203.0.113.9",
    "SourceIP": "192.0.2.7",
    "DeviceVersion": 5.7,
    "AdditionalExtensions": "reason=Not allowed;outcome=403;cat=News;src=192.0.2.8;request=http://b.example/",
    "ApplicationProtocol": "HTTPS",
    "ReceivedBytes": 550,
    "SentBytes": 307,
    "RequestURL": "a.example/x?a=b",
    "RequestMethod": "GET",
    "SourceUserName": "u7@corp.example",
    "Type": "CommonSecurityLog",
}
FORCEPOINT_ROW = {
    "TimeGenerated": "2022-03-31T08:20:00Z",
    "ReceiptTime": "1648714700276",
    "DeviceVendor": "Forcepoint",
    "DeviceProduct": "Security",
    "DeviceEventClassID": "9",
    "Activity": "Transaction permitted",
    "DeviceAction": "permitted",
    "DestinationHostName": "a.example",
    "DestinationIP": "203.0.113.9",
    "DestinationPort": 443,
    "SourceIP": "192.0.2.7",
    "SourcePort": 51000,
    "RequestMethod": "CONNECT",
    "RequestURL": "https://a.example",
}


def claimed_by(line: str) -> list[str]:
    """The dialects that claim a line."""
    return [dialect.name for dialect in dialects().values() if dialect.claims(line.encode())]


@pytest.mark.parametrize("column", ["SyslogMessage", "RawData"])
@pytest.mark.parametrize("name", LINES)
def test_a_line_in_a_column_is_the_same_event(name: str, column: str) -> None:
    """The machine is that of the syslog header."""
    row = json.dumps({**SYSLOG, column: LINES[name]})
    changed = {"proxy": "gw-1", **({"at": parse_micros("2022-03-31T08:18:20Z")} if name == "forcepoint" else {})}
    found = logged(name, row)

    assert claimed_by(row) == [name]
    if name == "forcepoint":  # no time of its own
        assert (found.at, found.host, found.proxy) == (parse_micros("2022-03-31T08:18:20Z"), "a.example", "gw-1")
    else:
        assert found == msgspec.structs.replace(logged(name, LINES[name]), **changed)


@pytest.mark.parametrize(
    ("times", "at"),
    [
        ({}, "2022-03-31T08:18:20Z"),
        ({"EventTime": None}, "2022-03-31T08:18:21Z"),
        ({"EventTime": None, "TimeGenerated": None, "EventTime [UTC]": "3/31/2022, 1:02:03.000 PM"}, "2022-03-31T13:02:03Z"),
        ({"EventTime": None, "TimeGenerated": None, "TimeGenerated [UTC]": "3/31/2022, 12:02:03 AM"}, "2022-03-31T00:02:03Z"),
    ],
)  # fmt: skip
def test_a_line_without_a_time_has_its_rows(times: dict[str, str | None], at: str) -> None:
    """When it was sent, else when it came in; as JSON of the service, or as the portal exports it."""
    row = {**SYSLOG, "SyslogMessage": LINES["forcepoint"], **times}
    line = json.dumps({name: value for name, value in row.items() if value is not None})

    assert logged("forcepoint", line).at == parse_micros(at)


def test_a_sensors_json_in_a_column() -> None:
    """Zeek and Suricata by syslog."""
    zeek = {"_path": "http", "ts": 1741079722.5, "uid": "CAa1", "id.orig_h": "192.0.2.7", "id.orig_p": 51000}
    zeek |= {
        "id.resp_h": "192.0.2.80",
        "id.resp_p": 3128,
        "method": "CONNECT",
        "uri": "a.example:443",
        "trans_depth": 1,
    }
    row = json.dumps({**SYSLOG, "SyslogMessage": json.dumps(zeek)})
    found = read("zeek", row)

    assert claimed_by(row) == ["zeek"]
    assert isinstance(found, HttpExchange)
    assert found == read("zeek", json.dumps(zeek))


def test_zscalers_cef_in_columns() -> None:
    """The columns count; what stands in the additional extensions is at most the status."""
    line = json.dumps(ZSCALER_ROW)
    found = logged("zscaler", line)

    assert claimed_by(line) == ["zscaler"]
    assert (found.at, found.client_ip, found.host, found.port) == (AT, "192.0.2.7", "a.example", 443)
    assert (found.method, found.target, found.status, found.user) == ("GET", "a.example/x?a=b", 403, "u7@corp.example")
    assert (found.decision, found.bytes_sent, found.bytes_received) == (ProxyDecision.DENIED, 307, 550)


def test_forcepoints_cef_in_columns() -> None:
    """The source's own time counts, not that of the row."""
    line = json.dumps(FORCEPOINT_ROW)
    found = logged("forcepoint", line)

    assert claimed_by(line) == ["forcepoint"]
    assert (found.at, found.client_ip, found.client_port) == (AT, "192.0.2.7", 51_000)
    assert (found.host, found.port, found.upstream_ip, found.decision) == (
        "a.example", 443, "203.0.113.9", ProxyDecision.SERVED,
    )  # fmt: skip


@pytest.mark.parametrize("dialect", ["zscaler", "forcepoint"])
def test_rows_of_other_devices_are_not_read(dialect: str) -> None:
    """The table has messages of firewalls and many more."""
    line = json.dumps({**ZSCALER_ROW, "DeviceVendor": "Fortinet", "DeviceProduct": "Fortigate"})

    assert claimed_by(line) == []
    assert reason(dialect, line) in (Reason.MALFORMED, Reason.INCOMPLETE)
    assert vendor_and_product(line) == ("Fortinet", "Fortigate")
    assert vendor_and_product(json.dumps({"x": line})) == ("", "")
    assert vendor_and_product('"DeviceVendor":"Zscaler","DeviceProduct":"NSSWeblog"') == ("", "")


@pytest.mark.parametrize("line", ["{", '{"DeviceVendor":"Forcepoint","DeviceProduct":"Security",}'])
def test_a_damaged_row_is_malformed(line: str) -> None:
    """As any JSON."""
    assert reason("forcepoint", line) is Reason.MALFORMED


@pytest.mark.parametrize(
    "time", ["13/31/2022, 08:18:20 AM", "3/31/2022, 13:18:20 PM", "3/31/2022, 0:18:20 AM", "31.3.2022 AM"]
)
def test_a_time_in_another_order_is_none(time: str) -> None:
    """Only US English is written with AM and PM in capitals, the month first."""
    assert reason("zscaler", json.dumps({**ZSCALER_ROW, "TimeGenerated": time})) is Reason.BAD_VALUE


def test_the_columns_of_cef() -> None:
    """Numbers become texts, what is neither number nor text is left out, an empty column is none."""
    row = {"DeviceVendor": "V", "DeviceProduct": "P", "SourcePort": 7, "SourceIP": "", "RequestURL": ["x"]}

    assert common_security_log(json.dumps(row)) == ("V", "P", "", {"spt": "7"})


def test_a_carried_line_is_not_a_row() -> None:
    """A client's words may look like a row: quotes in them are escaped."""
    found = read("squid", native(request='GET http://a.example/?"DeviceVendor":"Zscaler","DeviceProduct":"NSSWeblog"'))

    assert isinstance(found, ProxyLogged)
    assert found.host == "a.example"
