"""Rows of Azure Monitor's tables (Log Analytics, Microsoft Sentinel), as they are exported in JSON.

`Syslog` and custom tables hold a line as it was sent (`SyslogMessage`, `RawData`; `carriers.py` takes it out).
`CommonSecurityLog` has the fields of a CEF message in columns of its own
(learn.microsoft.com, "CEF and CommonSecurityLog field mapping").
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from schemas.parsers.common.cef_leef import Formatted
from schemas.parsers.common.proxy_log import PAIRS_MAX

CEF_KEYS = {
    "ApplicationProtocol": "app",
    "DestinationHostName": "dhost",
    "DestinationIP": "dst",
    "DestinationPort": "dpt",
    "DeviceAction": "act",
    "DeviceEventCategory": "cat",
    "EventOutcome": "outcome",
    "ReceivedBytes": "in",
    "RequestMethod": "requestMethod",
    "RequestURL": "request",
    "SentBytes": "out",
    "SourceIP": "src",
    "SourcePort": "spt",
    "SourceUserName": "suser",
}
"""CEF key of each column that is read. The column `AdditionalExtensions` has further pairs as `key=value;key=value`."""
TIMES = ("ReceiptTime", "TimeGenerated", "TimeGenerated [UTC]")
"""Columns with a time, in order of preference: the source's own time (CEF's `rt`), then the time at which the row was made."""
EXTENSIONS = frozenset({"outcome"})
"""Keys that are read from `AdditionalExtensions`. A client may have written parts of it, so no address or name is read from it.
"""

_ROW = re.compile(r'"DeviceVendor"\s*+:\s*+"([^"\\]{1,64})"')
_PRODUCT = re.compile(r'"DeviceProduct"\s*+:\s*+"([^"\\]{1,64})"')
_decode = msgspec.json.Decoder(dict[str, Any]).decode


def vendor_and_product(text: str) -> tuple[str, str]:
    """Return the vendor and product of a row of `CommonSecurityLog`; ("", "") for any other text."""
    vendor = _ROW.search(text) if text[:1] == "{" and "DeviceVendor" in text else None
    product = _PRODUCT.search(text) if vendor is not None else None
    return (vendor[1], product[1]) if vendor is not None and product is not None else ("", "")


def common_security_log(text: str) -> Formatted:
    """Convert a row of `CommonSecurityLog` back to its CEF message. Raises the errors of msgspec."""
    row = {name: str(value) for name, value in _decode(text).items() if value.__class__ in (str, int)}
    fields = {key: row[name] for name, key in CEF_KEYS.items() if row.get(name)}
    for pair in row.get("AdditionalExtensions", "").split(";", PAIRS_MAX)[:PAIRS_MAX]:
        key, equals, value = pair.strip().partition("=")
        if equals and key in EXTENSIONS:
            fields.setdefault(key, value)
    time = next((row[name] for name in TIMES if row.get(name)), "")
    if time:
        fields["rt"] = time
    return Formatted(
        row.get("DeviceVendor", ""), row.get("DeviceProduct", ""), row.get("DeviceEventClassID", ""), fields
    )
