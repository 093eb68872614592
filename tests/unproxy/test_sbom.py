"""The bill of materials names what is installed, and every jar with its digest."""

from __future__ import annotations

import json
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from unproxy import sbom
from unproxy.embedded.jars import digests


def test_packages_and_jars_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is valid CycloneDX (checked when it is written), and holds packages with versions and jars with digests."""
    file = tmp_path / "new" / "bom.cdx.json"
    monkeypatch.setattr(sys, "argv", ["sbom", str(file)])
    sbom.main()
    bom = json.loads(file.read_text())
    components = {one["purl"]: one for one in bom["components"]}

    assert f"pkg:pypi/aiokafka@{version('aiokafka')}" in components
    found = {purl: one["hashes"][0]["content"] for purl, one in components.items() if purl.startswith("pkg:maven/")}
    assert found == {
        "pkg:maven/{}/{}@{}".format(*coordinates.split(":")): digest for coordinates, digest in digests().items()
    }
    assert len({one["ref"] for one in bom["dependencies"]} & set(found)) == len(found)


def test_invalid_file_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not CycloneDX is said, and not written."""
    file = tmp_path / "bom.cdx.json"
    monkeypatch.setattr(sys, "argv", ["sbom", str(file)])
    monkeypatch.setattr(sbom, "bill_of_materials", lambda _: {"bomFormat": "CycloneDX", "specVersion": "1.6", "x": 1})

    with pytest.raises(SystemExit, match=r"would not be CycloneDX 1\.6"):
        sbom.main()
    assert not file.exists()
