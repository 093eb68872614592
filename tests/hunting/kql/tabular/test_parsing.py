"""`parse`, `parse-where` and `parse-kv`."""

from __future__ import annotations

import pytest

from tests.hunting.kql.answers import refused
from tests.hunting.kql.tabular.known import Known, fact

PARSE, WHERE, KV = "parse-operator", "parse-where-operator", "parse-kv-operator"
EVENT = "Event: Slice (name=Scheduler, total=27, number=23, lock=02/17/2016 08:40:01, last=02/17/2016 08:39:01)"
LINES = '"Slice (name=P, total=27, number=23, lock=A, release=x, last=B)"'

ANSWERS = [
    Known("texts, junk, numbers and times", PARSE, f'print t = "{EVENT}" | parse t with * "name=" name ", total=" total:long * "number=" number:long * "lock=" lock ", last=" at:datetime ")" * | project-away t', "name, total, number, lock, at", [["Scheduler", 27, 23, "02/17/2016 08:40:01", "2016-02-17T08:39:01.000000Z"]]),
    Known("a last text ends the text", PARSE, 'print t = "Contact (email=john@c.com, Website=https:c.com)" | parse t with * "email=" a "@" d ", Website=https:" w ")" | project a, d, w', "a, d, w", [["john", "c.com", "c.com"]]),
    Known("the last text column takes the rest", PARSE, 'print t = "foo 12 bar baz" | parse t with f " " n:int " " rest | project f, n, rest', "f, n, rest", [["foo", 12, "bar baz"]]),
    Known("simple: a number that does not match leaves all null", PARSE, 'print t = "a=x b=2" | parse t with "a=" a:long " b=" b:long | project a, b', "a, b", [[None, None]]),
    Known("simple: a time that cannot be read leaves all null", PARSE, 'print t = "a=x b=2" | parse t with "a=" a:datetime " b=" b:long | project a, b', "a, b", [[None, None]]),
    Known("relaxed: only that column is null", PARSE, 'print t = "a=x b=2" | parse kind=relaxed t with "a=" a:long " b=" b:long | project a, b', "a, b", [[None, 2]]),
    Known("regex: texts are greedy", PARSE, 'print t = "name=P, total=27, q" | parse kind=regex t with * "name=" n "," * | project n', "n", [["P, total=27"]]),
    Known("regex: flags U and i", PARSE, 'print t = "name=P, total=27, q" | parse kind=regex flags=Ui t with * "NAME=" n "," * | project n', "n", [["P"]]),
    Known("regex: a dot is no line break without the flag s", PARSE, 'print t = "a=1\\nb=2" | parse kind=regex t with "a=" x "b=" y | project x, y', "x, y", [["", ""]]),
    Known("regex: with the flag s it is one", PARSE, 'print t = "a=1\\nb=2" | parse kind=regex flags=s t with "a=" x "b=" y | project x, y', "x, y", [["1\n", "2"]]),
    Known("regex: groups of the pattern do not count", PARSE, f'print t = {LINES} | parse kind=regex t with "(.*?)[a-z]*=" name @", total=\\s*\\d+\\s*.*?number=" number:long ".*?(previous)?lock=" lock ".*?release=" release ", last=" last "\\\\)" | project name, number, lock, release, last', "name, number, lock, release, last", [["P", 23, "A, ", "x", "B"]]),
    Known("simple: signs of regular expressions are plain", PARSE, 'print t = "a(1)[b]*" | parse t with "a(" n:int ")[" x "]*" | project n, x', "n, x", [[1, "b"]]),
    Known("no match gives null and empty", PARSE, 'print t = "q" | parse t with "a=" n:long " " s | project n, s', "n, s", [[None, ""]]),
    Known("lines are no limit", PARSE, 'print t = "one\\nk=v" | parse t with * "k=" v | project v', "v", [["v"]]),
    Known("an existing column is replaced in place", PARSE, 'print v = "old", t = "k=new" | parse t with "k=" v', "v, t", [["new", "k=new"]]),
    Known("parse-where drops rows without a match", WHERE, 'datatable(t:string)["a=1", "b=2", "a=x"] | parse-where t with "a=" n:long', "t, n", [["a=1", 1]]),
    # parse-kv
    Known("delimiters", KV, 'print t = "ThreadId:458745723, Machine:Node001, Text: The service is up, Level: Info" | parse-kv t as (Text:string, ThreadId:long, Machine:string) with (pair_delimiter=",", kv_delimiter=":") | project-away t', "Text, ThreadId, Machine", [["The service is up", 458745723, "Node001"]]),
    Known("quoted keys and values", KV, "print t = 'src=10.1.1.123 bytes=125 failure=\"connection aborted\" \"event time\"=2021-01-01T10:00:54' | parse-kv t as (['event time']:datetime, src:string, bytes:long, failure:string) with (pair_delimiter=' ', kv_delimiter='=', quote='\"') | project-away t", "event time, src, bytes, failure", [["2021-01-01T10:00:54.000000Z", "10.1.1.123", 125, "connection aborted"]]),
    Known("an opening and a closing quote", KV, "print t = 'src=1 failure=(connection aborted) (event time)=(2021-01-01 10:00:54)' | parse-kv t as (['event time']:datetime, src:string, failure:string) with (pair_delimiter=' ', kv_delimiter='=', quote='()') | project-away t", "event time, src, failure", [["2021-01-01T10:00:54.000000Z", "1", "connection aborted"]]),
    Known("a value ends at the delimiter", KV, "print t = 'name=John Doe phone=555 5555 city=New York' | parse-kv t as (name:string, phone:string, city:string) with (pair_delimiter=' ', kv_delimiter='=') | project-away t", "name, phone, city", [["John", "555", "New"]]),
    Known("greedy: a value ends at the next key", KV, "print t = 'name=John Doe phone=555 5555 city=New York' | parse-kv t as (name:string, phone:string, city:string) with (pair_delimiter=' ', kv_delimiter='=', greedy=true) | project-away t", "name, phone, city", [["John Doe", "555 5555", "New York"]]),
    Known("without delimiters any other sign is one", KV, 'print t = "2021-01-01T10:00:34 [INFO] ThreadId:458745723, Machine:Node001, Text: Started" | parse-kv t as (Text:string, ThreadId:long, Machine:string) | project-away t', "Text, ThreadId, Machine", [["Started", 458745723, "Node001"]]),
    Known("a regex with key and value", KV, "print t = @'[\"referer url: https://h.com/?h=1\", \"id: 24\"]' | parse-kv t as (['referer url']:string, id:long) with (regex=@'\"([\\w ]+)\\s*:\\s*([^\"]*)\"') | project-away t", "referer url, id", [["https://h.com/?h=1", 24]]),
    Known("the first value of a key counts", KV, 'print t = "k=a, k=b" | parse-kv t as (k:string) with (pair_delimiter=", ", kv_delimiter="=") | project k', "k", [["a"]]),
    Known("a missing key is null or empty", KV, 'print t = "k=a" | parse-kv t as (x:string, y:long) with (pair_delimiter=",", kv_delimiter="=") | project x, y', "x, y", [["", None]]),
]  # fmt: skip


@pytest.mark.parametrize("known", ANSWERS, ids=fact)
def test_answer_is_as_documented(known: Known) -> None:
    known.check()


def test_unknown_options_are_refused() -> None:
    assert "no kind of parse" in refused('print t="" | parse kind=other t with "a" b')[0]
    assert "flags" in refused('print t="" | parse kind=regex flags=x t with "a" b')[0]
    assert "two groups" in refused("print t='' | parse-kv t as (a:string) with (regex='(a)')")[0]
    assert "escape" in refused("print t='' | parse-kv t as (a:string) with (quote='q', escape='e')")[0]
    assert "both" in refused("print t='' | parse-kv t as (a:string) with (pair_delimiter=',')")[0]
