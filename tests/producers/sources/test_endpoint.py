"""How sources on the network are spelled."""

from __future__ import annotations

import pytest

from producers.sources.endpoint import EXAMPLES, parse_endpoint
from producers.sources.source import SourceError, parse_source


@pytest.mark.parametrize("path", EXAMPLES.values())
def test_examples_are_endpoints(path: str) -> None:
    """The form that messages recommend is understood, and comes back as it was written."""
    endpoint = parse_endpoint(path)

    assert str(endpoint) == path
    assert parse_source(f"auto:{path}").paths() == []


def test_several_brokers() -> None:
    """Of Kafka all places are kept."""
    endpoint = parse_endpoint("kafka://a:1,[::1]:2/some.topic")
    assert endpoint is not None

    assert (endpoint.places, endpoint.name) == (("a:1", "[::1]:2"), "some.topic")


@pytest.mark.parametrize("path", ["eve.json", "C:/eve.json", "ftp://host:1/x", "-", "/var/log/kafka:/x"])
def test_other_paths_are_files(path: str) -> None:
    """Only what begins like an endpoint is one."""
    assert parse_endpoint(path) is None


@pytest.mark.parametrize("path", ["kafka://a/t", "kafka://a:1", "kafka://a:1/", "kafka://u:p@a:1/t", "kafka://a:1/t/u"])
def test_wrong_ones_get_the_right_form(path: str) -> None:
    """A port, a topic or too much: the message has an example; logins belong into the settings."""
    with pytest.raises(SourceError, match=r"kafka://broker:9092/topic"):
        parse_source(f"auto:{path}")
