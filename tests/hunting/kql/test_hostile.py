"""Queries that are written to break the translator: each gives SQL, or an error with its place, and nothing else."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest

from hunting.kql.errors import KqlError
from hunting.kql.lexer import TEXT_CHARS_MAX
from hunting.kql.protocols import Table
from hunting.kql.translation import translate
from tests.hunting.kql.answers import NOW, refused, rows, value

TABLES = {"T": Table("T", {"a": "Int64", "s": "String", "t": "Nullable(DateTime64(6, 'UTC'))", "d": "String"})}
QUERIES = (
    'T | where a == 1 and s has "x" or not(s in~ ("a", "b")) | extend b = a * 2 + 1, c = tolower(s) | project-away d',
    "let n = 3; let f = (x: long, y: string = 'z') { strcat(tostring(x), y) }; T | extend k = f(a) | take n",
    "T | summarize n = count(), make_set(s, 5), arg_max(t, *) by bin(t, 1h), a | sort by n desc nulls last | top 3 by n",
    "T | join kind=leftouter (T | distinct a, s) on $left.a == $right.a | union withsource=src T | lookup T on a",
    "T | extend j = parse_json(d) | mv-expand x = j.list to typeof(long) | where x between (1 .. 5) | project j['k'], j[0]",
    'T | parse kind=simple s with * "k=" k:long ";" rest | parse-where s with "a" b | evaluate bag_unpack(d) : (*, z: string)',
    "datatable(a: long, b: string)[1, 'x', 2, @'y\\'] | make-series n = count() default = 0 on a from 0 to 5 step 1 by b",
    "range i from 1 to 10 step 2 | serialize r = row_number(), p = prev(i, 1) | partition by i ( take 1 ) | getschema",
    "print a = datetime(2024-01-01), b = 1d, c = dynamic({'k': [1, 2.5, null]}), d = guid(74be27de-1e4e-49d9-b579-fe0b331d3642)",
    "search in (T) 'needle' | project-reorder s, * | project-rename q = s | count as n | render timechart with (title='x')",
)
"""Queries that use the operators between them."""


def outcome(query: str) -> str:
    """Return the SQL, "" for an error. Fails for an error whose place is outside of the query."""
    found: KqlError | None = None
    sql = ""
    try:
        sql = translate(query, TABLES, now=NOW).sql
    except KqlError as error:
        found = error
    assert found is None or (0 <= found.span.start <= len(query) and found.message and "line " in found.shown(query))
    return sql


@pytest.mark.parametrize("query", QUERIES)
def test_a_query_that_ends_anywhere_is_sql_or_an_error(query: str) -> None:
    """Editors translate after each key; none of the prefixes may end the program."""
    for end in range(len(query) + 1):
        outcome(query[:end])


@pytest.mark.parametrize("query", QUERIES)
def test_a_damaged_query_is_sql_or_an_error(query: str) -> None:
    """Characters are removed, doubled, exchanged or replaced."""
    draw = random.Random(query)
    for _ in range(150):
        text = list(query)
        for _ in range(draw.randint(1, 4)):
            at = draw.randrange(len(text))
            text[at] = draw.choice(["", text[at] * 2, draw.choice("(){}[]'\"|;,.=~!@*\\\n\0 aé1"), text[at - 1]])
        outcome("".join(text))


@pytest.mark.parametrize(
    "query",
    [
        "print " + "(" * 10_000,
        "print " + "(" * 10_000 + "1" + ")" * 10_000,
        "print " + "not(" * 10_000,
        "print " + "f(" * 10_000,
        "print " + "-" * 10_000 + "1",
        "print x = dynamic(" + "[" * 10_000,
        "T" + " | where a == 1" * 5_000,
        "T | where " + "s" + "[0]" * 10_000 + " == 1",
        "T | where s" + ".a" * 10_000 + " == 1",
        "T | extend x = a" + " + a" * 10_000,
        "T | join (" * 10_000,
        "union (" * 10_000,
        "let f = () {" * 10_000,
        "x" * (1024 * 1024),
        "//" + "x" * (1024 * 1024),
        "'" + "x" * (1024 * 1024),
        "let a0 = 'xxxxxxxxxx'; " + "".join(f"let a{n + 1} = strcat(a{n}, a{n}); " for n in range(40)) + "print a40",
        "let t0 = T; " + "".join(f"let t{n + 1} = union t{n}, t{n}; " for n in range(40)) + "t40",
        "let f0 = (x: long) { x }; "
        + "".join(f"let f{n + 1} = (x: long) {{ f{n}(x) + f{n}(x) }}; " for n in range(40))
        + "print f40(a)",
    ],
    ids=lambda query: query[:16] + str(len(query)),
)
def test_a_query_without_measure_is_refused(query: str) -> None:
    """Nesting, length and the number of operators and of uses of a variable have limits."""
    assert outcome(query) == ""


def test_a_query_of_the_longest_length_is_read() -> None:
    """A list of addresses of an incident may be long."""
    hosts = ", ".join(f"'host-{n}.example'" for n in range(10_000))
    query = f"T | where s in ({hosts})"

    assert len(query) < TEXT_CHARS_MAX
    assert "host-9999.example" in outcome(query)


NASTY = (
    "'", '"', "\\", "\\'", "'; DROP TABLE T; --", "` OR 1=1", "--\n", "/* */", "{x:String}", "%", "$$", "\n", "\r\n", "\t",
    "\u2028", "é", "\U0001f600", "'||(SELECT 1)||'", "\\x27", "a\\", "');", "?", "x\0y",
)  # fmt: skip


@pytest.mark.parametrize("text", NASTY)
def test_a_text_stays_a_text(text: str) -> None:
    """It comes back as it was written, from a literal, a parameter and a file of externaldata."""
    written = "'" + text.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n").replace("\r", "\\r") + "'"

    assert value(f"print {written}") == text
    assert value(f"print tostring(dynamic([{written}])[0])") == text
    assert value("declare query_parameters(p: string); print p", parameters={"p": written}) == text
    assert value(f"datatable(s: string)[{written}] | where s == {written} and s has_any ({written}, 'zz')") == text


@pytest.mark.parametrize(
    "text", [text for text in NASTY if text.isprintable() and "'" not in text and "\\" not in text]
)
def test_a_name_stays_a_name(text: str) -> None:
    """A column may be called anything: it is quoted wherever it occurs."""
    name = f"['{text}']"

    assert rows(
        f"print {name} = 7 | where {name} == 7 | extend b = {name} + 1 | sort by {name} | summarize by {name}, b"
    ) == [[7, 8]]


def test_a_comment_of_the_sql_ends_with_its_line() -> None:
    """The text of an operator is its comment: no character of it begins a new line of SQL."""
    for separator in ("\n", "\r", "\u2028", "\u2029", "\x85", "\x0b", "\x0c"):
        query = f"T | where s == 'x' //{separator}SELECT 1\n | take 1"
        sql = outcome(query)
        comments = [line for line in sql.splitlines() if line.startswith("--")]
        assert not any(line.strip().startswith("SELECT 1") for line in sql.split("\n")), (separator, comments)


@pytest.mark.parametrize(
    "query",
    [
        "system.tables | take 1",
        "['system.tables'] | take 1",
        "file('/etc/passwd') | take 1",
        "url('http://127.0.0.1/') | take 1",
        "remote('127.0.0.1', 'system', 'one')",
        "print file('/etc/passwd')",
        "T | extend x = dictGet('d', 'a', 1)",
        "T | invoke url('http://127.0.0.1/')",
        "T | where a in (system)",
        "externaldata(x: string)['file:///etc/passwd']",
        "T | evaluate sql_request('x', 'y')",
        "T | evaluate http_request('http://127.0.0.1/')",
        "cluster('x').database('y').T",
    ],
)
def test_only_the_tables_of_the_catalogue_are_read(query: str) -> None:
    """Files, other hosts and the server's own tables are refused by name."""
    message, _ = refused(query, TABLES)

    assert message


def test_errors_name_the_place() -> None:
    """Line, column and a mark below the word that is wrong."""
    query = "T\n| where a == 1\n| extend b = tolowr(s)"
    with pytest.raises(KqlError) as caught:
        translate(query, TABLES)
    first, line, mark = caught.value.shown(query).split("\n")

    assert first.startswith("line 3, column 14: the function `tolowr` is not supported; did you mean `tolower`")
    assert [end - start for start, end in pairwise((mark.index("^"), mark.rindex("^") + 1))] == [6]
    assert line[mark.index("^") :].startswith("tolowr")


def test_columns_for_window_functions_are_bounded() -> None:
    """Each is a CTE that names all before it, so that their cost grows with the square of their number."""
    many = ", ".join(f"a{n}=row_cumsum(iff(prev(x)==1,1,0))" for n in range(3_000))
    message, marked = refused(f"range x from 1 to 3 step 1 | sort by x asc | extend {many}")

    assert "too many functions of neighbouring rows" in message
    assert marked.startswith("extend")
