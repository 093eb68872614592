"""Contracts: struct, JSON Schema, reference page, pydantic model and table agree, and models read what the pipeline writes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pydantic
import pytest

from schemas import ddl
from schemas.columns import columns
from schemas.indicator_input import Given
from schemas.indicator_topic import key_of, read, value_of
from schemas.indicators import Indicator
from schemas.models import indicators as indicator_models
from schemas.models import rows as row_models
from schemas.models.base import Contract
from schemas.settings import CorrelationSettings
from schemas.suppression_input import suppression_of
from schemas.suppressions import Suppression
from schemas.tables import TABLES
from sinks.rejects import reject_row
from streams.pipeline import Message, Output, Pipeline
from tests.factories import indicator, listing
from tests.sample import sample
from tools.reference import CONTRACTS

GOLDEN = Path(__file__).resolve().parents[1] / "data/golden"
REFERENCE = Path(__file__).resolve().parents[2] / "docs/reference"
PAGES = {"BlockAlerts": "alerts.md", "Indicator": "indicators.md", "Suppression": "indicators.md"}
"""Reference page of a contract; rows.md has the others."""


class Described(NamedTuple):
    """A field as any of the five describes it."""

    name: str
    about: str
    required: bool
    nullable: bool


def model_of(struct: type[msgspec.Struct]) -> type[Contract]:
    """Return the model of a struct."""
    module = indicator_models if struct in (Indicator, Suppression) else row_models
    model: type[Contract] = getattr(module, struct.__name__)
    return model


def of_struct(name: str) -> list[Described]:
    """Return the fields of the struct."""
    return [Described(field.name, field.about, field.required, field.nullable) for field in columns(CONTRACTS[name])]


def of_schema(name: str) -> list[Described]:
    """Return the fields in the published JSON Schema."""
    whole = json.loads((REFERENCE / f"schema/{name}.json").read_text(encoding="utf-8"))
    schema = whole["$defs"][CONTRACTS[name].__name__]
    return [
        Described(field, found["description"], field in schema["required"], {"type": "null"} in found.get("anyOf", ()))
        for field, found in schema["properties"].items()
    ]


def of_model(name: str) -> list[Described]:
    """Return the fields of the pydantic model, by its own JSON Schema."""
    model = model_of(CONTRACTS[name])
    schema = model.model_json_schema()["properties"]
    return [
        Described(
            field, found.description or "", found.is_required(), {"type": "null"} in schema[field].get("anyOf", ())
        )
        for field, found in model.model_fields.items()
    ]


def of_table(name: str) -> list[Described]:
    """Return the columns of the statement that creates the table; which are on every row is not in it."""
    found = re.findall(r"^    `(\w+)` (\S.*?) COMMENT '((?:[^'\\]|\\.)*)',$", ddl.table(name), re.MULTILINE)
    required = {field.name: field.required for field in of_struct(name)}
    return [
        Described(column, re.sub(r"\\(.)", r"\1", about), required[column], kind.startswith("Nullable("))
        for column, kind, about in found
        if column != "IngestedAt"
    ]


def of_page(name: str) -> Iterator[tuple[str, bool, str]]:
    """Yield name, presence on every row and meaning of each field on the reference page."""
    page = (REFERENCE / PAGES.get(name, "rows.md")).read_text(encoding="utf-8")
    section = page.split(f"\n## {name}\n", 1)[1].split("\n## ", 1)[0]
    for line in section.splitlines():
        if line.startswith("| `"):
            cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
            required = cells[2] == "yes" if name in TABLES else cells[1] == ""
            yield cells[0].strip("`"), required, cells[-1].replace("\\|", "|")


@pytest.mark.parametrize("name", CONTRACTS)
def test_the_five_agree(name: str) -> None:
    """All five have the same fields in the same order, with the same meanings, and agree on what is required and null."""
    expected = of_struct(name)

    assert all(field.about for field in expected)
    assert of_schema(name) == expected
    assert of_model(name) == expected
    assert list(of_page(name)) == [(field.name, field.required, field.about) for field in expected]
    if name in TABLES:
        assert of_table(name) == expected


@pytest.mark.parametrize("name", CONTRACTS)
def test_schemas_agree(name: str) -> None:
    """The model's JSON Schema is the published one: types, formats, defaults and closed sets."""
    published = json.loads((REFERENCE / f"schema/{name}.json").read_text(encoding="utf-8"))
    found = model_of(CONTRACTS[name]).model_json_schema()
    sets = found.pop("$defs", {})

    assert _plain({**sets, CONTRACTS[name].__name__: found}) == _plain(published["$defs"])


def _plain(schema: Any) -> Any:
    """Return a schema without what the two libraries write differently but mean alike.

    Those are titles, the order of a set's words, the type of a set, and the place of a format beside `anyOf`.
    """
    if isinstance(schema, list):
        return [_plain(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    plain = {key: _plain(item) for key, item in schema.items() if not (key == "title" and isinstance(item, str))}
    if "enum" in plain:
        plain["enum"] = sorted(plain["enum"])
        plain.pop("type", None)
    if "anyOf" in plain and "format" in plain:
        form = plain.pop("format")
        plain["anyOf"] = [{**kind, "format": form} if kind["type"] == "string" else kind for kind in plain["anyOf"]]
    return plain


@pytest.mark.parametrize("name", CONTRACTS)
def test_models_ignore_new_columns(name: str) -> None:
    """A row with a column that was added later is read; a model cannot be changed."""
    struct = CONTRACTS[name]
    model = model_of(struct)
    given = {field.name: _value(field.kind, is_time=field.is_time) for field in columns(struct) if field.required}
    read = model.model_validate({**given, "AddedLater": 1})

    assert not hasattr(read, "AddedLater")
    with pytest.raises(pydantic.ValidationError, match="frozen"):
        setattr(read, next(iter(given)), "other")


def _value(kind: Any, *, is_time: bool) -> Any:
    if isinstance(kind, msgspec.inspect.EnumType):
        return next(iter(kind.cls)).value
    if isinstance(kind, msgspec.inspect.UnionType):
        return None
    if isinstance(kind, msgspec.inspect.IntType):
        return 1
    if isinstance(kind, msgspec.inspect.ListType | msgspec.inspect.VarTupleType):
        return []
    return "2026-11-24T10:00:00.000000Z" if is_time else "x"


def outputs() -> Iterator[Output]:
    """Yield the output for the sample and for the golden lines of all dialects; every second line is missing there."""
    pipeline = Pipeline(CorrelationSettings(), listing(Given("test", exact=True), Given("https://example.com/")))
    for number, line in enumerate(sample()):
        pipeline.take(Message(number, 0, line.device.encode(), line.value, line.dialect))
    pipeline.finish()
    yield pipeline.drain()
    pipeline = Pipeline(CorrelationSettings())
    for file in sorted(GOLDEN.glob("*.in.jsonl")):
        dialect = file.name.partition(".")[0]
        for number, value in enumerate(file.read_bytes().splitlines()):
            pipeline.take(Message(number, 0, b"dev", value, dialect, sensor=dialect, seq=2 * number))
    pipeline.finish()
    yield pipeline.drain()


def test_models_read_what_the_pipeline_writes() -> None:
    """Each row of the sample and of the golden lines: JSON to model and back gives the same bytes, and its times are UTC."""
    read: dict[type[Contract], int] = {}
    for output in outputs():
        written: dict[type[Contract], list[bytes]] = {
            row_models.NetworkEvent: output.network_events,
            row_models.DeviceEvent: output.device_events,
            row_models.Alert: [alert for _, alert in output.alerts],
            row_models.SensorGap: output.sensor_gaps,
            row_models.Coverage: output.coverage,
            row_models.ModeSpan: output.modes,
        }
        for model, rows in written.items():
            read[model] = read.get(model, 0) + len(rows)
            for row in rows:
                made = model.model_validate_json(row)
                assert made.model_dump_json(exclude_unset=True).encode() == row

    assert all(read.values()), read
    assert row_models.NetworkEvent.model_validate_json(output.network_events[0]).Timestamp.tzinfo is UTC


def test_reject_row_is_read() -> None:
    """A row of Rejects, as the sink makes it from a message, is read like the others."""
    row = reject_row("rejects/0/7", 1_795_802_400_000, [("reason", b"malformed"), ("dialect", b"zeek")], b"\xff\x00")
    read = row_models.RejectRow.model_validate_json(row)

    assert read.model_dump_json(exclude_unset=True).encode() == row
    assert read.RejectedAt == datetime(2026, 11, 27, 18, tzinfo=UTC)


@pytest.mark.parametrize(
    "entry",
    [
        indicator(
            Given(
                "https://evil.example:8443/a?b", action="warn", title="Kampagne ä", severity="high", groups=("b", "a")
            )
        ),
        indicator(Given("evil.example", exact=True, process="C:/x.EXE", expires="2099-01-01T00:00:00.000001Z")),
        indicator(Given("2001:db8::/32", action="allow")),
        Suppression("s1", "ana", "red team", 4_070_908_800_000_001, device="srv-*", domain="evil.example"),
    ],
    ids=lambda entry: entry.id,
)
def test_entries_of_the_feed_are_read(entry: Indicator | Suppression) -> None:
    """The models read every indicator and suppression on the topic, and make the same message of it."""
    (wrapped,) = json.loads(value_of(entry)).values()
    made = model_of(type(entry)).model_validate(wrapped)

    assert isinstance(made, indicator_models.Indicator | indicator_models.Suppression)
    assert made.message() == (key_of(entry), value_of(entry))


def test_new_indicator_is_normalised() -> None:
    """An indicator without id gets the one that `unproxy indicators add` makes, and workers read its message."""
    expires = datetime(2099, 1, 1, tzinfo=UTC)
    given = {"value": "Bücher.example:8443", "action": "block", "process": "CURL.exe", "groups": ["b", "a", "b"]}
    made = indicator_models.Indicator.model_validate({**given, "subdomains": False, "expires": expires})
    wanted = indicator(
        Given("Bücher.example:8443", exact=True, process="CURL.exe", groups=("a", "b"), expires="2099-01-01T00:00:00Z")
    )

    assert read(*made.message()) == wanted
    assert made.expires == expires
    assert indicator_models.Indicator.model_validate({"value": "192.0.2.7", "action": "audit"}).expires is None


def test_new_suppression_is_normalised() -> None:
    """A suppression without id gets the one that `unproxy suppress add` makes, and workers read its message."""
    given = {
        "who": "ana",
        "why": " red team ",
        "until": "2099-01-01T01:00:00+01:00",
        "device": "SRV-*",
        "domain": "*.Evil.example",
    }
    made = indicator_models.Suppression.model_validate(given)
    wanted = suppression_of("ana", "red team", 4_070_908_800_000_000, "", "srv-*", "evil.example", "")

    assert read(*made.message()) == wanted


@pytest.mark.parametrize(
    ("model", "given", "message"),
    [
        (indicator_models.Indicator, {"value": "co.uk", "action": "block"}, "public suffix"),
        (indicator_models.Indicator, {"value": "evil.example", "action": "destroy"}, "action"),
        (
            indicator_models.Indicator,
            {"value": "e.example", "action": "block", "expires": "2099-01-01T00:00:00"},
            "timezone",
        ),
        (indicator_models.Indicator, {"action": "block"}, "value"),
        (indicator_models.Suppression, {"who": "a", "why": "b", "until": "2099-01-01T00:00:00Z"}, "hide every alert"),
        (indicator_models.Suppression, {"who": "a", "why": "b", "device": "srv"}, "until"),
        (row_models.Coverage, {"DeviceId": "dev"}, "DeviceName"),
    ],
)
def test_invalid_input_is_refused(model: type[Contract], given: dict[str, object], message: str) -> None:
    """What cannot be published, and what is no row, is a ValidationError that names the reason."""
    with pytest.raises(pydantic.ValidationError, match=message):
        model.model_validate(given)
