"""Functions of texts. Source: learn.microsoft.com/kusto/query/scalar-functions, "String functions"."""

from __future__ import annotations

import re
from collections.abc import Sequence

from hunting.kql.errors import KqlError, Span
from hunting.kql.scalar.signatures import Signature
from hunting.kql.scalar.terms import quoted
from hunting.kql.types import Type
from hunting.kql.values import Value, text_literal, to_text

STRING, LONG, BOOL, DYNAMIC = Type.STRING, Type.LONG, Type.BOOL, Type.DYNAMIC


def texts(values: Sequence[Value]) -> list[str]:
    """Return the SQL of all values as texts."""
    return [to_text(value).sql for value in values]


def _concatenated(values: Sequence[Value]) -> str:
    parts = texts(values)
    return parts[0] if len(parts) == 1 else f"concat({', '.join(parts)})"


def _delimited(values: Sequence[Value]) -> str:
    delimiter, *parts = texts(values)
    return f"arrayStringConcat([{', '.join(parts)}], {delimiter})"


def _is_empty(values: Sequence[Value]) -> str:
    value = values[0]
    if value.type in (STRING, Type.GUID):
        return f"({value.sql} = '')"
    if value.type is DYNAMIC:
        return f"({to_text(value).sql} = '')"
    return f"isNull({value.sql})" if value.nullable else "false"


def _is_not_empty(values: Sequence[Value]) -> str:
    value = values[0]
    if value.type in (STRING, Type.GUID):
        return f"({value.sql} != '')"
    return f"(NOT {_is_empty(values)})"


def _substring(values: Sequence[Value]) -> str:
    text, start = to_text(values[0]).sql, values[1].sql
    first = f"if({start} < 0, greatest(lengthUTF8({text}) + {start}, 0), {start}) + 1"
    if values[1].is_constant and isinstance(values[1].constant, int) and values[1].constant >= 0:
        first = str(values[1].constant + 1)
    if len(values) == 2:
        return f"substringUTF8({text}, {first})"
    return f"substringUTF8({text}, {first}, greatest({values[2].sql}, 0))"


def _split(values: Sequence[Value]) -> str:
    text, delimiter = to_text(values[0]).sql, values[1].sql
    parts = f"if({delimiter} = '', [{text}], splitByString({delimiter}, {text}))"
    if values[1].is_constant and values[1].constant:
        parts = f"splitByString({delimiter}, {text})"
    if len(values) == 2:
        return f"toJSONString({parts})"
    at = f"{values[2].sql} + 1"
    return f"if(length({parts}) >= {at} AND {at} > 0, toJSONString([arrayElement({parts}, {at})]), '[]')"


def _index_of(values: Sequence[Value]) -> str:
    """Return indexof(text, needle, start, length, occurrence): a negative start is the beginning, -1 is any length."""
    text, needle = texts(values[:2])
    start = f"toInt64(greatest({values[2].sql}, 0))" if len(values) > 2 else "0"
    if len(values) <= 3:
        found = f"positionUTF8({text}, {needle}, toUInt64({start} + 1))"
        return (
            f"(toInt64({found}) - 1)" if start == "0" else f"if({start} > lengthUTF8({text}), -1, toInt64({found}) - 1)"
        )
    length = values[3].sql
    part = f"if({length} < 0, substringUTF8({text}, {start} + 1), substringUTF8({text}, {start} + 1, {length}))"
    occurrence = values[4].sql if len(values) > 4 else "1"
    starts = "range(toUInt64(lengthUTF8(part) + 1))"
    places = f"arrayFilter(i -> substringUTF8(part, i + 1, lengthUTF8({needle})) = {needle}, {starts})"
    place = f"arrayElement(arrayMap(i -> toInt64(i) + {start}, {places}), {occurrence})"
    return f"arrayElement(arrayMap(part -> if(length({places}) >= {occurrence}, {place}, -1), [{part}]), 1)"


def _count_of(values: Sequence[Value]) -> str:
    text, needle = texts(values[:2])
    if len(values) > 2 and str(values[2].constant) == "regex":
        return f"toInt64(countMatches({text}, {regex(values[1])}))"
    # Matches of a text may overlap, those of a regular expression do not.
    return (
        f"toInt64(arrayCount(i -> substringUTF8({text}, i + 1, lengthUTF8({needle})) = {needle},"
        f" range(toUInt64(greatest(toInt64(lengthUTF8({text})) - toInt64(lengthUTF8({needle})) + 1, 0)))))"
    )


def _replace_strings(values: Sequence[Value]) -> str:
    """Return replace_strings(text, searched, replacements): all at once, so that no replacement is replaced again."""
    searched, replacements = values[1].constant, values[2].constant
    if not isinstance(searched, list) or not isinstance(replacements, list) or len(searched) != len(replacements):
        raise KqlError("expected two constant arrays of the same length", Span(0, 1))
    if not all(searched):
        raise KqlError("expected texts that are not empty", Span(0, 1))
    pairs = {str(old): str(new) for old, new in reversed(list(zip(searched, replacements, strict=True)))}
    if not pairs:
        return values[0].sql
    pattern = "|".join(quoted(str(old)) for old in searched)
    old = f"[{', '.join(text_literal(text) for text in pairs)}]"
    new = f"[{', '.join(text_literal(text) for text in pairs.values())}]"
    text = values[0].sql
    parts = f"splitByRegexp({text_literal(pattern)}, {text})"
    found = f"arrayPushBack(extractAll({text}, {text_literal(f'({pattern})')}), '')"
    return f"arrayStringConcat(arrayMap((p, f) -> concat(p, transform(f, {old}, {new})), {parts}, {found}))"


def regex(pattern: Value) -> str:
    """Return SQL of a regular expression. In KQL `.` matches no line break unless the pattern has the flag s.

    Raises KqlError for what RE2 does not have. Source: learn.microsoft.com/kusto/query/regex.
    """
    if not isinstance(pattern.constant, str):
        return f"concat('(?-s)', {pattern.sql})"
    if unknown := re.search(r"\(\?(?:<?[=!]|>)", pattern.constant):
        raise KqlError(f"`{unknown[0]}` is not supported in regular expressions", Span(0, 1))
    return text_literal(f"(?-s){pattern.constant}") if "." in pattern.constant else pattern.sql


def _compiled(pattern: Value) -> re.Pattern[str] | None:
    """Return a constant regular expression for its groups, None where they cannot be counted."""
    try:
        return re.compile(re.sub(r"\(\?[a-zA-Z]+\)|\\p\{\w+\}|\\P\{\w+\}", "", str(pattern.constant)))
    except re.error:
        return None


def _groups(pattern: Value) -> int | None:
    found = _compiled(pattern)
    return None if found is None else found.groups


def _replace_regex(values: Sequence[Value]) -> str:
    r"""Return replace_regex: KQL writes groups as `\1` and the whole match as `\0`, as ClickHouse does."""
    text, pattern, rewrite = values
    if pattern.is_constant and rewrite.is_constant:
        used = [int(digit) for digit in re.findall(r"\\(\d)", str(rewrite.constant))]
        groups = _groups(pattern)
        if groups is not None and used and max(used) > groups:
            raise KqlError(f"the replacement names group {max(used)}, the pattern has {groups}", Span(0, 1))
    return f"replaceRegexpAll({text.sql}, {regex(pattern)}, {rewrite.sql})"


def _extract(values: Sequence[Value]) -> str:
    pattern, group, text = values[:3]
    number = group.constant
    groups = _groups(pattern) if pattern.is_constant else None
    if isinstance(number, int) and groups is not None:
        # ClickHouse refuses a group that the pattern does not have; KQL finds nothing.
        return f"regexpExtract({text.sql}, {regex(pattern)}, {number})" if 0 <= number <= groups else "''"
    if number == 0:
        return f"regexpExtract({text.sql}, {regex(pattern)}, 0)"
    return f"arrayElement(extractGroups({text.sql}, {regex(pattern)}), toInt64({group.sql}))"


def _extract_all(values: Sequence[Value]) -> str:
    """Return extract_all: one group gives a list of texts, several ones a list of lists, no match null."""
    pattern, text = values[0], values[-1]
    count = _groups(pattern) if pattern.is_constant else None
    if count == 0:
        raise KqlError("the pattern has no group in parentheses", Span(0, 1))
    groups = f"extractAllGroupsVertical({text.sql}, {regex(pattern)})"
    if len(values) == 3:
        chosen = values[1].constant
        compiled = _compiled(pattern)
        if isinstance(chosen, list) and compiled is not None:
            chosen = [compiled.groupindex.get(name, name) for name in chosen]
        if not isinstance(chosen, list) or not all(isinstance(number, int) for number in chosen) or not chosen:
            raise KqlError("expected numbers or names of groups, such as dynamic([1, 2])", Span(0, 1))
        if count is not None and not all(0 < number <= count for number in chosen):
            raise KqlError(f"the pattern has {count} groups", Span(0, 1))
        picked = ", ".join(f"arrayElement(g, {number})" for number in chosen)
        found = f"arrayMap(g -> {picked if len(chosen) == 1 else f'[{picked}]'}, {groups})"
    else:
        one = f"length(arrayElement({groups}, 1)) = 1"
        found = f"if({one}, toJSONString(arrayFlatten({groups})), toJSONString({groups}))"
        if count is not None:
            found = f"arrayFlatten({groups})" if count == 1 else groups
        else:
            return f"if(empty({groups}), '', {found})"
    return f"if(empty({groups}), '', toJSONString({found}))"


def _trim(where: str) -> str:
    patterns = {"both": "concat('^(?:', {0}, ')+|(?:', {0}, ')+$')", "start": "concat('^(?:', {0}, ')+')"}
    pattern = patterns.get(where, "concat('(?:', {0}, ')+$')")
    return f"replaceRegexpAll({{1}}, {pattern}, '')"


def _repeated(values: Sequence[Value]) -> str:
    text = to_text(values[0]).sql
    count = f"toUInt64(least(greatest({values[1].sql}, 0), 1024))"
    if len(values) == 2:
        return f"repeat({text}, {count})"
    return f"arrayStringConcat(arrayMap(i -> {text}, range({count})), {to_text(values[2]).sql})"


def _hexadecimal(values: Sequence[Value]) -> str:
    digits = f"replaceRegexpOne(lower(hex(toInt64({values[0].sql}))), '^0+(.)', '\\\\1')"
    if len(values) == 1:
        return digits
    return f"if(length({digits}) < {values[1].sql}, leftPad({digits}, toUInt64({values[1].sql}), '0'), {digits})"


def _translated(values: Sequence[Value]) -> str:
    """Return translate: the last character of a shorter list stands for the rest; an empty list removes characters."""
    searched, replacements = str(values[0].constant), str(values[1].constant)
    replacements = replacements[: len(searched)] + replacements[-1:] * (len(searched) - len(replacements))
    return f"translateUTF8({values[2].sql}, {text_literal(searched)}, {text_literal(replacements)})"


def _is_null(values: Sequence[Value]) -> str:
    value = values[0]
    if value.type is DYNAMIC:
        return f"({value.sql} IN ('', 'null'))"
    if value.type is Type.GUID:
        return f"({value.sql} = '')"
    return f"isNull({value.sql})" if value.nullable else "false"


def _character(code: str) -> str:
    """Return the UTF-8 of a code point."""
    low = f"128 + bitAnd({code}, 63)"
    middle = f"128 + bitAnd(bitShiftRight({code}, 6), 63)"
    return (
        f"multiIf({code} < 128, char({code}), {code} < 2048, char(192 + bitShiftRight({code}, 6), {low}),"
        f" {code} < 65536, char(224 + bitShiftRight({code}, 12), {middle}, {low}),"
        f" char(240 + bitShiftRight({code}, 18), 128 + bitAnd(bitShiftRight({code}, 12), 63), {middle}, {low}))"
    )


def _from_codes(values: Sequence[Value]) -> str:
    """Return make_string: code points, each alone or in an array."""
    parts = []
    for value in values:
        if value.type is DYNAMIC:
            parts.append(f"JSONExtract({value.sql}, 'Array(UInt32)')")
        elif value.type in (Type.INT, LONG):
            parts.append(f"[toUInt32({value.sql})]")
        else:
            raise KqlError(f"expected a code point or an array of them, found a {value.type}", Span(0, 1))
    codes = parts[0] if len(parts) == 1 else f"arrayConcat({', '.join(parts)})"
    return f"arrayStringConcat(arrayMap(c -> {_character('c')}, {codes}))"


def _codes(values: Sequence[Value]) -> str:
    """Return the code points of a text."""
    rest = "bitAnd(reinterpretAsUInt8(substring(c, {0}, 1)), 63)"
    second, third, fourth = (rest.format(place) for place in (2, 3, 4))
    first = "reinterpretAsUInt8(substring(c, 1, 1))"
    code = (
        f"toUInt32(multiIf(length(c) = 1, {first}, length(c) = 2, bitAnd({first}, 31) * 64 + {second},"
        f" length(c) = 3, bitAnd({first}, 15) * 4096 + {second} * 64 + {third},"
        f" bitAnd({first}, 7) * 262144 + {second} * 4096 + {third} * 64 + {fourth}))"
    )
    return f"toJSONString(arrayMap(c -> {code}, extractAll({values[0].sql}, '(?s).')))"


def _url_encoded(space: str) -> str:
    """Return url_encode or url_encode_component: escapes are in lower case."""
    escaped = "if(match(b, '^[A-Za-z0-9_.!*()-]$'), b, if(b = ' ', '" + space + "', concat('%', lower(hex(b)))))"
    bytes_ = "arrayMap(i -> substring({0}, i, 1), range(1, length({0}) + 1))"
    return f"arrayStringConcat(arrayMap(b -> {escaped}, {bytes_}))"


_DECODED = "arrayElement(arrayMap(b -> if(isValidUTF8(b), b, ''), [tryBase64Decode({0})]), 1)"


def _bytes_decoded(values: Sequence[Value]) -> str:
    decoded = f"tryBase64Decode({values[0].sql})"
    codes = f"arrayMap(i -> reinterpretAsUInt8(substring({decoded}, i, 1)), range(1, length({decoded}) + 1))"
    return f"toJSONString({codes})"


def _version(values: Sequence[Value]) -> str:
    """Return parse_version: up to four parts as one comparable number, null for anything else."""
    text = values[0].sql
    part = f"toDecimal128(toUInt32OrZero(arrayElement(splitByChar('.', {text}), {{0}})), 0)"
    weights = ((1, "1000000000000000000000000"), (2, "10000000000000000"), (3, "100000000"), (4, "1"))
    total = " + ".join(f"{part.format(place)} * toDecimal128('{weight}', 0)" for place, weight in weights)
    return f"if(match({text}, '^\\\\d{{1,8}}([.]\\\\d{{1,8}}){{0,3}}$'), {total}, NULL)"


def path_parts(text: str) -> dict[str, str]:
    """Return the parts of a file's path, each as SQL of a text; a colon behind the file's name begins a stream's name."""
    path = f"replaceRegexpOne({text}, '^[A-Za-z][A-Za-z]+://', '')"
    file = f"extract({path}, '([^\\\\/\\\\\\\\]*)$')"
    name = f"if(match({path}, '^[A-Za-z]:[^\\\\/\\\\\\\\]*$'), substring({file}, 3), {file})"
    return {
        "Scheme": f"extract({text}, '^([A-Za-z][A-Za-z]+)://')",
        "RootPath": f"extract({path}, '^([A-Za-z]:)')",
        "DirectoryPath": f"extract({path}, '^(.*)[\\\\/\\\\\\\\]')",
        "DirectoryName": f"extract({path}, '([^\\\\/\\\\\\\\]+)[\\\\/\\\\\\\\][^\\\\/\\\\\\\\]*$')",
        "Filename": f"extract({name}, '^([^:]*)')",
        "Extension": f"extract(extract({name}, '^([^:]*)'), '[.]([^.]+)$')",
        "AlternateDataStreamName": f"extract({name}, ':(.*)$')",
    }


def _parse_path(values: Sequence[Value]) -> str:
    texts_ = ", ',', ".join(f"'\"{key}\":', toJSONString({sql})" for key, sql in path_parts(values[0].sql).items())
    return f"concat('{{', {texts_}, '}}')"


def _csv_fields(values: Sequence[Value]) -> str:
    """Return parse_csv: the fields of the first record."""
    field = '"(?:[^"]|"")*"|[^,\\\\r\\\\n]*'
    record = f"extract({values[0].sql}, '^((?:{field})(?:,(?:{field}))*)')"
    plain = "if(startsWith(f, '\"'), replaceAll(substring(f, 2, length(f) - 2), '\"\"', '\"'), f)"
    return f"toJSONString(arrayMap(f -> {plain}, extractAll(concat({record}, ','), '({field}),')))"


FUNCTIONS = {
    "tolower": Signature(STRING, "s", "lowerUTF8({0})"),
    "toupper": Signature(STRING, "s", "upperUTF8({0})"),
    "strlen": Signature(LONG, "s", "toInt64(lengthUTF8({0}))", prefix="strlen"),
    "string_size": Signature(LONG, "s", "toInt64(length({0}))", prefix="string_size"),
    "strcat": Signature(STRING, "a*", _concatenated),
    "strcat_delim": Signature(STRING, "aa*", _delimited),
    "strrep": Signature(STRING, "al?a", _repeated),
    "reverse": Signature(STRING, "a", lambda v: f"reverseUTF8({to_text(v[0]).sql})"),
    "substring": Signature(STRING, "al?l", _substring),
    "split": Signature(DYNAMIC, "as?l", _split, keeps_name=True),
    "indexof": Signature(LONG, "aa?lll", _index_of),
    "countof": Signature(LONG, "ss?S", _count_of),
    "replace_string": Signature(STRING, "sss", "replaceAll({0}, {1}, {2})"),
    "replace_regex": Signature(STRING, "sss", _replace_regex),
    "replace_strings": Signature(STRING, "syy", _replace_strings),
    "replace": Signature(STRING, "sss", lambda v: _replace_regex([v[2], v[0], v[1]])),
    "extract": Signature(STRING, "sls", _extract),
    "extract_all": Signature(DYNAMIC, "sa?s", _extract_all),
    "extractall": Signature(DYNAMIC, "sa?s", _extract_all),
    "trim": Signature(STRING, "ss", _trim("both")),
    "trim_start": Signature(STRING, "ss", _trim("start")),
    "trim_end": Signature(STRING, "ss", _trim("end")),
    "isempty": Signature(BOOL, "a", _is_empty),
    "isnotempty": Signature(BOOL, "a", _is_not_empty),
    "notempty": Signature(BOOL, "a", _is_not_empty),
    "isnull": Signature(BOOL, "a", _is_null),
    "isnotnull": Signature(BOOL, "a", lambda v: f"(NOT {_is_null(v)})"),
    "notnull": Signature(BOOL, "a", lambda v: f"(NOT {_is_null(v)})"),
    "isascii": Signature(BOOL, "s", "match({0}, '^[\\\\x00-\\\\x7F]*$')"),
    "isutf8": Signature(BOOL, "s", "isValidUTF8({0})"),
    "strcmp": Signature(LONG, "ss", "toInt64(multiIf({0} < {1}, -1, {0} > {1}, 1, 0))"),
    "translate": Signature(STRING, "SSs", _translated),
    "regex_quote": Signature(STRING, "s", "regexpQuoteMeta({0})"),
    "base64_encode_tostring": Signature(STRING, "s", "base64Encode({0})"),
    "base64_encodestring": Signature(STRING, "s", "base64Encode({0})"),
    "base64_decode_tostring": Signature(STRING, "s", _DECODED),
    "base64_decodestring": Signature(STRING, "s", _DECODED),
    "base64_decode_toarray": Signature(DYNAMIC, "s", _bytes_decoded),
    "url_encode": Signature(STRING, "s", _url_encoded("+")),
    "url_encode_component": Signature(STRING, "s", _url_encoded("%20")),
    "url_decode": Signature(STRING, "s", "decodeURLFormComponent({0})"),
    "hash_sha256": Signature(STRING, "a", lambda v: f"lower(hex(SHA256({to_text(v[0]).sql})))"),
    "hash_sha1": Signature(STRING, "a", lambda v: f"lower(hex(SHA1({to_text(v[0]).sql})))"),
    "hash_md5": Signature(STRING, "a", lambda v: f"lower(hex(MD5({to_text(v[0]).sql})))"),
    "make_string": Signature(STRING, "a*", _from_codes),
    "unicode_codepoints_to_string": Signature(STRING, "a*", _from_codes),
    "unicode_codepoints_from_string": Signature(DYNAMIC, "s", _codes),
    "to_utf8": Signature(DYNAMIC, "s", _codes),
    "tohex": Signature(STRING, "l?l", _hexadecimal, keeps_name=True),
    "parse_version": Signature(Type.DECIMAL, "s", _version, nullable=True),
    "parse_path": Signature(DYNAMIC, "s", _parse_path),
    "parse_command_line": Signature(
        DYNAMIC,
        "sS",
        "toJSONString(arrayMap(a -> replaceAll(a, '\"', ''), extractAll({0}, '(?:[^\\\\s\"]|\"[^\"]*\")+')))",
    ),
    "parse_csv": Signature(DYNAMIC, "s", _csv_fields, keeps_name=True),
}  # fmt: skip
