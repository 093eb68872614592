"""Holds rows and the proxy's log against what the clients report: pure.

Every connection of theirs has one row, with the process that made it; every request a destination on it, with the right host and
outcome; nothing stands on their connections that they did not ask for. What the mode promises of listed destinations is
looked for at three places: with the client, on the rows, in the proxy's log.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from schemas.clock import MICROS, parse_micros
from schemas.events import ProtectionMode
from tests.live.diary import Entry, Result
from tests.live.errands import is_listed
from tests.live.squid import Logged
from tests.live.stage import NEAR, NEAR_6

Row = dict[str, Any]
OURS = (NEAR, NEAR_6)
SLACK_SECS = 0.005
"""The client reads its clock before and after; the row's time lies between, but for the clocks' own error."""
ANSWER_SECS = 4.9
"""The sensor waits 5 s for an answer; of one that takes longer it reports no status."""
MARKS = {ProtectionMode.BLOCK: "blocked", ProtectionMode.AUDIT: "audited"}
VERDICTS = {
    ProtectionMode.BLOCK: "ExploitGuardNetworkProtectionBlocked",
    ProtectionMode.AUDIT: "ExploitGuardNetworkProtectionAudited",
}
OUTCOMES = {
    Result.DONE: {"allowed"},
    Result.REFUSED: {"failed"},
    Result.ABORTED: {"allowed", "failed", "unknown"},
    Result.CUT: {"failed", "unknown"},
}


class Wrong(StrEnum):
    """What may be wrong."""

    MISSING = "connection without a row"
    TWICE = "connection with several rows"
    UNKNOWN = "row of a connection that no client made"
    PID = "another PID"
    USER = "another user"
    COMMAND_LINE = "another command line"
    PROXY = "another proxy"
    NO_HOST = "request without a row"
    INVENTED = "destination that no client asked for"
    COUNT = "another number of requests"
    OUTCOME = "another outcome"
    MODE = "another mode"
    REASON = "another reason"
    VERDICT = "another number of verdicts"
    GOT_THROUGH = "listed, and got through"
    STOPPED = "stopped, and should not have been"
    NOT_LOGGED = "done, and not in the proxy's log"
    SECRET = "reported what no client asked for"


@dataclass(frozen=True)
class Finding:
    """Something that is wrong."""

    kind: Wrong
    what: str


@dataclass
class Judgement:
    """What was looked at, and what was found."""

    mode: ProtectionMode
    findings: list[Finding] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    """`connections`, `requests`, `listed`, and of the requests those with the right `pid`, `user`, `command_line`, `host`,
    and of the listed ones `marked`, `done` (in the proxy's log), and how they were stopped: `inline`, `socket_destroyed`."""

    def wrong(self, kind: Wrong, what: str) -> None:
        """Note a finding."""
        self.findings.append(Finding(kind, what))


@dataclass
class Rows:
    """The latest version of each row about the clients' connections."""

    connections: dict[tuple[str, int], list[Row]] = field(default_factory=lambda: defaultdict(list))
    by_pid: dict[int, list[Row]] = field(default_factory=lambda: defaultdict(list))
    destinations: dict[str, list[Row]] = field(default_factory=lambda: defaultdict(list))
    verdicts: dict[str, list[Row]] = field(default_factory=lambda: defaultdict(list))

    @classmethod
    def of(cls, rows: Iterable[bytes], verdicts: Iterable[bytes]) -> Rows:
        """Sort them."""
        found = cls()
        for row in _latest(rows):
            if row["LocalIP"] not in OURS:
                continue
            if row["Layer"] == "destination":
                found.destinations[row["ConnectionId"]].append(row)
            else:
                found.connections[row["LocalIP"], row["LocalPort"]].append(row)
                found.by_pid[row["InitiatingProcessId"]].append(row)
        for row in _latest(verdicts):
            found.verdicts[row["ConnectionId"]].append(row)
        return found

    def all_connections(self) -> Iterable[Row]:
        """Rows of connections."""
        return (row for rows in self.connections.values() for row in rows)


def judge(mode: ProtectionMode, entries: Sequence[Entry], rows: Rows, logged: Sequence[Logged] | None) -> Judgement:
    """Everything about one run in one mode; without the proxy's log that is not looked at."""
    judgement = Judgement(mode)
    judgement.counts["listed"] = sum(map(_listed, entries))
    made: dict[tuple[int, str], list[Entry]] = defaultdict(list)
    for entry in entries:
        made[entry.pid, entry.connection].append(entry)
    seen = set()
    for connection in made.values():
        judgement.counts["connections"] += 1
        judgement.counts["requests"] += sum(bool(entry.host) and entry.proxied for entry in connection)
        row = _row_of(connection, rows, judgement)
        if row is not None:
            seen.add(row["RecordId"])
            _connection(connection, row, rows, judgement)
    for row in rows.all_connections():
        if row["RecordId"] not in seen:
            judgement.wrong(Wrong.UNKNOWN, _named(row))
    verdicts = sum(map(len, rows.verdicts.values()))
    if verdicts != judgement.counts["verdicts"]:
        judgement.wrong(
            Wrong.VERDICT, f"{verdicts} in all, {judgement.counts['verdicts']} of them about listed requests"
        )
    if logged is not None:
        _proxy_log(entries, logged, judgement)
    return judgement


def _row_of(connection: Sequence[Entry], rows: Rows, judgement: Judgement) -> Row | None:
    """The row of a connection, by its end of it and the time; where the client does not know its port, by PID and time."""
    first, last = connection[0], connection[-1]
    place = rows.connections.get((first.local_ip, first.local_port), []) if first.local_port else rows.by_pid[first.pid]
    fitting = [row for row in place if _between(first.opened, row["ConnectionTime"], last.connected)]
    if len(fitting) > 1:
        # The same port may lead to several proxies at once.
        fitting = [row for row in fitting if _remote(row) == (first.remote_ip, first.remote_port)]
    if len(fitting) == 1:
        return fitting[0]
    judgement.wrong(Wrong.TWICE if fitting else Wrong.MISSING, f"{_spelled(first)}: {len(fitting)} of {len(place)} fit")
    return None


def _connection(connection: Sequence[Entry], row: Row, rows: Rows, judgement: Judgement) -> None:
    """One connection whose row is there."""
    first = connection[0]
    _process(first, row, judgement)
    if _remote(row) != (first.remote_ip, first.remote_port):
        judgement.wrong(Wrong.PROXY, f"{_spelled(first)}: {row['RemoteIP']}:{row['RemotePort']}")
    if row["ProtectionMode"] != judgement.mode:
        judgement.wrong(Wrong.MODE, f"{_spelled(first)}: {row['ProtectionMode']}")
    if not first.proxied:
        return
    destinations = {(it["DestinationHost"], it["DestinationPort"]): it for it in rows.destinations[row["ConnectionId"]]}
    if judgement.mode is ProtectionMode.OFF:
        if row["UnresolvedReason"] != "protection_off":
            judgement.wrong(Wrong.REASON, f"{_spelled(first)}: {row['UnresolvedReason'] or 'none'}")
        asked = {}
    else:
        asked = _by_destination(connection)
    for place, entries in asked.items():
        found = destinations.pop(place, None)
        if found is None:
            judgement.wrong(Wrong.NO_HOST, f"{_spelled(entries[0])}: has {sorted(destinations)}")
        else:
            _destination(entries, found, rows.verdicts[row["ConnectionId"]], judgement)
    for place in destinations:
        judgement.wrong(Wrong.INVENTED, f"{_spelled(first)}: {place[0]}:{place[1]}")


def _destination(entries: Sequence[Entry], row: Row, verdicts: Sequence[Row], judgement: Judgement) -> None:
    """All requests for one destination on one connection."""
    first, counts, mode = entries[0], judgement.counts, judgement.mode
    process = (
        row["InitiatingProcessId"],
        row.get("InitiatingProcessAccountName"),
        row.get("InitiatingProcessCommandLine"),
    )
    compared = zip(("pid", "user", "command_line"), process, (first.pid, first.user, first.command_line), strict=True)
    for name, on_row, own in compared:
        counts[name] += len(entries) * (on_row == own)
        if on_row != own:
            judgement.wrong(Wrong[name.upper()], f"{_spelled(first)}: destination with {on_row!r}")
    counts["host"] += len(entries)
    if row.get("RequestCount") != len(entries):
        judgement.wrong(Wrong.COUNT, f"{_spelled(first)}: {row.get('RequestCount')}, not {len(entries)}")
    if (row["ProxyIP"], row["ProxyPort"]) != (first.remote_ip, first.remote_port):
        judgement.wrong(Wrong.PROXY, f"{_spelled(first)}: destination through {row['ProxyIP']}:{row['ProxyPort']}")
    listed = [entry for entry in entries if _listed(entry)]
    expected = {MARKS[mode]} if listed else set().union(*map(_outcomes, entries))
    if row["Outcome"] not in expected:
        judgement.wrong(Wrong.OUTCOME, f"{_spelled(first)}: {row['Outcome']}, not {' or '.join(sorted(expected))}")
    names = {first.host, first.inside or first.host}
    about = [it for it in verdicts if it["DestinationHost"] in names and it["ActionType"] == VERDICTS[mode]]
    counts["marked"] += min(len(listed), len(about)) if row["Outcome"] == MARKS[mode] else 0
    counts["verdicts"] += len(about)
    for verdict in about:
        _process(first, verdict, judgement)
        counts[json.loads(verdict["AdditionalFields"]).get("ResponseCategory", "")] += 1
    if len(about) != len(listed):
        judgement.wrong(Wrong.VERDICT, f"{_spelled(first)}: {len(about)}, not {len(listed)}")
    _results(entries, judgement)


def _results(entries: Sequence[Entry], judgement: Judgement) -> None:
    """What the clients got: no answer where the mode blocks, and elsewhere no cut connection."""
    for entry in entries:
        if _listed(entry) and judgement.mode is ProtectionMode.BLOCK:
            if entry.result is Result.DONE:
                judgement.wrong(Wrong.GOT_THROUGH, f"{_spelled(entry)}: the client has its answer")
        elif entry.result is Result.CUT:
            judgement.wrong(Wrong.STOPPED, _spelled(entry))


def _process(entry: Entry, row: Row, judgement: Judgement) -> None:
    """Who made the connection."""
    for kind, column, own in (
        (Wrong.PID, "InitiatingProcessId", entry.pid),
        (Wrong.USER, "InitiatingProcessAccountName", entry.user),
        (Wrong.COMMAND_LINE, "InitiatingProcessCommandLine", entry.command_line),
    ):
        if row.get(column) != own:
            judgement.wrong(kind, f"{_spelled(entry)}: {row.get(column)!r}, not {own!r}")


def _proxy_log(entries: Sequence[Entry], logged: Sequence[Logged], judgement: Judgement) -> None:
    """What the proxy reports of the same."""
    done = {(line.client_ip, line.client_port, line.host) for line in logged if line.done}
    hosts = {host for _, _, host in done}
    for entry in entries:
        if entry.result is not Result.DONE or not entry.proxied:
            continue
        if entry.local_port and (entry.local_ip, entry.local_port, entry.host) in done:
            continue
        if entry.local_port or entry.host not in hosts:
            judgement.wrong(Wrong.NOT_LOGGED, _spelled(entry))
    through = [line for line in logged if is_listed(line.host) and line.done]
    judgement.counts["done"] = len(through)
    if judgement.mode is ProtectionMode.BLOCK:
        for line in through:
            judgement.wrong(
                Wrong.GOT_THROUGH, f"port {line.client_port}: {line.method} {line.url} {line.tag}/{line.status}"
            )


def _by_destination(connection: Iterable[Entry]) -> dict[tuple[str, int], list[Entry]]:
    found: dict[tuple[str, int], list[Entry]] = defaultdict(list)
    for entry in connection:
        if entry.host:
            found[entry.host, entry.port].append(entry)
    return found


def _outcomes(entry: Entry) -> set[str]:
    late = entry.ended - entry.at > ANSWER_SECS
    return OUTCOMES[entry.result] | ({"unknown"} if late else set())


def _listed(entry: Entry) -> bool:
    return is_listed(entry.host) or is_listed(entry.inside)


def _latest(lines: Iterable[bytes]) -> Iterable[Row]:
    found: dict[str, Row] = {}
    for row in map(json.loads, lines):
        if row["Version"] >= found.get(row["RecordId"], row)["Version"]:
            found[row["RecordId"]] = row
    return found.values()


def _remote(row: Row) -> tuple[str, int]:
    return row["RemoteIP"], row["RemotePort"]


def _between(after: float, stamp: str, before: float) -> bool:
    return after - SLACK_SECS <= parse_micros(stamp) / MICROS <= before + SLACK_SECS


def _spelled(entry: Entry) -> str:
    asked = f"{entry.method} {entry.host}:{entry.port}" if entry.host else "nothing asked"
    return f"{entry.client} {entry.pid} from port {entry.local_port}, {asked} ({entry.result})"


def _named(row: Row) -> str:
    process = f"{row['InitiatingProcessFileName']} {row['InitiatingProcessId']}"
    return f"{process} from port {row['LocalPort']} at {row['ConnectionTime']}"
