"""The sensor's own list: what is taken, what is refused and why, and that a change is taken up."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from producers.sensor.enforce.deny_list import Listed, list_file
from producers.sensor.enforce.watched_file import Unreadable


def found(listed: Listed, host: str, port: int = 443) -> str | None:
    entry = listed.find(host, port)
    return entry.text if entry else None


def test_names_hold_for_names_below() -> None:
    """As with indicators, with or without an asterisk; the nearest entry is reported."""
    listed = Listed("l", ["bad.example", "*.worse.example", "deep.bad.example"])

    assert found(listed, "bad.example") == "bad.example"
    assert found(listed, "a.b.bad.example") == "bad.example"
    assert found(listed, "x.deep.bad.example") == "deep.bad.example"
    assert found(listed, "worse.example") == found(listed, "x.worse.example") == "*.worse.example"
    assert found(listed, "notbad.example") is found(listed, "example") is found(listed, "") is None


def test_names_are_taken_in_any_spelling() -> None:
    """Upper case, trailing dot, international."""
    listed = Listed("l", ["BAD.Example.", "Bücher.example"])

    assert found(listed, "bad.example") == "BAD.Example."
    assert found(listed, "xn--bcher-kva.example") == "Bücher.example"


def test_a_port_holds_for_that_port() -> None:
    """An entry without one holds beside it."""
    listed = Listed("l", ["mail.example:8443", "192.0.2.7:80", "192.0.2.0/24", "[2001:db8::9]:443"])

    assert found(listed, "mail.example", 8443) == "mail.example:8443"
    assert found(listed, "mail.example", 443) is None
    assert found(listed, "192.0.2.7", 80) == "192.0.2.7:80"
    assert found(listed, "192.0.2.7", 443) == "192.0.2.0/24"
    assert found(listed, "2001:db8::9") == "[2001:db8::9]:443"
    assert found(listed, "2001:db8::9", 80) is None


def test_networks_hold_for_their_addresses() -> None:
    """The narrowest is reported; IPv4 inside IPv6 is IPv4; a name that looks like numbers is none."""
    listed = Listed("l", ["198.51.100.0/24", "198.51.100.64/26", "2001:db8:1::/48"])

    assert found(listed, "198.51.100.70") == "198.51.100.64/26"
    assert found(listed, "::ffff:198.51.100.1") == "198.51.100.0/24"
    assert found(listed, "2001:db8:1:2::3") == "2001:db8:1::/48"
    assert found(listed, "198.51.101.1") is found(listed, "2001:db8:2::1") is found(listed, "host.198") is None


def test_lines_that_cannot_be_used_are_reported() -> None:
    """With number and reason; the others hold. Comments and empty lines are nothing."""
    listed = Listed(
        "l", ["# list", "", "co.uk", "bad.example # known since May", "http://x.example/a", "no spaces here", "com"]
    )

    assert [(line.number, line.text) for line in listed.unusable] == [
        (3, "co.uk"),
        (5, "http://x.example/a"),
        (6, "no spaces here"),
        (7, "com"),
    ]
    assert [line.reason.partition(" (")[0] for line in listed.unusable] == [
        "public suffix",
        "not supported",
        "not a domain, address or URL",
        "public suffix",
    ]
    assert (len(listed), found(listed, "bad.example")) == (1, "bad.example")


def test_the_entry_is_named_to_the_hunter() -> None:
    """File and entry as they were written."""
    listed = Listed("block.txt", ["*.Bad.example"])
    entry = listed.find("bad.example", 443)

    assert entry is not None
    assert listed.title_of(entry) == "listed by block.txt's entry *.Bad.example"


def replace(path: Path, text: str | bytes) -> None:
    """As an editor does: whole, at once."""
    other = path.with_name("other")
    other.write_bytes(text if isinstance(text, bytes) else text.encode())
    os.replace(other, path)


def test_a_change_is_taken_up(tmp_path: Path) -> None:
    """Once the file was the same at two looks: what is being written is not taken for the whole."""
    path = tmp_path / "list.txt"
    path.write_text("one.example\n")
    watched = list_file(path)
    assert watched.look() is False
    replace(path, "two.example\r\nthree.example")

    assert watched.look() is False
    assert found(watched.content, "one.example") == "one.example"
    assert watched.look() is True
    assert found(watched.content, "one.example") is None
    assert [found(watched.content, host) for host in ("two.example", "three.example")] == [
        "two.example",
        "three.example",
    ]


@pytest.mark.parametrize("content", [None, b"\xff\xfe"])
def test_what_cannot_be_read_leaves_the_list_as_it_was(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, content: bytes | None
) -> None:
    """Missing, or not text: reported once, and the old list holds until a new one is there."""
    path = tmp_path / "list.txt"
    path.write_text("one.example\n")
    watched = list_file(path)
    if content is None:
        path.unlink()
    else:
        replace(path, content)
    with caplog.at_level(logging.ERROR):
        assert [watched.look() for _ in range(4)] == [False] * 4

    assert [record.message for record in caplog.records] == ["file cannot be read, its last content stays in effect"]
    assert found(watched.content, "one.example") == "one.example"
    replace(path, "two.example\n")
    assert [watched.look(), watched.look()] == [False, True]
    assert found(watched.content, "two.example") == "two.example"


def test_at_the_start_it_has_to_be_there(tmp_path: Path) -> None:
    """Which file, and why."""
    with pytest.raises(Unreadable, match=r"none\.txt: cannot be read: No such file"):
        list_file(tmp_path / "none.txt")


def test_bad_lines_are_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Twenty by themselves, then how many there are."""
    path = tmp_path / "list.txt"
    path.write_text("com\n" * 25)
    with caplog.at_level(logging.ERROR):
        listed = list_file(path).content

    assert len(listed.unusable) == 25
    assert len(caplog.records) == 21
    assert vars(caplog.records[0])["at"] == f"{path}:1"
    assert vars(caplog.records[-1])["lines"] == 25
