"""Constructed lines of proxies' logs; a test changes the part that it is about. The golden files have real ones as well."""

from __future__ import annotations

import json

from schemas.events import ProxyLogged
from tests.schemas.parsers.reading import read

HAPROXY = '192.0.2.7:51000 [20/Sep/2018:15:44:23.285] fwd pool/out 0/0/1/2/503 %s 4711 - - %s 1/1/0/0/0 0/0 "%s"'
ENVOY = {
    "start_time": "2026-01-24T01:34:36.743Z",
    "duration": 503,
    "method": "CONNECT",
    ":authority": "a.example:443",
    "downstream_remote_address": "192.0.2.7:51000",
    "response_code": 200,
    "response_flags": "-",
    "upstream_cluster": "parents",
    "upstream_host": "203.0.113.9:443",
}
WSA = "1726597763.348 12 192.0.2.7 %s %s - DIRECT/a.example - %s-A-B-NONE-NONE-NONE-NONE-NONE <-,-> -"
PROXYSG = (
    "2020-05-02 02:16:40 12 192.0.2.7 - - %s %s none - %s %s GET - http a.example 80 / - - ua 192.0.2.80 1 2 - - -"
)
ZSCALER = {
    "action": "Allowed",
    "requestmethod": "GET",
    "ClientIP": "192.0.2.7",
    "url": "a.example/",
    "protocol": "HTTP",
}
JSON = {
    "envoy": json.dumps(ENVOY),
    "w3c": json.dumps(
        {
            "date": "2020-05-02",
            "time": "02:16:40",
            "c-ip": "192.0.2.7",
            "sc-status": "200",
            "s-action": "TCP_MISS",
            "cs-method": "GET",
            "cs-uri-scheme": "http",
            "cs-host": "a.example",
            "cs-uri-port": "80",
            "s-port": "3128",
        }
    ),
    "zscaler": json.dumps({"event": {"datetime": "2020-11-03 12:41:27"} | ZSCALER}),
}
"""What is read of its bytes where nothing carries it."""
SOPHOS = (
    'h=192.0.2.7 u="DOMAIN\\\\user7" s=200 X=- t=1604407287 T=284453 act=1 in=1255 out=26198 '
    'ref="http://b.example/" ua="a \\" h=192.0.2.8" req="GET http://a.example/ HTTP/1.1" target_ip="203.0.113.9"'
)
FORCEPOINT = (
    "<159>1 2026-03-06T22:39:30Z gw-1 websense - - - vendor=Forcepoint product=Security product_version=8.5.4 action=permitted "
    "severity=1 category=153 user=LDAP://192.0.2.1 OU=A B,DC=corp/User Seven loginID=user7 src_host=192.0.2.7 src_port=51000 "
    "dst_host=a.example dst_ip=203.0.113.9 dst_port=443 bytes_out=310 bytes_in=512 http_response=200 http_method=GET "
    "http_user_agent=x dst_host=b.example url=http://b.example/ reason=- url=https://a.example/?u= logRecordSource=0"
)


def logged(dialect: str, line: str) -> ProxyLogged:
    """The event of a line that has one."""
    parsed = read(dialect, line)
    assert isinstance(parsed, ProxyLogged), parsed
    return parsed


def native(
    result: str = "TCP_MISS/200", request: str = "GET http://a.example/", peer: str = "HIER_DIRECT/203.0.113.9"
) -> str:
    """A line of squid's native format."""
    return f"1570784654.576    111 192.0.2.7 {result} 491 {request} - {peer} text/html"


def envoy(**changed: object) -> str:
    """A line of Envoy's JSON."""
    return json.dumps(ENVOY | changed)


def zscaler(**changed: str) -> str:
    """A line of NSS."""
    return "\t".join(["2020-11-03 12:41:27", *(f"{key}={value}" for key, value in (ZSCALER | changed).items())])
