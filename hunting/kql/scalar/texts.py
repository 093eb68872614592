"""Functions of texts. Source: learn.microsoft.com/kusto/query/scalar-functions, "String functions"."""

from __future__ import annotations

from collections.abc import Sequence

from hunting.kql.errors import KqlError, Span
from hunting.kql.scalar.signatures import Signature
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


def _is_null(values: Sequence[Value]) -> str:
    value = values[0]
    if value.type is DYNAMIC:
        return f"({value.sql} IN ('', 'null'))"
    return f"isNull({value.sql})" if value.nullable else "false"


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
    text, needle = texts(values[:2])
    start = values[2].sql if len(values) > 2 else "0"
    if len(values) > 3:
        raise KqlError("indexof with a length or an occurrence is not supported", Span(0, 1))
    return f"(toInt64(positionUTF8({text}, {needle}, toUInt64(greatest({start}, 0) + 1))) - 1)"


def _count_of(values: Sequence[Value]) -> str:
    regex = len(values) > 2 and str(values[2].constant) == "regex"
    text, needle = texts(values[:2])
    if regex:
        return f"toInt64(countMatches({text}, {needle}))"
    # Matches of a text may overlap, those of a regular expression do not.
    return (
        f"toInt64(arrayCount(i -> substringUTF8({text}, i + 1, lengthUTF8({needle})) = {needle},"
        f" range(toUInt64(greatest(toInt64(lengthUTF8({text})) - toInt64(lengthUTF8({needle})) + 1, 0)))))"
    )


def _rewrite(pattern: Value) -> str:
    r"""KQL writes groups of a replacement as `$1`, ClickHouse as `\\1`; `$0` is the whole match."""
    if pattern.is_constant:
        written = str(pattern.constant).replace("\\", "\\\\")
        for digit in "0123456789":
            written = written.replace(f"${digit}", f"\\{digit}")
        return text_literal(written)
    return f"replaceRegexpAll({pattern.sql}, '[$](\\\\d)', '\\\\\\\\\\\\1')"


def _replace_regex(values: Sequence[Value]) -> str:
    return f"replaceRegexpAll({values[0].sql}, {values[1].sql}, {_rewrite(values[2])})"


def _extract(values: Sequence[Value]) -> str:
    pattern, group, text = values[:3]
    number = group.constant
    if not isinstance(number, int):
        return f"arrayElement(extractGroups({text.sql}, {pattern.sql}), toInt64({group.sql}))"
    if number == 0:
        return f"regexpExtract({text.sql}, {pattern.sql}, 0)"
    return f"regexpExtract({text.sql}, {pattern.sql}, {number})"


def _extract_all(values: Sequence[Value]) -> str:
    pattern, text = values[0], values[-1]
    groups = f"extractAllGroupsVertical({text.sql}, {pattern.sql})"
    if len(values) == 3:
        chosen = values[1].constant
        if not isinstance(chosen, list) or not all(isinstance(number, int) for number in chosen):
            raise KqlError("expected the numbers of groups, such as dynamic([1, 2])", Span(0, 1))
        picked = ", ".join(f"arrayElement(g, {number})" for number in chosen)
        return f"toJSONString(arrayMap(g -> [{picked}], {groups}))"
    # One group gives a list of texts, several ones a list of lists.
    return f"if(length(arrayElement({groups}, 1)) <= 1, toJSONString(arrayFlatten({groups})), toJSONString({groups}))"


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


FUNCTIONS = {
    "tolower": Signature(STRING, "s", "lowerUTF8({0})"),
    "toupper": Signature(STRING, "s", "upperUTF8({0})"),
    "strlen": Signature(LONG, "s", "toInt64(lengthUTF8({0}))"),
    "string_size": Signature(LONG, "s", "toInt64(length({0}))"),
    "strcat": Signature(STRING, "a*", _concatenated),
    "strcat_delim": Signature(STRING, "aaa*", _delimited),
    "strrep": Signature(STRING, "al?a", _repeated),
    "reverse": Signature(STRING, "a", lambda v: f"reverseUTF8({to_text(v[0]).sql})"),
    "substring": Signature(STRING, "al?l", _substring),
    "split": Signature(DYNAMIC, "as?l", _split, keeps_name=True),
    "indexof": Signature(LONG, "aa?lll", _index_of),
    "countof": Signature(LONG, "ss?S", _count_of),
    "replace_string": Signature(STRING, "sss", "replaceAll({0}, {1}, {2})"),
    "replace_regex": Signature(STRING, "sss", _replace_regex),
    "replace": Signature(STRING, "sss", lambda v: f"replaceRegexpAll({v[2].sql}, {v[0].sql}, {_rewrite(v[1])})"),
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
    "translate": Signature(STRING, "sss", "translateUTF8({2}, {0}, {1})"),
    "regex_quote": Signature(STRING, "s", "regexpQuoteMeta({0})"),
    "base64_encode_tostring": Signature(STRING, "s", "base64Encode({0})"),
    "base64_encodestring": Signature(STRING, "s", "base64Encode({0})"),
    "base64_decode_tostring": Signature(
        STRING, "s", "arrayElement(arrayMap(b -> if(isValidUTF8(b), b, ''), [tryBase64Decode({0})]), 1)"
    ),
    "base64_decodestring": Signature(
        STRING, "s", "arrayElement(arrayMap(b -> if(isValidUTF8(b), b, ''), [tryBase64Decode({0})]), 1)"
    ),
    "url_encode": Signature(STRING, "s", "encodeURLComponent({0})"),
    "url_encode_component": Signature(STRING, "s", "encodeURLComponent({0})"),
    "url_decode": Signature(STRING, "s", "decodeURLComponent({0})"),
    "hash_sha256": Signature(STRING, "a", lambda v: f"lower(hex(SHA256({to_text(v[0]).sql})))"),
    "hash_sha1": Signature(STRING, "a", lambda v: f"lower(hex(SHA1({to_text(v[0]).sql})))"),
    "hash_md5": Signature(STRING, "a", lambda v: f"lower(hex(MD5({to_text(v[0]).sql})))"),
    "hash_xxhash64": Signature(LONG, "a", lambda v: f"reinterpretAsInt64(xxHash64({to_text(v[0]).sql}))"),
    "make_string": Signature(STRING, "l*", lambda v: f"char({', '.join(x.sql for x in v)})"),
    "tohex": Signature(
        STRING, "l?l", lambda v: f"lower(leftPad(hex({v[0].sql}), toUInt64({v[1].sql if len(v) > 1 else 0}), '0'))",
        keeps_name=True,
    ),
    "parse_path": Signature(
        DYNAMIC,
        "s",
        "toJSONString(map('Scheme', extract({0}, '^([A-Za-z]+)://'),"
        " 'RootPath', extract({0}, '^(?:[A-Za-z]+://)?([A-Za-z]:|[\\\\\\\\/]{{2}}[^\\\\\\\\/]+)'),"
        " 'DirectoryPath', extract({0}, '^(.*)[\\\\\\\\/]'),"
        " 'DirectoryName', extract({0}, '([^\\\\\\\\/]+)[\\\\\\\\/][^\\\\\\\\/]*$'),"
        " 'Filename', extract({0}, '([^\\\\\\\\/:]+)$'),"
        " 'Extension', extract({0}, '[.]([^.\\\\\\\\/:]+)$'),"
        " 'AlternateDataStreamName', extract({0}, '[^\\\\\\\\/]:([^:\\\\\\\\/]+)$')))",
    ),
    "parse_command_line": Signature(
        DYNAMIC,
        "sS",
        "toJSONString(arrayMap(a -> replaceAll(a, '\"', ''), extractAll({0}, '(?:[^\\\\s\"]|\"[^\"]*\")+')))",
    ),
    "parse_csv": Signature(
        DYNAMIC,
        "s",
        "toJSONString(arrayMap(a -> if(startsWith(a, '\"'), replaceAll(substring(a, 2, length(a) - 2), '\"\"', '\"'), a),"
        " extractAll(concat({0}, ','), '(\"(?:[^\"]|\"\")*\"|[^,]*),')))",
        keeps_name=True,
    ),
}  # fmt: skip
