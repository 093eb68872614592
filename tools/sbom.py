"""`make sbom`: a CycloneDX bill of materials of an environment's Python packages and of Kafka's jars with their digests.

    python -m tools.sbom FILE [PYTHON]

describes the environment of the interpreter PYTHON, by default of the current one. cyclonedx-bom lists the packages;
this module adds the jars.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from unproxy.local.servers.jars import digests

ROOT = Path(__file__).parents[1]
SCHEMA = "1.6"


def main() -> None:
    """Write the bill of materials to the file."""
    file, python = Path(sys.argv[1]), (sys.argv[2:] or [sys.executable])[0]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(bill_of_materials(python), indent=1) + "\n", encoding="utf-8")
    print(f"wrote {file}", file=sys.stderr)


def bill_of_materials(python: str) -> dict[str, Any]:
    """Return the bill of materials of an interpreter's environment; the same environment has the same bill."""
    command = [sys.executable, "-m", "cyclonedx_py", "environment", "--pyproject", str(ROOT / "pyproject.toml")]
    command += ["--output-reproducible", "--spec-version", SCHEMA, python]
    bom: dict[str, Any] = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    jars = [_jar(name, digest) for name, digest in digests().items()]
    bom["components"] += jars
    # The wheel does not contain the jars. `unproxy up` fetches them, so the program itself depends on all of them.
    bom["dependencies"] += [{"ref": jar["bom-ref"]} for jar in jars]
    (root,) = (one for one in bom["dependencies"] if one["ref"] == bom["metadata"]["component"]["bom-ref"])
    root["dependsOn"] = [*root.get("dependsOn", ()), *(jar["bom-ref"] for jar in jars)]
    return bom


def _jar(coordinates: str, digest: str) -> dict[str, Any]:
    group, artifact, version = coordinates.split(":")
    purl = f"pkg:maven/{group}/{artifact}@{version}"
    return {
        "bom-ref": purl,
        "type": "library",
        "group": group,
        "name": artifact,
        "version": version,
        "purl": purl,
        "scope": "optional",
        "hashes": [{"alg": "SHA-256", "content": digest}],
    }


if __name__ == "__main__":
    main()
