"""Zeek's lines through the whole pipeline: the rows that a network tap alone gives for proxied and direct connections."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable
from itertools import permutations
from pathlib import Path
from typing import Any

from schemas.parsers.network.zeek_tsv import ZeekRows
from schemas.settings import CorrelationSettings
from schemas.tables import NetworkEvent
from streams.pipeline import Message, Pipeline
from tests.factories import Row, as_row, latest

DATA = Path(__file__).parents[2] / "data" / "zeek"
CLIENT, PROXY = "198.51.100.11", "198.51.100.80"
PROXIED = gzip.decompress((DATA / "proxied.constructed.jsonl.gz").read_bytes()).splitlines()


def rows_of(lines: Iterable[bytes]) -> list[Row]:
    """Return the latest rows of these lines."""
    pipeline = Pipeline(CorrelationSettings())
    for offset, line in enumerate(lines, 1):
        pipeline.take(Message(offset, 0, b"tap", line, "zeek"))
    pipeline.finish()
    made = pipeline.drain()
    assert not made.rejects
    return latest(as_row(row, NetworkEvent) for row in made.network_events)


def summary(rows: list[Row], layer: str) -> set[tuple[object, ...]]:
    """Return the columns of a layer's rows that these tests compare."""
    columns = ("DeviceId", "ProxyIP", "DestinationHost", "DestinationPort", "Outcome", "ResolvedBy", "UnresolvedReason")
    return {tuple(row[column] for column in columns) for row in rows if row["Layer"] == layer}


def test_proxied_requests_resolve_in_any_order() -> None:
    """CONNECT, absolute URIs on one connection, a refusal, and a TLS name inside that changes nothing."""
    for lines in permutations(PROXIED):
        rows = rows_of(lines)

        assert summary(rows, "destination") == {
            (CLIENT, PROXY, "www.good1.example", 443, "allowed", "connect", ""),
            (CLIENT, PROXY, "shop.good2.example", 80, "allowed", "absolute_uri", ""),
            (CLIENT, PROXY, "files.bad3.test", 8081, "failed", "absolute_uri", ""),
        }
        assert not any(row["HostMismatch"] for row in rows)
        assert {row["BytesSent"] for row in rows if row["Layer"] == "connection"} == {3216, 911}


def test_a_recorded_tunnel_resolves() -> None:
    """Zeek's own capture of a CONNECT, tab-separated: one connection, one destination, with bytes."""
    framings = [
        (ZeekRows(), DATA / f"zeek-btest.http-connect-with-header.{log}.log.gz") for log in ("conn", "http", "tunnel")
    ]
    lines = [
        made
        for framing, path in framings
        for line in gzip.decompress(path.read_bytes()).splitlines()
        for made in framing.take(line, 0)
    ]
    rows = rows_of(lines)

    assert summary(rows, "destination") == {("::1", "::1", "secure.newegg.com", 443, "allowed", "connect", "")}
    assert [row["BytesReceived"] for row in rows if row["Layer"] == "connection"] == [55_499]


def test_tls_to_the_proxy_itself_is_no_destination() -> None:
    """Without a CONNECT the name of a TLS hello to a known proxy is the proxy's own."""
    ends: dict[str, Any] = {"id.orig_h": CLIENT, "id.orig_p": 60_000, "id.resp_h": PROXY, "id.resp_p": 3128}
    hello = {
        "_path": "ssl",
        "ts": 1741079725.0,
        "uid": "CCc3",
        **ends,
        "server_name": "proxy.example",
        "version": "TLSv13",
    }
    rows = rows_of([*PROXIED, json.dumps(hello).encode()])

    assert (CLIENT, PROXY, "", None, "unknown", "", "encrypted_to_proxy") in summary(rows, "connection")
    assert not any(row["DestinationHost"] == "proxy.example" for row in rows)
