"""Real records of Windows events (tests/data/winlog): all of them are read, and the traps that were met in them."""

from __future__ import annotations

import gzip
import json
import re
from collections import Counter
from pathlib import Path

import pytest

from schemas.clock import MICROS, iso_micros, parse_micros
from schemas.events import ConnectionOpened, Ignored, Reject
from schemas.parsers.windows.winlog import device_of, parse, written_at
from tests.schemas.parsers.parsed_as import opened
from tests.schemas.parsers.windows.windows_events import filtering
from tests.schemas.parsers.windows.windows_shippers import flat

DATA = Path(__file__).parents[3] / "data" / "winlog"
PARSED_AND_IGNORED = {
    "aadinternals_export_adfsdatabaseconfig_remotely.jsonl.gz": (19, 30),
    "aptsimulator_cobaltstrike.jsonl.gz": (34, 23),
    "cmd_bitsadmin_download_psh_script.jsonl.gz": (10, 22),
    "cmd_mshta_javascript_getobject_sct.jsonl.gz": (11, 7),
    "covenant_installutil.jsonl.gz": (22, 29),
    "covenant_persiststartup.jsonl.gz": (44, 58),
    "covenant_psremoting_command.jsonl.gz": (50, 62),
    "covenant_sharpsc_query_dcerpc_smb_svcctl.jsonl.gz": (25, 37),
    "empire_enable_rdp.jsonl.gz": (43, 46),
    "event-json.datadog-agent.jsonl.gz": (0, 1),
    "event-xml.evtxecmd-maps.xml.gz": (1, 3),
    "event-xml.sysmon-evtx.xml.gz": (14, 0),
    "evtx-dump-json.sysmon-evtx.jsonl.gz": (14, 0),
    "metasploit_logonpasswords_lsass_memory_dump.jsonl.gz": (48, 60),
    "psh_cmstp_execution_bypassuac.jsonl.gz": (12, 23),
    "psh_python_webserver.jsonl.gz": (7, 8),
    "syslog_sysmon_log4shell_cve2021_44228_jndi_reference.jsonl.gz": (29, 1),
    "sysmon_log4shell_cve2021_44228_java_serialized_object.jsonl.gz": (8, 3),
}
"""Of each file of real records, how many give an event and how many hold nothing for us; none is rejected."""


def lines(name: str) -> list[bytes]:
    """The recorded lines of a file."""
    return gzip.decompress((DATA / name).read_bytes()).splitlines()


@pytest.mark.parametrize("name", PARSED_AND_IGNORED)
def test_real_records_are_read(name: str) -> None:
    """Each real record is an event or holds nothing for us; it names its device, and when it was."""
    counts: Counter[bool] = Counter()
    for line in lines(name):
        parsed = parse(line)
        assert not isinstance(parsed, Reject), parsed
        assert device_of(line) == parsed.device != ""
        assert written_at(line) == parsed.at
        counts[isinstance(parsed, Ignored)] += 1

    assert (counts[False], counts[True]) == PARSED_AND_IGNORED[name]


def test_every_file_of_real_records_is_counted() -> None:
    """A file that is put there and not counted would look as if it were read."""
    assert set(PARSED_AND_IGNORED) == {path.name for path in DATA.glob("*.gz") if "constructed" not in path.name}


def test_pid_of_nxlog_in_2019_is_the_writers() -> None:
    """Its `ProcessID` is 4 or Sysmon's own; the connection's is in the text alone."""
    differ = 0
    for line in lines("covenant_persiststartup.jsonl.gz"):
        fields, parsed = json.loads(line), parse(line)
        if isinstance(parsed, ConnectionOpened):
            reported = re.search(r"Process ?I[dD]:\s*(\d+)", fields["Message"])
            assert reported is not None
            assert parsed.process.pid == int(reported[1])
            differ += parsed.process.pid != fields["ProcessID"]

    assert differ > 30


def test_no_pid_is_none_rather_than_the_writers() -> None:
    """Three of NXLog's records have neither `ProcessId` nor a text, but `ExecutionProcessID`."""
    without = [
        event
        for event in map(parse, lines("covenant_installutil.jsonl.gz"))
        if isinstance(event, ConnectionOpened) and event.process.pid is None
    ]

    assert len(without) == 3
    assert {event.process.account for event in without} == {"pgustavo", "SYSTEM"}


def test_local_time_with_a_z_is_not_believed() -> None:
    """Flat exports write local time with a Z in `TimeCreated` and `@timestamp`; Sysmon's `UtcTime` is right."""
    hours = set()
    for line in lines("cmd_bitsadmin_download_psh_script.jsonl.gz"):
        fields = json.loads(line)
        if "UtcTime" in fields:
            parsed = parse(line)
            assert not isinstance(parsed, Reject)
            assert parsed.at == parse_micros(fields["UtcTime"])
            hours.add(round((parsed.at - parse_micros(fields["@timestamp"])) / 3_600 / MICROS))

    assert hours == {4}


def test_an_empty_name_of_the_shippers_module_is_one() -> None:
    """It was reported; then `ProcessID` is the writer's as well."""
    reported = {"ProcessID": 4, "EventTime": "2025-03-04 09:15:22"}

    assert opened(parse(flat(5156, filtering(), **reported))).process.pid == 4
    assert opened(parse(flat(5156, filtering(), **reported, SourceModuleType=""))).process.pid is None


def test_local_time_of_nxlog_is_brought_to_utc() -> None:
    """5156 has no other time than `EventTime`: its zone is that by which NXLog's receipt differs from the collector's."""
    times: dict[str, dict[str, int]] = {}
    for line in lines("covenant_persiststartup.jsonl.gz"):
        parsed = parse(line)
        if isinstance(parsed, ConnectionOpened):
            times.setdefault(parsed.flow.key, {})[parsed.event_id.partition("/")[0]] = parsed.at
    both = [pair for pair in times.values() if len(pair) == 2]

    assert both
    assert all(abs(pair["security"] - pair["sysmon"]) < 3 * MICROS for pair in both)


@pytest.mark.parametrize(
    ("event_time", "received", "collected", "is_at"),
    [
        ("2020-08-06 01:20:11", "2020-08-06 01:20:14", "2020-08-06T05:20:14.617Z", "2020-08-06T05:20:11.000000Z"),
        ("2020-08-06 10:50:11", "2020-08-06 10:50:14", "2020-08-06T05:20:14.617Z", "2020-08-06T05:20:11.000000Z"),
        ("2020-08-06 11:05:11", "2020-08-06 11:05:14", "2020-08-06T05:20:59.617Z", "2020-08-06T05:20:11.000000Z"),
        ("2020-08-06T01:20:11.5-04:00", "2020-08-06 01:20:14", "", "2020-08-06T05:20:11.500000Z"),
        ("2020-08-06 05:20:11", "", "", "2020-08-06T05:20:11.000000Z"),
        ("2020-08-06 05:20:11", "2020-08-06 05:20:14", "2020-08-09T05:20:14Z", "2020-08-06T05:20:11.000000Z"),
    ],
)
def test_zone_of_nxlog(event_time: str, received: str, collected: str, is_at: str) -> None:
    """West, east, with odd minutes; a zone that is written; none to be had; collected days later."""
    times = {"EventTime": event_time, "EventReceivedTime": received, "@timestamp": collected}
    event = opened(parse(flat(5156, filtering(), SourceModuleType="im_msvistalog", **times)))

    assert iso_micros(event.at) == is_at


def test_collected_days_late_counts_when_it_happened() -> None:
    """Winlogbeat 6 brought Sysmon records that were eleven days old."""
    late = [
        parse_micros(fields["@timestamp"]) - parsed.at
        for line in lines("empire_enable_rdp.jsonl.gz")
        if "UtcTime" in (fields := json.loads(line))["event_data"]
        and isinstance(parsed := parse(line), ConnectionOpened | Ignored)
    ]

    assert max(late) > 10 * 86_400 * MICROS
