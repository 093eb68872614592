"""Functions of addresses, URLs and user agents. An address that cannot be read gives null, an empty URL an empty value.

Source: learn.microsoft.com/kusto/query/scalar-functions, "IPv4/IPv6 functions" and parse_url.
"""

from __future__ import annotations

from collections.abc import Sequence

from hunting.kql.scalar.dynamics import element_texts
from hunting.kql.scalar.signatures import Signature
from hunting.kql.types import Type
from hunting.kql.values import Value, to_text

BOOL, LONG, STRING, DYNAMIC = Type.BOOL, Type.LONG, Type.STRING, Type.DYNAMIC

PRIVATE = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")
"""RFC 1918, which is what ipv4_is_private( ) tests."""


def _number(sql: str) -> str:
    return f"toUInt32(toIPv4OrNull({sql}))"


def _address(sql: str) -> str:
    return f"splitByChar('/', {sql})[1]"


def _bits(first: str, second: str, prefix: str) -> str:
    """Return the number of bits to compare: the shortest of both prefixes and the given one."""
    own = [f"if(position({sql}, '/') = 0, 32, toUInt8OrNull(extract({sql}, '/(\\\\d+)$')))" for sql in (first, second)]
    return f"toUInt8(least({own[0]}, {own[1]}, {prefix}))"


def _compared(values: Sequence[Value]) -> str:
    first, second = values[0].sql, values[1].sql
    shift = f"(32 - {_bits(first, second, values[2].sql if len(values) > 2 else '32')})"
    left, right = (f"bitShiftRight(toUInt64({_number(_address(sql))}), {shift})" for sql in (first, second))
    return (
        f"toInt64(if(isNull({left}) OR isNull({right}), NULL, multiIf({left} < {right}, -1, {left} > {right}, 1, 0)))"
    )


def _matches(values: Sequence[Value]) -> str:
    return f"({_compared(values)} = 0)"


def in_range(ip: str, network: str) -> str:
    """Return whether an IPv4 address is in a network `a.b.c.d/n`; null where one cannot be read."""
    shift = f"(32 - if(position({network}, '/') = 0, 32, toUInt8OrNull(extract({network}, '/(\\\\d+)$'))))"
    left, right = (f"bitShiftRight(toUInt64({_number(sql)}), {shift})" for sql in (_address(ip), _address(network)))
    return f"({left} = {right})"


def _in_range(values: Sequence[Value]) -> str:
    return in_range(values[0].sql, values[1].sql)


def _in_any_range(values: Sequence[Value]) -> str:
    ip, *ranges = values
    if len(ranges) == 1 and ranges[0].type is DYNAMIC:
        known = element_texts(ranges[0])
    else:
        known = f"[{', '.join(to_text(value).sql for value in ranges)}]"
    return f"if(isNull({_number(ip.sql)}), NULL, arrayExists(n -> ifNull({in_range(ip.sql, 'n')}, false), {known}))"


def _is_private(values: Sequence[Value]) -> str:
    ip = values[0].sql
    tests = " OR ".join(in_range(ip, f"'{network}'") for network in PRIVATE)
    return f"if(isNull({_number(_address(ip))}), NULL, {tests})"


def _range6(values: Sequence[Value]) -> str:
    ip, network = values[0].sql, values[1].sql
    both = [f"if(isIPv4String({sql}), concat('::ffff:', {sql}), {sql})" for sql in (ip, _address(network))]
    bits = f"if(isIPv4String({_address(network)}), 96, 0) + toUInt8OrZero(extract({network}, '/(\\\\d+)$'))"
    known = f"isIPv6String({both[0]}) AND isIPv6String({both[1]})"
    ranges = f"IPv6CIDRToRange(toIPv6OrDefault({both[1]}), toUInt8(if(position({network}, '/') = 0, 128, {bits})))"
    return f"if({known}, toIPv6OrDefault({both[0]}) BETWEEN {ranges}.1 AND {ranges}.2, NULL)"


def _match6(values: Sequence[Value]) -> str:
    first, second = values[0].sql, values[1].sql
    prefix = values[2].sql if len(values) > 2 else "128"
    both = [f"if(isIPv4String({sql}), concat('::ffff:', {sql}), {sql})" for sql in (_address(first), _address(second))]
    known = f"isIPv6String({both[0]}) AND isIPv6String({both[1]})"
    networks = [f"IPv6CIDRToRange(toIPv6OrDefault({sql}), toUInt8({prefix})).1" for sql in both]
    return f"if({known}, {networks[0]} = {networks[1]}, NULL)"


def _has_ipv4(values: Sequence[Value]) -> str:
    text, *addresses = values
    if len(addresses) == 1 and addresses[0].type is DYNAMIC:
        known = element_texts(addresses[0])
    else:
        known = f"[{', '.join(to_text(value).sql for value in addresses)}]"
    return (
        f"hasAny(extractAll(concat(' ', replaceRegexpAll({to_text(text).sql}, '([^0-9A-Za-z.])', '\\\\1\\\\1'), ' '),"
        f" '[^0-9A-Za-z.](\\\\d+[.]\\\\d+[.]\\\\d+[.]\\\\d+)[^0-9A-Za-z.]'), {known})"
    )


def _has_prefix(values: Sequence[Value]) -> str:
    text, *prefixes = values
    if len(prefixes) == 1 and prefixes[0].type is DYNAMIC:
        known = element_texts(prefixes[0])
    else:
        known = f"[{', '.join(to_text(value).sql for value in prefixes)}]"
    found = (
        f"extractAll(concat(' ', replaceRegexpAll({to_text(text).sql}, '([^0-9A-Za-z.])', '\\\\1\\\\1'), ' '),"
        f" '[^0-9A-Za-z.](\\\\d+[.]\\\\d+[.]\\\\d+[.]\\\\d+)[^0-9A-Za-z.]')"
    )
    return f"arrayExists(a -> arrayExists(p -> startsWith(a, p), {known}), {found})"


def _parse_url(values: Sequence[Value]) -> str:
    url = to_text(values[0]).sql
    scheme = "[A-Za-z][A-Za-z0-9+.-]*://"
    login = "(?:[^/?#@]*@)?"
    host = "(?:\\\\[[^\\\\]]*\\\\]|[^/?#:]*)"
    parts = {
        "Scheme": f"extract({url}, '^([A-Za-z][A-Za-z0-9+.-]*)://')",
        "Host": f"extract({url}, '^{scheme}{login}({host})')",
        "Port": f"extract({url}, '^{scheme}{login}{host}:(\\\\d+)')",
        "Path": f"extract({url}, '^{scheme}[^/?#]*(/[^?#]*)')",
        "Username": f"extract({url}, '^{scheme}([^/?#@:]*)(?::[^/?#@]*)?@')",
        "Password": f"extract({url}, '^{scheme}[^/?#@:]*:([^/?#@]*)@')",
        "Fragment": f"extract({url}, '#(.*)$')",
    }
    texts = ", ',', ".join(f"'\"{name}\":', toJSONString({sql})" for name, sql in parts.items())
    return f"concat('{{', {texts}, ',\"Query Parameters\":', {_query(f'extract({url}, {chr(39)}[?]([^#]*){chr(39)})')}, '}}')"


def _query(sql: str) -> str:
    """Return the JSON object of a query string such as a=1&b=2."""
    pairs = f"arrayFilter(p -> p != '', splitByChar('&', {sql}))"
    shown = "concat(toJSONString(splitByChar('=', p)[1]), ':', toJSONString(substring(p, position(concat(p, '='), '=') + 1)))"
    return f"concat('{{', arrayStringConcat(arrayMap(p -> {shown}, {pairs}), ','), '}}')"


def _parse_query(values: Sequence[Value]) -> str:
    query = f"replaceRegexpOne({to_text(values[0]).sql}, '^[?]', '')"
    return f"concat('{{\"Query Parameters\":', {_query(query)}, '}}')"


def _formatted(values: Sequence[Value]) -> str:
    ip = (
        to_text(values[0]).sql if values[0].type in (STRING, DYNAMIC) else f"IPv4NumToString(toUInt32({values[0].sql}))"
    )
    if len(values) == 1:
        return f"ifNull(toString(toIPv4OrNull({_address(ip)})), '')"
    prefix = f"toUInt8(least({values[1].sql}, 32))"
    return f"ifNull(toString(IPv4CIDRToRange(toIPv4OrDefault({_address(ip)}), {prefix}).1), '')"


FUNCTIONS = {
    "ipv4_is_private": Signature(BOOL, "s", _is_private, nullable=True),
    "ipv4_is_in_range": Signature(BOOL, "ss", _in_range, nullable=True),
    "ipv4_is_in_any_range": Signature(BOOL, "sa*", _in_any_range, nullable=True),
    "ipv4_is_match": Signature(BOOL, "ss?l", _matches, nullable=True),
    "ipv4_compare": Signature(LONG, "ss?l", _compared, nullable=True),
    "ipv4_netmask_suffix": Signature(
        LONG, "s", lambda v: f"if(isNull({_number(_address(v[0].sql))}), NULL, toInt64(if(position({v[0].sql}, '/') = 0, 32,"
        f" toUInt8OrNull(extract({v[0].sql}, '/(\\\\d+)$')))))", nullable=True,
    ),
    "parse_ipv4": Signature(LONG, "s", lambda v: f"toInt64({_number(_address(v[0].sql))})", nullable=True),
    "parse_ipv4_mask": Signature(
        LONG, "sl", lambda v: f"toInt64(toUInt32(IPv4CIDRToRange(toIPv4OrNull({_address(v[0].sql)}), toUInt8({v[1].sql})).1))",
        nullable=True,
    ),
    "format_ipv4": Signature(STRING, "a?l", _formatted),
    "format_ipv4_mask": Signature(
        STRING, "al", lambda v: f"concat({_formatted(v)}, '/', toString(least({v[1].sql}, 32)))"
    ),
    "has_ipv4": Signature(BOOL, "sa", _has_ipv4),
    "has_any_ipv4": Signature(BOOL, "sa*", _has_ipv4),
    "has_ipv4_prefix": Signature(BOOL, "sa", _has_prefix),
    "has_any_ipv4_prefix": Signature(BOOL, "sa*", _has_prefix),
    "ipv6_is_in_range": Signature(BOOL, "ss", _range6, nullable=True),
    "ipv6_is_match": Signature(BOOL, "ss?l", _match6, nullable=True),
    "parse_ipv6": Signature(
        STRING, "s", "ifNull(arrayStringConcat(extractAll(lower(hex(toIPv6OrNull(if(isIPv4String({0}),"
        " concat('::ffff:', {0}), {0})))), '....'), ':'), '')",
    ),
    "parse_url": Signature(DYNAMIC, "a", _parse_url),
    "parseurl": Signature(DYNAMIC, "a", _parse_url),
    "parse_urlquery": Signature(DYNAMIC, "a", _parse_query),
    "parseurlquery": Signature(DYNAMIC, "a", _parse_query),
}  # fmt: skip
