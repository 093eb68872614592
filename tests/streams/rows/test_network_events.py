"""Rows are made by position: each position must hold its column."""

from __future__ import annotations

import inspect
import re

from msgspec.structs import replace

from schemas.events import Process
from schemas.tables import NetworkEvent
from streams.rows.network_events import connection_row, destination_row
from tests.factories import PORT, World, connection, flow_end, name, request


def test_positions_are_the_columns_named_beside_them() -> None:
    """Both row functions fill the class's columns in its order."""
    for function in (destination_row, connection_row):
        named = re.findall(r",  # (\w+)\n", inspect.getsource(function))

        assert tuple(named) == NetworkEvent.__struct_fields__[: len(named)]
        assert named[-1] == "HostMismatch"


def test_a_rich_sensor_fills_the_process_columns() -> None:
    """Path, command line, account, parent and hashes are on both rows."""
    process = Process(
        *(
            7,
            "curl",
            "/usr/bin/curl",
            "curl -x p",
            1_795_547_000_000_000,
            "kim",
            "corp",
            "S-1",
            6,
            "bash",
            "1",
            "2",
            "3",
        )
    )
    world = World().see(replace(connection(0), process=process), request(0.1, "a.example:443"))

    assert len(world.rows) == 2
    for row in world.rows:
        assert row["InitiatingProcessFolderPath"] == "/usr/bin/curl"
        assert row["InitiatingProcessCommandLine"] == "curl -x p"
        assert (row["InitiatingProcessAccountDomain"], row["InitiatingProcessAccountName"]) == ("corp", "kim")
        assert (row["InitiatingProcessParentId"], row["InitiatingProcessParentFileName"]) == (6, "bash")
        assert (row["InitiatingProcessSHA1"], row["InitiatingProcessSHA256"], row["InitiatingProcessMD5"]) == (
            "1",
            "2",
            "3",
        )
        assert row["InitiatingProcessCreationTime"] == "2026-11-24T19:03:20.000000Z"


def test_a_destination_without_an_address_has_the_type_of_its_name() -> None:
    """A hunt for public destinations finds what is behind a proxy, and not the names of the own network."""
    targets = ["www.example.com:443", "wiki:443", "db.internal:443", "10.9.8.7:443"]
    world = World().see(*(at for n, host in enumerate(targets) for at in (connection(n), request(n + 0.1, host))))
    types = {row["DestinationHost"]: (row["RemoteIP"], row["RemoteIPType"]) for row in world.finish().destinations}

    assert types == {
        "www.example.com": ("", "Public"),
        "wiki": ("", "Private"),
        "db.internal": ("", "Private"),
        "10.9.8.7": ("10.9.8.7", "Private"),
    }


def test_bytes_are_the_endpoints_where_no_network_sensor_counts() -> None:
    """Bytes of the endpoint fill the row, also when late; bytes of a network sensor, with headers, go first."""
    ended = replace(connection(0, ended=1), bytes_sent=0, bytes_received=777)
    world = World().see(connection(0, ended=1), ended, request(0.1, "a.example:443"))
    (row,) = world.connections
    assert (row["BytesSent"], row["BytesReceived"]) == (0, 777)

    world = World().see(connection(0, ended=1), request(0.1, "a.example:443"), request(20, port=2), ended)
    versions = [(row["Version"], row["BytesReceived"]) for row in world.versions if row["Layer"] == "connection"]
    assert [received for _, received in versions] == [None, 777]
    assert versions[0][0] != versions[1][0], "each content has a version of its own"

    counted = flow_end(1.5, started=0, ended=1)
    for events in ((ended, counted), (counted, ended)):
        (row,) = World().see(*events).finish().connections
        assert (row["BytesSent"], row["BytesReceived"]) == (counted.bytes_sent, counted.bytes_received)

    (row,) = World().see(connection(0, ended=1)).finish().connections
    assert (row["BytesSent"], row["BytesReceived"]) == (None, None)


def test_a_flow_record_completes_the_row_of_a_nameless_client_hello() -> None:
    """The hello counts as no evidence, so the flow record raises the version: end and bytes reach the row."""
    world = World().see(name(0.1, "", tunnelled=False), request(20, port=2)).see(flow_end(60, started=0, ended=50))
    (row,) = [row for row in world.finish().connections if row["LocalPort"] == PORT]

    assert (row["BytesSent"], row["BytesReceived"], row["ConnectionEndTime"]) == (10, 20, "2026-11-24T19:08:18.000000Z")
