"""The bill of materials names what is installed, and every jar with its digest."""

from __future__ import annotations

import json
import re
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from jsonschema import Draft7Validator  # type: ignore[import-untyped]  # it ships no types

from tools import sbom
from unproxy.local.servers.jars import digests

_CHARACTER = r"(?:[\w.~!$&'()*+,;=:@/-]|%[0-9A-Fa-f]{2})"
WEB_ADDRESS = re.compile(rf"https?://[\w.-]+(?:/{_CHARACTER}*)?(?:\?{_CHARACTER}*)?(?:#{_CHARACTER}*)?", re.ASCII)
"""Some of the references that RFC 3986 allows, without port or user."""


@pytest.fixture
def _web_addresses_are_read_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask the parser of RFC 3987, which takes 80 ms an address, only about what is not plainly a web address."""
    checkers = Draft7Validator.FORMAT_CHECKER.checkers
    parsed, raises = checkers["iri-reference"]
    check = (lambda value: WEB_ADDRESS.fullmatch(str(value)) is not None or parsed(value), raises)
    monkeypatch.setattr(Draft7Validator.FORMAT_CHECKER, "checkers", {**checkers, "iri-reference": check})


@pytest.mark.usefixtures("_web_addresses_are_read_fast")
def test_packages_and_jars_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is valid CycloneDX, and holds packages with versions and jars with digests."""
    file = tmp_path / "new" / "bom.cdx.json"
    monkeypatch.setattr(sys, "argv", ["sbom", str(file)])
    sbom.main()
    bom = json.loads(file.read_text())
    components = {one["purl"]: one for one in bom["components"]}

    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(file.read_text()) is None
    assert f"pkg:pypi/aiokafka@{version('aiokafka')}" in components
    found = {purl: one["hashes"][0]["content"] for purl, one in components.items() if purl.startswith("pkg:maven/")}
    assert found == {
        "pkg:maven/{}/{}@{}".format(*coordinates.split(":")): digest for coordinates, digest in digests().items()
    }
    assert len({one["ref"] for one in bom["dependencies"]} & set(found)) == len(found)
