"""The samples as worlds: the stream's rows and the offline join's rows of the same lines, and their differences."""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from producers.publish.report import Report
from producers.simulation import World, WorldSettings
from schemas.clock import MICROS, parse_micros
from schemas.events import Event, Ignored, Reject
from schemas.parsers import dialects
from schemas.settings import CorrelationSettings, Settings
from schemas.tables import DeviceEvent, NetworkEvent
from streams.pipeline import Message, Pipeline
from tests.check.offline_join import rows as joined_offline
from tests.factories import Row, as_row, latest
from unproxy import wiring

DATA = Path(__file__).parents[1] / "data"
SURICATA = sorted((DATA / "suricata").glob("*.gz"))
PROXY_LOGS = sorted((DATA / "proxylogs").glob("*-sample.*.gz"))
LEAP = 3_600 * MICROS
"""Captures further apart are separate worlds, because one line advances a device's clock no further."""
LINES_OF_A_MESSAGE = 1


def _samples() -> dict[str, list[Path]]:
    """Return the files that belong together, by the sample's name."""
    samples: dict[str, list[Path]] = defaultdict(list)
    for folder in ("auditd", "ecs", "mde", "osquery", "suricata_other", "tetragon", "winlog", "zeek"):
        for file in sorted((DATA / folder).glob("*.gz")):
            # Zeek writes a log for each protocol; together they are one capture.
            name = re.sub(r"(\.(conn|files|http|jsonl|json|log|socks|ssl|tunnel|x509|xml))+\.gz$", "", file.name)
            samples[folder if folder == "winlog" else f"{folder} {name}"].append(file)
    for file in sorted((DATA / "sensor").glob("*.jsonl")):
        samples[f"sensor {file.stem}"].append(file)
    for file in sorted((DATA / "golden").glob("*.in.jsonl")):
        samples[f"golden {file.name}"].append(file)
    samples["suricata, endpoint and network"] = SURICATA
    samples["suricata, network"] = [file for file in SURICATA if "eve" in file.name]
    samples["suricata, endpoint"] = [file for file in SURICATA if "eve" not in file.name]
    samples["suricata, endpoint and proxies' logs"] = [*samples["suricata, endpoint"], *PROXY_LOGS]
    samples["suricata, endpoint, network and proxies' logs"] = [*SURICATA, *PROXY_LOGS]
    return samples


SAMPLES = _samples()


class Played:
    """One world through the pipeline; keeps its events for the offline join."""

    def __init__(self) -> None:
        self._pipeline = Pipeline(CorrelationSettings())
        self._events: dict[str, list[Event]] = defaultdict(list)

    def take(self, message: Message, events: Iterable[tuple[str, Event]]) -> None:
        """Take one message, and the events of its lines."""
        self._pipeline.take(message)
        for device, event in events:
            self._events[device].append(event)

    def rows(self) -> tuple[list[Row], list[Row]]:
        """The stream's rows of both tables."""
        self._pipeline.finish()
        output = self._pipeline.drain()
        events = latest(as_row(row, NetworkEvent) for row in output.network_events)
        return events, latest(as_row(row, DeviceEvent) for row in output.device_events)

    def both(self) -> tuple[list[Row], list[Row]]:
        """Return the stream's rows and the offline join's rows in one shape."""
        events, verdicts = self.rows()
        found = [_comparable(row) for row in events] + [_verdict(row) for row in verdicts if not row["LocalPort"]]
        offline: list[Row] = []
        for device, those in self._events.items():
            offline += joined_offline(device, those)
        return found, offline


def recorded(files: Sequence[Path]) -> list[Played]:
    """Return the worlds of recorded files: several where their captures lie apart."""
    parsed: list[tuple[int, Message, list[tuple[str, Event]]]] = []
    sources = [f"auto:{file}" for file in files]
    for message in wiring.recorded_messages(Settings(), sources, LINES_OF_A_MESSAGE, Report()):
        assert not isinstance(message, Reject), "no sample has a line that is too long"
        events = list(events_of(message))
        parsed.append((events[0][1].at if events else parsed[-1][0] if parsed else 0, message, events))
    if any("zeek" in str(file.relative_to(DATA)) for file in files):
        # Logs that Zeek wrote at the same time, one after the other in a file.
        parsed.sort(key=lambda one: one[0])
    worlds, clock = [Played()], 0
    for offset, (at, message, events) in enumerate(parsed, 1):
        if clock and abs(at - clock) > LEAP:
            worlds.append(Played())
        worlds[-1].take(message._replace(offset=offset), events)
        clock = at
    return worlds


def simulated(settings: WorldSettings) -> Played:
    """A simulated world."""
    played, offset = Played(), 0
    for until, batch in World(settings).slices():
        for one in batch:
            for stream, lines in zip(one.streams, one.lines, strict=True):
                if lines:
                    offset += 1
                    value = b"\n".join(line for _, line in lines)
                    message = Message(offset, until // 1000, one.device.encode(), value, stream.dialect)
                    played.take(message, events_of(message))
    return played


def events_of(message: Message) -> Iterator[tuple[str, Event]]:
    """Yield the events of a message's lines, each with its device."""
    dialect = dialects().get(message.dialect)
    if dialect is None:
        return
    home = message.key.decode()
    for line in filter(bytes.strip, message.value.split(b"\n")):
        for row in dialect.split(line) if dialect.split is not None else [line]:
            event = dialect.parse(row)
            if not isinstance(event, Ignored | Reject):
                yield home if message.keyed and home else event.device or home, event


def differences(found: Sequence[Row], offline: Sequence[Row]) -> Counter[str]:
    """Count by kind the rows that only one side has, and the fields that differ."""
    ours, theirs = ({_identity(row): row for row in rows} for rows in (found, offline))
    assert len(ours) == len(found), "two rows of the stream have one identity"
    apart: Counter[str] = Counter()
    for key in ours.keys() | theirs.keys():
        one, other = ours.get(key), theirs.get(key)
        if one is None or other is None:
            apart[f"{key[0]}: only {'offline' if one is None else 'in the stream'} {key[1:]}"] += 1
            continue
        for name in one:
            if one[name] != other[name]:
                apart[f"{key[0]}: {name} is {one[name]}, offline {other[name]} {key[1:]}"] += 1
    return apart


def _identity(row: Row) -> tuple[Any, ...]:
    return tuple(row.get(name) for name in ("layer", "device", "ends", "flows", "kernels", "host", "port", "at"))


def _comparable(row: Row) -> Row:
    more = json.loads(str(row.get("AdditionalFields") or "{}"))
    connection = row["Layer"] == "connection"
    remote = ("RemoteIP", "RemotePort") if connection else ("ProxyIP", "ProxyPort")
    flows = more.get("FlowIds", [row["FlowId"]])
    kernels = more.get("ConnectionEventIds", [row["ConnectionEventId"]])
    common: Row = {
        "layer": row["Layer"],
        "device": row["DeviceName"],
        "ends": " ".join(str(row[name]) for name in ("LocalIP", "LocalPort", *remote)),
        "flows": frozenset(filter(None, flows)),
        "kernels": frozenset(filter(None, kernels)),
        "process": row["InitiatingProcessId"],
        "outcome": row["Outcome"],
    }
    if connection:
        return {**common, "reason": row["UnresolvedReason"]}
    named: Row = {"host": row["DestinationHost"], "port": row["DestinationPort"], "by": row["ResolvedBy"]}
    return {**common, **named, "mismatch": row["HostMismatch"], "requests": row["RequestCount"]}


def _verdict(row: Row) -> Row:
    at = parse_micros(str(row["Timestamp"]))
    named = {"device": row["DeviceName"], "host": row["DestinationHost"], "at": at}
    return {"layer": "verdict", **named, "outcome": row["Outcome"]}
