"""Find which devices the tables know, to distinguish a misspelt name from a device without rows."""

from __future__ import annotations

from unproxy.query.client import OF_DEVICE, Client

NAMES_SHOWN = 20


def never_seen(client: Client, device: str) -> str:
    """Return that a device is unknown, with the known ones; "" for a known one."""
    seen = client.rows(
        f"SELECT 1 FROM (SELECT DeviceId FROM DeviceCoverage WHERE {OF_DEVICE} LIMIT 1 UNION ALL "
        f"SELECT DeviceId FROM DeviceNetworkEvents WHERE {OF_DEVICE} LIMIT 1)",
        {"device": device},
    )
    if seen:
        return ""
    known = client.rows(f"SELECT DISTINCT DeviceName FROM DeviceCoverage ORDER BY 1 LIMIT {NAMES_SHOWN}")
    return f"{device} was never seen; known devices: {', '.join(row['DeviceName'] for row in known) or 'none yet'}"
