"""Damage, cheaply: real lines with members exchanged for anything, and bytes flipped, cut, joined and coded again."""

from __future__ import annotations

import gzip
import random
from collections.abc import Callable

from streams.messages import LINE_BYTES_MAX
from tests.fuzz.corpus import Corpus, Real

# fmt: off
ODD: tuple[bytes, ...] = (
    b"null", b"true", b"false", b"0", b"-0", b"-1", b"1", b"65535", b"65536", b"2147483648", b"4294967296",
    b"9223372036854775807", b"9223372036854775808", b"18446744073709551615", b"18446744073709551616", b"1" * 400,
    b"-" + b"9" * 5_000, b"1.0", b"0.1e1", b"1e308", b"1e309", b"-1e400", b"1e-400", b"NaN", b"Infinity", b"-Infinity",
    b"nan", b"01", b"+1", b"1.", b".5", b"0x1F", b"1_000", b'"0x12"', b'"zz"', b'"-1"', b'"1"', b"''", b'""', b'" "',
    b'"\\u0000"', b'"\\ud800"', b'"\\udc00\\ud800"', b'"\\ud83d\\ude00"', b'"\xff\xfe"', b'"\xc3\xa9"',
    b'"\xed\xa0\x80"', b'"\xf4\x90\x80\x80"', b'"\xe2\x80\xae"', b'"\\u2028"', b'"\\x"', b'"\n"', b'"\t"', b'"\x00"',
    b'"\\', b'"', b"[", b"]", b"{", b"}", b",", b":", b"[]", b"{}", b"[[]]", b'{"":""}', b'{"a":{"a":{}}}', b"[1,2,3]",
    b'["a"]', b"[null]", b'{"http_method":"CONNECT","url":"x:1"}', b"undefined", b"True", b"None", b"/* */",
    b"\xef\xbb\xbf1",
)
"""What may stand where a value stood."""
TIMES: tuple[bytes, ...] = (
    b"1970-01-01T00:00:00.000000+0000", b"1969-12-31T23:59:59.999999Z", b"0001-01-01T00:00:00.000000Z",
    b"0000-00-00T00:00:00.000000Z", b"9999-12-31T23:59:59.999999+0000", b"2199-12-31T23:59:59.999999Z",
    b"2200-01-01T00:00:00.000000Z", b"2200-01-01T00:00:00.000001Z", b"1601-01-01T00:00:00.000000Z",
    b"2026-11-24T23:59:60.000000Z", b"2026-02-30T00:00:00.000000Z", b"2026-11-24T24:00:00.000000Z",
    b"2026-11-24T19:07:28.397055+9999", b"2026-11-24T19:07:28.397055-2359", b"2026-11-24T19:07:28.397055+00:00:01.5",
    b"2026-W48-2", b"20261124T190728Z", b"2026-11-24", b"2026-11-24T19", b"2026-11-24 19:07:28.397055Z",
    b"2026-11-24T19:07:28,397055Z", b"T", b"Z", b"2026-11-24T19:07:28.39705\xc2\xb2+0000",
    b"2026-11-24T19:07:28.3970555555555555555+0000", b"\xef\xbc\x92026-11-24T19:07:28.397055Z",
    b"2026-11-24T19:07:28." + b"0" * 70_000 + b"Z", b"1795547248", b"1795547248.397055", b"2026-11-24T19:07:28.397055",
    b"0001-01-01T00:00:00+23:59", b"9999-12-31T23:59:59-23:59",
)
PLACES: tuple[bytes, ...] = (
    b"::", b"::1", b"::ffff:10.0.0.1", b"fe80::1%eth0", b"fe80::1%" + b"z" * 3_000, b"0.0.0.0", b"255.255.255.255",
    b"256.1.1.1", b"1.2.3", b"010.0.0.1", b"1.2.3.4.5", b"2001:db8::1:2:3:4:5:6", b":::", b"[::1]", b"[::1]:443",
    b"[::1]:", b"[::1", b"a.example:0", b"a.example:65536", b"a.example:99999999999999999999", b"a.example:-1",
    b"a.example:+1", b"a.example: 1", b":443", b"a.example.", b"..", b".", b"-", b"_", b"user:pw@a.example:443", b"@",
    b"@@:@", b"xn--", b"xn--a", b"xn--" + b"9" * 60, b"b\xc3\xbccher.example", b"\xe4\xbe\x8b.\xe4\xbe\x8b",
    b"\xef\xbd\x81.example", b"a\xc2\xad.example", b"\xd9\xa1.1.1.1", b"a." * 126 + b"a", b"a" * 253, b"a" * 254,
    b"\xc3\xa9" * 250, b"http://", b"http://:80/", b"http://[::1/", b"http://a.example/%00", b"https://a.example",
    b"ftp://a/", b"http:/a", b"HTTP://A.EXAMPLE/", b"http://a.example?x#y", b"http://" + b"/" * 300, b"*", b"/",
    b"//a.example/", b"com", b"co.uk", b"localhost", b"a b.example", b"a\\u0000.example",
)
# fmt: on
JOINTS = (b"", b"\n", b"\r", b"\r\n", b"\x00", b",", b" ")
CODINGS = ("utf-16", "utf-16-le", "utf-32", "utf-8-sig", "utf-7", "cp500")

LARGE_ONE_IN = 4_000
"""Lines of up to a little above the limit of what is read."""


class Mutator:
    """Plays the real lines forward from a place of its own, most of them damaged."""

    def __init__(self, chance: random.Random, corpus: Corpus) -> None:
        self._chance = chance
        self._random = chance.random
        self._corpus = corpus
        self._place = self._below(len(corpus.lines))
        self._pinned: dict[str, bytes] = {}
        """In some worlds all lines have the same addresses and ports, and each a flow id of its own."""
        if self._random() < 0.2:
            self._pinned = {
                key: chance.choice(values)
                for (_, key), values in corpus.values.items()
                if key.lower().endswith(("ip", "port"))
            }
        self._bytewise: tuple[Callable[[bytes], bytes], ...] = (
            self._flip, self._flip, self._cut, self._drop, self._double, self._insert, self._splice, self._noise, self._code,
        )  # fmt: skip

    def next(self) -> tuple[Real, bytes]:
        """A real line, and what became of it; that may hold line ends."""
        self._place = (self._place + 1) % len(self._corpus.lines)
        real = self._corpus.lines[self._place]
        kind = self._random()
        if self._pinned and kind < 0.8:
            return real, self._pin(real)
        if kind < 0.35:
            return real, real.value
        value = self._members(real) if kind < 0.9 else real.value
        if kind >= 0.8:
            value = self._bytewise[self._below(len(self._bytewise))](value)
        return real, value

    def _below(self, end: int) -> int:
        return int(self._random() * end)

    def _pick(self, several: tuple[bytes, ...]) -> bytes:
        return several[int(self._random() * len(several))]

    def _pin(self, real: Real) -> bytes:
        """The line on the one 5-tuple of this world."""
        value = real.value
        for key, _, begin, end in reversed(real.members):
            if key in self._pinned:
                value = value[:begin] + self._pinned[key] + value[end:]
            elif key.endswith("flow_id"):
                value = value[:begin] + b"%d" % self._below(1 << 40) + value[end:]
        return value

    def _members(self, real: Real) -> bytes:
        """One to three members with another value, another key, twice, or gone."""
        value, members = real.value, real.members
        if not members:
            return self._flip(value)
        end = len(value)
        for _ in range(1 + self._below(3)):
            key, begin, value_begin, value_end = members[self._below(len(members))]
            if value_end > end:
                continue  # behind or around a member that was exchanged already
            end = begin
            how = self._random()
            if how < 0.65:
                others = self._corpus.values_of(real.dialect, key)
                value = value[:value_begin] + others[self._below(len(others))] + value[value_end:]
            elif how < 0.9:
                value = value[:value_begin] + self._odd() + value[value_end:]
            elif how < 0.94:
                value = value[:begin] + b'"%d":' % self._below(99) + value[value_begin:]
            elif how < 0.97:
                value = value[:value_end] + b"," + value[begin:value_begin] + self._odd() + value[value_end:]
            else:
                value = value[:begin] + value[value_end:].lstrip(b",")
        return value

    def _odd(self) -> bytes:
        """A value that a careful sensor would not write."""
        how = self._random()
        if how < 0.5:
            return self._pick(ODD)
        if how < 0.65:
            return b'"' + self._pick(TIMES) + b'"'
        if how < 0.85:
            return b'"' + self._pick(PLACES) + b'"'
        if how < 0.9:
            return b'"2026-11-24T%02d:%02d:%02d.%06d+0000"' % tuple(map(self._below, (24, 60, 60, 1_000_000)))
        if how < 0.94:
            return b"%d" % self._chance.getrandbits(1 + self._below(80))
        if how < 0.98:
            return (
                b'"'
                + self._pick((b"a", b"\\u00e9", b"\xc3\xa9", b".", b":", b"\\n", b"@", b"\x00")) * self._size()
                + b'"'
            )
        return self._pick((b"[", b'{"a":', b'[{"a":')) * self._size()

    def _size(self) -> int:
        """Mostly short, sometimes long, seldom at the edge of what is read."""
        if self._below(LARGE_ONE_IN // 100) == 0:
            return 1 + self._below(LINE_BYTES_MAX // 4)
        return 1 + self._below(1 << self._below(11))

    def _flip(self, value: bytes) -> bytes:
        for _ in range(1 + self._below(4)):
            place = self._below(len(value))
            value = value[:place] + bytes((self._below(256),)) + value[place + 1 :]
        return value

    def _cut(self, value: bytes) -> bytes:
        return value[: self._below(len(value))]

    def _drop(self, value: bytes) -> bytes:
        place = self._below(len(value))
        return value[:place] + value[place + 1 + self._below(60) :]

    def _double(self, value: bytes) -> bytes:
        place = self._below(len(value))
        end = place + 1 + self._below(60)
        return value[:end] + value[place:]

    def _insert(self, value: bytes) -> bytes:
        place = self._below(len(value))
        return value[:place] + self._odd() + value[place:]

    def _splice(self, value: bytes) -> bytes:
        """Two lines in one, whole or in halves."""
        lines = self._corpus.lines
        other = lines[self._below(len(lines))].value
        if self._random() < 0.5:
            return value + self._pick(JOINTS) + other
        return value[: self._below(len(value))] + other[self._below(len(other)) :]

    def _noise(self, value: bytes) -> bytes:
        how = self._random()
        if how < 0.6:
            return self._chance.randbytes(1 + self._below(300))
        if how < 0.9:
            return bytes(self._below(40)) + value
        return self._pick((b" ", b"\t", b"\r", b"\n", b"\x00", b"[", b"{", b'"', b"9")) * self._size()

    def _code(self, value: bytes) -> bytes:
        """The line in another encoding, packed, or in capitals."""
        how = self._random()
        if how < 0.1:
            return gzip.compress(value, 1, mtime=0)
        if how < 0.2:
            return value.upper()
        return value.decode("latin-1").encode(CODINGS[self._below(len(CODINGS))])
