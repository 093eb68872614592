"""The devices that the tables know, to distinguish a misspelt name from a device without rows."""

from __future__ import annotations

from unproxy.query.client import OF_DEVICE, Client

NAMES_SHOWN = 20


def never_seen(client: Client, device: str) -> str:
    """Return a message with the known devices if this device is unknown; "" if it is known."""
    seen = client.rows(
        f"SELECT 1 FROM (SELECT DeviceId FROM DeviceCoverage WHERE {OF_DEVICE} LIMIT 1 UNION ALL "
        f"SELECT DeviceId FROM DeviceNetworkEvents WHERE {OF_DEVICE} LIMIT 1)",
        {"device": device},
    )
    if seen:
        return ""
    return f"{device} was never seen; {known(client, 'DeviceCoverage')}"


def known(client: Client, table: str) -> str:
    """Return the names of devices in a table as text, at most `NAMES_SHOWN`."""
    rows = client.rows(f"SELECT DISTINCT DeviceName FROM {table} ORDER BY 1 LIMIT {NAMES_SHOWN}")
    return f"known devices: {', '.join(row['DeviceName'] for row in rows) or 'none yet'}"
