"""Functions of addresses, URLs and user agents. An address that cannot be read gives null, an empty URL an empty value.

Source: learn.microsoft.com/kusto/query/scalar-functions, "IPv4/IPv6 functions" and parse_url.
"""

from __future__ import annotations

from collections.abc import Sequence

from hunting.kql.scalar.dynamics import element_texts
from hunting.kql.scalar.signatures import Signature
from hunting.kql.types import Type
from hunting.kql.values import Value, text_literal, to_text

BOOL, LONG, STRING, DYNAMIC = Type.BOOL, Type.LONG, Type.STRING, Type.DYNAMIC
TEXTUAL = (STRING, DYNAMIC)

PRIVATE = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")
"""RFC 1918, which is what ipv4_is_private( ) tests."""


def _prefix(sql: str, longest: int) -> str:
    """Return the length of the network's prefix behind a slash; null where it is none."""
    digits = f"toUInt8OrNull(extract({sql}, '^[^/]*/(\\d{{1,3}})$'))"
    return f"if(position({sql}, '/') = 0, {longest}, if({digits} <= {longest}, {digits}, NULL))"


def _number(sql: str) -> str:
    """Return an IPv4 address without its prefix as a number, null where it cannot be read."""
    return f"toUInt32(toIPv4OrNull({_address(sql)}))"


def _address(sql: str) -> str:
    return f"splitByChar('/', {sql})[1]"


def _shifted(sql: str, bits: str) -> str:
    return f"bitShiftRight(toUInt64({_number(sql)}), 32 - {bits})"


def _compared(values: Sequence[Value]) -> str:
    """Return ipv4_compare: both addresses cut to the shortest prefix."""
    first, second = values[0].sql, values[1].sql
    given = values[2].sql if len(values) > 2 else "32"
    bits = f"toUInt8(least({_prefix(first, 32)}, {_prefix(second, 32)}, {given}))"
    left, right = _shifted(first, bits), _shifted(second, bits)
    known = f"isNull({left}) OR isNull({right}) OR NOT ({given} BETWEEN 0 AND 32)"
    return f"if({known}, NULL, toInt64(multiIf({left} < {right}, -1, {left} > {right}, 1, 0)))"


def _matches(values: Sequence[Value]) -> str:
    return f"({_compared(values)} = 0)"


def in_range(ip: str, network: str) -> str:
    """Return whether an IPv4 address is in a network `a.b.c.d/n`; null where one cannot be read."""
    bits = f"toUInt8({_prefix(network, 32)})"
    return f"({_shifted(ip, bits)} = {_shifted(network, bits)})"


def _in_range(values: Sequence[Value]) -> str:
    return in_range(values[0].sql, values[1].sql)


def listed(values: Sequence[Value]) -> str:
    """Return the texts of arguments, or of the elements of one array, as an Array(String) in SQL."""
    if len(values) == 1 and values[0].type is DYNAMIC:
        return element_texts(values[0])
    return f"[{', '.join(to_text(value).sql for value in values)}]"


def _in_any_range(values: Sequence[Value]) -> str:
    ip, *ranges = values
    found = f"arrayExists(n -> ifNull({in_range(ip.sql, 'n')}, false), {listed(ranges)})"
    return f"if(isNull({_number(ip.sql)}), NULL, {found})"


def _is_private(values: Sequence[Value]) -> str:
    """Return ipv4_is_private: null for what is no address. A network is private where all of its addresses are."""
    ip = values[0].sql
    bits = _prefix(ip, 32)
    tests = " OR ".join(
        f"({in_range(ip, text_literal(network))} AND {bits} >= {network[-2:].strip('/')})" for network in PRIVATE
    )
    return f"if(isNull({_number(ip)}) OR isNull({bits}), NULL, {tests})"


def _suffix(values: Sequence[Value]) -> str:
    ip = values[0].sql
    return f"if(isNull({_number(ip)}), NULL, toInt64({_prefix(ip, 32)}))"


def _cut(value: Value, bits: str) -> str:
    """Return an IPv4 address as a number with its first bits only; null where it cannot be read."""
    number = f"toUInt64({_number(value.sql)})" if value.type in TEXTUAL else f"toUInt64({value.sql})"
    return f"toInt64(bitShiftLeft(bitShiftRight({number}, 32 - {bits}), 32 - {bits}))"


def _parsed(values: Sequence[Value]) -> str:
    return _cut(values[0], f"toUInt8({_prefix(values[0].sql, 32)})")


def _parsed_mask(values: Sequence[Value]) -> str:
    mask = values[1].sql
    return f"if({mask} BETWEEN 0 AND 32, {_cut(values[0], f'toUInt8({mask})')}, NULL)"


def _formatted(values: Sequence[Value]) -> str:
    """Return format_ipv4: the address with its first bits only; empty for what is no address."""
    ip = values[0] if values[0].type is not DYNAMIC else to_text(values[0])
    bits = f"toUInt8({_prefix(ip.sql, 32)})" if ip.type in TEXTUAL else "toUInt8(32)"
    if len(values) > 1:
        bits = f"if({values[1].sql} BETWEEN 0 AND 32, least(toUInt8({values[1].sql}), {bits}), NULL)"
    return f"ifNull(IPv4NumToString(toUInt32({_cut(ip, bits)})), '')"


def _formatted_mask(values: Sequence[Value]) -> str:
    ip = values[0] if values[0].type is not DYNAMIC else to_text(values[0])
    own = f"toUInt8({_prefix(ip.sql, 32)})" if ip.type in TEXTUAL else "toUInt8(32)"
    bits = own if len(values) == 1 else f"least(toUInt8({values[1].sql}), {own})"
    text = _formatted(values)
    return f"if({text} = '', '', concat({text}, '/', toString({bits})))"


def _long_form(sql: str) -> str:
    """Return an address without its prefix as IPv6 text; an IPv4 one behind ::ffff:."""
    return f"if(isIPv4String({_address(sql)}), concat('::ffff:', {_address(sql)}), {_address(sql)})"


def _prefix6(sql: str) -> str:
    """Return the length of the prefix of an IPv6 network; one of IPv4 counts from bit 96. Null where it is none."""
    return f"if(isIPv4String({_address(sql)}), 96 + ({_prefix(sql, 32)}), {_prefix(sql, 128)})"


def _network6(sql: str, bits: str) -> str:
    return f"IPv6CIDRToRange(toIPv6OrDefault({_long_form(sql)}), {bits}).1"


def _known6(*addresses: str) -> str:
    tests = (f"isIPv6String({_long_form(sql)}) AND isNotNull({_prefix6(sql)})" for sql in addresses)
    return " AND ".join(tests)


def in_range6(ip: str, network: str) -> str:
    """Return whether an address is in an IPv6 or IPv4 network; null where one cannot be read."""
    bits = f"toUInt8(assumeNotNull({_prefix6(network)}))"
    return f"if({_known6(ip, network)}, {_network6(ip, bits)} = {_network6(network, bits)}, NULL)"


def _in_any_range6(values: Sequence[Value]) -> str:
    ip, *ranges = values
    found = f"arrayExists(n -> ifNull({in_range6(ip.sql, 'n')}, false), {listed(ranges)})"
    return f"if(isIPv6String({_long_form(ip.sql)}), {found}, NULL)"


def _compared6(values: Sequence[Value]) -> str:
    """Return ipv6_compare: both addresses cut to the shortest prefix."""
    first, second = values[0].sql, values[1].sql
    given = values[2].sql if len(values) > 2 else "128"
    bits = f"toUInt8(assumeNotNull(least({_prefix6(first)}, {_prefix6(second)}, {given})))"
    left, right = _network6(first, bits), _network6(second, bits)
    return f"if({_known6(first, second)}, toInt64(multiIf({left} < {right}, -1, {left} > {right}, 1, 0)), NULL)"


def _addresses(text: Value) -> str:
    """Return the IPv4 addresses in a text that no letter, digit or dot touches: an Array(String) in SQL."""
    # Signs are doubled, so that one between two addresses ends the first and begins the second.
    doubled = f"replaceRegexpAll({to_text(text).sql}, '([^0-9A-Za-z.])', '\\1\\1')"
    found = f"extractAll(concat(' ', {doubled}, ' '), '[^0-9A-Za-z.](\\d+[.]\\d+[.]\\d+[.]\\d+)[^0-9A-Za-z.]')"
    return f"arrayFilter(a -> isIPv4String(a), {found})"


def _has_ipv4(values: Sequence[Value]) -> str:
    text, *addresses = values
    return f"hasAny({_addresses(text)}, {listed(addresses)})"


def _has_prefix(values: Sequence[Value]) -> str:
    """Return has_any_ipv4_prefix: a prefix ends with a dot or is a whole address."""
    text, *prefixes = values
    valid = "match(p, '^(\\d{1,3}[.]){1,3}$|^(\\d{1,3}[.]){3}\\d{1,3}$')"
    test = f"{valid} AND if(endsWith(p, '.'), startsWith(a, p), a = p)"
    return f"arrayExists(a -> arrayExists(p -> {test}, {listed(prefixes)}), {_addresses(text)})"


def url_parts(url: str) -> dict[str, str]:
    """Return the parts of a URL, each as SQL of a text; all are empty for a text that is no URL."""
    scheme = "^[A-Za-z][A-Za-z0-9+.-]*://"
    login = "(?:[^/?#@]*@)?"
    host = f"extract({url}, '{scheme}{login}([^/?#:]*)')"
    # One regular expression for both forms of a host is thirty times slower.
    in_brackets = f"extract({url}, '{scheme}{login}(\\\\[[^\\\\]]*\\\\])')"
    return {
        "Scheme": f"extract({url}, '^([A-Za-z][A-Za-z0-9+.-]*)://')",
        "Host": f"if(startsWith({host}, '['), {in_brackets}, {host})",
        "Port": f"extract(extract({url}, '{scheme}([^/?#]*)'), ':(\\\\d+)$')",
        "Path": f"extract({url}, '{scheme}[^/?#]*(/[^?#]*)')",
        "Username": f"extract({url}, '{scheme}([^/?#@:]*)(?::[^/?#@]*)?@')",
        "Password": f"extract({url}, '{scheme}[^/?#@:]*:([^/?#@]*)@')",
        "Fragment": f"extract({url}, '{scheme}[^#]*#(.*)$')",
    }


def _parse_url(values: Sequence[Value]) -> str:
    url = to_text(values[0]).sql
    texts = ", ',', ".join(f"'\"{name}\":', toJSONString({sql})" for name, sql in url_parts(url).items())
    query = f"extract({url}, '^[A-Za-z][A-Za-z0-9+.-]*://[^?#]*[?]([^#]*)')"
    return f"concat('{{', {texts}, ',\"Query Parameters\":', {_query(query)}, '}}')"


def _query(sql: str) -> str:
    """Return the JSON object of a query string such as a=1&b=2."""
    pairs = f"arrayFilter(p -> p != '', splitByChar('&', {sql}))"
    shown = "concat(toJSONString(splitByChar('=', p)[1]), ':', toJSONString(substring(p, position(concat(p, '='), '=') + 1)))"
    return f"concat('{{', arrayStringConcat(arrayMap(p -> {shown}, {pairs}), ','), '}}')"


def _parse_query(values: Sequence[Value]) -> str:
    query = f"replaceRegexpOne({to_text(values[0]).sql}, '^[?]', '')"
    return f"concat('{{\"Query Parameters\":', {_query(query)}, '}}')"


FUNCTIONS = {
    "ipv4_is_private": Signature(BOOL, "s", _is_private, nullable=True),
    "ipv4_is_in_range": Signature(BOOL, "ss", _in_range, nullable=True),
    "ipv4_is_in_any_range": Signature(BOOL, "sa*", _in_any_range, nullable=True),
    "ipv4_is_match": Signature(BOOL, "ss?l", _matches, nullable=True),
    "ipv4_compare": Signature(LONG, "ss?l", _compared, nullable=True),
    "ipv4_netmask_suffix": Signature(LONG, "s", _suffix, nullable=True),
    "parse_ipv4": Signature(LONG, "s", _parsed, nullable=True),
    "parse_ipv4_mask": Signature(LONG, "sl", _parsed_mask, nullable=True),
    "format_ipv4": Signature(STRING, "a?l", _formatted),
    "format_ipv4_mask": Signature(STRING, "a?l", _formatted_mask),
    "has_ipv4": Signature(BOOL, "sa", _has_ipv4),
    "has_any_ipv4": Signature(BOOL, "sa*", _has_ipv4),
    "has_ipv4_prefix": Signature(BOOL, "sa", _has_prefix),
    "has_any_ipv4_prefix": Signature(BOOL, "sa*", _has_prefix),
    "ipv6_is_in_range": Signature(BOOL, "ss", lambda v: in_range6(v[0].sql, v[1].sql), nullable=True),
    "ipv6_is_in_any_range": Signature(BOOL, "sa*", _in_any_range6, nullable=True),
    "ipv6_is_match": Signature(BOOL, "ss?l", lambda v: f"({_compared6(v)} = 0)", nullable=True),
    "ipv6_compare": Signature(LONG, "ss?l", _compared6, nullable=True),
    "parse_ipv6": Signature(
        STRING, "s", lambda v: "ifNull(arrayStringConcat(extractAll(lower(hex(toIPv6OrNull("
        f"{_long_form(v[0].sql)}))), '....'), ':'), '')",
    ),
    "parse_url": Signature(DYNAMIC, "a", _parse_url),
    "parseurl": Signature(DYNAMIC, "a", _parse_url),
    "parse_urlquery": Signature(DYNAMIC, "a", _parse_query),
    "parseurlquery": Signature(DYNAMIC, "a", _parse_query),
}  # fmt: skip
