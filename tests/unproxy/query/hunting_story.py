"""Tuesday 2026-11-24 of some devices, as the tables show it: the answers to the questions of `docs/hunting.md`.

ws-1    off until 08:00, audit until 10:00, block until 14:00, off until 16:00, block since. Its 5007 lines come last, out of
        order. It always uses a proxy, and connects directly at 11:00. A listed site is blocked at 12:00 and fetched at 15:00.
ws-2    block, by the settings. A warning that the user clicked through, another name inside a tunnel
ws-3    audit, by the settings. An audited request, and two verdicts: one fits no connection, one fits two
ws-4    reports all day; its mode is unknown. It uses an unlisted proxy
ws-5    reports all day. Its first mode change is at 20:00, to block; the mode before is not in the record
srv-1   off by its group, reports until 04:00. A listed site is fetched at 02:00
ws-6    off by the settings, reports on Monday only
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from schemas.clock import iso_micros
from schemas.events import Action, Event, ProtectionMode
from schemas.indicator_input import Given
from schemas.parsers import dialects
from schemas.settings import CorrelationSettings, ProtectionSettings
from streams.alerts.policy import Policy
from streams.pipeline import Message, Pipeline
from tests.factories import EVENTS, T0, connection, line_of, listing, micros, name, process_verdict, request, verdict
from tests.windows_lines import mode_line

BLOCK, AUDIT, OFF = ProtectionMode.BLOCK, ProtectionMode.AUDIT, ProtectionMode.OFF
SETTINGS = ProtectionSettings(
    groups=("servers=srv-*",), modes=("ws-2=block", "ws-3=audit", "@servers=off", "ws-6=off"), alert_gap_secs=0
)
LISTED = Given("bad1.example", title="Campaign 7", severity="high")
OTHER_PROXY = "198.51.100.80"

Timed = tuple[float, Event | bytes]
"""An hour of Tuesday, and an event or a line of a Windows machine at that time."""


def seconds(hour: float) -> float:
    """Return an hour of Tuesday as seconds after T0."""
    return T0 // 86_400 * 86_400 - T0 + hour * 3_600


def _asked(hour: float, port: int, *events: Event) -> list[Timed]:
    """Return a connection through the proxy and further events of it."""
    return [(hour, one) for one in (connection(seconds(hour), port=port), *events)]


def _fetched(hour: float, port: int, host: str, *more: Event) -> list[Timed]:
    at = seconds(hour) + 0.1
    return _asked(hour, port, request(at, f"{host}:443", port=port, flow=str(port)), *more)


def _with_verdicts(hour: float, port: int, host: str, *actions: Action) -> list[Timed]:
    """Return a request with verdicts; a blocked one has no HTTP record."""
    at, flow = seconds(hour) + 0.2, str(port)
    timed = [verdict(at + n, f"http://{host}/", action=one, port=port, flow=flow) for n, one in enumerate(actions)]
    passed = [] if Action.BLOCKED in actions else [request(at, f"http://{host}/", port=port, flow=flow)]
    return _asked(hour, port, *passed, *timed)


def _ws_1() -> list[Timed]:
    timed = [one for n in range(60) for one in _fetched(6 + n / 60, 1000 + n, "www.example.com")]
    timed.append((11, connection(seconds(11), port=2000, remote="203.0.113.21", remote_port=443)))
    timed += _with_verdicts(12, 2001, "bad1.example", Action.BLOCKED)
    timed += _fetched(15, 2002, "bad1.example")
    changes = ((16, BLOCK, OFF), (10, BLOCK, AUDIT), (14, OFF, BLOCK), (8, AUDIT, OFF))
    return timed + [(23, mode_line("ws-1", seconds(hour), new, old)) for hour, new, old in changes]


def _ws_2() -> list[Timed]:
    inner = name(seconds(10) + 0.2, "hidden.test", port=2001, flow="2001")
    return _with_verdicts(9.5, 2000, "warned.example", Action.WARNED, Action.BYPASSED) + _fetched(
        10, 2001, "front.test", inner
    )


def _ws_3() -> list[Timed]:
    timed = _with_verdicts(9, 2000, "noted.example", Action.AUDITED)
    timed.append((12, process_verdict(seconds(12), "alone.example", action=Action.AUDITED, process="mailer")))
    for port in (2001, 2002):
        timed += _asked(13, port, request(seconds(13) + 0.1, "twice.example:443", port=port, flow=str(port)))
    timed.append((13, process_verdict(seconds(13) + 0.2, "twice.example", action=Action.AUDITED, number=1)))
    return timed


def _ws_4() -> list[Timed]:
    opened = connection(seconds(9), port=2000, remote=OTHER_PROXY, remote_port=8080)
    asked = request(seconds(9) + 0.1, "www.example.com:443", port=2000, remote=OTHER_PROXY, remote_port=8080)
    return [(9, opened), (9, asked)]


STORY: Mapping[str, tuple[tuple[float, float], list[Timed]]] = {
    "ws-1": ((0, 24), _ws_1()),
    "ws-2": ((0, 24), _ws_2()),
    "ws-3": ((0, 24), _ws_3()),
    "ws-4": ((0, 24), _ws_4()),
    "ws-5": ((0, 24), [(20, mode_line("ws-5", seconds(20), BLOCK))]),
    "srv-1": ((0, 4), _fetched(2, 2000, "bad1.example")),
    "ws-6": ((-14, -13), []),
}
"""From which hour to which hour each device reports, and its events."""


def tables() -> Mapping[str, Sequence[bytes]]:
    """Return all versions of the rows by table."""
    settings = CorrelationSettings(proxies=("proxy=10.9.9.9:3128",))
    pipeline = Pipeline(settings, Policy(SETTINGS, listing(LISTED).indicators), {**dialects(), EVENTS.name: EVENTS})
    offset = 0
    for device, ((begin, end), timed) in STORY.items():
        reports: list[Timed] = [
            (begin + n / 12, _report(device, begin + n / 12)) for n in range(round((end - begin) * 12))
        ]
        for _, one in sorted(reports + timed, key=lambda at: at[0]):
            offset += 1
            line, dialect = (one, _dialect_of(one)) if isinstance(one, bytes) else (line_of(one), EVENTS.name)
            pipeline.take(Message(offset, 0, device.encode(), line, dialect, keyed=True))
    pipeline.finish()
    made = pipeline.drain()
    assert not made.rejects
    return {
        "DeviceNetworkEvents": made.network_events,
        "DeviceEvents": made.device_events,
        "BlockAlerts": [alert for _, alert in made.alerts],
        "DeviceCoverage": made.coverage,
        "ProtectionModes": made.modes,
    }


def _dialect_of(line: bytes) -> str:
    return "winlog" if b"winlog" in line else "suricata"


def _report(device: str, hour: float) -> bytes:
    """Make a line without a usable event; it only shows that the sensor runs."""
    time = iso_micros(micros(seconds(hour)))
    return f'{{"timestamp":"{time}","event_type":"stats","host":"{device}"}}'.encode()
