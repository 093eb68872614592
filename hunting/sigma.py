"""Sigma rules as KQL: the categories `network_connection` and `proxy`, read by pySigma.

A rule sees each real destination once: rows of layer `destination`, direct connections, and connections to a proxy whose
destination is unknown. Sigma compares texts without regard to case, and a field without a value matches nothing, also below
`not` (github.com/SigmaHQ/sigma-specification): comparisons of numbers that may be null are therefore wrapped. A field that the
rows do not have is refused by name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import yaml
from sigma.collection import SigmaCollection
from sigma.conditions import (
    ConditionAND,
    ConditionFieldEqualsValueExpression,
    ConditionNOT,
    ConditionOR,
)
from sigma.exceptions import SigmaError
from sigma.rule import SigmaRule
from sigma.types import (
    CompareOperators,
    SigmaBool,
    SigmaCasedString,
    SigmaCIDRExpression,
    SigmaCompareExpression,
    SigmaExists,
    SigmaExpansion,
    SigmaNull,
    SigmaNumber,
    SigmaRegularExpression,
    SigmaString,
    SpecialChars,
)

SINCE = "7d"
"""Default of the parameter `Since`: how far back a rule looks."""


class SigmaRefused(Exception):
    """A rule that cannot run here; the message states why."""


def _path(folder: str, name: str) -> str:
    """Return KQL of an image's path. A bare file name becomes `/name`, or with a backslash if it ends in `.exe`."""
    return (
        f"iff({folder} endswith {name}, {folder}, strcat({folder},"
        f" iff({folder} contains '\\\\' or {name} endswith '.exe', '\\\\', '/'), {name}))"
    )


_COMMON = {
    "Image": _path("InitiatingProcessFolderPath", "InitiatingProcessFileName"),
    "ParentImage": _path("''", "InitiatingProcessParentFileName"),
    "CommandLine": "InitiatingProcessCommandLine",
    "User": "iff(isempty(InitiatingProcessAccountDomain), InitiatingProcessAccountName,"
    " strcat(InitiatingProcessAccountDomain, '\\\\', InitiatingProcessAccountName))",
    "Computer": "DeviceName",
}
FIELDS: Mapping[str, Mapping[str, str]] = {
    "network_connection": {
        **_COMMON,
        "DestinationHostname": "DestinationHost",
        "DestinationIp": "RemoteIP",
        "Initiated": "'true'",
        "Protocol": "Protocol",
        "SourceHostname": "DeviceName",
        "SourceIp": "LocalIP",
    },
    "proxy": {
        **_COMMON,
        "c-uri": "RemoteUrl",
        "cs-uri": "RemoteUrl",
        "c-uri-query": "extract('[?]([^#]*)', 1, RemoteUrl)",
        "c-uri-extension": "extract('//[^/?#]+/[^?#]*[.]([A-Za-z0-9]+)(?:[?#]|$)', 1, RemoteUrl)",
        "cs-host": "DestinationHost",
        "r-dns": "DestinationHost",
        "c-ip": "LocalIP",
        "src_ip": "LocalIP",
        "dst_ip": "RemoteIP",
    },
}
"""KQL of each text field, by category."""
NUMBERS: Mapping[str, Mapping[str, str]] = {
    "network_connection": {
        "DestinationPort": "coalesce(DestinationPort, RemotePort)",
        "SourcePort": "LocalPort",
        "ProcessId": "InitiatingProcessId",
    },
    "proxy": {
        "sc-status": "HttpStatus",
        "dst_port": "coalesce(DestinationPort, RemotePort)",
        "src_port": "LocalPort",
        "cs-bytes": "BytesSent",
        "sc-bytes": "BytesReceived",
    },
}
"""KQL of each field that is a number, by category."""
_ROWS = {
    "network_connection": 'Layer == "destination" or ProxyIP == "" or UnresolvedReason != ""',
    "proxy": 'Layer == "destination"',
}
_OPERATORS = {
    CompareOperators.LT: "<",
    CompareOperators.LTE: "<=",
    CompareOperators.GT: ">",
    CompareOperators.GTE: ">=",
}


def to_kql(text: str) -> str:
    """Return the KQL of a rule in YAML. Raises SigmaRefused."""
    rules = _rules(text)
    try:
        if len(rules) != 1 or not isinstance(rules[0], SigmaRule):
            raise SigmaRefused(f"found {len(rules)} rules, expected one rule that is no correlation")
        rule = rules[0]
        category = rule.logsource.category or ""
        if category not in _ROWS or rule.logsource.service:
            raise SigmaRefused(
                f"its log source is `{rule.logsource}`; expected category {' or '.join(_ROWS)}, no service"
            )
        conditions = [_condition(one.parsed, category) for one in rule.detection.parsed_condition]
    except SigmaError as error:
        raise SigmaRefused(f"pySigma refuses it: {error}") from None
    except RecursionError:
        raise SigmaRefused("its condition is nested too deeply") from None
    if not conditions:
        raise SigmaRefused("it has no condition")
    return (
        f"let Since = {SINCE};\nDeviceNetworkEvents\n| where Timestamp > ago(Since)\n| where {_ROWS[category]}\n"
        f"| where {' or '.join(conditions)}\n| order by Timestamp asc\n"
    )


def _rules(text: str) -> Sequence[object]:
    try:
        return SigmaCollection.from_yaml(text).rules
    except SigmaError as error:
        raise SigmaRefused(f"pySigma refuses it: {error}") from None
    except yaml.YAMLError as error:
        raise SigmaRefused(f"it is no YAML: {' '.join(str(error).split())}") from None
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError):
        # pySigma does not check the shape of the document before it reads from it.
        raise SigmaRefused("it is no Sigma rule; expected a mapping with title, logsource and detection") from None


def _condition(node: object, category: str) -> str:
    match node:
        case ConditionAND() | ConditionOR():
            word = " and " if isinstance(node, ConditionAND) else " or "
            return f"({word.join(_condition(one, category) for one in node.args)})"
        case ConditionNOT():
            return f"not({_condition(node.args[0], category)})"
        case ConditionFieldEqualsValueExpression():
            return _field(node.field, node.value, category)
    raise SigmaRefused("it has keywords without a field; expected fields")


def _field(name: str, value: object, category: str) -> str:
    if isinstance(value, SigmaExpansion):
        return f"({' or '.join(_field(name, one, category) for one in value.values)})"
    if name in NUMBERS[category]:
        return _number(name, NUMBERS[category][name], value)
    if name in FIELDS[category]:
        return _text(name, FIELDS[category][name], value)
    known = ", ".join(sorted({**FIELDS[category], **NUMBERS[category]}))
    raise SigmaRefused(f"the rows have no field `{name}` of category {category}; known are {known}")


def _number(name: str, kql: str, value: object) -> str:
    plain = value.to_plain() if isinstance(value, SigmaString) else None
    if isinstance(value, SigmaNumber) or (isinstance(plain, str) and plain.isascii() and plain.isdigit()):
        return f"(isnotnull({kql}) and {kql} == {_digits(value.number if isinstance(value, SigmaNumber) else plain)})"
    if isinstance(value, SigmaCompareExpression) and value.op in _OPERATORS:
        return f"(isnotnull({kql}) and {kql} {_OPERATORS[value.op]} {_digits(value.number.number)})"
    if isinstance(value, SigmaNull):
        return f"isnull({kql})"
    if isinstance(value, SigmaExists):
        return f"{'isnotnull' if value.exists else 'isnull'}({kql})"
    return _text(name, f"tostring({kql})", value)


def _digits(number: object) -> str:
    return repr(float(str(number))) if "." in str(number) else str(int(str(number)))


def _text(name: str, kql: str, value: object) -> str:
    match value:
        case SigmaString():
            return _matches(kql, value)
        case SigmaNumber():
            return f"{kql} == {literal(str(value.number))}"
        case SigmaBool():
            return f"{kql} =~ {literal(str(value.boolean).lower())}"
        case SigmaNull():
            return f"isempty({kql})"
        case SigmaExists():
            return f"{'isnotempty' if value.exists else 'isempty'}({kql})"
        case SigmaRegularExpression():
            flags = "".join(sorted(value.sigma_to_re_flag[one] for one in value.flags))
            pattern = value.regexp.original
            return f"{kql} matches regex {literal(f'(?{flags}){pattern}' if flags else pattern)}"
        case SigmaCIDRExpression():
            family = "ipv4" if value.network.version == 4 else "ipv6"
            # An IPv4 address is part of no IPv6 network, though ipv6_is_in_range maps it into one.
            own = f"{kql} contains ':' and " if family == "ipv6" else ""
            return f"({own}coalesce({family}_is_in_range({kql}, {literal(str(value.network))}), false))"
    raise SigmaRefused(f"field `{name}`: a modifier of it is not supported ({type(value).__name__})")


def _matches(kql: str, value: SigmaString) -> str:
    """Return the comparison with a text that may have the wildcards `*` and `?`."""
    parts = list(value.s)
    cased = isinstance(value, SigmaCasedString)
    many = SpecialChars.WILDCARD_MULTI
    if all(part is many for part in parts) and parts:
        return f"isnotempty({kql})"
    texts = [part for part in parts if isinstance(part, str)]
    if any(not isinstance(part, str | SpecialChars) for part in parts):
        raise SigmaRefused("it has a placeholder (modifier expand), which has no values here")
    if len(texts) <= 1 and SpecialChars.WILDCARD_SINGLE not in parts:
        begins, ends = parts[:1] == [many], parts[-1:] == [many]
        word = {
            (False, False): "==" if cased else "=~",
            (True, False): "endswith",
            (False, True): "startswith",
            (True, True): "contains",
        }[begins, ends]
        return f"{kql} {word}{'_cs' if cased and (begins or ends) else ''} {literal(texts[0] if texts else '')}"
    signs: dict[object, str] = {many: ".*", SpecialChars.WILDCARD_SINGLE: "."}
    pattern = "".join(re.escape(part) if isinstance(part, str) else signs[part] for part in parts)
    flags = "s" if cased else "is"
    return f"{kql} matches regex {literal(f'(?{flags})^{pattern}$')}"


def literal(text: str) -> str:
    """Return a text as a literal of KQL."""
    escapes = {"\\": "\\\\", "'": "\\'", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
    return "'" + "".join(escapes.get(char, char) for char in text) + "'"
