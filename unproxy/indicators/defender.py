"""The CSV format in which Microsoft Defender for Endpoint imports and exports indicators, and `list --format csv`, too.

https://learn.microsoft.com/defender-endpoint/indicator-manage names the columns. This module also reads and writes Port,
Process and Exact, which Defender does not have.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator

from schemas.clock import iso_micros
from schemas.indicator_input import Given, Refused
from schemas.indicator_values import Why
from schemas.indicators import Indicator, IndicatorAction, IndicatorType
from unproxy.indicators.csv_rows import Row, rows
from unproxy.indicators.entry import Entry, as_bool, as_list
from unproxy.output import without_formula

NEEDED = {"indicatortype", "indicatorvalue"}
COLUMNS = (
    "IndicatorType", "IndicatorValue", "ExpirationTime", "Action", "Severity", "Title", "Description",
    "RecommendedActions", "RbacGroups", "Category", "MitreTechniques", "GenerateAlert", "Port", "Process", "Exact",
)  # fmt: skip
KINDS = {"domainname": IndicatorType.DOMAIN, "url": IndicatorType.URL, "ipaddress": IndicatorType.IP}
NOT_NETWORK = ("filesha1", "filesha256", "filemd5", "certificatethumbprint")
_TYPES = {
    IndicatorType.DOMAIN: "DomainName",
    IndicatorType.URL: "Url",
    IndicatorType.IP: "IpAddress",
    IndicatorType.CIDR: "IpAddress",
}
_ACTIONS = {
    IndicatorAction.ALLOW: "Allowed",
    IndicatorAction.WARN: "Warn",
    IndicatorAction.BLOCK: "Block",
    IndicatorAction.AUDIT: "Audit",
}


def entries(lines: Iterable[str]) -> Iterator[Entry]:
    """Yield the entries of a file."""
    for where, row in rows(lines):
        yield Entry(where, row if isinstance(row, Refused) else _said(row))


def _said(row: Row) -> Given | Refused:
    kind, value = row.get("indicatortype", "").lower(), row.get("indicatorvalue", "")
    if kind in NOT_NETWORK:
        return Refused(value, Why.NOT_NETWORK, row["indicatortype"])
    if kind not in KINDS:
        return Refused(value, Why.BAD_FIELD, f'type "{kind[:40]}" is not a type of Defender\'s')
    port = row.get("port", "")
    if port and not (port.isascii() and port.isdigit() and len(port) <= 5):
        return Refused(value, Why.BAD_FIELD, f'"{port[:20]}" is not a port')
    return Given(
        value=value,
        kind=KINDS[kind],
        action=row.get("action", ""),
        exact=as_bool(row.get("exact")),
        port=int(port or 0),
        process=row.get("process", ""),
        title=row.get("title", "") or row.get("description", ""),
        severity=row.get("severity", ""),
        category=row.get("category", ""),
        recommended=row.get("recommendedactions", ""),
        expires=row.get("expirationtime", ""),
        groups=as_list(row.get("rbacgroups", "") or row.get("rbacgroupnames", "")),
    )


def lines_of(indicators: Iterable[Indicator], *, raw: bool = False) -> Iterator[str]:
    """Yield the lines, without line ends, of a CSV file that this module and Defender can read.

    Unless `raw` is set, text that a spreadsheet would take for a formula gets an apostrophe in front; an import of this
    module removes it.
    """
    yield ",".join(COLUMNS)
    for one in indicators:
        text = io.StringIO()
        cells = (
            _TYPES[one.type],
            one.value,
            iso_micros(one.expires) if one.expires else "",
            _ACTIONS[one.action],
            one.severity.capitalize(),
            one.title,
            one.title,
            one.recommended,
            ",".join(one.groups),
            one.category,
            "",
            "True",
            one.port or "",
            one.process,
            "" if one.subdomains else "True",
        )
        csv.writer(text, lineterminator="").writerow(
            cell if raw or not isinstance(cell, str) else without_formula(cell) for cell in cells
        )
        yield text.getvalue()
