"""Rows: columns with a type, a description and a place in the schema."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from schemas.columns import columns, json_schema
from schemas.tables import TABLES, NetworkEvent

_DEFENDER = """
Timestamp DeviceId DeviceName ActionType RemoteIP RemotePort RemoteUrl LocalIP LocalPort Protocol LocalIPType
RemoteIPType InitiatingProcessSHA1 InitiatingProcessSHA256 InitiatingProcessMD5 InitiatingProcessFileName
InitiatingProcessFileSize InitiatingProcessVersionInfoCompanyName InitiatingProcessVersionInfoProductName
InitiatingProcessVersionInfoProductVersion InitiatingProcessVersionInfoInternalFileName
InitiatingProcessVersionInfoOriginalFileName InitiatingProcessVersionInfoFileDescription InitiatingProcessId
InitiatingProcessCommandLine InitiatingProcessCreationTime InitiatingProcessFolderPath InitiatingProcessParentFileName
InitiatingProcessParentId InitiatingProcessParentCreationTime InitiatingProcessAccountDomain
InitiatingProcessAccountName InitiatingProcessAccountSid InitiatingProcessAccountUpn
InitiatingProcessAccountObjectId InitiatingProcessIntegrityLevel InitiatingProcessTokenElevation ReportId
AppGuardContainerId AdditionalFields InitiatingProcessSessionId IsInitiatingProcessRemoteSession
InitiatingProcessRemoteSessionDeviceName InitiatingProcessRemoteSessionIP InitiatingProcessUniqueId LogonID
"""
"""The columns of Microsoft Defender's advanced-hunting table DeviceNetworkEvents."""

_OURS = """
Layer ConnectionId RecordId Version ConnectionTime ProxyIP ProxyPort ProxyName DestinationHost DestinationPort
DestinationDomain Outcome ProtectionMode ResolvedBy Confidence UnresolvedReason ResolutionMs
"""
"""What the design promises besides."""


def test_defenders_columns_are_all_there() -> None:
    """A hunt written for Defender finds each of its 46 columns."""
    names = {column.name for column in columns(NetworkEvent)}

    assert len(_DEFENDER.split()) == 46
    assert set(_DEFENDER.split()) <= names
    assert set(_OURS.split()) <= names


@pytest.mark.parametrize("row", TABLES.values(), ids=TABLES.keys())
def test_columns_are_described_completely(row: type[msgspec.Struct]) -> None:
    """Each column has a ClickHouse type and a sentence, and none is there twice."""
    found = columns(row)

    assert len({column.name for column in found}) == len(found)
    assert all(column.clickhouse and column.about for column in found)


@pytest.mark.parametrize("row", TABLES.values(), ids=TABLES.keys())
def test_strings_are_never_null(row: type[msgspec.Struct]) -> None:
    """Only numbers, booleans and times may be null, and table and schema agree on which."""
    properties = json_schema(row)["$defs"][row.__name__]["properties"]
    for column in columns(row):
        nullable = "null" in str(properties[column.name].get("anyOf", ""))

        assert column.clickhouse.startswith("Nullable") == nullable
        assert not (nullable and "String" in column.clickhouse)


@pytest.mark.parametrize("row", TABLES.values(), ids=TABLES.keys())
def test_schema_requires_what_is_on_every_row(row: type[msgspec.Struct]) -> None:
    """JSON Schema and columns agree on which columns may be left out."""
    schema = json_schema(row)["$defs"][row.__name__]

    assert schema["required"] == [column.name for column in columns(row) if column.required]
    assert list(schema["properties"]) == [column.name for column in columns(row)]


@pytest.mark.parametrize("row", TABLES.values(), ids=TABLES.keys())
def test_the_emptiest_row_is_read_again(row: type[msgspec.Struct]) -> None:
    """A row with only what must be on it goes out as JSON and comes back the same."""
    empty = msgspec.convert({c.name: _plain(c.name, row) for c in columns(row) if c.required}, row)

    assert msgspec.json.decode(msgspec.json.encode(empty), type=row) == empty


def _plain(name: str, row: type[msgspec.Struct]) -> Any:
    """Some value that a column takes."""
    fields = msgspec.inspect.type_info(row).fields  # type: ignore[attr-defined]  # a struct's info has them
    (field,) = (field for field in fields if field.name == name)
    kind = field.type.type
    if isinstance(kind, msgspec.inspect.EnumType):
        return next(iter(kind.cls)).value
    if isinstance(kind, msgspec.inspect.UnionType):
        return None
    if isinstance(kind, msgspec.inspect.IntType):
        return 1
    return [] if isinstance(kind, msgspec.inspect.ListType) else "x"
