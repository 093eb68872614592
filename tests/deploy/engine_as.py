"""The embedded engine with ClickHouse's users: as a script, an engine whose statements run as one of them.

The engine library takes users, profiles and grants from a file, and runs every statement as `default`. So `default` is given
here what one user has in deploy/clickhouse/users.xml; the others stay, as views name them.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from xml.etree import ElementTree

from unproxy.local.servers.child import module_command
from unproxy.local.servers.engine import Engine
from unproxy.local.servers.secret import secret_of

ROOT = Path(__file__).parents[2]
USERS = ROOT / "deploy" / "clickhouse" / "users.xml"
MIGRATOR, WRITER, READER = "unproxy_migrator", "unproxy_writer", "unproxy_reader"
SUPER = ""
"""Instead of a user: one that may do everything."""


class EngineAs(Engine):
    """An engine on a folder of data, every query of which runs as the given user."""

    def __init__(self, folder: Path, user: str) -> None:
        super().__init__(folder)
        self._user = user

    def _prepare(self, port: int) -> tuple[list[str], Mapping[str, str]]:
        _, environment = super()._prepare(port)
        users, config = self.folder / "users.xml", self.folder / "config.xml"
        users.write_text(users_with(self._user), encoding="utf-8")
        config.write_text(f"<clickhouse><users_config>{users.name}</users_config></clickhouse>", encoding="utf-8")
        passwords = {f"{user}_SHA256".upper(): 64 * "0" for user in (MIGRATOR, WRITER, READER)}
        return module_command(__name__, str(self.folder), str(port), str(config)), {
            **environment,
            **passwords,
            "PYTHONPATH": os.pathsep.join([environment["PYTHONPATH"], str(ROOT)]),
        }

    def _is_ours(self, command: list[str]) -> bool:
        return __name__ in command and str(self.folder) in command


def users_with(user: str) -> str:
    """The file with `default` in the place of this user, without a password as the library gives none."""
    root = ElementTree.parse(USERS).getroot()
    users, profiles = root.find("users"), root.find("profiles")
    assert users is not None
    assert profiles is not None
    default = users.find("default")
    assert default is not None
    default.attrib.clear()
    ElementTree.SubElement(default, "no_password")
    named = users.find(user) if user else None
    given = [] if named is None else list(named)
    default.extend(part for part in given if not part.tag.startswith("password"))
    if not given:
        ElementTree.SubElement(default, "access_management").text = "1"
    # A server has these in its own file.
    ElementTree.SubElement(profiles, "default")
    ElementTree.SubElement(ElementTree.SubElement(root, "quotas"), "default")
    return ElementTree.tostring(root, encoding="unicode")


def main(folder: str, port: str, config: str) -> int:
    """Serve until SIGTERM."""
    from unproxy.local.servers import sessions
    from unproxy.local.servers.front import serve

    os.chdir(Path(config).parent)
    sessions.ACCESS_FILE = Path(config).name
    return serve(Path(folder) / "data", int(port), secret_of(Path(folder)))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
