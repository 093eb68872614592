"""Sigma rules on the sample; expected rows come from the proxies' logs and the kernel's records."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hunting.sigma import SigmaRefused, to_kql
from tests.hunting.test_library import proxies, sockets, truth
from tests.unproxy.query.hunting_tables import ALWAYS, hunted, picked, sample_tables, settings_with
from unproxy.local.servers.engine import Engine
from unproxy.query.client import Client, of_settings

RULES = {file.stem: file.read_text() for file in sorted(Path(__file__).with_name("sigma").glob("*.yml"))}
RULE = "title: x\nlogsource: {{category: {0}}}\ndetection: {{a: {{{1}}}, condition: {2}}}\n"


@pytest.fixture(scope="module")
def client(engine: Engine) -> Client:
    """Asks the tables of the sample."""
    return of_settings(settings_with(engine, "sigma_sample", sample_tables()))


def hosts(client: Client, rule: str) -> set[tuple[object, ...]]:
    """Return device and destination of the rows that a rule finds."""
    found = hunted(client, to_kql(rule), Since=ALWAYS)
    return set(picked(found, "DeviceName", "DestinationHost"))


Logged = dict[str, Any]
BY_LOG: dict[str, Callable[[Logged], object]] = {
    "bad_domain": lambda one: one.get("process") == "wget" and one["host"] == "login.bad2.example",
    "unusual_port": lambda one: one.get("process") in ("curl", "wget") and one["port"] in (4443, 8443),
    "parts_of_a_name": lambda one: one["host"] == "track.bad5.example",
    "wildcard": lambda one: one["host"] == "login.bad2.example",
    "regex": lambda one: re.fullmatch(r"no-such-\d+\.invalid", one["host"]),
    "proxy_failed": lambda one: (one.get("status") or 0) >= 500,
    "proxy_uri": lambda one: re.fullmatch(r"http://shop\.[^?#]*\.json([?#].*)?", one["url"]),
    "proxy_exists": lambda one: one["host"] == "bad1.example" and one.get("status") and one["device"] != "dev-b",
    "windash": lambda one: one["host"] == "files.bad3.test",
}


@pytest.mark.parametrize("name", BY_LOG)
def test_rule_finds_what_the_proxies_logged(client: Client, name: str) -> None:
    """The same devices and hosts; direct connections are in no proxy's log."""
    logged = {(one["device"], one["host"]) for one in truth() if BY_LOG[name](one)}
    found = hosts(client, RULES[name])
    directly = {("dev-a", "login.bad2.example"), ("dev-c", "files.bad3.test")}

    assert logged
    assert logged <= found
    assert found - logged <= directly


def test_networks_and_a_filter(client: Client) -> None:
    """Addresses of dev-c: those that it connected to, and those that it requested literally of a proxy."""
    inside = re.compile(r"203\.0\.113\.|2001:db8:113:")
    direct = {one["remote_ip"] for one in sockets() if one["device"] == "dev-c" and one["remote_ip"] not in proxies()}
    literal = {one["host"] for one in truth() if one["device"] == "dev-c" and inside.match(one["host"])}
    found = hunted(client, to_kql(RULES["address_literal"]), Since=ALWAYS)

    assert direct
    assert set(picked(found, "DeviceName", "RemoteIP")) == {
        ("dev-c", ip) for ip in direct | literal if inside.match(ip)
    }


def test_every_rule_is_tested() -> None:
    """Ten rules."""
    assert RULES.keys() == {*BY_LOG, "address_literal"}
    assert len(RULES) == 10


def test_an_absent_value_is_no_match_also_below_not(client: Client) -> None:
    """A rule and its negation share no row, and together find all: no row is lost to null."""
    number = "sc-status: 200"
    one, other, every = (
        len(hunted(client, to_kql(RULE.format("proxy", fields, condition)), Since=ALWAYS).rows)
        for fields, condition in ((number, "a"), (number, "not a"), ("c-uri: '*'", "a"))
    )

    assert one
    assert other
    assert one + other == every


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        (RULE.format("proxy", "c-useragent: x", "a"), "`c-useragent`"),
        (RULE.format("network_connection", "DestinationIsIpv6: 'true'", "a"), "`DestinationIsIpv6`"),
        (RULE.format("process_creation", "Image: x", "a"), "process_creation"),
        (RULE.format("proxy", "c-uri: x", "b"), "pySigma refuses it"),
        (RULE.format("proxy", "c-uri|fieldref: cs-host", "a"), "not supported"),
        (RULE.format("proxy", "c-uri|expand: '%list%'", "a"), "placeholder"),
        ("title: x\nlogsource: {category: proxy}\ndetection: {a: [word], condition: a}\n", "keywords"),
        ("no rule", "no Sigma rule"),
        ("[", "no YAML"),
        ("", "found 0 rules"),
    ],
)
def test_what_cannot_run_is_refused_by_name(rule: str, words: str) -> None:
    """Never guessed."""
    with pytest.raises(SigmaRefused, match=re.escape(words)):
        to_kql(rule)


@pytest.mark.parametrize("text", ["it's", 'a"b', "c:\\\\dir\\\\", "x' or 1 == 1 //", "tab\\there", "ä€\u202e"])
def test_values_stay_texts(client: Client, text: str) -> None:
    """No value ends its literal: nothing of the sample has such a name."""
    quoted = "'" + text.replace("'", "''") + "'"

    assert hosts(client, RULE.format("proxy", f"cs-host|contains: {quoted}", "a")) == set()


@pytest.mark.parametrize(
    "rule",
    [
        "a: &a0 [x,x,x,x,x,x,x,x,x,x]\n"
        + "".join(f"b{n}: &a{n + 1} [{','.join([f'*a{n}'] * 10)}]\n" for n in range(12))
        + RULE.format("proxy", "cs-host: *a12", "a"),
        RULE.format("proxy", f"cs-host: {'[' * 3_000}{']' * 3_000}", "a"),
        RULE.format("proxy", "cs-host: x", "not " * 3_000 + "a"),
        "!!python/object/apply:os.system ['id']\n" + RULE.format("proxy", "cs-host: x", "a"),
    ],
    ids=["aliases", "lists", "negations", "objects"],
)
def test_a_hostile_rule_is_refused(rule: str) -> None:
    """Aliases that multiply, deep nesting and objects of Python end in a message."""
    with pytest.raises(SigmaRefused):
        to_kql(rule)
