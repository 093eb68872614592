"""Files of indicators in each format: what is made of them, what is refused, whatever they are."""

from __future__ import annotations

import gzip
import json
from contextlib import suppress
from itertools import islice
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.clock import MICROS, parse_micros
from schemas.indicator_input import Given, Refused, indicator_of, moment, now_micros
from schemas.indicator_values import Unfit, Why, host_name, normal
from schemas.indicators import Indicator, IndicatorAction
from streams.indicators.index import IndicatorSet
from unproxy.errors import Fixable
from unproxy.indicators import defender, reading
from unproxy.indicators.format import Format
from unproxy.indicators.importing import carry
from unproxy.indicators.reading import load_file, read_file, recognise
from unproxy.indicators.stix_pattern import comparisons

FOLDER = Path(__file__).parents[2] / "data/indicators"
FILES = sorted(path for path in FOLDER.iterdir() if path.suffix != ".out" and path.name != "README.md")
NOW = parse_micros("2026-11-24T19:07:30")
FORMATS = {
    "defender.csv": Format.DEFENDER,
    "bundle.stix.json": Format.STIX,
    "event.misp.json": Format.MISP,
    "search.misp.json": Format.MISP,
    "export.misp.csv": Format.MISP_CSV,
    "list.txt": Format.LIST,
}


def outcome(path: Path) -> str:
    """Each entry on a line: place, and the indicator or why there is none."""
    lines = []
    for found in read_file(path, now=NOW):
        where = found.where.partition(": ")[2]
        if isinstance(found.what, Refused):
            lines.append(f"{where}: refused {found.what.in_words()}")
        else:
            one = found.what
            fields = {name: getattr(one, name) for name in one.__struct_fields__ if name != "id"}
            lines.append(
                f"{where}: {json.dumps({name: value for name, value in fields.items() if value not in ('', 0, ())})}"
            )
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_golden(path: Path, request: pytest.FixtureRequest) -> None:
    """Each file becomes what is written beside it."""
    golden = path.with_name(path.name + ".out")
    made = outcome(path)
    if request.config.getoption("--bless"):
        golden.write_text(made, encoding="utf-8")

    assert made == golden.read_text(encoding="utf-8")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_formats_are_recognised(path: Path) -> None:
    """By what is in the file, not by its name."""
    assert recognise(path.read_text(encoding="utf-8")) is FORMATS[path.name]


def test_packed_and_from_a_spreadsheet(tmp_path: Path) -> None:
    """Gzipped, with a byte order mark, in UTF-16 and with other separators the same is read."""
    text = (FOLDER / "defender.csv").read_text(encoding="utf-8")
    expected = outcome(FOLDER / "defender.csv")
    file = tmp_path / "file"
    for raw in (gzip.compress(text.encode()), text.encode("utf-8-sig"), text.encode("utf-16")):
        file.write_bytes(raw)
        assert outcome(file) == expected
    file.write_text("IndicatorType;IndicatorValue;Action\nDomainName;evil.example;Block\n", encoding="utf-8")
    assert '"evil.example"' in outcome(file)


def test_what_is_listed_is_imported_again(tmp_path: Path) -> None:
    """CSV and JSON lines bring every field back."""
    given = Given(
        "evil.example",
        None,
        "warn",
        True,
        8443,
        "curl.exe",
        'a "title"',
        "high",
        "C2",
        "call",
        "2099-01-01",
        ("a", "b"),
    )
    ones = [indicator_of(one, NOW) for one in (given, Given("203.0.113.0/24"), Given("https://e.example/A?b"))]
    indicators = [one for one in ones if isinstance(one, Indicator)]
    file = tmp_path / "file"
    file.write_text("\n".join(defender.lines_of(indicators)), encoding="utf-8")
    assert [found.what for found in read_file(file, now=NOW)] == indicators

    file.write_bytes(b"\n".join([*map(msgspec.json.encode, indicators), b'{"type": 5}']))
    *same, wrong = read_file(file, now=NOW)
    assert [found.what for found in same] == indicators
    assert isinstance(wrong.what, Refused)
    assert wrong.what.why is Why.UNREADABLE


def test_load_file_keeps_what_has_expired(tmp_path: Path) -> None:
    """For a look at history: what has expired since was in force then. Refused entries come with their places."""
    file = tmp_path / "list.csv"
    file.write_text(
        "IndicatorType,IndicatorValue,ExpirationTime,Action\n"
        "DomainName,evil.example,2020-01-01T00:00:00Z,Block\nFileMd5,x,,Block\n",
        encoding="utf-8",
    )
    known, refused = load_file(file)

    assert isinstance(known, IndicatorSet)
    assert known.match("evil.example", 443, "", "", True, parse_micros("2019-01-01"), 0, ())
    assert not known.match("evil.example", 443, "", "", True, parse_micros("2021-01-01"), 0, ())
    assert [one.refusal() for one in refused] == [f'{file}: line 3: "x": not a network indicator (FileMd5)']


def test_load_file_counts_from_now(tmp_path: Path) -> None:
    """An expiry of so many days is one from now on, for history as well."""
    file = tmp_path / "list.csv"
    file.write_text(
        "IndicatorType,IndicatorValue,ExpirationTime,Action\nDomainName,evil.example,30d,Block\n", encoding="utf-8"
    )
    known, _ = load_file(file)

    assert known.match("evil.example", 443, "", "", True, parse_micros("2019-01-01"), 0, ())
    assert known.match("evil.example", 443, "", "", True, now_micros(), 0, ())
    assert not known.match("evil.example", 443, "", "", True, now_micros() + 31 * 86_400 * MICROS, 0, ())


@pytest.mark.parametrize(
    ("content", "form", "message"),
    [
        (b'{"objects": 5}', Format.AUTO, "is no STIX"),
        (b'{"objects": [', Format.AUTO, "is no STIX"),
        (b'{"a": 1', Format.AUTO, "is no MISP"),
        (b"[" * 100_000, Format.MISP, "is no MISP"),
        (b"\x1f\x8b broken", Format.AUTO, "cannot be read"),
        (gzip.compress(b"evil.example\n" * 1_000, mtime=0)[:-10], Format.AUTO, "cannot be read"),
    ],
)
def test_file_that_is_broken(content: bytes, form: Format, message: str, tmp_path: Path) -> None:
    """A file that is not what it seems is reported in a line, with what to do."""
    file = tmp_path / "file"
    file.write_bytes(content)
    with pytest.raises(Fixable, match=message):
        list(read_file(file, form, now=NOW))


def test_file_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So is one that is missing, and JSON that is too large to be read at once."""
    with pytest.raises(Fixable, match="cannot be read: No such file"):
        list(read_file(tmp_path / "none", now=NOW))
    monkeypatch.setattr(reading, "JSON_BYTES_MAX", 10)
    with pytest.raises(Fixable, match="divide it"):
        list(read_file(FOLDER / "bundle.stix.json", now=NOW))


def test_long_lines_and_open_quotes(tmp_path: Path) -> None:
    """A line of megabytes is one refused entry; a quote that is never closed does not take the file along in silence."""
    file = tmp_path / "file"
    file.write_text("x" * 5_000_000 + "\nevil.example\n", encoding="utf-8")
    first, second = read_file(file, now=NOW)
    assert isinstance(first.what, Refused)
    assert isinstance(second.what, Indicator)

    row = "DomainName,e{}.example,Block\n"
    rows = "".join(row.format(number) for number in range(20_000))
    file.write_text('IndicatorType,IndicatorValue,Action\nDomainName,"open,Block\n' + rows, encoding="utf-8")
    found = [one.what for one in read_file(file, now=NOW)]
    assert any(isinstance(one, Refused) and one.why is Why.UNREADABLE for one in found)


def test_import_reports_and_counts(tmp_path: Path) -> None:
    """Each refused entry is reported with its place; an entry that is in the file twice counts once."""
    file = tmp_path / "list"
    file.write_text("evil.example\nEVIL.example.\ncom\n", encoding="utf-8")
    refused: list[str] = []
    account = carry(read_file(file, now=NOW), None, refused.append)

    assert (account.read, account.published, account.there, account.refused[Why.PUBLIC_SUFFIX]) == (3, 1, 1, 1)
    assert len(refused) == 1
    assert refused[0].startswith(f'{file}: line 3: "com": public suffix')
    assert next(account.in_words(dry_run=True)).startswith("3 entries: 1 to publish, 1 there already, 1 refused")


def test_a_long_list_is_a_stream(tmp_path: Path) -> None:
    """The first entries of a long file are there before the rest is read."""
    file = tmp_path / "list"
    file.write_text("".join(f"n{number}.example\n" for number in range(200_000)), encoding="utf-8")

    assert len(list(islice(read_file(file, now=NOW), 3))) == 3


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30d", 2_592_000), ("12h", 43_200), ("5m", 300), ("2W", 1_209_600), ("1970-01-01T00:01:00Z", 60)],
)
def test_moments(text: str, seconds: int) -> None:
    """A time, or so long from now."""
    assert moment(text, 0) == seconds * 1_000_000


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (Given("e.example", expires="2020-01-01"), Why.EXPIRED),
        (Given("e.example", expires="soon"), Why.BAD_FIELD),
        (Given("e.example", port=70_000), Why.BAD_FIELD),
        (Given("e.example:80", port=81), Why.BAD_FIELD),
        (Given("*.e.example", exact=True), Why.BAD_FIELD),
        (Given("e.example", title="x" * 9_000), Why.BAD_FIELD),
        (Given("8.0.0.0/7"), Why.TOO_WIDE),
        (Given("2000::/15"), Why.TOO_WIDE),
        (Given("10.0.0.1/8"), Why.HOST_BITS),
        (Given("::"), Why.THIS_MACHINE),
        (Given("github.io"), Why.PUBLIC_SUFFIX),
        (Given("co.uk", exact=True), Why.PUBLIC_SUFFIX),
        (Given("intranet"), Why.PUBLIC_SUFFIX),
        (Given("xn--p1ai"), Why.PUBLIC_SUFFIX),
        (Given("рф"), Why.PUBLIC_SUFFIX),
        (Given("1.2.3"), Why.MALFORMED),
        (Given("0x7f.1"), Why.MALFORMED),
        (Given("a..example"), Why.MALFORMED),
        (Given("e.example:0"), Why.MALFORMED),
        (Given("http://e.example:99999/"), Why.MALFORMED),
        (Given("http://[::1"), Why.MALFORMED),
        (Given("http://[::1]x/"), Why.MALFORMED),
        (Given("a" * 64 + ".example"), Why.MALFORMED),
        (Given("a." * 130 + "example"), Why.MALFORMED),
        (Given("two words"), Why.MALFORMED),
        (Given(""), Why.MALFORMED),
    ],
)
def test_refused(given: Given, why: Why) -> None:
    """What cannot be an indicator is refused by the reason."""
    made = indicator_of(given, NOW)

    assert isinstance(made, Refused), made
    assert made.why is why


@settings(max_examples=300)
@given(st.text(max_size=40) | st.from_regex(r"(https?://)?[a-z0-9.:\[\]-]{1,20}(/[ -~]{0,10})?", fullmatch=True))
def test_normal_stays_normal(text: str) -> None:
    """Whatever is written: refused by a reason, or one spelling, which is its own and of its type."""
    try:
        found = normal(text)
    except Unfit:
        return
    assert normal(found.value, found.type, exact=True)[:2] == found[:2]
    IndicatorSet().put(Indicator("id", found.type, found.value, IndicatorAction.BLOCK))


@settings(max_examples=300)
@given(st.text("[]()'=ORANDx:y, .\\-", max_size=40))
def test_patterns_never_break(text: str) -> None:
    """Whatever the pattern: values, or a reason."""
    with suppress(Unfit):
        comparisons(text)


def test_deep_patterns_are_refused() -> None:
    """Brackets without end are refused in words."""
    with pytest.raises(Unfit, match="deep"):
        comparisons("(" * 1_000 + "[domain-name:value = 'x']" + ")" * 1_000)


def test_emoji_and_dots_of_other_scripts() -> None:
    """Names as browsers put them on the wire."""
    assert host_name("☕.example") == "xn--53h.example"
    assert host_name("bücher。example") == "xn--bcher-kva.example"
